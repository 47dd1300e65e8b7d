//! `/api/v1/backends`: every endpoint, how it is, how it was, how it serves beside what was believed, why it was not chosen.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use pointsman_backends::learn::drift::Time;
use pointsman_policies::fleet::{Availability, EndpointState, Fleet};
use pointsman_policies::units::Micros;
use serde_json::{Value, json};

use super::off_thread;
use super::problem::Problem;
use crate::flow::Overview;
use crate::gateway::Gateway;
use crate::record::Record;
use crate::snapshot::{Snapshot, Target};
use crate::traffic::names::Column;
use crate::traffic::rollup::{Series, Stats};
use crate::traffic::strip::Change;
use crate::traffic::summary::Summary;
use crate::traffic::tend::now_ms;

/// Decisions that are made again to count why endpoints were rejected.
const DECISIONS: usize = 200;
/// The span of the sums, seconds.
const LAST_S: u64 = 60;

/// What changes nothing.
pub fn reads() -> Router<Arc<Gateway>> {
    Router::new().route("/api/v1/backends", get(backends))
}

/// What the books say of an endpoint.
#[derive(Default)]
struct Booked {
    minute: Stats,
    strip: Vec<Change>,
}

async fn backends(State(gateway): State<Arc<Gateway>>) -> Result<Json<Value>, Problem> {
    off_thread(move || {
        let snapshot = gateway.snapshot();
        let states = snapshot.endpoint_states(gateway.fleet().now());
        let (mut booked, decided) = booked(&gateway, &snapshot);
        let mut rejected = rejected(&decided);
        let now = gateway.fleet().now();
        let waiting = gateway.queue().flow().overview(now);
        let errors: Vec<Value> = {
            let learner = gateway.learning().learner();
            let of = |at| json!({ "ttft": learner.error(at, Time::Ttft), "itl": learner.error(at, Time::Itl) });
            (0..snapshot.portfolio.facts.len()).map(of).collect()
        };
        let told: Vec<Value> = snapshot
            .targets()
            .zip(&states)
            .map(|(target, state)| {
                let name = target.endpoint.id.as_str();
                let booked = booked.remove(name).unwrap_or_default();
                let reasons = rejected.remove(name).unwrap_or_default();
                let reasons: Vec<Value> = reasons.into_iter().map(|(reason, often)| often.view(reason)).collect();
                let mut view = endpoint(&snapshot, &target, state, (&waiting, now));
                if let Some(members) = view.as_object_mut() {
                    members.insert("prediction_error".to_owned(), json!(errors.get(target.endpoint.pool)));
                    members.insert("minute".to_owned(), minute(&booked.minute));
                    members.insert("strip".to_owned(), json!(booked.strip));
                    members.insert("rejected".to_owned(), json!(reasons));
                }
                view
            })
            .collect();
        Ok(Json(json!({ "backends": told, "rejected_of": decided.len() })))
    })
    .await
}

fn booked(gateway: &Gateway, snapshot: &Snapshot) -> (HashMap<String, Booked>, Vec<Arc<Record>>) {
    let books = gateway.telemetry().traffic().books();
    let mut all: HashMap<String, Booked> = HashMap::new();
    for (series, stats) in books.rollups.window(LAST_S, now_ms() / 1_000) {
        if let Series::Endpoint(number) = series {
            all.entry(books.names.name(Column::Endpoint, number).to_owned()).or_default().minute = stats;
        }
    }
    for target in snapshot.targets() {
        let name = target.endpoint.id.as_str();
        all.entry(name.to_owned()).or_default().strip = books.strips.of(name);
    }
    (all, books.details.newest(DECISIONS, |record| record.decision.is_some()))
}

/// How often a reason kept an endpoint from being considered.
struct Often {
    count: u32,
    /// The newest request of which it did.
    trace_id: u128,
    /// With the numbers of that one.
    told: String,
}

impl Often {
    fn view(&self, reason: &str) -> Value {
        let trace_id = format!("{:032x}", self.trace_id);
        json!({ "reason": reason, "count": self.count, "newest": { "trace_id": trace_id, "told": self.told } })
    }
}

