//! A world of one or two machines whose times can be reckoned by hand.

use std::path::Path;

use pointsman_backends::portfolio::{self, Secrets};
use pointsman_policies::language::{Source, compile};

use super::*;
use crate::simulation::conditions::{Disturbance, Happening, Metrics, Neighbour};
use crate::simulation::report::Kept;
use crate::simulation::router::{Arrival, Ended, Seen, TurnedAway};
use crate::simulation::workload::Shape;
use crate::simulation::workload::trace::{Row, Trace};

const POLICY: &str = "name = \"t\"\n[class.realtime]\nttft_ms = 300\nitl_ms = 10\n[class.interactive]\nttft_ms = 1000\n\
    itl_ms = 50\n[class.standard]\nttft_ms = 4000\nitl_ms = 100\n[class.batch]\ndeadline_s = 600\n[[route]]\nname = \"all\"\n";
const SERVICE: &str = "{ step_base_ms = 10, step_per_sequence_ms = 0, step_per_kv_token_ns = 0, \
    prefill_tokens_per_s = 10000, fixed_ttft_ms = 0, slots = 4, jitter_sigma = 0, tokens_per_event = 1 }";

fn machines(limits: &str) -> Portfolio {
    let text = format!(
        "[site.s]\nround_trip_ms = 20\n[pool.a]\nsite = \"s\"\nhardware = \"h100\"\nendpoints = [\"http://a:1\", \"http://b:1\"]\n\
         service = {SERVICE}\n{limits}\n[pool.a.model.m]\nusd_per_m = {{ input = 1.0, output = 10.0 }}\n"
    );
    let (portfolio, report) = portfolio::load(Source::new("p", text), Path::new(""), Secrets::Optional);
    portfolio.unwrap_or_else(|| panic!("{}", report.render(false)))
}

/// Requests at these milliseconds with prompts and answers of these lengths, all interactive streams.
fn workload(rows: &[(f64, u32, u32)]) -> Workload {
    let rows = rows.iter().map(|(ms, input, output)| Row::plain(Micros::from_ms(*ms), *input, *output)).collect();
    let mut workload = Workload::build(&[Trace::of("t", rows)], &Shape::default());
    for request in &mut workload.requests {
        (request.class, request.declared, request.stream) = (1, 1, true);
    }
    workload
}

/// Sends everything to the endpoints named, in turn, and writes down what it is told.
#[derive(Default)]
struct Scripted {
    to: Vec<usize>,
    hedge: Option<usize>,
    holds: Vec<u32>,
    told: Vec<String>,
    sent: usize,
}

impl Scripted {
    fn next(&mut self) -> usize {
        self.sent += 1;
        self.to[(self.sent - 1) % self.to.len()]
    }
}

struct Shared(std::rc::Rc<std::cell::RefCell<Scripted>>);

impl Router for Shared {
    fn name(&self) -> &str {
        "scripted"
    }

    fn arrive(&mut self, _: Micros, arrival: &Arrival<'_>, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        let mut script = self.0.borrow_mut();
        let seen = seen.endpoints.iter().map(|one| format!("{}{}", one.in_flight, if one.up { "" } else { "!" }));
        let seen: Vec<_> = seen.collect();
        script.told.push(format!("arrive {} seen {}", arrival.id, seen.join(" ")));
        let endpoint = script.next();
        acts.push(Act::Send { request: arrival.id, endpoint });
        acts.extend(script.hedge.map(|endpoint| Act::Send { request: arrival.id, endpoint }));
    }

    fn first_token(&mut self, now: Micros, request: u32, endpoint: usize, _: &Seen<'_>, acts: &mut Vec<Act>) {
        let mut script = self.0.borrow_mut();
        script.told.push(format!("first {request} at {endpoint} {}", now.as_ms()));
        if let Some(loser) = script.hedge.map(|hedge| if endpoint == hedge { script.to[0] } else { hedge }) {
            acts.push(Act::Cancel { request, endpoint: loser });
        }
    }

    fn ended(&mut self, now: Micros, ended: &Ended, _: &Seen<'_>, acts: &mut Vec<Act>) {
        let mut script = self.0.borrow_mut();
        let how = if ended.broken { "broken" } else { "ended" };
        script.told.push(format!(
            "{how} {} at {} {} itl {:?}",
            ended.request,
            ended.endpoint,
            now.as_ms(),
            ended.itl_ms
        ));
        if ended.broken && ended.ttft_ms.is_none() {
            let endpoint = script.next();
            acts.push(Act::Send { request: ended.request, endpoint });
        }
    }

