//! The bench itself, on a minute and a half of made-up traffic: everything runs, everything is counted once, the same
//! seed gives the same figures, and what is written has the shape that was promised.

/// What mechanisms are claimed to be worth.
mod claims;
/// What is claimed of us beside others.
mod ahead;

use pointsman::simulation::workload::Workload;
use pointsman::simulation::workload::described::{Described, Lengths};

use super::*;

fn plan<'a>(fleet: &'a Fleet, traces: &'a [Trace], scenarios: &[&str], policies: &[&str]) -> Plan<'a> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    Plan {
        fleet,
        traces,
        slice: Shape::default(),
        scenarios: scenarios_named(&owned(scenarios)).expect("known scenarios"),
        loads: vec![1.0],
        candidates: policies::named(&owned(policies)).expect("known policies"),
        seeds: 1,
        threads: Some(2),
    }
}

fn trace() -> Trace {
    let input = Lengths { median_tokens: 1000.0, p90_tokens: 3500.0 };
    let output = Lengths { median_tokens: 100.0, p90_tokens: 400.0 };
    Described { rps: 8.0, duration_s: 90.0, burstiness: 2.0, input, output }.trace(5)
}

#[test]
fn every_policy_runs_under_every_scenario_without_a_mistake_and_answers_for_every_request() {
    let (fleet, traces) = (Fleet::reference().expect("the reference fleet"), [trace()]);
    let slice = Shape { for_s: 20.0, ..Shape::default() };
    for cell in (Plan { slice, ..plan(&fleet, &traces, &["all"], &["all"]) }).run(|_, _| ()) {
        for reports in &cell.reports {
            let report = &reports[0];
            let told = format!("{} under {}", report.router, cell.scenario.name);
            assert_eq!((report.mistakes, report.kept().all), (0, cell.requests as u64), "{told}");
            assert!(report.kept().part() > 0.1 && report.usd() > 0.0 && report.joules() > 0.0, "{told}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_figures_and_another_gives_others() {
    let (fleet, traces) = (Fleet::reference().expect("the reference fleet"), [trace()]);
    let plan = Plan { seeds: 2, ..plan(&fleet, &traces, &["steady"], &["pointsman", "prequal"]) };
    let figures = || -> Vec<(u64, f64, f64)> {
        let cells = plan.run(|_, _| ());
        let reports = cells.iter().flat_map(|cell| &cell.reports).flatten();
        reports.map(|report| (report.kept().good, report.usd(), report.p99_ttft_ms())).collect()
    };
    let (first, second) = (figures(), figures());
    assert_eq!(first, second);
    assert_ne!(first[0], first[1], "seeds");
}

#[test]
fn scenarios_do_what_they_say() {
    let (fleet, traces) = (Fleet::reference().expect("the reference fleet"), [trace()]);
    let names = ["steady", "site-lost", "antagonist", "throttled"];
    let cells = plan(&fleet, &traces, &names, &["litellm cost", "round robin"]).run(|_, _| ());
    let ttft_ms = |cell: usize| cells[cell].reports[0][0].p99_ttft_ms(); // of one who sends everything to the H100s
    let answered = |cell: usize| cells[cell].reports[1][0].pools.iter().map(|pool| pool.sent).collect::<Vec<_>>();
    assert!(answered(1)[0] < answered(0)[0] * 9 / 10, "the A100s were away: {:?} {:?}", answered(0), answered(1));
    assert!(ttft_ms(2) > ttft_ms(0) * 1.1, "somebody else used the H100s: {} {}", ttft_ms(2), ttft_ms(0));
    assert!(ttft_ms(3) > ttft_ms(0) * 1.1, "the H100s were slow: {} {}", ttft_ms(3), ttft_ms(0));
}

#[test]
fn figures_have_the_promised_shape() {
    let (fleet, traces) = (Fleet::reference().expect("the reference fleet"), [trace()]);
    let plan = plan(&fleet, &traces, &["steady"], &["pointsman", "least outstanding"]);
    let mut cells = plan.run(|_, _| ());
    plan.judge(&mut cells, 1, |_, _| ());
    let summed = |cell: Cell| {
        let each = plan.candidates.iter().zip(&cell.reports);
        let summaries: Vec<Summary> = each.map(|(one, reports)| Summary::of(one.name(), reports)).collect();
        (cell, summaries)
    };
    let cells: Vec<_> = cells.into_iter().map(summed).collect();
    let figures = json::json("made-up", 1, &cells);
    let scenario = &figures["scenarios"][0];
    let oracle = &scenario["oracle"];
    let (bound, found) = (oracle["upper_bound"].as_f64(), oracle["clairvoyant"].as_f64());
    assert!(found.expect("a number") <= bound.expect("a number") + 1e-9, "{oracle}");
    assert_eq!(
        (&figures["trace"], &scenario["name"], scenario["load"].as_f64()),
        (&"made-up".into(), &"steady".into(), Some(1.0))
    );
    for policy in scenario["policies"].as_array().expect("policies") {
        for key in ["attainment", "usd_per_1k_good", "j_per_good_token", "goodput_rps", "p99_ttft_ms", "herding"] {
            assert!(policy[key].is_number(), "{key}: {policy}");
        }
        assert!(policy["decision_us"]["p50"].is_number() && policy["decision_us"]["p99"].is_number());
        assert!(policy["by_class"]["realtime"].is_number());
        assert!(policy["rates"]["moved"].is_number() && policy["commitment_used_by_pool"].is_object(), "{policy}");
    }
    let page = page::page("made-up & <more>", 1, &cells);
    assert!(page.contains("made-up &amp; &lt;more&gt;") && !page.contains("http://") && !page.contains("https://"));
}

#[test]
fn names_that_nobody_has_are_told_with_the_nearest() {
    let told = scenarios_named(&["stale-6s".to_owned()]).map(|found| found.len());
    assert_eq!(told, Err("unknown scenario `stale-6s`; did you mean `stale-1s`?".to_owned()));
    assert_eq!(unknown_policy("prequel"), "unknown policy `prequel`; did you mean `prequal`?");
}
