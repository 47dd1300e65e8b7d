//! `/api/v1/exporters`: where traces and metrics go and whether they arrive; `/api/v1/exporters/test`: one trace, sent now.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::problem::Problem;
use crate::gateway::Gateway;
use crate::record::{Outcome, Record};
use crate::telemetry::health::Failure;
use crate::telemetry::otlp;
use crate::telemetry::spans::spans;

/// What a trace that is sent as a test is called.
const TEST_PATH: &str = "/test-trace";
/// How long the request that it tells of took.
const TEST_TIME: Duration = Duration::from_millis(1);

/// What changes nothing.
pub fn reads() -> Router<Arc<Gateway>> {
    Router::new().route("/api/v1/exporters", get(exporters))
}

/// What sends something.
pub fn changes() -> Router<Arc<Gateway>> {
    Router::new().route("/api/v1/exporters/test", post(test))
}

async fn exporters(State(gateway): State<Arc<Gateway>>) -> Json<Value> {
    let telemetry = gateway.telemetry();
    let process = &gateway.snapshot().process;
    let mut otlp = json!(telemetry.health().sending());
    if let Some(members) = otlp.as_object_mut() {
        members.insert("endpoint".to_owned(), json!(otlp::receiver(&process.telemetry)));
        members.insert("protocol".to_owned(), json!("http/protobuf"));
        members.insert("dropped_records".to_owned(), json!(telemetry.metrics().dropped_records()));
    }
    Json(json!({
        "otlp": otlp,
        "prometheus": { "path": "/metrics", "last_scrape_unix_ms": telemetry.health().scraped_unix_ms() },
        "listen": process.listen.to_string(),
        "admin_listen": process.admin_listen.to_string(),
        "service_name": process.telemetry.service(),
    }))
}

/// Sends one trace of its own, apart from those that wait, and tells what came of it.
async fn test(State(gateway): State<Arc<Gateway>>) -> Result<Json<Value>, Problem> {
    let process = gateway.snapshot().process.clone();
    let made = otlp::exporter(&process.telemetry).map_err(|error| {
        Problem::new(StatusCode::CONFLICT, "bad-receiver", error).help("mend `otlp_endpoint` under `[telemetry]`")
    })?;
    let Some(exporter) = made else {
        let none = Problem::new(StatusCode::CONFLICT, "no-receiver", "no receiver of traces is configured");
        return Err(none.help("set `otlp_endpoint = \"http://HOST:4318\"` under `[telemetry]` and start again"));
    };
    let record = record();
    let began = Instant::now();
    let problem = otlp::send(&exporter, spans(&record)).await.err();
    Ok(Json(json!({
        "arrived": problem.is_none(),
        "trace_id": format!("{:032x}", record.trace.trace_id),
        "took_ms": began.elapsed().as_secs_f64() * 1e3,
        "error": problem.as_deref().map(Failure::now),
    })))
}

/// A request that nobody made.
fn record() -> Record {
    let mut record = Record::blank(Instant::now(), SystemTime::now());
    record.trace.trace_id = fastrand::u128(1..);
    record.trace.span_id = fastrand::u64(1..);
    record.trace.sampled = true;
    (record.path, record.request_id) = (TEST_PATH.to_owned(), "test".to_owned());
    (record.status, record.outcome, record.ended_at) = (200, Outcome::Answered, TEST_TIME);
    record
}
