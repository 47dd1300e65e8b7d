//! The bound and the clairvoyant against the truth, where it can be enumerated, and against each other, where it cannot.

/// The truth of small instances.
mod exact;

use std::path::Path;

use fastrand::Rng;
use pointsman::simulation::conditions::{Conditions, Metrics};
use pointsman::simulation::router::Router;
use pointsman::simulation::workload::trace::{Row, Trace};
use pointsman::simulation::workload::{Shape, Workload};
use pointsman::simulation::world::Setup;
use pointsman_backends::portfolio::{self, Portfolio, Secrets};
use pointsman_policies::language::{Source, compile};
use pointsman_policies::policy::{Policy, Slo};
use pointsman_policies::units::Micros;

use super::bound::{Goal, bound};
use super::instance::Instance;
use super::search::Effort;
use super::{Judged, clairvoyant, judge};
use crate::baselines;

const POLICY: &str = "[class.realtime]\nttft_ms = 300\nitl_ms = 5\n[class.interactive]\nttft_ms = 1000\nitl_ms = 50\n\
    [class.standard]\nttft_ms = 4000\nitl_ms = 100\n[class.batch]\ndeadline_s = 30\n[[route]]\nname = \"all\"\n";
const UNIT: &str = "step_per_sequence_ms = 0, step_per_kv_token_ns = 0, prefill_tokens_per_s = 10000, \
    fixed_ttft_ms = 20, slots = 1, jitter_sigma = 0, tokens_per_event = 1";

/// A fleet for one test.
struct Fleet {
    portfolio: Portfolio,
    policy: Policy,
}

impl Fleet {
    fn new(pools: &str) -> Fleet {
        let site = "[site.s]\nround_trip_ms = 4\n";
        let (portfolio, report) =
            portfolio::load(Source::new("p", format!("{site}{pools}")), Path::new(""), Secrets::Optional);
        let portfolio = portfolio.unwrap_or_else(|| panic!("{}", report.render(false)));
        let (policy, report) = compile(Source::new("t", POLICY), &portfolio.facts);
        let policy = policy.unwrap_or_else(|| panic!("{}", report.render(false)));
        Fleet { portfolio, policy }
    }

    /// One fast and dear machine, and slow and cheap ones, each of one slot.
    fn of_unit_slots(slow: usize) -> Fleet {
        let slow: Vec<String> = (0..slow).map(|at| format!("\"http://slow-{at}:1\"")).collect();
        Fleet::new(&format!(
            "[pool.fast]\nsite = \"s\"\nhardware = \"groq-lpu\"\nendpoints = [\"http://fast:1\"]\n\
             service = {{ step_base_ms = 2, {UNIT} }}\n[pool.fast.model.m]\nusd_per_m = {{ input = 2.0, output = 4.0 }}\n\
             [pool.slow]\nsite = \"s\"\nhardware = \"groq-lpu\"\nendpoints = [{}]\n\
             service = {{ step_base_ms = 8, {UNIT} }}\n[pool.slow.model.m]\nusd_per_m = {{ input = 0.5, output = 1.0 }}\n",
            slow.join(", ")
        ))
    }

    /// Two machines that batch.
    fn of_batches() -> Fleet {
        Fleet::new(
            "[pool.gpu]\nsite = \"s\"\nhardware = \"h100\"\nendpoints = [\"http://a:1\", \"http://b:1\"]\n\
             service = { step_base_ms = 3, step_per_sequence_ms = 1, step_per_kv_token_ns = 100, \
             prefill_tokens_per_s = 8000, fixed_ttft_ms = 10, slots = 8, kv_tokens = 20000, jitter_sigma = 0, \
             tokens_per_event = 1 }\n[pool.gpu.model.m]\nusd_per_m = { input = 1.0, output = 2.0 }\n",
        )
    }

    fn setup(&self) -> Setup<'_> {
        Setup { portfolio: &self.portfolio, policy: &self.policy, model: "m" }
    }

    fn baseline(&self, name: &str) -> Box<dyn Router> {
        let promises: Vec<Slo> = self.policy.classes.iter().map(|class| class.slo).collect();
        let world = baselines::World { pools: &self.portfolio.facts, promises: &promises };
        baselines::find(name).expect("it is in the table").build(&world, &[], 1)
    }

    fn judged(&self, workload: &Workload, name: &str) -> Judged {
        judge(&self.setup(), workload, &still(), vec![self.baseline(name)])
    }
}

/// Nothing but requests and machines.
fn still() -> Conditions {
    Conditions { metrics: Metrics::LOST, ..Conditions::default() }
}

/// Requests of all kinds within so many seconds.
fn requests(lots: &mut Rng, count: usize, within_s: f64, most_input: u32, most_output: u32) -> Workload {
    let mut row = || {
        let at = Micros::from_ms(lots.f64() * within_s * 1e3);
        Row::plain(at, lots.u32(50..most_input), lots.u32(5..most_output))
    };
    let rows = (0..count).map(|_| row()).collect();
    let mut workload = Workload::build(&[Trace::of("t", rows)], &Shape::default());
    for request in &mut workload.requests {
        let class = lots.u8(0..3);
        (request.class, request.declared, request.stream, request.max_output_tokens) = (class, class, lots.bool(), 0);
    }
    workload
}

