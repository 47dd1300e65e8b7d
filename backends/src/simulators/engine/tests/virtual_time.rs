//! Virtual time: what is told of a stream, and how often the machine is asked, changes nothing of what happens.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::super::super::profile::{Detail, Neighbours, Tail};
use super::*;

/// How a caller drives a machine between its own calls.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Drive {
    /// From event to event.
    Events,
    /// At a steady rhythm.
    Ticks(Micros),
    /// Not at all before it has something to say.
    Calls,
}

/// Jobs at random times, some cancelled, some with a common beginning, a machine that goes down and comes back slower.
fn run(profile: &Profile, drive: Drive) -> (Vec<Emission>, Counters) {
    let mut random = Pcg64Mcg::seed_from_u64(5);
    let mut engine = Engine::new(profile.clone(), 9);
    let (mut sent, mut now, mut broken) = (Vec::new(), Micros(0), Vec::new());
    for id in 0..400 {
        now += Micros(random.random_range(0..120_000));
        match drive {
            Drive::Events => {
                while let Some(at) = engine.next_event().filter(|at| *at <= now) {
                    engine.advance(at, &mut sent);
                }
            }
            Drive::Ticks(tick) => {
                let mut at = Micros(now.0.saturating_sub(3_000_000) / tick.0 * tick.0);
                while at < now {
                    engine.advance(at, &mut sent);
                    at += tick;
                }
            }
            Drive::Calls => {}
        }
        engine.advance(now, &mut sent);
        let prompt = random.random_range(10..4000);
        let prefix = (0..prompt / 512).map(|block| block + 100 * (id % 3)).collect();
        engine.submit(now, Job { prefix, ..job(id, prompt, random.random_range(1..300)) });
        match id {
            200 => engine.apply(now, Change::Down, &mut broken),
            205 => engine.apply(now, Change::Up, &mut broken),
            300 => engine.apply(now, Change::Speed(0.5), &mut broken),
            _ if id % 10 == 0 => _ = engine.cancel(now, id.saturating_sub(3)),
            _ => {}
        }
    }
    engine.advance(Micros(u64::MAX - 1), &mut sent);
    (sent, *engine.counters())
}

#[test]
fn how_often_a_machine_is_asked_changes_nothing() {
    let tight = ServiceModel { kv_tokens: Some(20_000), ..shipped("h100").service };
    let machines = [
        ("h100", shipped("h100")),
        ("h100 with little memory", Profile { service: tight, ..shipped("h100") }),
        ("cs3", shipped("cs3")),
        ("cloud-api", Profile { neighbours: Some(Neighbours::default()), ..shipped("cloud-api") }),
    ];
    for (name, machine) in machines {
        for detail in [Detail::Events, Detail::Ends] {
            let machine = Profile { detail, ..machine.clone() };
            let (sent, counters) = run(&machine, Drive::Events);
            assert!(counters.completed > 200 && counters.cancelled > 10, "{name}: {counters:?}");
            assert_eq!(counters.accepted, counters.completed + counters.cancelled + counters.broken, "{name}");
            assert_eq!(counters.preempted > 0, name.contains("little"), "{name}: {counters:?}");
            assert!(sent.is_sorted_by_key(|emission| emission.at), "{name}");
            for drive in [Drive::Calls, Drive::Ticks(Micros(977)), Drive::Ticks(Micros(250_000))] {
                let (others, other_counters) = run(&machine, drive);
                let parted = sent.iter().zip(&others).position(|(one, other)| one != other);
                assert_eq!((parted, others.len()), (None, sent.len()), "{name}, {detail:?}, {drive:?}");
                assert_eq!(counters, other_counters, "{name}, {detail:?}, {drive:?}");
            }
        }
    }
}

/// First and last event of every job.
fn ends(profile: Profile, detail: Detail, jobs: u64) -> (Vec<(Micros, Micros)>, Counters) {
    let mut engine = Engine::new(Profile { detail, ..profile }, 3);
    let mut sent = Vec::new();
    for id in 0..jobs {
        let now = Micros(id * 170_000 + id % 7 * 10_000);
        engine.advance(now, &mut sent);
        engine.submit(now, job(id, 300 + 37 * (id % 90), 50 + 11 * (id % 30)));
    }
    engine.advance(Micros(u64::MAX - 1), &mut sent);
    let mut ends = vec![(Micros(0), Micros(0)); jobs as usize];
    let mut events = 0;
    for emission in &sent {
        let job = &mut ends[emission.id as usize];
        events += 1;
        if emission.first {
            job.0 = emission.at;
        }
        if emission.last {
            job.1 = emission.at;
        }
    }
    assert_eq!(events == 2 * jobs, detail == Detail::Ends, "{events} events of {jobs} jobs");
    (ends, *engine.counters())
}

