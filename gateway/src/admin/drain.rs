//! `/api/v1/backends/drain` and `/undrain`: an endpoint out of service and back in it, by hand. Requests on their way end as
//! they would; nothing new is sent there.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use pointsman_backends::fleet::Drained;
use pointsman_policies::language::nearest;
use serde::Deserialize;
use serde_json::{Value, json};

use super::backends;
use super::guard::{self, Caller};
use super::policy::change_of;
use super::problem::Problem;
use crate::gateway::Gateway;
use crate::generations::entry::Origin;
use crate::traffic::tend::now_ms;

/// Largest body, bytes.
const MOST_BYTES: usize = 4096;
/// Endpoints that are named where the one asked for is unknown and none is near.
const NAMED: usize = 5;

/// What takes endpoints out of service and gives them back.
pub fn changes() -> Router<Arc<Gateway>> {
    Router::new().route("/api/v1/backends/drain", post(drain)).route("/api/v1/backends/undrain", post(undrain))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    endpoint: String,
}

async fn drain(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Json<Value>, Problem> {
    let drained = Drained { by: caller.who.clone(), unix_ms: now_ms() };
    turn(&gateway, &caller, body, Some(drained)).await
}

async fn undrain(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Json<Value>, Problem> {
    turn(&gateway, &caller, body, None).await
}

async fn turn(
    gateway: &Arc<Gateway>,
    caller: &Caller,
    body: Body,
    drained: Option<Drained>,
) -> Result<Json<Value>, Problem> {
    let body = guard::body(body, MOST_BYTES).await?;
    let Wish { endpoint } = serde_json::from_slice(&body).map_err(|error| {
        let bad = Problem::new(StatusCode::BAD_REQUEST, "bad-body", format!("the body cannot be read: {error}"));
        bad.help("send `{\"endpoint\": \"POOL/NAME\"}`; GET /api/v1/backends lists them")
    })?;
    let snapshot = gateway.snapshot();
    let names = || snapshot.targets().map(|target| target.endpoint.id.to_string());
    let Some(target) = snapshot.targets().find(|target| target.endpoint.id.as_str() == endpoint) else {
        return Err(unknown(&endpoint, &names().collect::<Vec<_>>()));
    };
    let is_drained = drained.is_some();
    if target.live.drain(drained) {
        let what = if is_drained { "drained: nothing new is sent there" } else { "back in service" };
        tracing::info!(who = caller.who, "{endpoint} is {what}");
        gateway.history().noted(&snapshot, &change_of(caller, Origin::Api), &format!("{endpoint} {what}"));
    }
    let in_flight = target.live.state(target.endpoint.pool, gateway.fleet().now()).in_flight;
    let others = names().count() - snapshot.targets().filter(|target| target.live.drained().is_some()).count();
    Ok(Json(json!({
        "endpoint": endpoint,
        "drained": backends::drained(&target),
        "drained_by_portfolio": target.live.is_drained_by_portfolio(),
        "in_flight": in_flight,
        "endpoints_in_service": others,
    })))
}

fn unknown(endpoint: &str, names: &[String]) -> Problem {
    let problem = Problem::new(StatusCode::NOT_FOUND, "unknown-endpoint", format!("there is no endpoint `{endpoint}`"));
    problem.help(match nearest(endpoint, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ")),
    })
}
