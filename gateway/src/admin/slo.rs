//! `/api/v1/slo`: promises kept and missed by class, how fast the budget of misses burns, what was spent on whom.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use pointsman_policies::attain::Part;
use pointsman_policies::policy::{Class, Slo};
use serde_json::{Map, Value, json};

use super::off_thread;
use super::problem::Problem;
use crate::gateway::Gateway;
use crate::traffic::names::Column;
use crate::traffic::rollup::{Promises, Series, Stats};
use crate::traffic::row::PARTS;
use crate::traffic::tend::now_ms;
use crate::traffic::{Books, rollup};

/// Windows over which burning is told, as alerts pair them.
const WINDOWS: [(&str, u64); 4] = [("5m", 300), ("1h", 3_600), ("6h", 21_600), ("3d", 259_200)];
/// The window of the budget, and of costs, seconds.
const BUDGET_S: u64 = 259_200;

/// What changes nothing.
pub fn reads() -> Router<Arc<Gateway>> {
    Router::new().route("/api/v1/slo", get(slo))
}

async fn slo(State(gateway): State<Arc<Gateway>>) -> Result<Json<Value>, Problem> {
    off_thread(move || {
        let now_s = now_ms() / 1_000;
        let books = gateway.telemetry().traffic().books();
        let windows = WINDOWS.map(|(name, window_s)| (name, window_s, books.rollups.window(window_s, now_s)));
        let budget = books.rollups.window(BUDGET_S, now_s);
        let snapshot = gateway.snapshot();
        let mut classes: Vec<Value> = Vec::new();
        let of_policy = &snapshot.policy.classes;
        for class in of_policy {
            let number = number(&books, &class.name);
            classes.push(told(&class.name, Some(class), promises(&books, number), &windows, number));
        }
        // classes of policies that were in force before, whose counts are not lost
        let is_known = |name: &str| of_policy.iter().any(|class| class.name == name);
        for (number, counts) in books.rollups.promises() {
            let name = books.names.name(Column::Class, *number);
            if !is_known(name) && counts.kept + counts.missed > 0 {
                classes.push(told(name, None, *counts, &windows, Some(*number)));
            }
        }
        Ok(Json(json!({
            "classes": classes,
            "cost": costs(&books, &budget),
            "tenants": tenants(&books, &budget),
            "all": cost(budget.get(&Series::All).unwrap_or(&Stats::default())),
            "cost_since_unix_s": now_s.saturating_sub(BUDGET_S),
            "labels": { "joules": "modelled", "usd_all_gpu": "modelled", "joules_all_gpu": "modelled", "usd": "by the portfolio's prices" },
        })))
    })
    .await
}

fn number(books: &Books, class: &str) -> Option<u16> {
    let place = books.names.of(Column::Class).iter().position(|name| &**name == class)?;
    u16::try_from(place).ok()
}

fn promises(books: &Books, number: Option<u16>) -> Promises {
    number.and_then(|number| books.rollups.promises().get(&number).copied()).unwrap_or_default()
}