#[test]
fn bound_truth_and_clairvoyant_come_in_this_order_on_small_instances() {
    let (mut found, mut possible) = (0.0, 0.0);
    for seed in 0..16 {
        let mut lots = Rng::with_seed(seed);
        let fleet = Fleet::of_unit_slots(1 + seed as usize % 2);
        let count = lots.usize(5..=8);
        let workload = requests(&mut lots, count, 1.5, 3_000, 150);
        let instance = Instance::of(&fleet.setup(), &workload);
        let upper = bound(&instance, Goal::Utility, 200);
        let truth = exact::utility_usd(&instance);
        let start = fleet.judged(&workload, "least outstanding");
        let effort = Effort { tries: 400, passes: 3, seed };
        let best = clairvoyant(&fleet.setup(), &workload, &still(), &[start], effort).expect("there is a start");
        println!(
            "seed {seed}: bound {:.3} truth {:.3} clairvoyant {:.3} (thousandths of a dollar)",
            upper * 1e3,
            truth * 1e3,
            best.utility_usd * 1e3
        );
        assert!(upper >= truth - 1e-9, "seed {seed}: the bound is no bound");
        assert!(truth >= best.utility_usd - 1e-9, "seed {seed}: better than the truth");
        (found, possible) = (found + best.utility_usd, possible + truth);
    }
    println!("the clairvoyant finds {:.1} % of what is possible", found / possible * 100.0);
    assert!(found > 0.97 * possible, "{found} of {possible}");
}

#[test]
fn the_bound_holds_on_machines_that_batch() {
    for seed in 0..6 {
        let mut lots = Rng::with_seed(seed);
        let fleet = Fleet::of_batches();
        let workload = requests(&mut lots, 60, 4.0, 2_000, 120);
        let instance = Instance::of(&fleet.setup(), &workload);
        let starts = ["least outstanding", "most headroom", "round robin"].map(|name| fleet.judged(&workload, name));
        let best_start = starts.iter().map(|start| start.utility_usd).fold(f64::MIN, f64::max);
        let effort = Effort { tries: 150, passes: 1, seed };
        let best = clairvoyant(&fleet.setup(), &workload, &still(), &starts, effort).expect("there are starts");
        let (utility, kept) = (bound(&instance, Goal::Utility, 100), bound(&instance, Goal::Kept, 100));
        println!(
            "seed {seed}: utility {:.3} <= {:.3} <= {:.3}; kept {} <= {kept:.1} of 60",
            best_start * 1e3,
            best.utility_usd * 1e3,
            utility * 1e3,
            best.report.kept().good
        );
        assert!(best.utility_usd >= best_start, "seed {seed}");
        assert!(utility >= best.utility_usd - 1e-9, "seed {seed}");
        assert!(kept >= best.report.kept().good as f64 - 1e-9, "seed {seed}");
    }
}

#[test]
fn prices_see_what_is_scarce() {
    // Ten requests at once that each hold the only slot for about a second and may not wait: few can be served.
    let fleet = Fleet::new(&format!(
        "[pool.one]\nsite = \"s\"\nhardware = \"groq-lpu\"\nendpoints = [\"http://a:1\"]\n\
         service = {{ step_base_ms = 5, {UNIT} }}\n[pool.one.model.m]\nusd_per_m = {{ input = 1.0, output = 1.0 }}\n"
    ));
    let rows = (0..10).map(|_| Row::plain(Micros(0), 2_500, 150)).collect();
    let mut workload = Workload::build(&[Trace::of("t", rows)], &Shape::default());
    for request in &mut workload.requests {
        (request.class, request.stream, request.max_output_tokens) = (0, true, 0);
    }
    let kept = bound(&Instance::of(&fleet.setup(), &workload), Goal::Kept, 200);
    assert!((1.0..2.0).contains(&kept), "{kept}");
}

#[test]
fn prices_see_a_rate_limit() {
    let fleet = Fleet::new(&format!(
        "[pool.one]\nsite = \"s\"\nhardware = \"groq-lpu\"\nendpoints = [\"http://a:1\"]\n\
         service = {{ step_base_ms = 1, {} }}\nlimits = {{ requests_per_minute = 10 }}\n\
         [pool.one.model.m]\nusd_per_m = {{ input = 1.0, output = 1.0 }}\n",
        UNIT.replace("slots = 1", "slots = 64")
    ));
    let rows = (0..100).map(|at| Row::plain(Micros::from_ms(f64::from(at) * 100.0), 100, 10)).collect();
    let mut workload = Workload::build(&[Trace::of("t", rows)], &Shape::default());
    for request in &mut workload.requests {
        (request.class, request.stream, request.max_output_tokens) = (2, true, 0);
    }
    let kept = bound(&Instance::of(&fleet.setup(), &workload), Goal::Kept, 300);
    assert!((10.0..21.0).contains(&kept), "a full bucket and what it regains in a minute: {kept}");
}

#[test]
fn a_promise_that_no_machine_can_keep_counts_for_nothing() {
    let fleet = Fleet::of_unit_slots(1);
    // 4 s of prefill on either machine.
    let mut workload = Workload::build(&[Trace::of("t", vec![Row::plain(Micros(0), 40_000, 10)])], &Shape::default());
    workload.requests[0].class = 1;
    let instance = Instance::of(&fleet.setup(), &workload);
    assert_eq!(bound(&instance, Goal::Kept, 10), 0.0);
}

#[test]
fn a_plan_repeats_the_run_that_it_was_taken_from() {
    let mut lots = Rng::with_seed(3);
    let fleet = Fleet::of_batches();
    let workload = requests(&mut lots, 200, 10.0, 2_000, 120);
    let first = fleet.judged(&workload, "least outstanding");
    let plan = std::rc::Rc::new(first.plan.clone());
    let again = judge(&fleet.setup(), &workload, &still(), vec![super::script::Script::boxed(&plan)]);
    assert_eq!(again.report.kept(), first.report.kept());
    assert_eq!(again.utility_usd, first.utility_usd);
    assert_eq!(again.plan, first.plan);
}
