//! The engine in virtual time, against published measurements and against what each kind of machine promises.

use std::collections::BTreeMap;

use pointsman_policies::fleet::{HardwareKind, ServiceModel};

use super::super::profile::Detail;
use super::*;
use crate::hardware;
use crate::lease::RateLimits;

/// Two H100 that serve Llama 3.3 70B in FP8, fitted to the vendor's published table; source D.
fn two_h100() -> Profile {
    let service = ServiceModel {
        step_base_ms: 17.7,
        step_per_sequence_ms: 0.1,
        step_per_kv_token_ns: 36.0,
        prefill_tokens_per_s: 18_000.0,
        fixed_ttft_ms: 130.0,
        slots: 256,
        kv_tokens: Some(452_000),
        ..shipped("h100").service
    };
    Profile::new(HardwareKind::Gpu, service)
}

fn shipped(name: &str) -> Profile {
    Profile::of(hardware::find(name).expect("shipped"))
}

fn exact(profile: Profile) -> Profile {
    Profile { service: ServiceModel { jitter_sigma: 0.0, ..profile.service }, tail: None, ..profile }
}

fn job(id: u64, prompt_tokens: u64, output_tokens: u64) -> Job {
    Job { id, prompt_tokens, output_tokens, reserved_output_tokens: output_tokens, ..Job::default() }
}

/// Runs until idle; events by job.
fn drain(engine: &mut Engine) -> BTreeMap<u64, Vec<Emission>> {
    let mut sent = Vec::new();
    engine.advance(Micros(u64::MAX - 1), &mut sent);
    assert_eq!((engine.running(), engine.waiting(), engine.kv_tokens()), (0, 0, 0), "drained");
    let mut by_job = BTreeMap::<u64, Vec<Emission>>::new();
    for emission in sent {
        by_job.entry(emission.id).or_default().push(emission);
    }
    by_job
}

fn tokens(events: &[Emission]) -> u64 {
    events.iter().map(|emission| u64::from(emission.tokens)).sum()
}

/// Mean time between tokens, milliseconds.
fn itl_ms(events: &[Emission]) -> f64 {
    let (first, last) = (events[0], events[events.len() - 1]);
    assert!(first.first && last.last);
    (last.at - first.at).as_ms() / (tokens(events) - 1) as f64
}

fn burst(profile: Profile, jobs: u64, prompt_tokens: u64, output_tokens: u64) -> BTreeMap<u64, Vec<Emission>> {
    let mut engine = Engine::new(profile, 7);
    for id in 0..jobs {
        assert_eq!(engine.submit(Micros(0), job(id, prompt_tokens, output_tokens)), Admission::Accepted);
    }
    drain(&mut engine)
}

/// What a fixed number of callers see who send one request after the other: mean time to first token and between
/// tokens, milliseconds, and tokens per second of all of them together.
fn closed_loop(profile: Profile, callers: u64, prompt_tokens: u64, output_tokens: u64) -> [f64; 3] {
    let mut engine = Engine::new(profile, callers);
    let (mut sent, mut times, mut ended) = (Vec::new(), BTreeMap::new(), Vec::new());
    let ask = |engine: &mut Engine, times: &mut BTreeMap<u64, [Micros; 2]>, now| {
        let id = times.len() as u64;
        times.insert(id, [now; 2]);
        engine.submit(now, job(id, prompt_tokens, output_tokens));
    };
    for caller in 0..callers {
        // Callers who start at once would stay in step for ever, prompts with prompts and answers with answers: they
        // start as far apart as a full machine serves them.
        let start = Micros::from_ms(600.0 * caller as f64);
        engine.advance(start, &mut sent);
        ask(&mut engine, &mut times, start);
    }
    let (warm_up, measured) = (callers as usize * 3, callers as usize * 6 + 20);
    while ended.len() < warm_up + measured {
        let at = engine.next_event().expect("callers never stop");
        engine.advance(at, &mut sent);
        for emission in sent.drain(..) {
            let [asked, first] = times.get_mut(&emission.id).expect("asked");
            if emission.first {
                *first = at;
            }
            if emission.last {
                let itl_ms = (at - *first).as_ms() / (output_tokens - 1) as f64;
                ended.push((at, (*first - *asked).as_ms(), itl_ms));
                ask(&mut engine, &mut times, at);
            }
        }
    }
    let ((began, ..), counted) = (ended[warm_up - 1], &ended[warm_up..]);
    let mean = |of: fn(&(Micros, f64, f64)) -> f64| counted.iter().map(of).sum::<f64>() / measured as f64;
    let (last, ..) = counted[measured - 1];
    let tokens_per_s = measured as f64 * output_tokens as f64 / (last - began).as_secs();
    [mean(|(_, ttft_ms, _)| *ttft_ms), mean(|(_, _, itl_ms)| *itl_ms), tokens_per_s]
}

