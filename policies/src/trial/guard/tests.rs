//! The guard's promise: no alarm where there is nothing, and one soon where there is.

use super::*;

const GUARD: Guard = Guard { margin: 0.02, confidence: 0.99, min_requests: 100 };
const CLASSES: [&str; 4] = ["realtime", "interactive", "standard", "batch"];

/// Chance with a seed, so that a run can be told and repeated.
struct Chance(u64);

impl Chance {
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A trial: requests of all classes, each looked at as it ends.
struct Trial {
    requests: u64,
    share: f64,
    attainment: fn(u64) -> (f64, f64),
}

impl Trial {
    /// At which request an alarm comes, and how many the candidate had decided by then.
    fn run(&self, seed: u64) -> Option<(u64, u64)> {
        let mut chance = Chance(seed);
        let mut watch = Watch::new(CLASSES.map(str::to_owned), GUARD.margin);
        let mut decided = 0;
        for request in 0..self.requests {
            let class = CLASSES[(chance.share() * 4.0) as usize];
            let arm = if chance.share() < self.share { Arm::Candidate } else { Arm::Incumbent };
            let (incumbent, candidate) = (self.attainment)(request);
            let attainment = if arm == Arm::Candidate { candidate } else { incumbent };
            decided += u64::from(arm == Arm::Candidate);
            watch.observe(class, arm, request, chance.share() < attainment);
            if matches!(watch.verdict(class, &GUARD), Some(Verdict::Worse { .. })) {
                return Some((request + 1, decided));
            }
        }
        None
    }
}

#[track_caller]
fn no_alarms(what: &str, share: f64, attainment: fn(u64) -> (f64, f64)) {
    let trial = Trial { requests: 20_000, share, attainment };
    let seeds = 1_000..1_100_u64;
    let alarms: Vec<(u64, u64)> =
        seeds.clone().filter_map(|seed| trial.run(seed).map(|(request, _)| (seed, request))).collect();
    println!(
        "{what}, share {share}, seeds {seeds:?}: {} false alarms in 100 runs (seed, request) {alarms:?}",
        alarms.len()
    );
    assert!(alarms.len() <= 1, "{what}: (seed, request) {alarms:?}");
}

#[test]
fn equal_policies_raise_no_alarm() {
    no_alarms("99 % both", 0.05, |_| (0.99, 0.99));
    no_alarms("90 % both", 0.5, |_| (0.9, 0.9));
    no_alarms("50 % both", 0.05, |_| (0.5, 0.5));
}

#[test]
fn a_candidate_exactly_at_the_margin_raises_no_alarm() {
    no_alarms("99 % and 97 %", 0.05, |_| (0.99, 0.97));
    no_alarms("99 % and 97 %", 0.5, |_| (0.99, 0.97));
    no_alarms("90 % and 88 %", 0.05, |_| (0.9, 0.88));
    no_alarms("50 % and 48 %", 0.5, |_| (0.5, 0.48));
}

/// Every other thousand requests come while the machines are overloaded.
#[test]
fn hours_that_are_bad_for_both_raise_no_alarm() {
    no_alarms("99 %, 40 % by turns", 0.05, |request| if request / 1_000 % 2 == 0 { (0.99, 0.97) } else { (0.42, 0.4) });
}

#[track_caller]
fn alarms(what: &str, share: f64, worst: u64, attainment: fn(u64) -> (f64, f64)) {
    let trial = Trial { requests: 400_000, share, attainment };
    let mut found: Vec<(u64, u64)> = (0..20).map(|seed| trial.run(seed).unwrap_or((u64::MAX, u64::MAX))).collect();
    found.sort_unstable();
    let ((median, decided), (latest, _)) = (found[found.len() / 2], found[found.len() - 1]);
    println!(
        "{what}, share {share}, seeds 0..20: median {median} requests in four classes ({decided} decided by it), latest {latest}"
    );
    assert!(latest <= worst, "{what}: {found:?}");
}

#[test]
fn a_candidate_that_is_worse_is_found() {
    alarms("99 % and 90 %", 0.05, 40_000, |_| (0.99, 0.9));
    alarms("99 % and 90 %", 0.5, 6_000, |_| (0.99, 0.9));
    alarms("99 % and 50 %", 0.05, 12_000, |_| (0.99, 0.5));
    alarms("99 % and 0 %", 0.05, 12_000, |_| (0.99, 0.0));
    alarms("90 % and 80 %", 0.05, 100_000, |_| (0.9, 0.8));
}

#[test]
fn one_that_becomes_worse_after_long_is_found_too() {
    alarms("99 %, from request 100,000 on 90 %", 0.05, 200_000, |request| {
        (0.99, if request < 100_000 { 0.99 } else { 0.9 })
    });
}

#[test]
fn nothing_is_judged_before_enough_requests() {
    let mut watch = Watch::new(["batch".to_owned()], GUARD.margin);
    for request in 0..99 {
        watch.observe("batch", Arm::Incumbent, 2 * request, true);
        watch.observe("batch", Arm::Candidate, 2 * request + 1, false);
    }
    watch.observe("realtime", Arm::Candidate, 1_000, false);
    assert_eq!(watch.verdict("batch", &GUARD), Some(Verdict::Waiting { incumbent: 1, candidate: 1 }));
    assert_eq!(watch.verdict("realtime", &GUARD), None);
    watch.observe("batch", Arm::Incumbent, 1_001, true);
    assert_eq!(watch.verdict("batch", &GUARD), Some(Verdict::Waiting { incumbent: 0, candidate: 1 }));
    watch.observe("batch", Arm::Candidate, 1_002, false);
    assert!(matches!(watch.verdict("batch", &GUARD), Some(Verdict::Worse { .. })));
}

#[test]
fn what_was_seen_is_the_same_after_being_saved() {
    let mut chance = Chance(7);
    let mut watch = Watch::new(CLASSES.map(str::to_owned), GUARD.margin);
    for request in 0..3_000 {
        let arm = if chance.share() < 0.2 { Arm::Candidate } else { Arm::Incumbent };
        watch.observe("standard", arm, request, chance.share() < 0.9);
    }
    let saved = serde_json::to_string(&watch).unwrap();
    let again: Watch = serde_json::from_str(&saved).unwrap();
    let odds = |watch: &Watch| watch.classes().map(|(_, class)| class.odds).collect::<Vec<_>>();
    let off = odds(&watch).iter().zip(odds(&again)).map(|(one, other)| (one - other).abs() / one).fold(0.0, f64::max);
    assert!(off < 1e-9, "{off}");
    assert_eq!(
        watch.classes().map(|(_, class)| class.candidate).collect::<Vec<_>>(),
        again.classes().map(|(_, class)| class.candidate).collect::<Vec<_>>()
    );
}

/// One session in ten is hard for any policy, and each has about twenty requests: what is alike is no evidence.
#[test]
fn sessions_that_are_hard_for_both_raise_no_alarm() {
    for share in [0.05, 0.5] {
        let seeds = 1_000..1_100_u64;
        let alarms: Vec<u64> = seeds.clone().filter(|seed| hard_sessions(*seed, share)).collect();
        println!(
            "hard sessions, share {share}, seeds {seeds:?}: {} false alarms in 100 runs, {alarms:?}",
            alarms.len()
        );
        assert!(alarms.len() <= 1, "{alarms:?}");
    }
}

fn hard_sessions(seed: u64, share: f64) -> bool {
    struct Session {
        unit: u64,
        left: u64,
        arm: Arm,
        attainment: f64,
    }
    let mut chance = Chance(seed);
    let mut watch = Watch::new(["standard".to_owned()], GUARD.margin);
    let mut sessions: Vec<Session> = Vec::new();
    (0..20_000).any(|request| {
        while sessions.len() < 40 {
            let arm = if chance.share() < share { Arm::Candidate } else { Arm::Incumbent };
            let attainment = if chance.share() < 0.1 { 0.5 } else { 0.99 };
            let unit = request << 8 | sessions.len() as u64;
            sessions.push(Session { unit, left: 1 + (chance.share() * 40.0) as u64, arm, attainment });
        }
        let next = (chance.share() * 40.0) as usize;
        let session = &mut sessions[next];
        watch.observe("standard", session.arm, session.unit, chance.share() < session.attainment);
        session.left -= 1;
        if session.left == 0 {
            sessions.swap_remove(next);
        }
        matches!(watch.verdict("standard", &GUARD), Some(Verdict::Worse { .. }))
    })
}