#[test]
fn the_ends_of_a_stream_are_where_its_events_put_them() {
    for name in ["h100", "cs3", "cloud-api"] {
        let machine = exact(Profile { limits: RateLimits::default(), ..shipped(name) });
        let (all, counters) = ends(machine.clone(), Detail::Events, 300);
        let (coarse, coarse_counters) = ends(machine, Detail::Ends, 300);
        assert_eq!(Counters { busy: Micros(0), ..counters }, Counters { busy: Micros(0), ..coarse_counters }, "{name}");
        for (id, (one, other)) in all.iter().zip(&coarse).enumerate() {
            // Each event is rounded to a microsecond, long strides once.
            let apart = |one: Micros, other: Micros| (one - other).0 + (other - one).0;
            assert!(apart(one.0, other.0) < 500 && apart(one.1, other.1) < 500, "{name}, {id}: {one:?} {other:?}");
        }
    }
}

#[test]
fn jitter_and_pauses_in_long_strides_keep_mean_and_spread() {
    let pauses = Some(Tail { pause_ms: 20.0, probability: 0.05 });
    for (name, sigma, tail, tolerance) in
        [("h100", 0.4, None, 0.01), ("cs3", 0.4, None, 0.01), ("cs3", 0.0, pauses, 0.04)]
    {
        let service = ServiceModel { jitter_sigma: sigma, step_per_sequence_ms: 0.0, ..shipped(name).service };
        let machine = Profile { limits: RateLimits::default(), service, tail, ..shipped(name) };
        let statistics = |detail| {
            let decode: Vec<f64> = (0..400)
                .map(|seed| {
                    let mut engine = Engine::new(Profile { detail, ..machine.clone() }, seed);
                    engine.submit(Micros(0), job(0, 10, 101));
                    let events = drain(&mut engine).remove(&0).expect("one job");
                    (events[events.len() - 1].at - events[0].at).as_ms()
                })
                .collect();
            let mean = decode.iter().sum::<f64>() / 400.0;
            (mean, (decode.iter().map(|ms| (ms - mean).powi(2)).sum::<f64>() / 400.0).sqrt())
        };
        let ((mean, spread), (coarse_mean, coarse_spread)) = (statistics(Detail::Events), statistics(Detail::Ends));
        assert!((coarse_mean / mean - 1.0).abs() < tolerance, "{name}: {coarse_mean} ms against {mean}");
        assert!((coarse_spread / spread - 1.0).abs() < 0.15, "{name}: {coarse_spread} ms against {spread}");
    }
}

#[test]
fn a_job_that_is_dropped_has_made_what_was_told_of_it() {
    for name in ["h100", "cs3"] {
        let made = [Detail::Events, Detail::Ends].map(|detail| {
            let mut engine = Engine::new(Profile { detail, ..exact(shipped(name)) }, 1);
            engine.submit(Micros(0), job(0, 100, 5_000));
            engine.submit(Micros(0), job(1, 100, 5_000));
            let now = Micros::from_secs(2);
            let mut sent = Vec::new();
            engine.advance(now, &mut sent);
            let told = tokens(&sent.iter().filter(|emission| emission.id == 0).copied().collect::<Vec<_>>());
            let made = engine.cancel(now, 0).expect("it runs");
            assert!(detail == Detail::Ends || (told..told + 4).contains(&made), "{name}: {told} told, {made} made");
            let mut broken = Vec::new();
            engine.apply(now, Change::Down, &mut broken);
            assert_eq!(broken, [(1, made)], "{name}");
            assert_eq!(engine.counters().output_tokens, 2 * made, "{name}");
            made
        });
        assert!(made[0].abs_diff(made[1]) <= 1 && made[0] > 300, "{name}: {made:?}");
    }
}

#[test]
fn a_report_in_the_middle_of_a_stride_tells_what_was_made_by_then() {
    let machine = |detail| {
        let mut engine = Engine::new(Profile { detail, ..exact(shipped("h100")) }, 1);
        for id in 0..5 {
            engine.submit(Micros(0), job(id, 1000, 400));
        }
        engine
    };
    let (mut all, mut coarse) = (machine(Detail::Events), machine(Detail::Ends));
    for ms in (0..3000).step_by(77) {
        let now = Micros::from_ms(f64::from(ms));
        all.advance(now, &mut Vec::new());
        coarse.advance(now, &mut Vec::new());
        let (one, other) = (all.report(now), coarse.report(now));
        // A step that ends at this very moment may end a rounding later.
        assert!(one.output_tokens.abs_diff(other.output_tokens) <= 5, "{ms} ms: {one:?} {other:?}");
        assert!(one.kv_tokens.abs_diff(other.kv_tokens) <= 5, "{ms} ms: {one:?} {other:?}");
        assert_eq!((one.running, one.waiting, one.watts), (other.running, other.waiting, other.watts), "{ms} ms");
    }
    assert_eq!(all.report(Micros::from_secs(3)).running, 5, "nobody has ended by then: {:?}", all.counters());
}