#[test]
fn two_h100_reproduce_the_published_table() {
    // NVIDIA's for Llama 3.3 70B in FP8 on two H100, prompts of 5000 tokens, answers of 500: callers, TTFT ms, ITL ms,
    // tokens per second.
    let published = [
        (1, 406.77, 18.58, 51.67),
        (5, 546.7, 21.83, 218.48),
        (25, 688.69, 38.75, 623.4),
        (50, 834.51, 59.73, 814.37),
        (100, 7_996.25, 92.91, 917.26),
        (150, 34_794.22, 92.86, 920.9),
    ];
    for (callers, ttft_ms, itl_ms, tokens_per_s) in published {
        for detail in [Detail::Events, Detail::Ends] {
            let machine = Profile { detail, ..two_h100() };
            let [ttft, itl, throughput] = closed_loop(machine, callers, 5000, 500);
            let off = |value: f64, published: f64| (value / published - 1.0) * 100.0;
            println!(
                "concurrency {callers:3} {detail:?}: ITL {itl:5.1} ms {:+5.1} %, {throughput:5.1} tok/s {:+5.1} %, \
                 TTFT {ttft:7.1} ms {:+5.1} %",
                off(itl, itl_ms),
                off(throughput, tokens_per_s),
                off(ttft, ttft_ms)
            );
            assert!(off(itl, itl_ms).abs() < 15.0, "concurrency {callers}: ITL {itl} ms against {itl_ms}");
            // Some callers meet prompts of others by chance: how often depends on how those who began together drift
            // apart, of which the table says nothing.
            let near = if matches!(callers, 5 | 25 | 50) { 40.0 } else { 15.0 };
            assert!(off(ttft, ttft_ms).abs() < near, "concurrency {callers}: TTFT {ttft} ms against {ttft_ms}");
            assert!(
                off(throughput, tokens_per_s).abs() < 15.0,
                "concurrency {callers}: {throughput} tok/s against {tokens_per_s}"
            );
        }
    }
}

#[test]
fn batching_slows_tokens_and_slots_do_not() {
    // (machine, jobs at once, time between tokens in ms from the catalog's numbers)
    let table = [
        ("h100", 1, 5.5 + 0.36),
        ("h100", 32, 5.5 + 32.0 * 0.36),
        ("cs3", 1, 0.55),
        ("cs3", 64, 0.55),
        ("groq", 32, 2.0),
        ("cpu", 4, 36.0 + 4.0 * 7.0),
    ];
    for (name, jobs, expected_ms) in table {
        for (id, events) in burst(exact(shipped(name)), jobs, 4, 100) {
            let ms = itl_ms(&events);
            assert!((ms / expected_ms - 1.0).abs() < 0.03, "{name}, {jobs} at once, job {id}: {ms} ms");
            assert_eq!(tokens(&events), 100);
        }
    }
}

#[test]
fn a_wafer_queues_when_its_slots_are_full() {
    let by_job = burst(exact(shipped("cs3")), 65, 1000, 101);
    let ttft_ms = 12.0 + 1000.0 / 50.0 + 0.55;
    let served_ms = ttft_ms + 100.0 * 0.55;
    for (id, events) in &by_job {
        let expected = if *id == 64 { served_ms } else { 0.0 };
        assert!((events[0].queue.as_ms() - expected).abs() < 0.1, "job {id} waited {:?}", events[0].queue);
        assert!((events[0].prefill.as_ms() - ttft_ms).abs() < 0.1, "job {id}");
    }
}

#[test]
fn an_unloaded_machine_gives_the_first_token_after_fixed_prefill_and_one_step() {
    let table =
        [("h100", 30.0 + 3000.0 / 15.0 + 5.86), ("cs3", 12.0 + 60.0 + 0.55), ("cloud-api", 300.0 + 150.0 + 10.0)];
    for (name, expected_ms) in table {
        let by_job = burst(exact(shipped(name)), 1, 3000, 10);
        let ms = by_job[&0][0].at.as_ms();
        assert!((ms - expected_ms).abs() < 0.1, "{name}: {ms} ms, expected {expected_ms}");
    }
}

