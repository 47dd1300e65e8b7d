//! `/api/v1/generations/{number}/effect`: what a swap of policies did, by class: the time before it beside the time after.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::off_thread;
use super::problem::Problem;
use super::query::Query;
use crate::gateway::Gateway;
use crate::generations::entry::{Entry, Outcome};
use crate::traffic::Books;
use crate::traffic::names::{Column, Names};
use crate::traffic::rollup::{Rollups, Series, Stats, TIERS};
use crate::traffic::summary::Summary;
use crate::traffic::tend::now_ms;

/// The span on each side where the caller does not say, seconds.
const WINDOW_S: u64 = 600;
/// Generations that are looked at for the one asked for and its neighbours.
const MOST_ENTRIES: usize = 1_000;

/// What changes nothing.
pub fn reads() -> Router<Arc<Gateway>> {
    Router::new().route("/api/v1/generations/{number}/effect", get(effect))
}

/// A span of time, seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    from_s: u64,
    until_s: u64,
}

async fn effect(
    State(gateway): State<Arc<Gateway>>,
    Path(number): Path<u64>,
    uri: Uri,
) -> Result<Json<Value>, Problem> {
    let window_s = Query::read(&uri, &["window_s"])?.number("window_s")?.unwrap_or(WINDOW_S).max(1);
    off_thread(move || {
        let entries = gateway.history().entries(MOST_ENTRIES);
        let accepted = || entries.iter().filter(|entry| entry.result == Outcome::Accepted);
        let Some(entry) = accepted().find(|entry| entry.number == number) else {
            let message = format!("generation {number} is not remembered as one that was in force");
            let none = Problem::new(StatusCode::NOT_FOUND, "unknown-generation", message);
            return Err(none.help("GET /api/v1/generations lists what is"));
        };
        let at_s = |entry: &Arc<Entry>| entry.at_unix_ms / 1_000;
        let (swap_s, now_s) = (at_s(entry), now_ms() / 1_000);
        let earlier = accepted().filter(|other| other.number < number).max_by_key(|other| other.number).map(at_s);
        let later = accepted().filter(|other| other.number > number).min_by_key(|other| other.number).map(at_s);
        let before = Span { from_s: swap_s.saturating_sub(window_s).max(earlier.unwrap_or(0)), until_s: swap_s };
        let after = Span { from_s: swap_s + 1, until_s: (swap_s + window_s).min(later.unwrap_or(u64::MAX)).min(now_s) };
        let step_s = step(now_s.saturating_sub(before.from_s));
        let books: &Books = &gateway.telemetry().traffic().books();
        let books = (&books.rollups, &books.names);
        let hardware: HashMap<String, String> =
            gateway.snapshot().targets().map(|one| (one.facts.name.clone(), one.facts.hardware.clone())).collect();
        Ok(Json(json!({
            "number": number,
            "at_unix_ms": entry.at_unix_ms,
            "summary": entry.summary,
            "step_s": step_s,
            "before": earlier.map(|_| side(books, step_s, before, &hardware)),
            "after": side(books, step_s, after, &hardware),
        })))
    })
    .await
}

/// The finest steps that still reach back so far, seconds.
fn step(back_s: u64) -> u64 {
    let reaches = |(step_s, most): &&(u64, usize)| *step_s * *most as u64 > back_s;
    TIERS.iter().find(reaches).or(TIERS.last()).map_or(1, |(step_s, _)| *step_s)
}

/// The sums of one side. A step that the swap falls into belongs to neither: it holds requests of both.
fn side((rollups, names): (&Rollups, &Names), step_s: u64, span: Span, hardware: &HashMap<String, String>) -> Value {
    let (first, end) = (span.from_s.next_multiple_of(step_s), span.until_s - span.until_s % step_s);
    let mut sums: HashMap<Series, Stats> = HashMap::new();
    for cell in rollups.cells(step_s, first, end) {
        for (series, stats) in &cell.series {
            sums.entry(*series).or_default().merge(stats);
        }
    }
    let mut classes: Vec<(&str, &Stats)> = Vec::new();
    let mut pools: Vec<(&str, &Stats)> = Vec::new();
    for (series, stats) in &sums {
        match series {
            Series::Class(number) => classes.push((names.name(Column::Class, *number), stats)),
            Series::Pool(number) => pools.push((names.name(Column::Pool, *number), stats)),
            _ => {}
        }
    }
    classes.sort_by_key(|(name, _)| *name);
    pools.sort_by_key(|(name, _)| *name);
    let pool = |(name, stats): &(&str, &Stats)| json!({ "pool": name, "hardware": hardware.get(*name), "requests": stats.requests });
    json!({
        "from_unix_s": first,
        "until_unix_s": end.max(first),
        "all": figures("all", sums.get(&Series::All).unwrap_or(&Stats::default())),
        "classes": classes.iter().map(|(name, stats)| figures(name, stats)).collect::<Vec<_>>(),
        "pools": pools.iter().map(pool).collect::<Vec<_>>(),
    })
}

fn figures(name: &str, stats: &Stats) -> Value {
    let judged = u64::from(stats.kept) + u64::from(stats.missed);
    let mut view = json!(Summary::of(name, stats));
    if let Some(members) = view.as_object_mut() {
        let attainment = (judged > 0).then(|| f64::from(stats.kept) / judged as f64);
        let each = (stats.requests > 0).then(|| stats.usd * 1_000.0 / f64::from(stats.requests));
        members.insert("attainment".to_owned(), json!(attainment));
        members.insert("usd_per_1k_requests".to_owned(), json!(each));
    }
    view
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use super::*;
    use crate::record::Record;
    use crate::traffic::rollup::AllGpu;
    use crate::traffic::row::Row;

    #[test]
    fn steps_reach_back_to_the_beginning_of_the_span() {
        assert_eq!([0, 599, 600, 7_199, 7_200, 1_000_000].map(step), [1, 1, 10, 10, 300, 300]);
    }

    #[test]
    fn the_step_of_the_swap_belongs_to_neither_side() {
        let (mut rollups, mut names) = (Rollups::default(), Names::default());
        let row = Row::of(&Record::blank(Instant::now(), SystemTime::UNIX_EPOCH), &mut names);
        for unix_s in [995, 1_003, 1_007, 1_012] {
            rollups.add(&Row { unix_ms: unix_s * 1_000, ..row }, AllGpu::nothing());
        }
        let requests = |step_s, from_s, until_s| {
            let told = side((&rollups, &names), step_s, Span { from_s, until_s }, &HashMap::new());
            told["all"]["requests"].as_u64().unwrap_or_default()
        };
        assert_eq!((requests(1, 990, 1_005), requests(1, 1_005, 1_020)), (2, 2));
        assert_eq!((requests(10, 990, 1_005), requests(10, 1_005, 1_020)), (1, 1));
    }
}