    fn turned_away(&mut self, now: Micros, away: &TurnedAway, _: &Seen<'_>, _: &mut Vec<Act>) {
        let mut script = self.0.borrow_mut();
        script.told.push(format!("away {} {} wait {:?}", away.request, now.as_ms(), away.retry_after_ms));
        script.holds.push(away.request);
    }

    fn next_wake(&self) -> Option<Micros> {
        (!self.0.borrow().holds.is_empty()).then_some(Micros::from_secs(5))
    }

    fn wake(&mut self, _: Micros, _: &Seen<'_>, acts: &mut Vec<Act>) {
        for request in self.0.borrow_mut().holds.drain(..) {
            acts.push(Act::Refuse { request, retry_after_ms: 0.0 });
        }
    }
}

fn play(script: Scripted, portfolio: &Portfolio, work: &Workload, conditions: &Conditions) -> (Report, Vec<String>) {
    let (policy, report) = compile(Source::new("t", POLICY), &portfolio.facts);
    let policy = policy.unwrap_or_else(|| panic!("{}", report.render(false)));
    let shared = std::rc::Rc::new(std::cell::RefCell::new(script));
    let mut routers: Vec<Box<dyn Router>> = vec![Box::new(Shared(std::rc::Rc::clone(&shared)))];
    let report = run(&Setup { portfolio, policy: &policy, model: "m" }, work, conditions, &mut routers);
    let told = std::mem::take(&mut shared.borrow_mut().told);
    (report, told)
}

fn all_to(endpoint: usize) -> Scripted {
    Scripted { to: vec![endpoint], ..Scripted::default() }
}

#[test]
fn an_answer_takes_the_network_the_prompt_and_its_tokens() {
    let (report, told) = play(all_to(0), &machines(""), &workload(&[(0.0, 1000, 11)]), &Conditions::default());
    // 10 ms there, 100 ms prompt, 11 tokens of 10 ms, 10 ms back
    assert_eq!(told, ["arrive 0 seen 0 0", "first 0 at 0 130", "ended 0 at 0 230 itl Some(10.0)"]);
    assert_eq!((report.kept(), report.mistakes), (Kept { good: 1, all: 1 }, 0));
    assert!((report.usd() - 1110e-6).abs() < 1e-12, "{}", report.usd());
    assert_eq!(report.good_output_tokens, 11);
}

#[test]
fn the_loser_of_a_hedge_is_paid_for_what_it_made() {
    let script = Scripted { hedge: Some(1), ..all_to(0) };
    let work = workload(&[(0.0, 1000, 101)]);
    let (report, told) = play(script, &machines(""), &work, &Conditions::default());
    assert_eq!(told, ["arrive 0 seen 0 0", "first 0 at 0 130", "ended 0 at 0 1130 itl Some(10.0)"]);
    assert_eq!((report.hedges, report.mistakes), (1, 0));
    // Both prompts, the winner's 101 tokens, and the three that the loser made until it heard.
    assert!((report.usd() - (2000.0 + 10.0 * 104.0) / 1e6).abs() < 20e-6, "{}", report.usd());
}

#[test]
fn what_a_provider_does_not_take_comes_back_and_may_be_refused() {
    let portfolio = machines("limits = { requests_per_minute = 1 }");
    let (report, told) =
        play(all_to(0), &portfolio, &workload(&[(0.0, 100, 2), (5.0, 100, 2)]), &Conditions::default());
    assert!(told.iter().any(|line| line.starts_with("away 1 25 wait Some(59995")), "{told:?}");
    assert_eq!((report.classes[1].shed, report.kept()), (1, Kept { good: 1, all: 2 }));
    assert_eq!(report.pools[0].turned_away, 1);
}