#[test]
fn a_prompt_the_machine_still_holds_is_not_computed_again() {
    let mut engine = Engine::new(exact(shipped("h100")), 1);
    engine.submit(Micros(0), Job { cached_tokens: 2900, ..job(0, 3000, 10) });
    let first = drain(&mut engine)[&0][0];
    assert!((first.at.as_ms() - (30.0 + 100.0 / 15.0 + 5.86)).abs() < 0.1, "{first:?}");
}

#[test]
fn a_long_prompt_slows_the_tokens_of_others() {
    let mut engine = Engine::new(exact(shipped("h100")), 1);
    engine.submit(Micros(0), job(0, 10, 200));
    engine.advance(Micros::from_ms(100.0), &mut Vec::new());
    engine.submit(Micros::from_ms(100.0), job(1, 30_000, 10));
    let mut sent = Vec::new();
    engine.advance(Micros::from_secs(60), &mut sent);
    let last = sent.iter().find(|emission| emission.id == 0 && emission.last).expect("job 0 ends");
    let undisturbed_ms = 30.0 + 201.0 * 5.86;
    assert!(last.at.as_ms() > undisturbed_ms + 1950.0, "two seconds of prefill ride along: {last:?}");
}

#[test]
fn events_carry_their_average_of_tokens_and_the_first_stands_alone() {
    let events = burst(exact(shipped("cs3")), 1, 10, 251).remove(&0).expect("one job");
    let sizes = events.iter().map(|emission| emission.tokens).collect::<Vec<_>>();
    assert_eq!(&sizes[..5], &[1, 3, 2, 3, 2]);
    assert_eq!((events.len(), tokens(&events)), (101, 251));
    assert_eq!(events.iter().filter(|emission| emission.first).count(), 1);
    assert_eq!(events.iter().filter(|emission| emission.last).count(), 1);
}

#[test]
fn memory_that_overflows_costs_the_youngest_its_place_and_nobody_a_token() {
    let service = ServiceModel { kv_tokens: Some(2000), ..exact(shipped("h100")).service };
    let mut engine = Engine::new(Profile::new(HardwareKind::Gpu, service), 1);
    for id in 0..6 {
        assert_eq!(engine.submit(Micros(0), job(id, 300, 400)), Admission::Accepted);
    }
    let mut sent = Vec::new();
    while let Some(at) = engine.next_event() {
        engine.advance(at, &mut sent);
        assert!(engine.kv_tokens() <= 2000, "at {at:?}");
    }
    assert!(engine.counters().preempted > 0);
    assert_eq!(engine.counters().output_tokens, 6 * 400);
    // Whoever comes back computes what it lost as a prompt; decoding it again would take eight seconds.
    let ended = sent.last().expect("events").at;
    assert!(ended < Micros::from_secs(6), "{ended:?}");
    for id in 0..6 {
        let events = sent.iter().filter(|emission| emission.id == id).copied().collect::<Vec<_>>();
        assert_eq!(tokens(&events), 400, "job {id}");
        assert!(events.is_sorted_by_key(|emission| emission.at), "job {id}");
    }
}

#[test]
fn what_can_never_fit_or_has_no_place_is_refused() {
    let limited = |max_waiting| Profile {
        context_tokens: Some(1000),
        max_waiting,
        service: ServiceModel { slots: 2, ..shipped("cpu").service },
        ..shipped("cpu")
    };
    let mut engine = Engine::new(limited(1), 1);
    let too_long = Admission::Refused(Refused::ContextTooLong { longest: 1000 });
    assert_eq!(engine.submit(Micros(0), job(9, 700, 301)), too_long);
    for id in 0..3 {
        assert_eq!(engine.submit(Micros(0), job(id, 10, 10)), Admission::Accepted);
    }
    let full = Admission::Refused(Refused::QueueFull { retry_after: Micros::from_secs(1) });
    assert_eq!(engine.submit(Micros(0), job(4, 10, 10)), full);
    drain(&mut engine);
    assert_eq!((engine.counters().completed, engine.counters().refused), (3, 2));
}

