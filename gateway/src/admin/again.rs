//! `/api/v1/policy/again`: the last decisions, made again under another text with what was known then. Nothing is sent, and
//! nothing changes.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::routing::post;
use axum::{Json, Router};
use pointsman_policies::decide::Decision;
use pointsman_policies::language::{Source, compile};
use pointsman_policies::policy::Policy;
use pointsman_policies::trial::agreement::{Agreement, Choice};
use serde_json::{Value, json};

use super::off_thread;
use super::policy::policy_text;
use super::problem::Problem;
use super::query::Query;
use crate::gateway::Gateway;
use crate::record::Record;

/// Decisions where the caller does not say.
const LAST: usize = 200;
/// The most that are made again: each takes some ten microseconds, of large fleets some hundred.
const MOST: usize = 1_000;
/// Requests that would go elsewhere of which each is named.
const NAMED: usize = 20;

/// What changes nothing.
pub fn reads() -> Router<Arc<Gateway>> {
    Router::new().route("/api/v1/policy/again", post(again))
}

async fn again(State(gateway): State<Arc<Gateway>>, uri: Uri, body: Body) -> Result<Json<Value>, Problem> {
    let last = Query::read(&uri, &["last"])?.number("last")?.unwrap_or(LAST).clamp(1, MOST);
    let text = policy_text(body).await?;
    off_thread(move || {
        let current = gateway.snapshot();
        let (policy, report) = compile(Source::new("policy", &text), &current.portfolio.facts);
        let Some(policy) = policy else {
            let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-policy", "the policy has errors");
            return Err(problem.diagnostics(report.records()));
        };
        // A text means what it does among the machines that it was compiled for.
        let portfolio = current.texts.portfolio.hash();
        let same = |record: &Record| {
            record.decision.as_ref().is_some_and(|made| made.snapshot.texts.portfolio.hash() == portfolio)
        };
        let records = gateway.telemetry().traffic().books().details.newest(last, same);
        Ok(Json(compared(&policy, &records)))
    })
    .await
}

/// What both do with each request.
fn compared(policy: &Policy, records: &[Arc<Record>]) -> Value {
    let mut agreement = Agreement::default();
    let (mut elsewhere, mut moved) = (0_u64, Vec::new());
    for record in records {
        let Some(made) = &record.decision else { continue };
        let states = made.endpoints.states();
        let fleet = made.fleet(&states);
        let Decision { route, candidates, plan } = made.again(&states);
        let incumbent = Choice::told(&made.snapshot.policy, fleet, made.class, route, &candidates, plan.as_ref());
        let facts = made.facts.facts();
        let candidate = Choice::make(policy, &facts, fleet, made.draw);
        agreement.count(&incumbent, &candidate);
        let endpoint = |choice: &Choice<'_>| choice.first.map(|first| first.endpoint);
        if endpoint(&incumbent) == endpoint(&candidate) {
            continue;
        }
        elsewhere += 1;
        if moved.len() < NAMED {
            let name = |choice: &Choice<'_>| {
                made.snapshot.target(endpoint(choice)?).map(|target| target.endpoint.id.to_string())
            };
            moved.push(json!({
                "trace_id": format!("{:032x}", record.trace.trace_id),
                "class": incumbent.class,
                "class_then": candidate.class,
                "from": name(&incumbent),
                "to": name(&candidate),
            }));
        }
    }
    json!({
        "policy": policy.name,
        "decisions": agreement.requests(),
        "elsewhere": elsewhere,
        "moved": moved,
        "classes": agreement.classes,
    })
}
