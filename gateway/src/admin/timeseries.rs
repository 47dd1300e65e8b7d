//! `/api/v1/timeseries`: sums of every request, step by step, by class, endpoint or pool; `/api/v1/summary`: the same of one
//! span as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::off_thread;
use super::problem::Problem;
use super::query::Query;
use crate::gateway::Gateway;
use crate::traffic::Books;
use crate::traffic::names::Column;
use crate::traffic::rollup::{Series, Stats, TIERS, step_for};
use crate::traffic::sketch::WITHIN;
use crate::traffic::summary::{Columns, Summary};
use crate::traffic::tend::{mark, now_ms};

/// The span where the caller does not say, seconds.
const WINDOW_S: u64 = 600;
/// The span of a summary where the caller does not say, seconds.
const SUMMARY_S: u64 = 60;
/// Changes of policies that are looked at for marks.
const MOST_MARKS: usize = 100;

/// What is told apart.
const BY: [&str; 4] = ["all", "class", "endpoint", "pool"];

/// What changes nothing.
pub fn reads() -> Router<Arc<Gateway>> {
    Router::new().route("/api/v1/timeseries", get(series)).route("/api/v1/summary", get(summary))
}

async fn series(State(gateway): State<Arc<Gateway>>, uri: Uri) -> Result<Json<Value>, Problem> {
    let query = Query::read(&uri, &["by", "window_s", "step_s"])?;
    let by = query.text("by").unwrap_or("all").to_owned();
    if !BY.contains(&by.as_str()) {
        return Err(bad(format!("`by={by}` is nothing that is told apart"), format!("it is one of {}", BY.join(", "))));
    }
    let window_s: u64 = query.number("window_s")?.unwrap_or(WINDOW_S).max(1);
    let step_s: u64 = query.number("step_s")?.unwrap_or_else(|| step_for(window_s));
    let Some((_, most)) = TIERS.into_iter().find(|(step, _)| *step == step_s) else {
        return Err(bad(format!("there are no steps of {step_s} s"), "there are steps of 1, 10 and 300 s".to_owned()));
    };
    let count = usize::try_from(window_s.div_ceil(step_s)).unwrap_or(usize::MAX).min(most);
    off_thread(move || {
        let now_s = now_ms() / 1_000;
        let until_s = now_s - now_s % step_s;
        let from_s = until_s.saturating_sub(step_s * count as u64);
        let entries = gateway.history().entries(MOST_MARKS);
        let inside = entries.iter().filter(|entry| entry.at_unix_ms >= from_s * 1_000);
        let mut marks: Vec<Value> = inside.map(|entry| mark(entry)).collect();
        marks.reverse();
        let span = Span { step_s, from_s, until_s, count };
        let books = gateway.telemetry().traffic().books();
        Ok(Json(json!({
            "step_s": step_s,
            "unix_s": (0..count as u64).map(|step| from_s + step * step_s).collect::<Vec<_>>(),
            "quantiles_within": WITHIN,
            "series": columns(&books, &by, &span),
            "marks": marks,
        })))
    })
    .await
}

async fn summary(State(gateway): State<Arc<Gateway>>, uri: Uri) -> Result<Json<Value>, Problem> {
    let window_s: u64 = Query::read(&uri, &["window_s"])?.number("window_s")?.unwrap_or(SUMMARY_S).max(1);
    off_thread(move || {
        let books = gateway.telemetry().traffic().books();
        let sums = books.rollups.window(window_s, now_ms() / 1_000);
        let of = |wanted: fn(&Series) -> Option<(Column, u16)>| {
            let named = sums.iter().filter_map(|(series, stats)| {
                let (column, number) = wanted(series)?;
                Some(Summary::of(books.names.name(column, number), stats))
            });
            let mut all: Vec<Summary> = named.collect();
            all.sort_by(|one, other| one.name.cmp(&other.name));
            all
        };
        Ok(Json(json!({
            "window_s": window_s,
            "all": Summary::of("all", sums.get(&Series::All).unwrap_or(&Stats::default())),
            "classes": of(|series| if let Series::Class(class) = series { Some((Column::Class, *class)) } else { None }),
            "pools": of(|series| if let Series::Pool(pool) = series { Some((Column::Pool, *pool)) } else { None }),
        })))
    })
    .await
}

fn bad(message: String, help: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-parameter", message).help(help)
}

struct Span {
    step_s: u64,
    from_s: u64,
    until_s: u64,
    count: usize,
}

fn columns(books: &Books, by: &str, span: &Span) -> Vec<Columns> {
    let mut by_name: BTreeMap<&str, Vec<Option<&Stats>>> = BTreeMap::new();
    if by == "all" {
        by_name.insert("all", vec![None; span.count]);
    }
    for cell in books.rollups.cells(span.step_s, span.from_s, span.until_s) {
        let Ok(place) = usize::try_from((cell.unix_s - span.from_s) / span.step_s) else { continue };
        for (series, stats) in &cell.series {
            let name = match (by, series) {
                ("all", Series::All) => "all",
                ("class", Series::Class(number)) => books.names.name(Column::Class, *number),
                ("endpoint", Series::Endpoint(number)) => books.names.name(Column::Endpoint, *number),
                ("pool", Series::Pool(number)) => books.names.name(Column::Pool, *number),
                _ => continue,
            };
            let steps = by_name.entry(name).or_insert_with(|| vec![None; span.count]);
            steps.get_mut(place).into_iter().for_each(|step| *step = Some(stats));
        }
    }
    by_name.into_iter().map(|(name, steps)| Columns::of(name, steps.into_iter())).collect()
}
