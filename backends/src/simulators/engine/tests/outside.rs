//! What comes from outside: prompts that begin alike, neighbours, capacity that is late or short, sites lost.

use super::super::super::profile::{Detail, Neighbours};
use super::*;

fn asking(id: u64, prompt_tokens: u64, prefix: &[u64]) -> Job {
    Job { prefix: prefix.into(), ..job(id, prompt_tokens, 10) }
}

#[test]
fn a_prompt_that_begins_as_another_did_is_computed_from_where_they_part() {
    let mut engine = Engine::new(exact(shipped("h100")), 1);
    let mut first_at = |now: u64, job: Job| {
        let now = Micros::from_secs(now);
        engine.submit(now, job);
        let emission = *drain(&mut engine).values().next().expect("one job").first().expect("its first token");
        (emission.cached_tokens, (emission.at - now).as_ms(), engine.counters().found_tokens)
    };
    let ms = |computed: f64| 30.0 + computed / 15.0 + 5.86;
    // (prompt, blocks, found); the last block is not full and not shared.
    let table = [
        (3000, vec![1, 2, 3, 4, 5, 6], 0),
        (3000, vec![1, 2, 3, 4, 5, 6], 5 * 512),
        (3000, vec![1, 2, 9, 4, 5, 6], 2 * 512),
        (2048, vec![1, 2, 9, 4], 4 * 512),
        (1000, vec![], 0),
    ];
    let mut found = 0;
    for (id, (prompt, blocks, cached)) in table.into_iter().enumerate() {
        let (told, took_ms, counted) = first_at(10 * id as u64, asking(id as u64, prompt, &blocks));
        found += cached;
        assert_eq!((told, counted), (cached, found), "job {id}");
        assert!((took_ms - ms((prompt - cached) as f64)).abs() < 0.1, "job {id}: {took_ms} ms");
    }
    assert!((engine.report(Micros::from_secs(60)).hit_rate() - found as f64 / 11_048.0).abs() < 1e-9);
}

#[test]
fn shared_blocks_take_memory_once_and_unused_ones_give_way() {
    let service = ServiceModel { kv_tokens: Some(10_000), ..exact(shipped("h100")).service };
    let mut engine = Engine::new(Profile::new(HardwareKind::Gpu, service), 1);
    let shared: Vec<u64> = (1..=12).collect();
    let mut sent = Vec::new();
    engine.submit(Micros(0), Job { output_tokens: 300, ..asking(0, 6500, &shared) });
    engine.advance(Micros::from_secs(1), &mut sent);
    // Two more of 6500 would never fit beside it; their own parts do.
    for id in 1..3 {
        engine.submit(Micros::from_secs(1), Job { output_tokens: 200, ..asking(id, 6500, &shared) });
    }
    engine.advance(Micros::from_ms(1100.0), &mut sent);
    assert_eq!((engine.running(), engine.waiting()), (3, 0));
    assert!(engine.kv_tokens() < 8000, "{}", engine.kv_tokens());
    drain(&mut engine);
    // What they shared is still there, until a stranger needs the room.
    let cached = |engine: &mut Engine, id, prompt, blocks: &[u64]| {
        engine.submit(Micros::from_secs(100 * id), asking(id, prompt, blocks));
        drain(engine)[&id][0].cached_tokens
    };
    assert_eq!(cached(&mut engine, 10, 6500, &shared), 12 * 512);
    assert_eq!(cached(&mut engine, 11, 8000, &[]), 0);
    // 2000 tokens were free beside it: room for three blocks, the beginning of the chain.
    assert_eq!(cached(&mut engine, 12, 6500, &shared), 3 * 512);
}

#[test]
fn capacity_comes_late_goes_away_and_takes_everything_along() {
    for name in ["h100", "cs3"] {
        let mut engine = Engine::new(exact(shipped(name)), 1);
        let (mut broken, mut sent) = (Vec::new(), Vec::new());
        engine.apply(Micros(0), Change::Down, &mut broken);
        assert_eq!(engine.submit(Micros(0), job(0, 10, 10)), Admission::Refused(Refused::Down), "{name}");
        assert_eq!((engine.watts(), engine.next_event()), (0.0, None), "{name}");
        let date = Micros::from_secs(60);
        engine.apply(date, Change::Up, &mut broken);
        assert!(engine.watts() > 0.0 && engine.energy(date).joules == 0.0, "{name}");
        for id in 1..=100 {
            assert_eq!(engine.submit(date, job(id, 100, 5000)), Admission::Accepted, "{name}");
        }
        let lost = Micros::from_secs(61);
        engine.advance(lost, &mut sent);
        assert!(broken.is_empty() && !sent.is_empty(), "{name}");
        engine.apply(lost, Change::Down, &mut broken);
        assert_eq!(broken.iter().map(|(id, _)| *id).collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>(), "{name}");
        assert_eq!((engine.counters().broken, engine.running(), engine.waiting()), (100, 0, 0), "{name}");
        assert_eq!((engine.next_event(), engine.kv_tokens(), engine.watts()), (None, 0, 0.0), "{name}");
        engine.apply(Micros::from_secs(70), Change::Up, &mut broken);
        engine.submit(Micros::from_secs(70), job(200, 10, 10));
        assert_eq!(drain(&mut engine).len(), 1, "{name}");
    }
}

