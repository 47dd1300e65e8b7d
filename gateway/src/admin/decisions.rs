//! `/api/v1/decisions`: what was decided of late, each with every reason; `/api/v1/explain`: what would be decided now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::routing::{get, post};
use axum::{Json, Router};
use pointsman_policies::explain::{Explanation, Given};
use pointsman_policies::facts::OwnedFacts;
use pointsman_policies::fleet::Fleet;
use pointsman_policies::language::{Source, compile};
use pointsman_policies::prefix::Prefix;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::guard;
use super::off_thread;
use super::problem::Problem;
use super::query::Query;
use crate::explained::{explained, unix_ms};
use crate::gateway::Gateway;
use crate::learning::Learning;
use crate::pipeline::suppose;
use crate::record::{Outcome, Record, Waited};

/// Decisions listed where the caller does not say.
const LISTED: usize = 50;
/// The most that one list holds.
const MOST_LISTED: usize = 1_000;
/// Ids named when one is not found.
const NAMED: usize = 5;
/// Largest request to explain, bytes: what the gateway takes from clients by default, and a policy.
const MOST_BYTES: usize = 33 << 20;

/// What changes nothing.
pub fn reads() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/api/v1/decisions", get(list))
        .route("/api/v1/decisions/{id}", get(one))
        .route("/api/v1/explain", post(explain))
}

/// One line of the list.
#[derive(Debug, Serialize)]
struct Line {
    request_id: String,
    trace_id: String,
    unix_ms: u64,
    policy: Option<String>,
    class: Option<String>,
    route: Option<String>,
    model: String,
    pool: Option<String>,
    endpoint: Option<String>,
    attempts: usize,
    outcome: &'static str,
    code: Option<&'static str>,
    status: u16,
    queue_ms: Option<f64>,
    ttft_ms: Option<f64>,
    itl_ms: Option<f64>,
    total_ms: f64,
    slo_met: Option<bool>,
}

/// The last decisions, the newest first.
async fn list(State(gateway): State<Arc<Gateway>>, uri: Uri) -> Result<Json<serde_json::Value>, Problem> {
    let query = Query::read(&uri, &["class", "pool", "outcome", "limit"])?;
    let most = query.number("limit")?.unwrap_or(LISTED).min(MOST_LISTED);
    let is = move |name: &str, value: Option<&str>| query.text(name).is_none_or(|wanted| value == Some(wanted));
    let wanted = move |record: &Record| {
        is("class", record.class.as_deref())
            && is("pool", record.endpoint().map(|attempt| &*attempt.pool))
            && is("outcome", Some(record.outcome.as_str()))
    };
    off_thread(move || {
        let records = gateway.telemetry().traffic().books().details.newest(most, wanted);
        let lines: Vec<Line> = records.iter().map(|record| line(record)).collect();
        Ok(Json(serde_json::json!({ "decisions": lines })))
    })
    .await
}

/// One decision, explained as it was made.
async fn one(State(gateway): State<Arc<Gateway>>, Path(id): Path<String>) -> Result<Json<Explanation>, Problem> {
    off_thread(move || explain_kept(&gateway, &id)).await
}

fn explain_kept(gateway: &Gateway, id: &str) -> Result<Json<Explanation>, Problem> {
    let found = gateway.telemetry().traffic().books().details.find(id);
    let Some((_, record)) = found else { return Err(not_found(gateway, id)) };
    explained(&record).map(Json).ok_or_else(|| {
        let message = match record.outcome {
            Outcome::Refused(code) => format!("request `{id}` was refused with `{code}` before anything was decided"),
            _ => format!("request `{id}` ended before anything was decided"),
        };
        Problem::new(StatusCode::NOT_FOUND, "not-decided", message)
    })
}

pub(super) fn not_found(gateway: &Gateway, id: &str) -> Problem {
    let books = gateway.telemetry().traffic().books();
    let recent = books.details.newest(NAMED, |record| record.decision.is_some());
    let shown: String = id.chars().filter(|c| !c.is_control()).take(100).collect();
    let problem = Problem::new(StatusCode::NOT_FOUND, "unknown-id", format!("no request `{shown}` is remembered"));
    if recent.is_empty() {
        return problem.help("nothing has been decided since the gateway started");
    }
    let named: Vec<&str> = recent.iter().map(|record| record.request_id.as_str()).collect();
    problem.help(format!("the last ones are {}; /api/v1/decisions lists more", named.join(", ")))
}

fn line(record: &Record) -> Line {
    let decision = record.decision.as_ref();
    let deciding = decision.map(|decision| decision.deciding());
    let route = decision.zip(deciding).and_then(|(made, deciding)| deciding.policy.routes.get(made.route));
    let answered = record.endpoint();
    Line {
        request_id: record.request_id.clone(),
        trace_id: format!("{:032x}", record.trace.trace_id),
        unix_ms: unix_ms(record),
        policy: deciding.map(|deciding| deciding.version.to_string()),
        class: record.class.as_deref().map(str::to_owned),
        route: route.map(|route| route.name.clone()),
        model: record.model.clone(),
        pool: answered.map(|attempt| attempt.pool.to_string()),
        endpoint: answered.map(|attempt| attempt.endpoint.to_string()),
        attempts: record.attempts.len(),
        outcome: record.outcome.as_str(),
        code: match record.outcome {
            Outcome::Refused(code) => Some(code),
            _ => None,
        },
        status: record.status,
        queue_ms: record.waited.as_ref().map(Waited::ms),
        ttft_ms: record.ttft_ms(),
        itl_ms: record.itl_ms(),
        total_ms: record.ended_at.as_secs_f64() * 1e3,
        slo_met: record.attained(),
    }
}

