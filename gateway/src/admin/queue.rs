//! `/api/v1/queue`: who waits, for what, and since when.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use crate::flow::Overview;
use crate::gateway::Gateway;

/// What changes nothing.
pub fn reads() -> Router<Arc<Gateway>> {
    Router::new().route("/api/v1/queue", get(queue))
}

/// Everyone who waits.
#[derive(Debug, Serialize)]
struct View {
    /// Requests held now.
    held: usize,
    /// The most that may be.
    max_requests: usize,
    /// The longest that one may be, seconds.
    max_wait_s: f64,
    /// By pool and class.
    waiting: Vec<Overview>,
}

async fn queue(State(gateway): State<Arc<Gateway>>) -> Json<View> {
    let limits = gateway.snapshot().process.queue;
    let waiting = gateway.queue().flow().overview(gateway.fleet().now());
    Json(View {
        held: gateway.queue().flow().held(),
        max_requests: limits.max_requests,
        max_wait_s: limits.max_wait.as_secs(),
        waiting,
    })
}
