//! The figures as JSON.

use pointsman::simulation::report::{Calibration, Times};
use serde_json::{Map, Value, json};

use crate::matrix::Cell;
use crate::summary::{ClassSummary, Summary};
use crate::verdict::Verdict;

/// Everything.
pub fn json(trace: &str, seeds: u64, cells: &[(Cell, Vec<Summary>)]) -> Value {
    json!({ "trace": trace, "seeds": seeds, "scenarios": cells.iter().map(cell).collect::<Vec<_>>() })
}

fn cell((cell, summaries): &(Cell, Vec<Summary>)) -> Value {
    json!({
        "name": cell.scenario.name,
        "about": cell.scenario.about,
        "load": cell.load,
        "requests": cell.requests,
        "rps": cell.rps,
        "policies": summaries.iter().map(|summary| policy(summary, cell.oracle.as_ref())).collect::<Vec<_>>(),
        "oracle": cell.oracle.as_ref().map(oracle),
    })
}

/// Utility is the value of promises kept less the money spent, as a part of the value of all.
fn oracle(verdict: &Verdict) -> Value {
    let by_class: Map<String, Value> =
        verdict.classes_found.iter().map(|(name, part)| (name.clone(), json!(part))).collect();
    json!({
        "upper_bound": verdict.utility_bound,
        "clairvoyant": verdict.utility_found,
        "attainment": {
            "upper_bound": verdict.attainment_bound,
            "clairvoyant": verdict.attainment_found,
            "clairvoyant_by_class": by_class,
        },
        "clairvoyant_usd_per_1k_good": verdict.usd_per_1k_good_found,
    })
}

fn policy(summary: &Summary, oracle: Option<&Verdict>) -> Value {
    let by_class: Map<String, Value> = summary
        .classes
        .iter()
        .filter(|class| class.kept.all > 0)
        .map(|class| (class.name.clone(), json!(class.kept.part())))
        .collect();
    let classes: Map<String, Value> = summary.classes.iter().map(|one| (one.name.clone(), class(one))).collect();
    let pools: Map<String, Value> = summary.pools.iter().map(|(name, part)| (name.clone(), json!(part))).collect();
    let commitments: Map<String, Value> =
        summary.commitments.iter().map(|(name, part)| (name.clone(), json!(part))).collect();
    json!({
        "name": summary.name,
        "attainment": summary.kept.part(),
        "attainment_95": [summary.attainment_95.0, summary.attainment_95.1],
        "by_class": by_class,
        "classes": classes,
        "usd_per_1k_good": (summary.kept.good > 0).then_some(summary.usd_per_1k_good),
        "usd_per_1k_good_95": [summary.usd_95.0, summary.usd_95.1],
        "j_per_good_token": (summary.kept.good > 0).then_some(summary.j_per_good_token),
        "goodput_rps": summary.goodput_rps,
        "p99_ttft_ms": summary.p99_ttft_ms,
        "herding": summary.herding,
        "decision_us": { "p50": summary.decision_us.0, "p99": summary.decision_us.1 },
        "peak_kw": summary.peak_kw,
        "fairness": { "jain": summary.fairness, "worst_tenant": summary.worst_tenant },
        "rates": {
            "shed": summary.rates.shed,
            "broken": summary.rates.broken,
            "unfinished": summary.rates.unfinished,
            "hedged": summary.rates.hedged,
            "moved": summary.rates.moved,
            "outrun_tokens": summary.rates.outrun_tokens,
            "turned_away": summary.rates.turned_away,
        },
        "attempts_by_pool": pools,
        "commitment_used_by_pool": commitments,
        "cached_share": summary.cached_share,
        "calibration": {
            "ttft_came_over_predicted": ratios(&summary.calibration.ttft),
            "itl_came_over_predicted": ratios(&summary.calibration.itl),
        },
        "mistakes": summary.mistakes,
        "utility": oracle.and_then(|verdict| verdict.utility(summary.name)),
    })
}

/// Of streams whose times were predicted.
fn ratios(times: &Times) -> Value {
    let at = |part| Calibration::ratio(times, part);
    at(0.5).map_or(Value::Null, |median| json!({ "p10": at(0.1), "p50": median, "p90": at(0.9), "p99": at(0.99) }))
}

fn class(class: &ClassSummary) -> Value {
    let mut figures = json!({
        "requests": class.kept.all,
        "kept": class.kept.part(),
        "shed": class.shed,
        "p99_ttft_ms": class.p99_ttft_ms,
        "answered_by_pool": class.by_pool,
    });
    for (part, kept) in class.parts.iter().filter(|(_, kept)| kept.all > 0) {
        figures[*part] = json!(kept.part());
    }
    figures
}
