//! `/api/v1/traces/{id}`: one request, where its time went and why it went there.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::decisions::not_found;
use super::off_thread;
use super::problem::Problem;
use crate::explained::explained;
use crate::gateway::Gateway;
use crate::record::Record;
use crate::telemetry::spans::spans;
use crate::traffic::Books;
use crate::traffic::waterfall::waterfall;

/// What changes nothing.
pub fn reads() -> Router<Arc<Gateway>> {
    Router::new().route("/api/v1/traces/{id}", get(one))
}

async fn one(State(gateway): State<Arc<Gateway>>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    off_thread(move || {
        let (mut view, record) = {
            let books = gateway.telemetry().traffic().books();
            let whole = books.details.find(&id);
            let seq = whole.as_ref().map(|(seq, _)| *seq).or_else(|| row_of(&books, &id));
            match seq.and_then(|seq| Some((seq, row_view(&books, seq)?))) {
                Some((_, view)) => (view, whole.map(|(_, record)| record)),
                None => match whole {
                    Some((_, record)) => (json!({}), Some(record)), // more room for details than for rows
                    None => {
                        drop(books);
                        return Err(not_found(&gateway, &id));
                    }
                },
            }
        };
        let told = record.map_or_else(row_only, |record| whole(&record));
        if let (Some(members), Value::Object(told)) = (view.as_object_mut(), told) {
            members.extend(told);
        }
        Ok(Json(view))
    })
    .await
}

/// The newest row of a trace, or of a request's id.
fn row_of(books: &Books, id: &str) -> Option<u64> {
    let trace = u128::from_str_radix(id, 16).ok().filter(|_| id.len() == 32);
    let hash = xxh3_64(id.as_bytes());
    let mut rows = books.rows.newest_before(u64::MAX);
    rows.find(|(_, row)| trace == Some(row.trace_id) || row.id_hash == hash).map(|(seq, _)| seq)
}

fn row_view(books: &Books, seq: u64) -> Option<Value> {
    let row = books.rows.get(seq)?;
    let neighbour = |seq: Option<u64>| Some(format!("{:032x}", books.rows.get(seq?)?.trace_id));
    Some(json!({
        "request": books.view(seq, row),
        "previous": neighbour(seq.checked_sub(1)),
        "next": neighbour(seq.checked_add(1)),
        "detail": books.why(seq),
    }))
}

/// Where the whole is not kept.
fn row_only() -> Value {
    json!({ "spans": [], "why": null, "attributes": [], "first_token_ms": null, "request_id": null })
}

fn whole(record: &Record) -> Value {
    json!({
        "request_id": record.request_id,
        "method": record.method.as_str(),
        "path": record.path,
        "caller": record.caller.as_ref().map(|caller| caller.name.to_string()),
        "first_token_ms": record.first_byte_at.filter(|_| record.stream).map(|at| at.as_secs_f64() * 1e3),
        "slo": record.slo,
        "spans": waterfall(record),
        "why": explained(record),
        "attributes": attributes(record),
    })
}

/// Every attribute of its spans once, the outermost span's where several have it.
fn attributes(record: &Record) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for attribute in spans(record).into_iter().flat_map(|span| span.attributes) {
        let value = attribute.value.as_str().into_owned();
        all.entry(attribute.key.to_string()).or_insert(value);
    }
    all
}
