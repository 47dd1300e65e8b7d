//! Flow control in virtual time: files, a fleet and a clock, but no machine.

use std::collections::BTreeMap;

use pointsman_backends::fleet::{Fleet, Verdict, Work};
use pointsman_backends::portfolio::Secrets;
use pointsman_policies::facts::OwnedFacts;
use tempfile::TempDir;

use super::*;
use crate::config::set;

/// Sent one request at a time, the cheap before the dear.
const TWO: &str = "[pool.cheap]\nhardware = \"h100\"\nendpoints = [\"http://127.0.0.1:1\"]\nwindow = { requests = 1 }\n\
                   [pool.cheap.model.m]\nusd_per_m = { input = 1.0, output = 1.0 }\n\
                   [pool.dear]\nhardware = \"h100\"\nendpoints = [\"http://127.0.0.1:2\"]\nwindow = { requests = 1 }\n\
                   [pool.dear.model.m]\nusd_per_m = { input = 9.0, output = 9.0 }\n";
const POLICY: &str = "name = \"p\"\n[class.urgent]\npriority = 30\nttft_ms = 1000\n\
                      [class.patient]\npriority = 10\nttft_ms = 60000\n\
                      [class.spare]\npriority = 0\nsheddable = true\nttft_ms = 60000\n\
                      [[route]]\nname = \"all\"\n";

/// Batches, and no answer comes as fast as it is promised.
const SLOW: &str = "[pool.slow]\nhardware = \"h100\"\nendpoints = [\"http://127.0.0.1:1\"]\n\
                    window = { requests = 100 }\n[pool.slow.service]\nstep_base_ms = 50\n\
                    [pool.slow.model.m]\nusd_per_m = { input = 1.0, output = 1.0 }\n";
const HASTY: &str = "name = \"p\"\n[class.urgent]\nttft_ms = 9000\nitl_ms = 25\n[[route]]\nname = \"all\"\n";

#[test]
fn nobody_waits_so_that_a_promise_is_kept_which_no_machine_can_keep() {
    let mut world = World::under(SLOW, "", HASTY);
    for token in 0..10 {
        assert_eq!(world.ask(token, "urgent", "t"), Ok("slow".to_owned()), "request {token}");
    }
}

struct World {
    folder: TempDir,
    fleet: Fleet,
    flow: Flow<u32>,
    snapshot: Arc<Snapshot>,
    running: BTreeMap<u32, Dispatched>,
    now: Micros,
}

impl World {
    fn new(portfolio: &str, process: &str) -> World {
        World::under(portfolio, process, POLICY)
    }

    fn under(portfolio: &str, process: &str, policy: &str) -> World {
        let folder = tempfile::tempdir().unwrap();
        let fleet = Fleet::default();
        let snapshot = snapshot(&folder, [process, portfolio, policy], &fleet);
        World {
            folder,
            fleet,
            flow: Flow::default(),
            snapshot,
            running: BTreeMap::new(),
            now: Micros::from_secs(1_000),
        }
    }

    /// Puts another portfolio in force.
    fn swap(&mut self, portfolio: &str) {
        self.snapshot = snapshot(&self.folder, ["", portfolio, POLICY], &self.fleet);
    }

    fn class(&self, class: &str) -> ClassId {
        ClassId(self.snapshot.policy.classes.iter().position(|known| known.name == class).unwrap())
    }

    fn decided(&self, class: &str, tenant: &str) -> DecisionRecord {
        let facts = OwnedFacts {
            model: "m".to_owned(),
            stream: true,
            tenant: tenant.to_owned(),
            input_tokens: 100,
            output_tokens: 10,
            ..OwnedFacts::default()
        };
        let borrowed = facts.facts();
        let (snapshot, arm, class) = (&self.snapshot, Arm::Incumbent, self.class(class));
        self.flow.decide(&Ask { snapshot, arm, facts: &borrowed, prefix: &Arc::default(), class, draw: 0 }, self.now)
    }