/// What is to be explained: a request as a client would send it, or its facts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question<'q> {
    /// The path; `/v1/chat/completions` where not given.
    path: Option<String>,
    /// Headers by name.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The body, as JSON.
    #[serde(borrow)]
    body: Option<&'q RawValue>,
    /// Facts instead of path, headers and body; without the length of the answer, what is learned of it counts.
    facts: Option<OwnedFacts>,
    /// When it comes, seconds since 1970; now where not given. Facts have their own.
    unix_s: Option<u64>,
    /// Text of a policy to decide instead of the one in force.
    policy: Option<String>,
    /// The random number in decimal; a new one where not given.
    draw: Option<String>,
}

/// Explains what would be decided on the fleet as it is now.
async fn explain(State(gateway): State<Arc<Gateway>>, body: Body) -> Result<Json<Explanation>, Problem> {
    let bytes = guard::body(body, MOST_BYTES).await?;
    let answering = tokio::task::spawn_blocking(move || {
        let question: Question<'_> = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
        answer(&gateway, &question)
    });
    let failed = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the explanation failed");
    answering.await.map_err(failed)?.map(Json)
}

fn answer(gateway: &Gateway, question: &Question<'_>) -> Result<Explanation, Problem> {
    let snapshot = gateway.snapshot();
    let (facts, prefix) = facts(gateway.learning(), question)?;
    let mut facts = facts.facts();
    let candidate =
        question.policy.as_ref().map(|text| compile(Source::new("policy", text), &snapshot.portfolio.facts));
    let arm = snapshot.arm(&facts, question.headers.get("x-request-id").map_or("", String::as_str));
    let in_force = snapshot.deciding(arm);
    let (policy, version) = match &candidate {
        Some((Some(policy), _)) => (policy, format!("{} (given)", policy.name)),
        Some((None, report)) => {
            let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-policy", "the policy has errors");
            return Err(problem.diagnostics(report.records()));
        }
        None => (&**in_force.policy, in_force.version.to_string()),
    };
    if facts.output_tokens == 0 {
        facts.output_tokens = gateway.learning().answer_tokens(policy, &facts);
    }
    let draw = match &question.draw {
        Some(text) => text.parse().map_err(|_| bad(format!("`draw` is `{text}`, which is no number of 64 bits")))?,
        None => fastrand::u64(..),
    };
    let now = gateway.fleet().now();
    let endpoints = snapshot.endpoint_states_for(now, &prefix, facts.input_tokens);
    let waiting = gateway.queue().flow().waiting(&snapshot, now);
    let learned = snapshot.learned();
    let fleet = Fleet { learned: &learned, waiting: &waiting, ..Fleet::new(&snapshot.portfolio.facts, &endpoints) };
    let mut explanation = Explanation::of(&Given { policy, facts: &facts, fleet, draw });
    explanation.policy = version;
    explanation.fleet = "live, with what the gateway has learned".to_owned();
    Ok(explanation)
}

fn facts(learning: &Learning, question: &Question<'_>) -> Result<(OwnedFacts, Arc<Prefix>), Problem> {
    let body = match (&question.facts, question.body) {
        (Some(facts), None) => {
            let path = if facts.path.is_empty() { facts.api.path().to_owned() } else { facts.path.clone() };
            return Ok((OwnedFacts { path, ..facts.clone() }, Arc::default()));
        }
        (None, Some(body)) => body,
        _ => return Err(bad("give either `body`, as a client would send it, or `facts`")),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &question.headers {
        let header = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
        let (name, value) = header.ok_or_else(|| bad(format!("`{name}` is no header, or its value is none")))?;
        headers.append(name, value);
    }
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let path = question.path.as_deref().unwrap_or("/v1/chat/completions");
    let unix_s = question.unix_s.unwrap_or_else(now);
    let supposed = suppose(path, &headers, body.get().as_bytes(), unix_s).map_err(|refusal| {
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, refusal.code(), refusal.message());
        problem.help("a client that sends this gets the same answer, whatever the policy says")
    })?;
    let input_tokens = learning.prompt_tokens(&supposed);
    Ok((OwnedFacts { input_tokens, output_tokens: 0, ..supposed.facts }, supposed.prefix))
}

fn bad(message: impl Into<String>) -> Problem {
    let problem = Problem::new(StatusCode::BAD_REQUEST, "bad-body", message);
    problem.help("send `{\"body\": {...}, \"headers\": {...}}`; see `pointsman explain --help`")
}