#[test]
fn a_short_tranche_serves_fewer_at_once_and_a_longer_one_lets_those_in_who_wait() {
    for name in ["h100", "cs3"] {
        let mut engine = Engine::new(exact(shipped(name)), 1);
        let (mut broken, mut sent) = (Vec::new(), Vec::new());
        engine.apply(Micros(0), Change::Slots(3), &mut broken);
        for id in 0..8 {
            engine.submit(Micros(0), job(id, 10, 100_000));
        }
        engine.advance(Micros::from_secs(1), &mut sent);
        assert_eq!((engine.running(), engine.waiting()), (3, 5), "{name}");
        engine.apply(Micros::from_secs(1), Change::Slots(6), &mut broken);
        sent.clear();
        engine.advance(Micros::from_ms(1100.0), &mut sent);
        assert_eq!((engine.running(), engine.waiting()), (6, 2), "{name}");
        assert!(
            sent.iter().all(|emission| emission.at >= Micros::from_secs(1)),
            "{name}: nobody is served in the past"
        );
    }
}

#[test]
fn speed_and_limits_change_from_a_moment_on() {
    for (name, step_ms) in [("h100", 5.86), ("cs3", 0.55)] {
        let mut engine = Engine::new(exact(Profile { detail: Detail::Ends, ..shipped(name) }), 1);
        let mut broken = Vec::new();
        engine.apply(Micros(0), Change::Speed(0.25), &mut broken);
        engine.submit(Micros(0), job(0, 10, 1001));
        let ms = itl_ms(&drain(&mut engine)[&0]);
        assert!((ms / step_ms - 4.0).abs() < 0.02, "{name}: {ms} ms");
        let limits = RateLimits { requests_per_minute: Some(1.0), ..RateLimits::default() };
        let now = Micros::from_secs(100);
        engine.apply(now, Change::Limits(limits), &mut broken);
        let answers = [1, 2].map(|id| engine.submit(now, job(id, 10, 10)));
        assert!(
            matches!(answers, [Admission::Accepted, Admission::Refused(Refused::RateLimited { .. })]),
            "{answers:?}"
        );
    }
}

#[test]
fn hidden_neighbours_slow_first_tokens_and_all_others_and_take_slots() {
    let neighbours = Neighbours { calm_s: 100.0, busy_s: 50.0, slots: [0, 255], ..Neighbours::default() };
    let machine = |neighbours| Profile { neighbours, ..exact(shipped("cloud-api")) };
    let run = |neighbours: Option<Neighbours>| {
        let mut engine = Engine::new(machine(neighbours), 4);
        let (mut sent, mut waited) = (Vec::new(), 0);
        for id in 0..4000 {
            let now = Micros::from_secs(id);
            engine.advance(now, &mut sent);
            engine.submit(now, job(id, 100, 50));
            waited = waited.max(engine.waiting());
        }
        engine.advance(Micros(u64::MAX - 1), &mut sent);
        let of = |pick: fn(&Emission) -> bool| {
            let mut at = vec![Micros(0); 4000];
            sent.iter().filter(|emission| pick(emission)).for_each(|emission| at[emission.id as usize] = emission.at);
            at
        };
        let (first, last) = (of(|emission| emission.first), of(|emission| emission.last));
        let ttft: Vec<f64> = (0..4000).map(|id| (first[id] - Micros::from_secs(id as u64)).as_ms()).collect();
        let itl: Vec<f64> = (0..4000).map(|id| (last[id] - first[id]).as_ms() / 49.0).collect();
        (ttft, itl, waited)
    };
    let (ttft, itl, waited) = run(Some(neighbours));
    let (alone_ttft, alone_itl, _) = run(None);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    assert!((mean(&alone_ttft) - 315.0).abs() < 0.1 && (mean(&alone_itl) - 10.0).abs() < 0.1);
    // A third of the time everything takes twice as long.
    assert!((1.15..1.55).contains(&(mean(&itl) / 10.0)), "{}", mean(&itl));
    assert!(mean(&ttft) > 1.15 * 315.0, "{}", mean(&ttft));
    let slow = itl.iter().filter(|ms| **ms > 19.9).count();
    let fast = itl.iter().filter(|ms| **ms < 10.1).count();
    assert!(slow > 700 && fast > 2000 && slow + fast > 3800, "two regimes: {slow} slow, {fast} fast");
    assert!(waited > 1, "one slot is left in a spell of work");
    assert_eq!(run(Some(neighbours)), run(Some(neighbours)));
}