/// By endpoint and reason, how often it was not considered; records come with the newest first.
fn rejected(records: &[Arc<Record>]) -> HashMap<String, BTreeMap<&'static str, Often>> {
    let mut counts: HashMap<String, BTreeMap<&'static str, Often>> = HashMap::new();
    for record in records {
        let Some(decision) = record.decision.as_ref() else { continue };
        for candidate in decision.again(&decision.endpoints.states()).candidates {
            let Err(rejection) = candidate.verdict else { continue };
            let Some(target) = decision.snapshot.target(candidate.endpoint) else { continue };
            let reasons = counts.entry(target.endpoint.id.as_str().to_owned()).or_default();
            let first = || Often { count: 0, trace_id: record.trace.trace_id, told: rejection.to_string() };
            reasons.entry(rejection.as_str()).or_insert_with(first).count += 1;
        }
    }
    counts
}

fn endpoint(
    snapshot: &Snapshot,
    target: &Target<'_>,
    state: &EndpointState,
    (waiting, now): (&[Overview], Micros),
) -> Value {
    let retry_in_ms = match state.availability {
        Availability::BreakerOpen { retry_in_ms } | Availability::BackPressure { retry_in_ms } => Some(retry_in_ms),
        Availability::Ready | Availability::Draining => None,
    };
    let (facts, address) = (target.facts, &target.endpoint.address);
    let learned = snapshot.learned();
    let fleet = Fleet { learned: &learned, ..Fleet::new(&snapshot.portfolio.facts, &[]) };
    let service = fleet.service(target.endpoint.pool);
    let held = waiting.iter().filter(|one| one.pool == facts.name).map(|one| one.requests).sum::<u64>();
    json!({
        "endpoint": target.endpoint.id.as_str(),
        "url": format!("{}://{}{}", if address.tls { "https" } else { "http" }, address.authority, address.base_path),
        "pool": facts.name,
        "hardware": facts.hardware,
        "kind": facts.kind.as_str(),
        "site": facts.site,
        "models": facts.models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(),
        "state": state.availability.as_str(),
        "retry_in_ms": retry_in_ms,
        "drained": drained(target),
        "drained_by_portfolio": target.live.is_drained_by_portfolio(),
        "probe": target.live.last_probe().map(|(well, ago)| json!({ "well": well, "age_s": ago.as_secs_f64() })),
        "engine": target.live.last_report(now).map(|(report, age_s)| json!({
            "age_s": age_s,
            "running": report.running,
            "waiting": report.waiting,
            "kv_used": report.kv_used,
        })),
        "in_flight": state.in_flight,
        "prefilling": state.prefilling,
        "window": state.window.map(|window| window.requests),
        "kv_tokens_held": state.context_tokens,
        "kv_tokens": service.and_then(|service| service.kv_tokens),
        "slots": facts.service.slots,
        "waiting_for_pool": held,
        "service_of_catalog": facts.service,
        "service_learned": service,
        "hidden_load": { "ttft": state.ttft_factor, "itl": state.itl_factor },
        "known": learned.known.get(target.endpoint.pool),
    })
}

/// Who took an endpoint out of service; null where nobody did.
pub(super) fn drained(target: &Target<'_>) -> Value {
    target.live.drained().map_or(Value::Null, |drained| json!({ "by": drained.by, "unix_ms": drained.unix_ms }))
}

fn minute(stats: &Stats) -> Value {
    let mut view = json!(Summary::of("minute", stats));
    let tokens = (stats.input_tokens + stats.output_tokens) as f64;
    let per_token = |figure: f64| (tokens > 0.0).then(|| figure / tokens);
    if let Some(members) = view.as_object_mut() {
        members.insert("output_tokens_per_s".to_owned(), json!(stats.output_tokens as f64 / LAST_S as f64));
        members.insert("joules_per_token".to_owned(), json!(per_token(stats.joules)));
        members.insert("usd_per_m_tokens".to_owned(), json!(per_token(stats.usd * 1e6)));
    }
    view
}
