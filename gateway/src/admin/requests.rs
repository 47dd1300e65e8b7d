//! `/api/v1/requests`, `/api/v1/scatter`, `/api/v1/contrast`: the last requests, filtered, as points, compared.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::routing::get;
use axum::{Json, Router};
use pointsman_policies::language::Report;
use serde_json::{Value, json};

use super::off_thread;
use super::problem::Problem;
use super::query::Query;
use crate::gateway::Gateway;
use crate::traffic::contrast::contrast;
use crate::traffic::filter::{Filter, parse};
use crate::traffic::names::Column;

/// Requests listed where the caller does not say.
const LISTED: usize = 100;
/// The most that one list holds.
const MOST_LISTED: usize = 1_000;
/// Points where the caller does not say.
const POINTS: usize = 5_000;
/// The most points; more than a screen has pixels for.
const MOST_POINTS: usize = 20_000;

/// What changes nothing.
pub fn reads() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/api/v1/requests", get(list))
        .route("/api/v1/scatter", get(scatter))
        .route("/api/v1/contrast", get(compare))
}

/// The filter of a parameter; everything where it is not given.
pub(super) fn filter(query: &Query, name: &str) -> Result<Filter, Problem> {
    parse(query.text(name).unwrap_or_default()).map_err(|report| unreadable(&report))
}

fn unreadable(report: &Report) -> Problem {
    let records = report.records();
    let message = records.first().map_or("", |record| &record.message);
    let problem = Problem::new(StatusCode::BAD_REQUEST, "bad-filter", message);
    let problem = match records.first().and_then(|record| record.help.clone()) {
        Some(help) => problem.help(help),
        None => problem,
    };
    problem.diagnostics(records)
}

async fn list(State(gateway): State<Arc<Gateway>>, uri: Uri) -> Result<Json<Value>, Problem> {
    let query = Query::read(&uri, &["filter", "limit", "before", "after"])?;
    let filter = filter(&query, "filter")?;
    let most = query.number("limit")?.unwrap_or(LISTED).clamp(1, MOST_LISTED);
    let before: u64 = query.number("before")?.unwrap_or(u64::MAX);
    let after: Option<u64> = query.number("after")?;
    off_thread(move || Ok(Json(listed(&gateway, &filter, most, (after, before))))).await
}

fn listed(gateway: &Gateway, filter: &Filter, most: usize, (after, before): (Option<u64>, u64)) -> Value {
    let books = gateway.telemetry().traffic().books();
    let began = Instant::now();
    let bound = filter.bind(&books.names);
    let (mut found, mut matched, mut next) = (Vec::new(), 0_u64, None);
    let rows = books.rows.newest_before(before).take_while(|(seq, _)| after.is_none_or(|after| *seq > after));
    for (seq, row) in rows.filter(|(seq, row)| bound.is_met_by(row, || books.why(*seq).is_some())) {
        matched += 1;
        if found.len() < most {
            found.push((seq, row));
        } else if next.is_none() {
            next = found.last().map(|(seq, _)| *seq);
        }
    }
    let took_us = began.elapsed().as_micros() as u64;
    let requests: Vec<_> = found.into_iter().map(|(seq, row)| books.view(seq, row)).collect();
    json!({
        "requests": requests,
        "next": next,
        "matched": matched,
        "kept": books.rows.len(),
        "capacity": books.rows.capacity(),
        "seen": books.rows.next(),
        "oldest_unix_ms": books.rows.oldest().map(|row| row.unix_ms),
        "took_us": took_us,
    })
}

async fn scatter(State(gateway): State<Arc<Gateway>>, uri: Uri) -> Result<Json<Value>, Problem> {
    let query = Query::read(&uri, &["filter", "limit"])?;
    let filter = filter(&query, "filter")?;
    let most = query.number("limit")?.unwrap_or(POINTS).clamp(1, MOST_POINTS);
    off_thread(move || Ok(Json(points(&gateway, &filter, most)))).await
}

fn points(gateway: &Gateway, filter: &Filter, most: usize) -> Value {
    let books = gateway.telemetry().traffic().books();
    let bound = filter.bind(&books.names);
    let rows = books.rows.newest_before(u64::MAX);
    let mut matching = rows.filter(|(seq, row)| bound.is_met_by(row, || books.why(*seq).is_some()));
    let found: Vec<_> = matching.by_ref().take(most).collect();
    let matched = found.len() + matching.count();
    let names: Vec<&str> = books.names.of(Column::Class).iter().map(|name| &**name).collect();
    let known = |figure: f32| figure.is_finite().then_some(figure);
    json!({
        "names": names,
        "seq": found.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(),
        "unix_ms": found.iter().map(|(_, row)| row.unix_ms).collect::<Vec<_>>(),
        "class": found.iter().map(|(_, row)| row.name(Column::Class)).collect::<Vec<_>>(),
        "ttft_ms": found.iter().map(|(_, row)| known(row.ttft_ms)).collect::<Vec<_>>(),
        "total_ms": found.iter().map(|(_, row)| row.total_ms).collect::<Vec<_>>(),
        "slo": found.iter().map(|(_, row)| row.slo() as u8).collect::<Vec<_>>(),
        "matched": matched,
    })
}

async fn compare(State(gateway): State<Arc<Gateway>>, uri: Uri) -> Result<Json<Value>, Problem> {
    let query = Query::read(&uri, &["filter", "select"])?;
    let (base, selection) = (filter(&query, "filter")?, filter(&query, "select")?);
    if selection.is_all() {
        let missing = Problem::new(StatusCode::BAD_REQUEST, "nothing-selected", "`select` selects everything");
        return Err(missing.help("say what to compare with the rest, such as `select=slo:miss`"));
    }
    off_thread(move || {
        let books = gateway.telemetry().traffic().books();
        let began = Instant::now();
        let bound = (&base.bind(&books.names), &selection.bind(&books.names));
        let told = contrast(&books.rows, &books.names, bound, &|seq| books.why(seq).is_some());
        let mut view = json!(told);
        if let Some(members) = view.as_object_mut() {
            members.insert("took_us".to_owned(), json!(began.elapsed().as_micros() as u64));
        }
        Ok(Json(view))
    })
    .await
}