#[test]
fn a_limiter_refuses_by_the_reserved_answer_and_settles_by_the_real_one() {
    let limits = RateLimits { requests_per_minute: None, tokens_per_minute: Some(6000.0), reserves_output: true };
    let mut engine = Engine::new(Profile { limits, ..exact(shipped("cs3")) }, 1);
    let asking = |id| Job { reserved_output_tokens: 4000, ..job(id, 1000, 100) };
    assert_eq!(engine.submit(Micros(0), asking(0)), Admission::Accepted);
    // 1000 of 6000 are left and 100 come back in a second.
    let refused = Refused::RateLimited { limit: Limit::Tokens, retry_after: Micros::from_secs(40) };
    assert_eq!(engine.submit(Micros(0), asking(1)), Admission::Refused(refused));
    drain(&mut engine);
    // It used 1100, which leaves 4900 at its end, when 8.8 of the 100 a second had come back already.
    let ended = Micros::from_ms(12.0 + 20.0 + 100.0 * 0.55);
    match engine.submit(ended, asking(2)) {
        Admission::Refused(Refused::RateLimited { limit: Limit::Tokens, retry_after }) => {
            assert!((retry_after.as_ms() - (1000.0 - ended.as_ms())).abs() < 1.0, "{retry_after:?}");
            assert_eq!(engine.submit(ended + retry_after, asking(2)), Admission::Accepted);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn cancelling_frees_the_place_at_once() {
    for name in ["h100", "cs3"] {
        let service = ServiceModel { slots: 1, ..shipped(name).service };
        let mut engine = Engine::new(exact(Profile { service, ..shipped(name) }), 1);
        engine.submit(Micros(0), job(0, 100, 10_000));
        engine.submit(Micros(0), job(1, 100, 10));
        engine.submit(Micros(0), job(2, 100, 10));
        let now = Micros::from_secs(1);
        engine.advance(now, &mut Vec::new());
        assert_eq!((engine.running(), engine.waiting()), (1, 2), "{name}");
        let made = engine.report(now).output_tokens;
        assert_eq!((engine.cancel(now, 0), engine.cancel(now, 1)), (Some(made), Some(0)), "{name}");
        assert_eq!(engine.cancel(now, 0), None, "{name}: it has left");
        assert_eq!((engine.running(), engine.waiting(), engine.kv_tokens()), (0, 1, 0), "{name}");
        let by_job = drain(&mut engine);
        assert_eq!(by_job.keys().collect::<Vec<_>>(), [&2], "{name}");
        assert!(by_job[&2][0].at < Micros::from_ms(1100.0), "{name}: {:?}", by_job[&2][0]);
        assert_eq!(engine.counters().cancelled, 2, "{name}");
    }
}

#[test]
fn a_seed_gives_the_same_events_and_another_seed_others() {
    for name in ["h100", "cs3", "cloud-api"] {
        let run = |seed| {
            let mut engine = Engine::new(Profile { max_waiting: 1000, ..shipped(name) }, seed);
            for id in 0..300 {
                engine.submit(Micros(id * 1000), job(id, 500 + id, 50 + id));
            }
            let mut sent = Vec::new();
            engine.advance(Micros(u64::MAX - 1), &mut sent);
            sent
        };
        assert_eq!(run(1), run(1), "{name}");
        assert_ne!(run(1), run(2), "{name}");
        assert!(run(3).is_sorted_by_key(|emission| emission.at), "{name}");
    }
}

#[test]
fn energy_is_an_idle_share_always_and_the_rest_by_what_is_done() {
    // (machine, basis, joules of an hour in which one job ran)
    let h100 = 1730.0 * (0.3 * 3600.0 + 0.7 * 3000.0 / 15_000.0 + 0.45 * 100.0 * 5.91e-3);
    let cs3 = 31_000.0 * (0.6 * 3600.0 + 0.4 / 64.0 * (0.012 + 0.060 + 100.0 * 0.55e-3));
    let table =
        [("h100", EnergyBasis::Power, h100), ("cs3", EnergyBasis::Power, cs3), ("groq", EnergyBasis::Unknown, 0.0)];
    for (name, basis, joules) in table {
        for detail in [Detail::Events, Detail::Ends] {
            let mut engine = Engine::new(exact(Profile { detail, ..shipped(name) }), 1);
            let idle = engine.watts();
            engine.submit(Micros(0), job(0, 3000, 100));
            drain(&mut engine);
            let hour = Micros::from_secs(3600);
            let energy = engine.energy(hour);
            assert_eq!(energy.basis, basis, "{name}");
            let beyond_idle = |joules: f64| joules - idle * 3600.0;
            let error = (beyond_idle(energy.joules) - beyond_idle(joules)).abs();
            assert!(error <= beyond_idle(joules) * 0.01, "{name}: {energy:?}, expected {joules}");
        }
    }
}

/// Virtual time.
mod virtual_time;
/// What comes from outside.
mod outside;
