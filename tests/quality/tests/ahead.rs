//! What is claimed of Pointsman beside others, in small: a minute of made-up conversations on the reference fleet, drawn by
//! seeds.

use std::ops::RangeInclusive;

use pointsman::simulation::conditions::{Conditions, Metrics};
use pointsman::simulation::report::Kept;
use pointsman::simulation::world;
use pointsman_policies::units::Micros;

use super::*;
use crate::verdict::Verdict;

/// What everybody can pick today without telling it what was promised.
const SIMPLE: [&str; 10] = [
    "round robin",
    "random",
    "least outstanding",
    "two choices",
    "peak ewma",
    "prequal",
    "litellm latency",
    "vllm internal",
    "llm-d default",
    "smg least_load",
];
/// What predicts, knows promises, or sees prefixes.
const SMART: [&str; 9] = [
    "litellm cost",
    "llm-d predicted",
    "most headroom",
    "smg cache_aware",
    "dynamo kv",
    "dynamo grid",
    "static class to pool",
    "aibrix slo",
    "polyserve",
];
/// Who is as good as this much below counts as a rival in cost.
const RIVAL: f64 = 0.02;

/// Who keeps all promises but so few cannot be outdone, only undercut: a grid that sends each class to its pool does, as
/// long as the pools are large enough for it.
const ALL_BUT_FEW: f64 = 0.005;
/// By at least a tenth.
const CLEARLY_LESS: f64 = 0.9;

/// Requests a second at load 1.
const RPS: f64 = 20.0;

/// So many seconds of made-up conversations.
fn conversations(rps: f64, duration_s: f64) -> Trace {
    let input = Lengths { median_tokens: 1_000.0, p90_tokens: 3_500.0 };
    let output = Lengths { median_tokens: 150.0, p90_tokens: 500.0 };
    Described { rps, duration_s, burstiness: 2.0, input, output }.trace(5)
}

/// The figures of policies on the reference fleet, ours first, at each load.
fn at_loads(policies: &[&str], loads: &[f64]) -> Vec<(f64, Vec<Summary>)> {
    let (fleet, traces) = (Fleet::reference().expect("the reference fleet"), [conversations(RPS, 60.0)]);
    let all = [&["pointsman"], policies].concat();
    let plan = Plan { loads: loads.to_vec(), seeds: 2, ..plan(&fleet, &traces, &["steady"], &all) };
    let summed = |cell: Cell| {
        let each = plan.candidates.iter().zip(&cell.reports);
        (cell.load, each.map(|(candidate, reports)| Summary::of(candidate.name(), reports)).collect())
    };
    plan.run(|_, _| ()).into_iter().map(summed).collect()
}

/// What we and another keep, and what a thousand of them cost, US dollars.
struct Beside {
    ours: (f64, f64),
    theirs: (f64, f64),
}

/// Holds each of others beside us at each load to what is claimed.
fn against(policies: &[&str], loads: &[f64], claimed: impl Fn(&Beside) -> bool) {
    for (load, all) in at_loads(policies, loads) {
        let (own, others) = all.split_first().expect("ours");
        for other in others {
            let [ours, theirs] = [own, other].map(|one| (one.kept.part(), one.usd_per_1k_good));
            let told = format!(
                "load {load}: {:.3} kept at ${:.3} a thousand, {}: {:.3} at ${:.3}",
                ours.0, ours.1, other.name, theirs.0, theirs.1
            );
            println!("{told}");
            assert!(claimed(&Beside { ours, theirs }), "{told}");
        }
    }
}

#[test]
fn every_simple_router_keeps_fewer_promises_for_more_money() {
    against(&SIMPLE, &[1.0], |Beside { ours: (kept, usd), theirs: (their_kept, their_usd) }| {
        *kept >= their_kept + 0.05 && usd <= their_usd
    });
}

#[test]
fn no_smarter_router_keeps_more_promises_and_none_that_keeps_nearly_as_many_costs_less() {
    against(&SMART, &[1.0, 1.6], |Beside { ours: (kept, usd), theirs: (their_kept, their_usd) }| {
        let more = kept > their_kept || kept + ALL_BUT_FEW >= 1.0 && *usd < their_usd * CLEARLY_LESS;
        more && (usd <= their_usd || *their_kept < kept - RIVAL)
    });
}

#[test]
fn of_what_one_who_knows_the_future_earns_nineteen_twentieths_are_earned() {
    let (fleet, traces) = (Fleet::reference().expect("the reference fleet"), [conversations(22.0, 20.0)]);
    let plan = plan(&fleet, &traces, &["steady"], &["pointsman", "least outstanding"]);
    let verdict = Verdict::of(&plan, plan.scenarios[0], 1.0, 10);
    let part = |policy| verdict.utility(policy).expect("it was run") / verdict.utility_found;
    println!("{}", verdict.text());
    assert!(part("pointsman") >= 0.95, "{}", verdict.text());
    assert!(part("least outstanding") < 0.95, "a claim that anybody could make: {}", verdict.text());
}

/// Each is drawn so often.
const SEEDS: RangeInclusive<u64> = 1..=3;

/// What gateways that share the machines keep, with uneven ingress: each sees a part of what it causes. At 20 requests a
/// second; from 24 on five gateways exceed the wafers' limits, which each believes to have for itself.
fn kept_by_five(policy: &str, metrics: Metrics, prediction_sigma: f64) -> f64 {
    let (fleet, traces) = (Fleet::reference().expect("the reference fleet"), [conversations(RPS, 60.0)]);
    let candidate = policies::named(&[policy.to_owned()]).expect("a known policy").remove(0);
    let mut kept = Kept::default();
    for seed in SEEDS {
        let shape = Shape { seed, prediction_sigma, ingress: vec![8.0, 4.0, 2.0, 1.0, 1.0], ..Shape::default() };
        let work = Workload::build(&traces, &shape);
        let conditions = Conditions { seed, metrics, ..Conditions::default() };
        let mut routers: Vec<_> = (0..5).map(|gateway| candidate.router(&fleet, None, seed * 100 + gateway)).collect();
        let report = world::run(&fleet.setup(), &work, &conditions, &mut routers);
        kept.good += report.kept().good;
        kept.all += report.kept().all;
    }
    kept.part()
}

#[test]
fn to_five_gateways_metrics_that_are_five_seconds_old_cost_little() {
    let stale = Metrics { delay: Micros::from_secs(5), ..Metrics::default() };
    let [ours, theirs] = ["pointsman", "llm-d default"]
        .map(|policy| [Metrics::default(), stale].map(|metrics| kept_by_five(policy, metrics, 0.0)));
    let told = format!("fresh and stale: {ours:.4?} kept, llm-d default {theirs:.4?}");
    println!("{told}");
    assert!(ours[1] >= ours[0] - 0.02, "{told}");
    assert!(theirs[1] < theirs[0] - 0.02, "a claim that anybody could make: {told}");
}

#[test]
fn to_five_gateways_predictions_that_are_half_off_cost_little() {
    let [exact, off] = [0.0, 0.5].map(|sigma| kept_by_five("pointsman", Metrics::default(), sigma));
    let told = format!("{exact:.4} kept, {off:.4} with wrong predictions");
    println!("{told}");
    assert!(off >= exact - 0.015, "{told}");
}
