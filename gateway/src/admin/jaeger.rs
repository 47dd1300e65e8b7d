//! What Grafana's Jaeger data source asks: services, operations, traces that match, one trace. Answered from whole requests
//! in memory, so that no collector is needed; `error`s are told in Jaeger's form.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use opentelemetry::trace::{SpanKind, Status};
use opentelemetry::{KeyValue, Value as Attribute};
use opentelemetry_sdk::trace::SpanData;
use serde_json::{Value, json};

use super::off_thread;
use super::problem::Problem;
use super::query::Query;
use crate::gateway::Gateway;
use crate::record::Record;
use crate::telemetry::spans::spans;

/// Traces in an answer where the request does not say.
const LISTED: usize = 20;
/// The most of one answer.
const MOST_LISTED: usize = 500;
/// Requests that are looked at for one answer: each is decided again to tell its candidates.
const MOST_LOOKED_AT: usize = 2_000;
/// Requests from which names of operations are gathered.
const FOR_OPERATIONS: usize = 200;
/// What Jaeger's clients may say; what is of no meaning here is let be.
const KNOWN: [&str; 12] = [
    "service",
    "operation",
    "tags",
    "start",
    "end",
    "limit",
    "minDuration",
    "maxDuration",
    "lookback",
    "prettyPrint",
    "raw",
    "spanKind",
];

/// What changes nothing.
pub fn reads() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/api/services", get(services))
        .route("/api/services/{service}/operations", get(operations))
        .route("/api/traces", get(search))
        .route("/api/traces/{id}", get(one))
}

fn told(entries: Vec<Value>) -> Json<Value> {
    Json(json!({ "total": entries.len(), "data": entries, "limit": 0, "offset": 0, "errors": null }))
}

fn service(gateway: &Gateway) -> String {
    gateway.snapshot().process.telemetry.service().to_owned()
}

async fn services(State(gateway): State<Arc<Gateway>>) -> Json<Value> {
    told(vec![json!(service(&gateway))])
}

async fn operations(State(gateway): State<Arc<Gateway>>, Path(asked): Path<String>) -> Result<Json<Value>, Problem> {
    off_thread(move || {
        if asked != service(&gateway) {
            return Ok(told(Vec::new()));
        }
        let records = gateway.telemetry().traffic().books().details.newest(FOR_OPERATIONS, |_| true);
        let names: BTreeSet<String> =
            records.iter().flat_map(|record| spans(record)).map(|span| span.name.into_owned()).collect();
        Ok(told(names.into_iter().map(Value::from).collect()))
    })
    .await
}

/// What a search asks for.
struct Search {
    operation: Option<String>,
    tags: BTreeMap<String, String>,
    /// Microseconds since 1970.
    from_us: u64,
    until_us: u64,
    least: Duration,
    most: Duration,
    limit: usize,
}

impl Search {
    fn read(uri: &Uri) -> Result<(Option<String>, Search), Problem> {
        let query = Query::read(uri, &KNOWN)?;
        let text = |name: &str| query.text(name).filter(|text| !text.is_empty() && *text != "all").map(str::to_owned);
        let span = |name: &str| text(name).map(|text| duration(&text).ok_or_else(|| bad(name, &text))).transpose();
        let tags = match query.text("tags").filter(|tags| !tags.is_empty()) {
            Some(tags) => serde_json::from_str(tags).map_err(|_| bad("tags", tags))?,
            None => BTreeMap::new(),
        };
        let search = Search {
            operation: text("operation"),
            tags,
            from_us: query.number("start")?.unwrap_or(0),
            until_us: query.number("end")?.unwrap_or(u64::MAX),
            least: span("minDuration")?.unwrap_or(Duration::ZERO),
            most: span("maxDuration")?.unwrap_or(Duration::MAX),
            limit: query.number("limit")?.unwrap_or(LISTED).clamp(1, MOST_LISTED),
        };
        Ok((text("service"), search))
    }

    /// By what needs no spans.
    fn may_want(&self, record: &Record) -> bool {
        (self.from_us..=self.until_us).contains(&micros(record.wall))
            && (self.least..=self.most).contains(&record.ended_at)
    }

    fn wants(&self, spans: &[SpanData]) -> bool {
        let named = self.operation.as_ref().is_none_or(|name| spans.iter().any(|span| span.name == *name));
        let has = |key: &String, value: &String| {
            let failed = |span: &SpanData| key == "error" && (value == "true") == is_error(span);
            let is = |attribute: &KeyValue| attribute.key.as_str() == key && attribute.value.as_str() == *value;
            spans.iter().any(|span| failed(span) || span.attributes.iter().any(is))
        };
        named && self.tags.iter().all(|(key, value)| has(key, value))
    }
}

fn bad(name: &str, text: &str) -> Problem {
    let message = format!("`{name}={text}` cannot be read");
    let problem = Problem::new(StatusCode::BAD_REQUEST, "bad-parameter", message);
    problem.help("durations are written like `1.5s` or `300ms`, tags as a JSON object of texts")
}

