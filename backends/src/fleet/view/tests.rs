//! A view is what its endpoints say of themselves, whatever happens to them, and asks only those to which something did.

use std::path::Path;

use pointsman_policies::language::Source;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::super::{Dispatched, Fleet, Verdict, Work};
use super::*;
use crate::hardware;
use crate::health::engine_report::EngineReport;
use crate::learn::hidden_load::Hidden;
use crate::portfolio::{Secrets, load};

const POOLS: &str = "[pool.own]\nhardware = \"h100\"\n\
                     endpoints = [\"http://a:1\", \"http://a:2\", \"http://a:3\", \"http://a:4\"]\n[pool.own.model.m]\n\
                     [pool.rented]\nhardware = \"cs3\"\nendpoints = [\"http://b:1\", \"http://b:2\"]\n\
                     limits = { requests_per_minute = 60, tokens_per_minute = 60000, reserves_output = true }\n\
                     [pool.rented.model.m]\n";

fn lives() -> Vec<(Arc<Live>, usize)> {
    lives_of(POOLS)
}

fn lives_of(pools: &str) -> Vec<(Arc<Live>, usize)> {
    let (portfolio, report) = load(Source::new("portfolio.toml", pools), Path::new(""), Secrets::Optional);
    let portfolio = portfolio.unwrap_or_else(|| panic!("{report}"));
    let pools: Vec<usize> = portfolio.endpoints.iter().map(|endpoint| endpoint.pool).collect();
    Fleet::default().adopt(&portfolio).into_iter().zip(pools).collect()
}

/// Whatever may happen to an endpoint.
fn happen(live: &Arc<Live>, now: Micros, running: &mut Vec<Dispatched>, random: &mut Pcg64Mcg) {
    let read_in_ms = random.random_bool(0.5).then_some(30.0);
    let work = Work { input_tokens: 100, output_tokens: 10, itl_ms: Some(20.0), read_in_ms, ..Work::default() };
    match random.random_range(0..8) {
        0 | 1 => running.extend(live.begin(now, work).ok()),
        2 => running.iter_mut().for_each(|one| one.first_token(now)),
        3 => running.drain(..running.len() / 2).for_each(|one| one.settle(now, 110)),
        4 => live.report(Verdict::Failed, now),
        5 => live.report(Verdict::BackPressure(Micros(50_000)), now),
        6 => live.report(Verdict::Worked, now),
        _ => drop(running.pop()),
    }
}

#[test]
fn it_is_what_the_endpoints_say_at_every_moment() {
    for seed in 0..20 {
        println!("seed {seed}");
        let (lives, mut random) = (lives(), Pcg64Mcg::seed_from_u64(seed));
        let mut view = View::new(lives.clone());
        let (mut now, mut running, mut remembered) = (Micros(0), Vec::new(), Vec::new());
        for _ in 0..300 {
            now += Micros(random.random_range(0..40_000));
            let (live, _) = &lives[random.random_range(0..lives.len())];
            happen(live, now, &mut running, &mut random);
            let told: Vec<EndpointState> = lives.iter().map(|(live, pool)| live.state(*pool, now)).collect();
            assert_eq!(**view.look(now), told, "at {now:?}");
            remembered.push((view.seen(), told));
        }
        for (moment, (seen, told)) in remembered.iter().enumerate() {
            assert_eq!(seen.states(), *told, "look {moment}, remembered");
        }
    }
}

#[test]
fn what_fades_is_never_older_than_a_moment_and_what_is_still_is_not_asked() {
    let lives = lives();
    let mut view = View::new(lives.clone());
    let read = |view: &View| view.watched.iter().filter(|watched| watched.read == view.looks).count();
    view.look(Micros::from_secs(10));
    assert_eq!(read(&view), lives.len(), "all are new");
    view.look(Micros(10_050_000));
    assert_eq!(read(&view), 0, "nothing happened to any");
    let report = EngineReport { running: 8, ..EngineReport::default() };
    lives[1].0.take_report(Micros(10_050_000), &report, None);
    lives[2].0.set_hidden(Some(Hidden::new(hardware::find("h100").unwrap().kind)));
    view.look(Micros(10_060_000));
    assert_eq!(read(&view), 2, "those that were told of");
    view.look(Micros(10_159_999));
    assert_eq!(read(&view), 0, "they have not faded yet");
    let later = Micros(15_050_000);
    assert_eq!(view.look(later)[1].in_flight, 4, "half of what was reported is forgotten");
    assert_eq!(read(&view), 2, "others do not fade");
}