    /// A request as the pipeline has it: where it went at once, the number of those before it, or the refusal.
    fn ask(&mut self, token: u32, class: &str, tenant: &str) -> Result<String, Result<usize, Refusal>> {
        let made = Arc::new(self.decided(class, tenant));
        let Some(plan) = made.plan.clone() else { return Err(Err(refusal(&made))) };
        let Some(hold) = plan.hold else {
            self.flow.sent(&made, self.now);
            let endpoint = plan.attempts[0].endpoint;
            let target = made.snapshot.target(endpoint).unwrap();
            self.running.insert(token, target.live.begin(self.now, made.work(endpoint)).unwrap());
            return Ok(target.facts.name.clone());
        };
        match self.flow.hold(made, hold, token, self.now) {
            Ok(entered) => Err(Ok(entered.ahead)),
            Err((_, refusal)) => Err(Err(refusal)),
        }
    }

    /// One that runs and is not in anybody's books.
    fn occupy(&mut self, endpoint: usize, token: u32) {
        self.occupy_for(endpoint, token, 10);
    }

    fn occupy_for(&mut self, endpoint: usize, token: u32, output_tokens: u64) {
        let work = Work { input_tokens: 100, output_tokens, ..Work::default() };
        let live = Arc::clone(self.snapshot.target(endpoint).unwrap().live);
        self.running.insert(token, live.begin(self.now, work).unwrap());
    }

    fn end(&mut self, token: u32) {
        let dispatched = self.running.remove(&token).expect("it runs");
        dispatched.live().report(Verdict::Worked, self.now);
        dispatched.settle(self.now, 110);
    }

    /// Who has been let go: its token and where it went, or how it was refused.
    fn let_go(&mut self, released: Vec<Released<u32>>) -> Vec<(u32, String)> {
        let told = |Released { token, made, outcome, end, moved }: Released<u32>| match outcome {
            Ok(dispatched) => {
                let endpoint = made.plan.as_ref().unwrap().attempts[0].endpoint;
                let pool = made.snapshot.target(endpoint).unwrap().facts.name.clone();
                self.running.insert(token, dispatched);
                (token, if moved > 0 { format!("{pool} after {moved} moves") } else { pool })
            }
            Err(refusal) => (token, format!("{} {}", end.as_str(), refusal.code())),
        };
        released.into_iter().map(told).collect()
    }

    fn release(&mut self) -> Vec<(u32, String)> {
        let released = self.flow.release(self.now);
        self.let_go(released)
    }

    /// Ticks until so many milliseconds have passed or somebody is let go.
    fn tend(&mut self, ms: u64) -> Vec<(u32, String)> {
        let until = self.now + Micros(ms * 1_000);
        while self.now < until {
            self.now += TICK;
            let released = self.flow.tend(self.now);
            if !released.is_empty() {
                return self.let_go(released);
            }
        }
        Vec::new()
    }
}

