//! The candidate on trial: how it does, and the changes to it.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};

use crate::gateway::Gateway;
use crate::trial::view::TrialView;

/// What changes nothing.
pub fn reads() -> Router<Arc<Gateway>> {
    Router::new().route("/api/v1/trial", get(show))
}

async fn show(State(gateway): State<Arc<Gateway>>) -> Json<TrialView> {
    Json(TrialView::of(&gateway))
}