#[test]
fn what_fades_together_is_asked_in_a_few_looks_or_at_once_after_a_pause() {
    let hosts: Vec<String> = (0..20).map(|host| format!("\"http://a:{host}\"")).collect();
    let lives =
        lives_of(&format!("[pool.own]\nhardware = \"h100\"\nendpoints = [{}]\n[pool.own.model.m]\n", hosts.join(", ")));
    let mut view = View::new(lives.clone());
    lives.iter().for_each(|(live, _)| live.take_report(Micros(1), &EngineReport::default(), None));
    let mut read = |now| {
        view.look(Micros(now));
        view.watched.iter().filter(|watched| watched.read == view.looks).count()
    };
    assert_eq!(read(1), 20, "all are new");
    assert_eq!([100_001, 100_002, 100_003, 100_004, 100_005].map(&mut read), [6, 6, 6, 2, 0]);
    assert_eq!(read(5_000_000), 20, "nobody has looked for long");
}

#[test]
fn a_prompt_that_nobody_sees_read_is_taken_for_read_at_its_moment_without_asking_before() {
    let lives = lives();
    let mut view = View::new(lives.clone());
    let work = Work { input_tokens: 100, read_in_ms: Some(50.0), ..Work::default() };
    let _one = lives[3].0.begin(Micros(0), work);
    let prefill = |view: &mut View, now| (view.look(now)[3].prefill_tokens, view.watched[3].read == view.looks);
    assert_eq!(
        [1, 2, 49_999, 50_000, 50_001].map(|now| prefill(&mut view, Micros(now))),
        [(100, true), (100, false), (100, false), (0, true), (0, false)]
    );
}

#[test]
fn who_still_reads_what_was_seen_keeps_it_and_two_views_of_a_fleet_see_the_same() {
    let lives = lives();
    let (mut one, mut other) = (View::new(lives.clone()), View::new(lives.clone()));
    let before = Arc::clone(one.look(Micros(1)));
    other.look(Micros(1));
    let _one = lives[0].0.begin(Micros(2), Work::default());
    assert_eq!((one.look(Micros(2))[0].in_flight, other.look(Micros(2))[0].in_flight), (1, 1));
    assert_eq!(before[0].in_flight, 0);
}

#[test]
fn a_moment_tells_all_that_it_keeps_from_being_forgotten_and_who_keeps_the_same() {
    let many: String = (0..1_200).map(|port| format!("\"http://a:{}\",", port + 1)).collect();
    let pools = format!("[pool.own]\nhardware = \"h100\"\nendpoints = [{many}]\n[pool.own.model.m]\n");
    let lives = lives_of(&pools);
    let mut view = View::new(lives.clone());
    view.look(Micros(1));
    let before = view.seen();
    let _one = lives[4].0.begin(Micros(2), Work::default());
    view.look(Micros(2));
    let seen = view.seen();
    let states = seen.states();
    let (place, shared) = seen.shared();
    assert_eq!(before.shared(), (place, shared));
    assert_ne!(View::new(lives.clone()).seen().shared().0, place);
    assert_eq!((states.len(), states[4].in_flight), (1_200, 1));
    // The states at the beginning of its stretch, and room for twice as many changes.
    let least = 3 * states.len() * size_of::<EndpointState>();
    assert!((least..least + least / 10).contains(&shared), "{shared} bytes, of {least}");
    assert!(seen.bytes() < 100, "what is its own: {} bytes", seen.bytes());
}