fn snapshot(folder: &TempDir, texts: [&str; 3], fleet: &Fleet) -> Arc<Snapshot> {
    for (name, text) in ["pointsman.toml", "portfolio.toml", "policy.toml"].into_iter().zip(texts) {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let loaded = set::load(&folder.path().join("pointsman.toml"), Secrets::Required);
    let Some(set) = loaded.set else { panic!("{}", set::render(&loaded.reports, false)) };
    Arc::new(Snapshot::build(1, set, None, fleet))
}

fn to(token: u32, pool: &str) -> Vec<(u32, String)> {
    vec![(token, pool.to_owned())]
}

#[test]
fn nothing_is_held_that_can_be_sent_and_what_is_held_goes_the_moment_there_is_room() {
    let mut world = World::new(TWO, "");
    assert_eq!(world.ask(1, "patient", ""), Ok("cheap".to_owned()));
    assert_eq!(world.ask(2, "patient", ""), Err(Ok(0)), "cheap enough to wait for");
    assert_eq!(world.ask(3, "patient", ""), Err(Ok(1)));
    assert_eq!((world.release(), world.flow.held()), (Vec::new(), 2));
    world.end(1);
    assert_eq!(world.release(), to(2, "cheap"), "without a tick");
    world.end(2);
    assert_eq!((world.release(), world.flow.held()), (to(3, "cheap"), 0));
    world.end(3);
    assert_eq!(world.ask(4, "patient", ""), Ok("cheap".to_owned()));
}

#[test]
fn the_urgent_go_first_and_nobody_who_comes_later_overtakes_them() {
    let mut world = World::new(TWO, "");
    world.occupy(0, 1);
    world.occupy(1, 2);
    assert_eq!(world.ask(3, "patient", ""), Err(Ok(0)));
    assert_eq!(world.ask(4, "urgent", ""), Err(Ok(0)));
    world.end(1);
    assert_eq!(world.ask(5, "patient", ""), Err(Ok(2)), "there is room, but not for a newcomer");
    assert_eq!(world.release(), to(4, "cheap"));
}

/// With one release in 25 given to the oldest, which stands behind others, the line must go on.
#[test]
fn a_line_that_does_not_end_still_lets_the_oldest_go() {
    let mut world = World::new(TWO, "");
    world.occupy(0, 0);
    world.occupy(1, 999);
    assert_eq!(world.ask(1, "patient", ""), Err(Ok(0)));
    let mut gone = Vec::new();
    for token in 2..60 {
        world.ask(token, "urgent", "").expect_err("held").expect("held");
        world.end(gone.last().map_or(0, |(token, _)| *token));
        let released = world.release();
        assert_eq!(released.len(), 1, "one place, one request: {token}");
        gone.extend(released);
    }
    assert_eq!(gone.iter().position(|(token, _)| *token == 1), Some(24), "{gone:?}");
}

#[test]
fn a_held_request_goes_to_another_pool_as_its_slack_shrinks() {
    let mut world = World::new(TWO, "");
    world.occupy(0, 1);
    assert_eq!(world.ask(2, "urgent", ""), Err(Ok(0)), "the cheap one will soon have room");
    assert_eq!(world.tend(100), Vec::new());
    assert_eq!(world.tend(900), to(2, "dear"), "it had none");
    let waited_ms = (world.now - Micros::from_secs(1_000)).as_ms();
    assert!((300.0..700.0).contains(&waited_ms), "in time for its promise of 1 s: {waited_ms} ms");

    world.end(1);
    world.end(2);
    world.occupy(0, 3);
    world.occupy_for(1, 2, 1);
    assert_eq!(world.ask(4, "urgent", ""), Err(Ok(0)));
    assert_eq!(world.tend(700), Vec::new(), "neither has room");
    world.end(2);
    assert_eq!(world.tend(100), to(4, "dear"));
}

#[test]
fn who_leaves_is_gone_at_once() {
    let mut world = World::new(TWO, "");
    world.occupy(0, 1);
    world.occupy(1, 2);
    world.ask(3, "patient", "").expect_err("held").expect("held");
    let made = Arc::new(world.decided("patient", ""));
    let hold = made.plan.as_ref().unwrap().hold.unwrap();
    let entered = world.flow.hold(made, hold, 4, world.now).unwrap();
    assert_eq!((entered.ahead, world.flow.held()), (1, 2));
    assert!(world.flow.leave(entered.ticket) && !world.flow.leave(entered.ticket));
    assert_eq!(world.flow.held(), 1);
}

#[test]
fn the_line_is_bounded_and_what_may_be_shed_makes_room() {
    let mut world = World::new(TWO, "[queue]\nmax_requests = 2\n");
    world.occupy(0, 1);
    world.occupy(1, 2);
    world.ask(3, "spare", "").expect_err("held").expect("held");
    world.ask(4, "spare", "").expect_err("held").expect("held");
    let Err(Err(Refusal::Saturated { retry_in_ms })) = world.ask(5, "spare", "") else { panic!("no room") };
    assert!((100.0..2_000.0).contains(&retry_in_ms), "when the work ahead is done: {retry_in_ms} ms");
    world.ask(6, "urgent", "").expect_err("held").expect("held");
    assert_eq!(world.release(), to(4, "shed saturated"), "the last of those that may be shed");
    world.ask(7, "urgent", "").expect_err("held").expect("held");
    assert_eq!(world.release(), to(3, "shed saturated"));
    assert!(matches!(world.ask(8, "patient", ""), Err(Err(Refusal::Saturated { .. }))));
    assert_eq!(world.flow.held(), 2);
}

#[test]
fn of_what_may_be_shed_the_lowest_in_order_is_given_up_first_whatever_its_priority() {
    let policy = POLICY.replacen(
        "[[route]]",
        "[class.refill]\npriority = 5\nsheddable = true\nshed_order = -1\nttft_ms = 60000\n[[route]]",
        1,
    );
    let mut world = World::under(TWO, "[queue]\nmax_requests = 2\n", &policy);
    world.occupy(0, 1);
    world.occupy(1, 2);
    world.ask(3, "refill", "").expect_err("held").expect("held");
    world.ask(4, "refill", "").expect_err("held").expect("held");
    world.ask(5, "spare", "").expect_err("held").expect("held");
    assert_eq!(world.release(), to(4, "shed saturated"), "of a lower order, though of a higher priority");
    assert!(matches!(world.ask(6, "refill", ""), Err(Err(Refusal::Saturated { .. }))), "no better than what is held");
    world.end(1);
    assert_eq!(world.release(), to(5, "cheap"), "what is shed last goes first");
}

#[test]
fn nobody_is_held_longer_than_the_process_allows() {
    let mut world = World::new(TWO, "[queue]\nmax_wait_s = 0.5\n");
    world.occupy(0, 1);
    world.occupy(1, 2);
    world.ask(3, "patient", "").expect_err("held").expect("held");
    assert_eq!(world.tend(490), Vec::new());
    assert_eq!(world.tend(100), to(3, "too-long saturated"));
}

#[test]
fn what_may_be_shed_is_refused_once_it_is_late_with_the_time_the_work_ahead_takes() {
    let mut world = World::new(TWO, "");
    world.occupy(0, 1);
    world.occupy(1, 2);
    world.ask(3, "spare", "").expect_err("held").expect("held");
    assert_eq!(world.tend(59_000), Vec::new());
    assert_eq!(world.tend(2_000), to(3, "shed saturated"));
    let one = TWO.split_once("[pool.dear]").unwrap().0;
    let shortest = |waiting: u32| {
        let mut world = World::new(one, "");
        world.occupy(0, 1);
        let answers: Vec<_> = (0..=waiting).map(|token| world.ask(10 + token, "spare", "")).collect();
        assert!(answers.iter().all(|answer| matches!(answer, Err(Ok(_)))), "{answers:?}");
        retry_ms(&world.decided("spare", ""))
    };
    let (short, long) = (shortest(1), shortest(40));
    assert!(long > 5.0 * short, "more ahead, later back: {short} ms, {long} ms");
}

/// Of those who are refused in one turn: who, and when they may come back.
fn refused(released: Vec<Released<u32>>) -> Vec<(u32, f64)> {
    let told = |released: Released<u32>| match released.outcome {
        Err(Refusal::Saturated { retry_in_ms }) => (released.token, retry_in_ms),
        other => panic!("{other:?}"),
    };
    released.into_iter().map(told).collect()
}

#[test]
fn many_who_are_late_at_once_are_given_up_in_turns_that_follow_each_other() {
    let mut world = World::new(TWO, "");
    world.occupy(0, 1);
    world.occupy(1, 2);
    for token in 0..300 {
        world.ask(10 + token, "spare", "").expect_err("held").expect("held");
    }
    world.now += Micros::from_secs(61);
    let mut turns = Vec::new();
    while world.flow.due().is_some_and(|due| due <= world.now) {
        turns.push(refused(world.flow.tend(world.now)).len());
    }
    assert!(turns.len() > 4 && turns.iter().all(|given_up| *given_up <= 64), "{turns:?}");
    assert_eq!((turns.iter().sum::<usize>(), world.flow.held()), (300, 0));
}

#[test]
fn who_is_given_up_comes_back_when_the_work_that_is_ahead_now_is_done() {
    let mut world = World::new(TWO.split_once("[pool.dear]").unwrap().0, "");
    world.occupy(0, 1);
    let then_ms = retry_ms(&world.decided("spare", ""));
    world.ask(10, "spare", "").expect_err("held").expect("held");
    world.now += Micros::from_secs(30);
    for token in 0..40 {
        world.ask(20 + token, "patient", "").expect_err("held").expect("held");
    }
    world.now += Micros::from_secs(31);
    let told = refused(world.flow.tend(world.now));
    let [(10, now_ms)] = told[..] else { panic!("{told:?}") };
    assert!(now_ms > 5.0 * then_ms, "{then_ms} ms when it came, forty more wait by now: {now_ms} ms");
}

#[test]
fn a_plain_line_holds_whoever_is_late() {
    let mut world = World::new(TWO, "");
    world.occupy(0, 1);
    world.occupy(1, 2);
    let made = Arc::new(world.decided("spare", ""));
    let hold = Hold { slack_ms: -5.0, ..made.plan.as_ref().unwrap().hold.unwrap() };
    assert!(world.flow.hold(Arc::clone(&made), hold, 3, world.now).is_err(), "late already");
    world.flow = Flow::new(Mechanisms { queue: false, ..Mechanisms::default() });
    assert!(world.flow.hold(made, hold, 3, world.now).is_ok());
    assert_eq!((world.tend(90_000), world.flow.held()), (Vec::new(), 1));
}

#[test]
fn generations_share_the_line_whatever_the_order_of_their_pools() {
    let mut world = World::new(TWO, "");
    world.occupy(0, 1);
    world.occupy(1, 2);
    world.ask(3, "patient", "").expect_err("held").expect("held");
    let first = "[pool.an-other]\nhardware = \"h100\"\nendpoints = [\"http://127.0.0.1:3\"]\n";
    world.swap(&format!("{first}{TWO}"));
    let made = world.decided("patient", "");
    assert_eq!(made.waiting.iter().map(|waiting| waiting.pool).collect::<Vec<_>>(), [1], "`cheap` is the second now");
    world.swap(&TWO.replace("cheap", "other").replace("127.0.0.1:1", "127.0.0.1:9"));
    assert_eq!(world.decided("patient", "").waiting, [], "a pool that it has not");
    world.end(1);
    assert_eq!(world.release(), to(3, "cheap"), "it finishes under its own generation");
}

#[test]
fn machines_that_ask_for_patience_are_waited_for_as_long_as_the_promise_allows() {
    let mut world = World::new(TWO, "");
    let patience = |world: &World, ms: f64| {
        for target in world.snapshot.targets() {
            target.live.report(Verdict::BackPressure(Micros::from_ms(ms)), world.now);
        }
    };
    patience(&world, 600.0);
    assert_eq!(world.ask(1, "urgent", ""), Err(Ok(0)));
    assert_eq!(world.tend(595), Vec::new());
    assert_eq!(world.tend(10), to(1, "cheap"), "the moment it may be asked again");

    patience(&world, 5_000.0);
    let refused = world.ask(2, "urgent", "");
    let Err(Err(Refusal::Saturated { retry_in_ms })) = refused else { panic!("beyond its promise: {refused:?}") };
    assert!((4_900.0..=5_000.0).contains(&retry_in_ms), "{retry_in_ms}");
    assert_eq!(world.ask(3, "patient", ""), Err(Ok(0)));
    patience(&world, 59_990.0);
    assert_eq!(world.tend(10), to(3, "refused saturated"), "it became hopeless, so it is told at once");
}

#[test]
fn who_waits_for_machines_that_all_break_is_told_at_once() {
    let mut world = World::new(TWO, "");
    world.occupy(0, 1);
    world.occupy(1, 2);
    world.ask(3, "patient", "").expect_err("held").expect("held");
    world.ask(4, "patient", "").expect_err("held").expect("held");
    for target in world.snapshot.targets() {
        (0..5).for_each(|_| target.live.report(Verdict::Failed, world.now));
    }
    let told = |token| (token, "refused backends_unavailable".to_owned());
    assert_eq!(world.tend(10), [told(3), told(4)]);
}

#[test]
fn one_that_has_to_wait_for_a_machine_holds_nobody_up_who_cannot_use_it() {
    let beside = "[pool.side]\nhardware = \"h100\"\nendpoints = [\"http://127.0.0.1:1\", \"http://127.0.0.1:2\"]\n\
                  window = { requests = 1 }\n[pool.side.model.m]\n";
    let pinned = "[[route]]\nname = \"left\"\nwhen = 'request.tenant == \"left\"'\npin = [\"side/127.0.0.1:1\"]\n";
    let mut world = World::under(beside, "", &POLICY.replace("[[route]]", &format!("{pinned}[[route]]")));
    world.occupy(0, 1);
    world.occupy(1, 2);
    world.ask(3, "patient", "left").expect_err("pinned to the first").expect("held");
    world.ask(4, "patient", "").expect_err("any").expect("held");
    world.end(2);
    assert_eq!(world.tend(10), to(4, "side"));
    assert_eq!(world.tend(100), Vec::new());
    world.end(1);
    assert_eq!(world.release(), to(3, "side"));
}

/// Of an answer that comes whole no first token is seen: nobody tells that its machine has time for the next prompt.
#[test]
fn a_held_request_goes_the_moment_a_prompt_is_expected_to_have_been_read() {
    let one = TWO.split_once("[pool.dear]").unwrap().0;
    let mut world = World::new(&one.replace("requests = 1", "requests = 9, prefill_tokens = 100"), "");
    let work = Work { input_tokens: 100, output_tokens: 500, read_in_ms: Some(37.0), ..Work::default() };
    let live = Arc::clone(world.snapshot.target(0).unwrap().live);
    world.running.insert(1, live.begin(world.now, work).unwrap());
    world.ask(2, "patient", "").expect_err("held").expect("held");
    assert_eq!(world.tend(35), Vec::new());
    assert_eq!(world.tend(10), to(2, "cheap"));
}

#[test]
fn those_who_wait_are_looked_after_when_something_can_have_changed_not_all_the_time() {
    let mut world = World::new(TWO, "");
    assert_eq!(world.flow.due(), None, "nobody waits");
    (0..2).for_each(|endpoint| world.occupy(endpoint, endpoint as u32));
    assert!(matches!(world.ask(7, "patient", ""), Err(Ok(0))));
    let mut looks = 0;
    let began = world.now;
    while world.now < began + Micros::from_secs(10) {
        world.now = world.flow.due().expect("somebody waits").max(world.now);
        let released = world.flow.tend(world.now);
        assert!(world.let_go(released).is_empty());
        looks += 1;
    }
    assert!(looks <= 110, "{looks} looks in ten seconds in which nothing happened");
    world.end(0);
    let released = world.flow.release(world.now);
    assert_eq!(world.let_go(released), [(7, "cheap".to_owned())]);
    assert_eq!(world.flow.due(), None);
}