#[test]
fn a_machine_that_goes_breaks_streams_and_is_noticed_later() {
    let down = Disturbance { at: Micros::from_ms(500.0), endpoints: vec![0], what: Happening::Down };
    let conditions = Conditions { disturbances: vec![down], ..Conditions::default() };
    let script = Scripted { to: vec![0, 0, 1, 1], ..Scripted::default() };
    let work = workload(&[(0.0, 100, 500), (490.0, 100, 5), (3000.0, 100, 5)]);
    let (report, told) = play(script, &machines(""), &work, &conditions);
    let expected = [
        "arrive 0 seen 0 0",
        "first 0 at 0 40",
        "arrive 1 seen 1 0",
        "broken 0 at 0 510 itl Some(10.0)",
        "broken 1 at 0 510 itl None",
        "first 1 at 1 550",
        "ended 1 at 1 590 itl Some(10.0)",
        "arrive 2 seen 0! 0",
        "first 2 at 1 3040",
        "ended 2 at 1 3080 itl Some(10.0)",
    ];
    let rounded: Vec<String> =
        told.iter().map(|line| line.replace("itl Some(10.217391304347826)", "itl Some(10.0)")).collect();
    assert_eq!(rounded, expected);
    assert_eq!((report.classes[1].broken, report.kept()), (1, Kept { good: 2, all: 3 }));
}

#[test]
fn neighbours_slow_a_machine_and_nobody_sees_them_but_its_metrics() {
    let neighbour = Neighbour { rps: 200.0, input_tokens: 200, output_tokens: 20 };
    let from_start = Disturbance { at: Micros(0), endpoints: vec![0], what: Happening::Neighbour(neighbour) };
    let conditions = Conditions { disturbances: vec![from_start], ..Conditions::default() };
    let work = workload(&[(2000.0, 100, 5)]);
    let (alone, _) = play(all_to(0), &machines(""), &work, &Conditions::default());
    let (beside, told) = play(all_to(0), &machines(""), &work, &conditions);
    assert_eq!(told[0], "arrive 0 seen 0 0");
    assert!(beside.p99_ttft_ms() > alone.p99_ttft_ms() + 20.0, "{} {}", beside.p99_ttft_ms(), alone.p99_ttft_ms());
}

#[test]
fn metrics_come_as_late_as_they_are_said_to() {
    #[derive(Default)]
    struct Reader(std::rc::Rc<std::cell::RefCell<Vec<Option<Reported>>>>);
    impl Router for Reader {
        fn name(&self) -> &str {
            "reader"
        }
        fn arrive(&mut self, _: Micros, arrival: &Arrival<'_>, seen: &Seen<'_>, acts: &mut Vec<Act>) {
            self.0.borrow_mut().push(seen.endpoints[0].reported);
            acts.push(Act::Send { request: arrival.id, endpoint: 0 });
        }
        fn ended(&mut self, _: Micros, _: &Ended, _: &Seen<'_>, _: &mut Vec<Act>) {}
        fn turned_away(&mut self, _: Micros, _: &TurnedAway, _: &Seen<'_>, _: &mut Vec<Act>) {}
    }
    let portfolio = machines("");
    let (policy, _) = compile(Source::new("t", POLICY), &portfolio.facts);
    let policy = policy.expect("a policy");
    let setup = Setup { portfolio: &portfolio, policy: &policy, model: "m" };
    let work = workload(&[(0.0, 100, 500), (4900.0, 100, 5), (5100.0, 100, 5), (6100.0, 100, 5)]);
    let read = |metrics| {
        let told = std::rc::Rc::default();
        let mut routers: Vec<Box<dyn Router>> = vec![Box::new(Reader(std::rc::Rc::clone(&told)))];
        run(&setup, &work, &Conditions { metrics, ..Conditions::default() }, &mut routers);
        let seen: Vec<Option<(f64, u32)>> =
            told.borrow().iter().map(|told| told.map(|told: Reported| (told.at.as_secs(), told.running))).collect();
        seen
    };
    let second = Micros::from_secs(1);
    assert_eq!(read(Metrics::LOST), [None; 4]);
    let late = read(Metrics { every: second, delay: Micros::from_secs(5) });
    assert_eq!(late, [None, None, Some((0.0, 0)), Some((1.0, 1))]);
    let fresh = read(Metrics { every: second, delay: Micros(0) });
    assert_eq!(fresh, [None, Some((4.0, 1)), Some((5.0, 1)), Some((6.0, 0))]);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let rows: Vec<(f64, u32, u32)> = (0..400).map(|n| (f64::from(n) * 20.0, 100 + n % 7 * 300, 5 + n % 50)).collect();
    let script = || Scripted { to: vec![0, 1, 1], ..Scripted::default() };
    let (portfolio, work) = (machines(""), workload(&rows));
    let play = |seed| play(script(), &portfolio, &work, &Conditions { seed, ..Conditions::default() });
    let ((first, told), (second, told_again)) = (play(1), play(1));
    assert_eq!(told, told_again);
    assert_eq!((first.kept(), first.usd(), first.joules()), (second.kept(), second.usd(), second.joules()));
}
