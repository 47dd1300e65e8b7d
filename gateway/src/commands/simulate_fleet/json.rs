//! The result for tools: one object, whose `format` is raised when a field changes its meaning or goes.

use serde_json::{Map, Value, json};

use super::case::{Case, Class, Pool};
use super::limit::Bounds;
use super::study::{Limit, Study, WhatIf};
use super::text::SIMULATED;

/// Version of the object.
const FORMAT: u32 = 1;

/// All of it.
pub(super) fn json(study: &Study) -> Value {
    json!({
        "format": FORMAT,
        "note": SIMULATED,
        "policy": study.policy,
        "model": study.model,
        "pools": study.pools,
        "endpoints": study.endpoints,
        "one_in": study.one_in,
        "traffic": study.traffic.replace('\n', "; "),
        "seed": study.seed,
        "loads": study.cases.iter().map(case).collect::<Vec<_>>(),
        "limit": study.limit.as_ref().map(limit),
        "what_if": study.what_ifs.iter().map(what_if).collect::<Vec<_>>(),
        "seconds": study.took.as_secs_f64(),
    })
}

fn case(case: &Case) -> Value {
    let conduct = &case.conduct;
    let came = |times: Option<[f64; 2]>| times.map(|[p50, p90]| json!({ "p50": p50, "p90": p90 }));
    json!({
        "load": case.load,
        "requests_per_s": case.rps,
        "attainment": case.kept,
        "keeps_targets": case.keeps(),
        "classes": case.classes.iter().map(class).collect::<Vec<_>>(),
        "pools": case.pools.iter().map(pool).collect::<Vec<_>>(),
        "usd_per_hour": case.usd_per_hour,
        "usd_per_day": case.usd_per_hour * 24.0,
        "usd_per_1k_good": (case.kept > 0.0).then_some(case.usd_per_1k_good),
        "kw": case.kw,
        "peak_kw": case.peak_kw,
        "kwh_per_day": case.kw * 24.0,
        "j_per_good_token": (case.kept > 0.0).then_some(case.j_per_good_token),
        "rates": { "moved": conduct.moved, "hedged": conduct.hedged },
        "fairness": conduct.tenants.map(|(jain, worst)| json!({ "jain": jain, "worst_tenant": worst })),
        "herding": conduct.herding,
        "calibration": { "ttft_came_over_predicted": came(conduct.ttft_came), "itl_came_over_predicted": came(conduct.itl_came) },
        "simulated_requests": case.simulated,
        "decision_us": { "p50": case.decision_ns[0] / 1e3, "p99": case.decision_ns[1] / 1e3 },
    })
}

fn class(class: &Class) -> Value {
    let quantiles = |[p50, p99]: [f64; 2]| json!({ "p50": p50, "p99": p99 });
    let misses: Map<String, Value> =
        class.misses.iter().map(|(part, missed)| (part.replace(' ', "_"), json!(missed))).collect();
    json!({
        "name": class.name,
        "requests": class.requests,
        "attainment": class.kept,
        "target": class.target,
        "keeps_target": class.keeps(),
        "missed": misses,
        "ttft_ms": quantiles(class.ttft_ms),
        "held_ms": quantiles(class.held_ms),
        "refused": class.refused,
        "broken": class.broken,
        "unfinished": class.unfinished,
        "answers_by_pool": class.by_pool,
    })
}

fn pool(pool: &Pool) -> Value {
    let used: Map<String, Value> = pool.used.iter().map(|(what, used)| (what.replace(' ', "_"), json!(used))).collect();
    json!({
        "name": pool.name,
        "endpoints": pool.endpoints,
        "sent": pool.sent,
        "turned_away": pool.turned_away,
        "used": used,
        "usd_per_hour": pool.usd_per_hour,
        "kw": pool.kw,
        "commitment_used": pool.commitment_used,
    })
}

fn limit(limit: &Limit) -> Value {
    let beyond = limit.beyond.as_ref();
    json!({
        "holds_up_to_load": limit.bounds.keeps,
        "fails_at_load": limit.bounds.fails,
        "failing": beyond.map(|beyond| beyond.failing().into_iter().map(class).collect::<Vec<_>>()),
        "beyond": beyond.map(case),
    })
}

fn what_if(what_if: &WhatIf) -> Value {
    let change = &what_if.words;
    match &what_if.outcome {
        Ok((Bounds { keeps, fails }, at)) => {
            json!({ "change": change, "holds_up_to_load": keeps, "fails_at_load": fails, "at": case(at) })
        }
        Err(why) => json!({ "change": change, "cannot_be": why }),
    }
}