/// `1.5s`, `300ms`, `20us`, `2m`, `1h`
fn duration(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| c.is_alphabetic())?;
    let (figure, unit) = text.split_at_checked(at)?;
    let seconds = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(figure.parse::<f64>().ok()? * seconds).ok()
}

async fn search(State(gateway): State<Arc<Gateway>>, uri: Uri) -> Result<Json<Value>, Problem> {
    let (asked, search) = Search::read(&uri)?;
    off_thread(move || {
        let service = service(&gateway);
        if asked.is_some_and(|asked| asked != service) {
            return Ok(told(Vec::new()));
        }
        let books = gateway.telemetry().traffic().books();
        let records = books.details.newest(MOST_LOOKED_AT, |record| search.may_want(record));
        drop(books);
        let trees = records.iter().map(|record| spans(record)).filter(|spans| search.wants(spans));
        Ok(told(trees.take(search.limit).map(|spans| trace(&spans, &service)).collect()))
    })
    .await
}

async fn one(State(gateway): State<Arc<Gateway>>, Path(id): Path<String>) -> Result<Response, Problem> {
    off_thread(move || {
        let padded = format!("{id:0>32}"); // Jaeger leaves out zeros in front
        let found = gateway.telemetry().traffic().books().details.find(&padded);
        let Some((_, record)) = found else {
            let errors = json!([{ "code": 404, "msg": "trace not found" }]);
            let none = json!({ "data": null, "total": 0, "limit": 0, "offset": 0, "errors": errors });
            return Ok((StatusCode::NOT_FOUND, Json(none)).into_response());
        };
        Ok(told(vec![trace(&spans(&record), &service(&gateway))]).into_response())
    })
    .await
}

fn trace(spans: &[SpanData], service: &str) -> Value {
    let id = spans.first().map_or_else(String::new, |root| root.span_context.trace_id().to_string());
    json!({
        "traceID": id,
        "spans": spans.iter().map(|one| span(one, &id)).collect::<Vec<_>>(),
        "processes": { "p1": { "serviceName": service, "tags": [] } },
        "warnings": null,
    })
}

fn span(span: &SpanData, trace: &str) -> Value {
    let has_parent = span.parent_span_id.to_string().bytes().any(|digit| digit != b'0') && !span.parent_span_is_remote;
    let parent = json!({ "refType": "CHILD_OF", "traceID": trace, "spanID": span.parent_span_id.to_string() });
    let mut tags = fields(&span.attributes);
    tags.push(json!({ "key": "span.kind", "type": "string", "value": kind(&span.span_kind) }));
    if let Status::Error { description } = &span.status {
        tags.push(json!({ "key": "error", "type": "bool", "value": true }));
        tags.push(json!({ "key": "otel.status_description", "type": "string", "value": description }));
    }
    let log = |event: &opentelemetry::trace::Event| {
        let mut told = fields(&event.attributes);
        told.insert(0, json!({ "key": "event", "type": "string", "value": event.name }));
        json!({ "timestamp": micros(event.timestamp), "fields": told })
    };
    json!({
        "traceID": trace,
        "spanID": span.span_context.span_id().to_string(),
        "operationName": span.name,
        "references": if has_parent { vec![parent] } else { Vec::new() },
        "startTime": micros(span.start_time),
        "duration": micros(span.end_time).saturating_sub(micros(span.start_time)),
        "tags": tags,
        "logs": span.events.events.iter().map(log).collect::<Vec<_>>(),
        "processID": "p1",
        "flags": 1,
        "warnings": null,
    })
}

fn is_error(span: &SpanData) -> bool {
    matches!(span.status, Status::Error { .. })
}

fn kind(kind: &SpanKind) -> &'static str {
    match kind {
        SpanKind::Client => "client",
        SpanKind::Server => "server",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
        SpanKind::Internal => "internal",
    }
}

fn fields(attributes: &[KeyValue]) -> Vec<Value> {
    let field = |attribute: &KeyValue| {
        let (form, value) = match &attribute.value {
            Attribute::Bool(value) => ("bool", json!(value)),
            Attribute::I64(value) => ("int64", json!(value)),
            Attribute::F64(value) => ("float64", json!(value)),
            other => ("string", json!(other.as_str())),
        };
        json!({ "key": attribute.key.as_str(), "type": form, "value": value })
    };
    attributes.iter().map(field).collect()
}

fn micros(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_jaeger_writes_them() {
        #[track_caller]
        fn check(text: &str, expected_us: Option<u128>) {
            assert_eq!(duration(text).map(|span| span.as_micros()), expected_us, "{text}");
        }
        check("1.5s", Some(1_500_000));
        check("300ms", Some(300_000));
        check("20us", Some(20));
        check("2m", Some(120_000_000));
        check("2", None);
        check("s", None);
        check("-1s", None);
        check("1 parsec", None);
    }
}
