//! The operators' listener, apart from data: health, metrics, status, changes. To add routes: a file in `admin/` with
//! `reads()` or `changes()`, and a line in `router`.

/// Who may ask what.
pub mod guard;
/// Refusals of the admin API.
pub mod problem;
/// Queries of the admin API.
pub mod query;
/// What is in force, and whether the files differ from it.
pub mod config;
/// The policy as a text that can be read and replaced.
pub mod policy;
/// What was in force before, and back to it.
pub mod generations;
/// The last decisions, under another policy.
pub mod again;
/// What a swap of policies did.
pub mod effect;
/// Decisions made of late, and those that would be made.
pub mod decisions;
/// The last requests: filtered, as points, compared.
pub mod requests;
/// One request.
pub mod traces;
/// Sums by moment.
pub mod timeseries;
/// Promises and budgets.
pub mod slo;
/// The endpoints.
pub mod backends;
/// Where telemetry goes, and whether it arrives.
pub mod exporters;
/// Endpoints out of service by hand.
pub mod drain;
/// What happens, as it happens.
pub mod stream;
/// What Grafana asks.
pub mod jaeger;
/// Who waits for room.
pub mod queue;
/// What prices count as, and why.
pub mod prices;
/// Recording of decisions.
pub mod record;
/// The candidate on trial.
pub mod trial;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use pointsman_policies::fleet::Availability;
use serde_json::json;

use crate::dashboard;
use crate::gateway::Gateway;
use crate::overload::Level;
use crate::trial::view::TrialView;
use problem::Problem;

/// Its routes.
pub fn router(gateway: Arc<Gateway>) -> Router {
    let open = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/health", get(readyz))
        .route("/metrics", get(metrics))
        .merge(dashboard::files());
    let reads = Router::new()
        .route("/api/v1/status", get(status))
        .merge(config::reads())
        .merge(policy::reads())
        .merge(generations::reads())
        .merge(effect::reads())
        .merge(again::reads())
        .merge(exporters::reads())
        .merge(decisions::reads())
        .merge(requests::reads())
        .merge(traces::reads())
        .merge(timeseries::reads())
        .merge(slo::reads())
        .merge(backends::reads())
        .merge(stream::reads())
        .merge(jaeger::reads())
        .merge(queue::reads())
        .merge(record::reads())
        .merge(prices::reads())
        .merge(trial::reads());
    let changes = Router::new()
        .merge(policy::changes())
        .merge(generations::changes())
        .merge(record::changes())
        .merge(drain::changes())
        .merge(exporters::changes())
        .merge(trial::changes());
    Router::new()
        .merge(guard::open(open, &gateway))
        .merge(guard::reads(reads, &gateway))
        .merge(guard::changes(changes, &gateway))
        .fallback(nothing_here)
        .with_state(gateway)
}

/// Runs what reads or writes files, off the threads that serve.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        tracing::error!("an admin request failed: {error}");
        Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "this failed; the log says more"))
    })
}

async fn nothing_here(uri: axum::http::Uri) -> Problem {
    let problem = Problem::new(StatusCode::NOT_FOUND, "not-found", format!("there is nothing at `{}`", uri.path()));
    problem.help("the API is under /api/v1/, such as /api/v1/status; metrics are at /metrics, the dashboard at /")
}

async fn livez() -> &'static str {
    "ok\n"
}

/// Ready while it accepts requests. A refused configuration does not take it down, but is told. Nor does want of memory: what
/// it refuses then it refuses in words and with a time to come back, and were it taken out, its load would fall on others
/// that are as short, or, beside an application, the application would be taken out with it.
async fn readyz(State(gateway): State<Arc<Gateway>>) -> Response {
    if !gateway.is_ready() {
        return (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting or shutting down\n").into_response();
    }
    let status = gateway.reload_status();
    if gateway.overload().level() >= Level::Refuse {
        return "ok, but short of memory: new requests are refused; see pointsman_memory_used_bytes\n".into_response();
    }
    if status.ok {
        return "ok\n".into_response();
    }
    let detail = format!(
        "ok, but the configuration on disk is refused and generation {} stays in force; see /api/v1/status\n",
        status.generation
    );
    detail.into_response()
}

async fn metrics(State(gateway): State<Arc<Gateway>>) -> Response {
    let text = gateway.telemetry().metrics().render(&gateway);
    gateway.telemetry().health().scraped();
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}

/// What is in force, what is wrong with the files on disk, how the endpoints are.
async fn status(State(gateway): State<Arc<Gateway>>) -> Json<serde_json::Value> {
    let snapshot = gateway.snapshot();
    let states = snapshot.endpoint_states(gateway.fleet().now());
    let endpoints: Vec<_> = snapshot
        .targets()
        .zip(states)
        .map(|(target, state)| {
            let (availability, retry_in_ms) = match state.availability {
                Availability::Ready => ("ready", None),
                Availability::BreakerOpen { retry_in_ms } => ("breaker-open", Some(retry_in_ms)),
                Availability::BackPressure { retry_in_ms } => ("back-pressure", Some(retry_in_ms)),
                Availability::Draining => ("draining", None),
            };
            json!({
                "endpoint": target.endpoint.id.as_str(),
                "pool": target.facts.name,
                "hardware": target.facts.hardware,
                "kind": target.facts.kind.as_str(),
                "availability": availability,
                "retry_in_ms": retry_in_ms,
                "drained": backends::drained(&target),
                "in_flight": state.in_flight,
                "slots": target.facts.service.slots,
            })
        })
        .collect();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": gateway.is_ready(),
        "policy": &*snapshot.version,
        "generation": snapshot.generation,
        "hash": snapshot.hash,
        "reload": &*gateway.reload_status(),
        "trial": trial_in_short(&gateway),
        "credentials": gateway.identity().told(),
        "endpoints": endpoints,
    }))
}

/// Null where the policy names no candidate.
fn trial_in_short(gateway: &Gateway) -> serde_json::Value {
    let TrialView { state, candidate, canary, rolled_back, .. } = TrialView::of(gateway);
    let Some(candidate) = candidate else { return serde_json::Value::Null };
    let mode = if canary.is_some() || rolled_back.is_some() { "canary" } else { "shadow" };
    json!({
        "state": state,
        "mode": mode,
        "candidate": candidate.policy,
        "because": rolled_back.map(|stopped| stopped.to_string()),
    })
}
