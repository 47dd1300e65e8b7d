//! What prices count as now, and what they come from: commitments, budgets, sites, vendors.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use crate::gateway::Gateway;

/// Routes that read.
pub fn reads() -> Router<Arc<Gateway>> {
    Router::new().route("/api/v1/prices", get(prices))
}

async fn prices(State(gateway): State<Arc<Gateway>>) -> Json<serde_json::Value> {
    let statement = gateway.accounting().statement();
    Json(json!({ "policy": &*gateway.snapshot().version, "prices": &*statement }))
}