type Window = (&'static str, u64, HashMap<Series, Stats>);

fn told(name: &str, class: Option<&Class>, counts: Promises, windows: &[Window], number: Option<u16>) -> Value {
    let target = class.map(|class| class.target);
    let objectives = class.map(|class| objectives(class, counts, windows, number)).unwrap_or_default();
    let windows: Vec<(u64, f64, Value)> = windows
        .iter()
        .map(|(name, window_s, sums)| {
            let stats = number.and_then(|number| sums.get(&Series::Class(number)));
            let (kept, missed) = stats.map_or((0, 0), |stats| (stats.kept.into(), stats.missed.into()));
            let burn = burn(kept, missed, target);
            let view = json!({
                "window": name,
                "window_s": window_s,
                "kept": kept,
                "missed": missed,
                "attainment": attainment(kept, missed),
                "burn": burn,
            });
            (*window_s, burn.unwrap_or_default(), view)
        })
        .collect();
    let burnt = windows.iter().find(|(window_s, ..)| *window_s == BUDGET_S).map(|(_, burn, _)| *burn);
    json!({
        "class": name,
        "in_policy": class.is_some(),
        "slo": class.map(|class| class.slo),
        "target": target,
        "kept": counts.kept,
        "missed": counts.missed,
        "none": counts.none,
        "attainment": attainment(counts.kept, counts.missed),
        "budget_left": burnt.filter(|_| target.is_some_and(|target| target < 1.0)).map(|burn| 1.0 - burn),
        "objectives": objectives,
        "windows": windows.into_iter().map(|(.., view)| view).collect::<Vec<_>>(),
    })
}

/// Each part of a promise by itself, held to the target of the whole. What is judged as a whole is judged in each part: who
/// was not streamed to is promised the answer in `ttft + itl * (tokens - 1)`, told as `ttft`.
fn objectives(class: &Class, counts: Promises, windows: &[Window], number: Option<u16>) -> Vec<Value> {
    let judged = counts.kept + counts.missed;
    let of_part = |(place, part): (usize, Part)| {
        let promised_ms = bound(&class.slo, part)?;
        let missed = counts.missed_of.get(place).copied().unwrap_or_default();
        let burns = windows.iter().map(|(name, _, sums)| {
            let stats = number.and_then(|number| sums.get(&Series::Class(number)));
            let missed = stats.and_then(|stats| stats.missed_of.get(place)).map_or(0, |missed| u64::from(*missed));
            let judged = stats.map_or(0, |stats| u64::from(stats.kept + stats.missed));
            ((*name).to_owned(), json!(burn(judged.saturating_sub(missed), missed, Some(class.target))))
        });
        Some(json!({
            "objective": part.as_str(),
            "promised_ms": promised_ms,
            "missed": missed,
            "attainment": attainment(judged.saturating_sub(missed), missed),
            "burn": burns.collect::<Map<_, _>>(),
        }))
    };
    PARTS.into_iter().enumerate().filter_map(of_part).collect()
}

fn bound(slo: &Slo, part: Part) -> Option<f64> {
    match part {
        Part::Ttft => slo.ttft_ms,
        Part::Itl => slo.itl_ms,
        Part::Deadline => slo.deadline_ms,
    }
}

fn attainment(kept: u64, missed: u64) -> Option<f64> {
    (kept + missed > 0).then(|| kept as f64 / (kept + missed) as f64)
}

/// How many times as fast as it may the budget of misses is used; `None` without requests, or where none may be missed.
fn burn(kept: u64, missed: u64, target: Option<f64>) -> Option<f64> {
    let allowed = 1.0 - target.filter(|target| *target < 1.0)?;
    Some((1.0 - attainment(kept, missed)?) / allowed)
}

fn costs(books: &Books, sums: &HashMap<Series, Stats>) -> Vec<Value> {
    let name = |column, number| books.names.name(column, number);
    let mut rows: Vec<(&str, &str, &Stats)> = sums
        .iter()
        .filter_map(|(series, stats)| match series {
            rollup::Series::Cost(class, pool) => Some((name(Column::Class, *class), name(Column::Pool, *pool), stats)),
            _ => None,
        })
        .collect();
    rows.sort_by_key(|(class, pool, _)| (*class, *pool));
    let view = |(class, pool, stats)| named(cost(stats), [("class", class), ("pool", pool)]);
    rows.into_iter().map(view).collect()
}

/// By tenant, the one that cost most first.
fn tenants(books: &Books, sums: &HashMap<Series, Stats>) -> Vec<Value> {
    let mut rows: Vec<(&str, &Stats)> = sums
        .iter()
        .filter_map(|(series, stats)| match series {
            Series::Tenant(number) => Some((books.names.name(Column::Tenant, *number), stats)),
            _ => None,
        })
        .collect();
    rows.sort_by(|(name, one), (other_name, other)| other.usd.total_cmp(&one.usd).then(name.cmp(other_name)));
    rows.into_iter().map(|(tenant, stats)| named(cost(stats), [("tenant", tenant)])).collect()
}

fn cost(stats: &Stats) -> Value {
    json!({
        "requests": stats.requests,
        "tokens": stats.input_tokens + stats.output_tokens,
        "usd": stats.usd,
        "joules": stats.joules,
        "usd_all_gpu": stats.all_gpu(),
        "joules_all_gpu": stats.all_gpu_joules(),
    })
}

fn named<const COUNT: usize>(mut view: Value, names: [(&str, &str); COUNT]) -> Value {
    if let Some(members) = view.as_object_mut() {
        members.extend(names.map(|(key, name)| (key.to_owned(), json!(name))));
    }
    view
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_burns_by_what_may_be_missed() {
        #[track_caller]
        fn check(kept: u64, missed: u64, target: Option<f64>, expected: Option<f64>) {
            let burn = burn(kept, missed, target);
            assert!(
                burn.zip(expected).map_or(burn == expected, |(burn, expected)| (burn - expected).abs() < 1e-9),
                "{burn:?}"
            );
        }
        check(99, 1, Some(0.99), Some(1.0));
        check(90, 10, Some(0.99), Some(10.0));
        check(100, 0, Some(0.99), Some(0.0));
        check(0, 0, Some(0.99), None);
        check(9, 1, Some(1.0), None);
        check(9, 1, None, None);
    }
}
