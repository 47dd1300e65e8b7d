//! The attempts of a plan, in order, until one gives a first byte. Nothing has reached the client before that, so any
//! failure can still be mended on another endpoint.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use pointsman_backends::call::{call, strip_headers};
use pointsman_backends::connect::{ConnectError, Hold};
use pointsman_backends::fleet::{Dispatched, Verdict, Work};
use pointsman_policies::plan::Attempt;
use pointsman_policies::refusal::Refusal as Unserved;
use pointsman_policies::units::Micros;

use super::Answer;
use super::body::Prompt;
use super::decide::Decided;
use super::opening::{Opening, Source};
use super::relay::Relay;
use super::settle::{OpenRecord, settle};
use crate::gateway::Gateway;
use crate::learning::served;
use crate::record::{AttemptRecord, Outcome, Record};
use crate::refusal::Refusal;
use crate::snapshot::{self, Snapshot, Target};

/// How long a machine that says "too much" without saying for how long is left alone.
const DEFAULT_BACK_PRESSURE: Micros = Micros::from_secs(1);
/// A machine that asks for more is asked again after this.
const LONGEST_BACK_PRESSURE: Micros = Micros::from_secs(60);
/// How long clients are asked to wait when every attempt failed.
const RETRY_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How much of a machine's error answer is read, bytes.
const LONGEST_ERROR: usize = 64 << 10;
/// How long a machine may take to send its error answer.
const ERROR_BODY_TIME: Duration = Duration::from_secs(5);

/// Why an attempt failed.
struct Failure {
    cause: &'static str,
    message: String,
    status: Option<u16>,
    verdict: Verdict,
    taken: bool,
}

/// What an attempt gave.
enum Tried {
    /// The answer, or the machine's verdict that the caller is wrong.
    Answered(Response<Answer>),
    /// Nothing; the next may try.
    Failed(Failure),
}

/// Tries each attempt of a plan.
pub(super) async fn forward(
    gateway: &Arc<Gateway>,
    snapshot: &Arc<Snapshot>,
    prompt: &Prompt,
    decided: Decided,
    record: &mut OpenRecord,
) -> Result<Response<Answer>, Refusal> {
    let Decided { plan, mut begun } = decided;
    let mut failures = Vec::with_capacity(plan.attempts.len());
    for attempt in &plan.attempts {
        let Some(target) = snapshot.target(attempt.endpoint) else { continue };
        begin_attempt(record, attempt.endpoint, &target);
        let tried = one_attempt(gateway, snapshot, prompt, (attempt, begun.take()), target, record).await;
        match tried {
            Tried::Answered(response) => return Ok(response),
            Tried::Failed(failure) => {
                gateway.telemetry().metrics().attempt_failed(&target.facts.name, failure.cause);
                tracing::info!(
                    request_id = %record.request_id,
                    endpoint = %target.endpoint.id,
                    cause = failure.cause,
                    "attempt failed: {}",
                    failure.message
                );
                end_attempt(record, &failure);
                failures.push((target.endpoint.id.clone(), failure));
            }
        }
    }
    let tried: Vec<String> = failures.iter().map(|(id, failure)| format!("{id}: {}", failure.message)).collect();
    Err(refuse(&failures.iter().map(|(_, failure)| failure).collect::<Vec<_>>(), tried.join("; ")))
}

async fn one_attempt(
    gateway: &Arc<Gateway>,
    snapshot: &Arc<Snapshot>,
    prompt: &Prompt,
    (attempt, begun): (&Attempt, Option<Dispatched>),
    target: Target<'_>,
    record: &mut OpenRecord,
) -> Tried {
    let fleet = gateway.fleet();
    let work = record.decision.as_ref().map_or(Work::default(), |made| made.work(attempt.endpoint));
    let dispatched = match begun.map_or_else(|| target.live.begin(fleet.now(), work), Ok) {
        Ok(dispatched) => dispatched,
        Err(shortage) => return Tried::Failed(Failure::out_of_lease(shortage.retry_after)),
    };
    let first_byte = Duration::try_from_secs_f64(attempt.first_byte_ms / 1e3).unwrap_or(Duration::MAX);
    let first_byte = first_byte.min(snapshot.process.timeouts.first_byte);
    let opened = tokio::time::timeout(first_byte, open(snapshot, prompt, target, record)).await;
    let failure = match opened {
        Ok(Ok(Opened::Answer { head, opening })) => {
            target.live.report(Verdict::Began, fleet.now());
            return Tried::Answered(answer(gateway, target, head, opening, dispatched, record));
        }
        Ok(Ok(Opened::CallersMistake { head, body })) => {
            target.live.report(Verdict::Neutral, fleet.now());
            dispatched.refused(fleet.now());
            return Tried::Answered(callers_mistake(gateway, target, &head, body, record));
        }
        Ok(Err(failure)) => failure,
        Err(_) => Failure::timed_out(first_byte, prompt.parsed.stream),
    };
    target.live.report(failure.verdict, fleet.now());
    if failure.taken {
        dispatched.settle(fleet.now(), work.input_tokens);
    } else {
        dispatched.refused(fleet.now());
    }
    gateway.room_made();
    Tried::Failed(failure)
}

enum Opened {
    Answer { head: http::response::Parts, opening: Opening },
    CallersMistake { head: http::response::Parts, body: Bytes },
}

/// Sends and waits for the first event of a stream or the first bytes of a whole answer.
async fn open(snapshot: &Snapshot, prompt: &Prompt, target: Target<'_>, record: &Record) -> Result<Opened, Failure> {
    let span_id = record.attempts.last().map_or(record.trace.span_id, |attempt| attempt.span_id);
    let mut added = Vec::with_capacity(2);
    if let Ok(traceparent) = HeaderValue::try_from(record.trace.traceparent(span_id)) {
        added.push((HeaderName::from_static("traceparent"), traceparent));
    }
    if let Ok(id) = HeaderValue::try_from(&record.request_id) {
        added.push((HeaderName::from_static("x-request-id"), id));
    }
    let body = prompt.body_for(target.pool.upstream_models.get(&prompt.parsed.model));
    let endpoint = (target.pool, target.endpoint, &**target.live);
    let timeout = snapshot.process.timeouts.connect;
    let sent = call(endpoint, prompt.api, &prompt.headers, &added, body, timeout).await;
    let (response, hold) = sent.map_err(|error| Failure::connect(&error))?;
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        return refused_by_machine(target, head, body, hold).await;
    }
    let streamed =
        head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
            && !head.headers.contains_key(header::CONTENT_ENCODING);
    let source = Source { body, hold, dialect: target.pool.dialect };
    let opening = Opening::wait(source, streamed).await;
    let opening = opening.map_err(|problem| Failure::broke_before_first_byte(target.pool.redact(problem)))?;
    Ok(Opened::Answer { head, opening })
}

async fn refused_by_machine(
    target: Target<'_>,
    head: http::response::Parts,
    body: Incoming,
    hold: Hold,
) -> Result<Opened, Failure> {
    let limited = http_body_util::Limited::new(body, LONGEST_ERROR);
    let body = match tokio::time::timeout(ERROR_BODY_TIME, limited.collect()).await {
        Ok(Ok(collected)) => {
            hold.finish();
            collected.to_bytes()
        }
        _ => Bytes::new(),
    };
    let said = target.pool.redact(target.pool.dialect.error_message(&body).unwrap_or_default());
    match Failure::of_status(target, head.status, &head.headers, said) {
        Some(failure) => Err(failure),
        None => Ok(Opened::CallersMistake { head, body }),
    }
}

fn answer(
    gateway: &Arc<Gateway>,
    target: Target<'_>,
    mut head: http::response::Parts,
    opening: Opening,
    mut dispatched: Dispatched,
    record: &mut OpenRecord,
) -> Response<Answer> {
    dispatched.first_token(gateway.fleet().now());
    served::first_token(gateway, record, &dispatched, opening.streamed);
    gateway.room_made();
    let now = record.elapsed();
    record.first_byte_at = Some(now);
    record.hardware = Some(target.facts.kind);
    record.status = head.status.as_u16();
    if let Some(attempt) = record.attempts.last_mut() {
        attempt.status = Some(head.status.as_u16());
    }
    head.version = Version::HTTP_11; // the connection to the client has its own; hyper would keep the machine's
    head.extensions.clear();
    write_headers(&mut head.headers, target, record);
    let relay = Relay::new(Arc::clone(gateway), opening, dispatched, record.take());
    Response::from_parts(head, Answer::Relay(Box::new(relay)))
}

/// The machine says that the caller is wrong: its own words are passed on.
fn callers_mistake(
    gateway: &Gateway,
    target: Target<'_>,
    head: &http::response::Parts,
    body: Bytes,
    record: &mut OpenRecord,
) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(Some(body)));
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers.clone();
    if let Some(attempt) = record.attempts.last_mut() {
        attempt.status = Some(head.status.as_u16());
    }
    write_headers(response.headers_mut(), target, record);
    response.headers_mut().remove(header::CONTENT_LENGTH);
    record.hardware = Some(target.facts.kind);
    record.status = head.status.as_u16();
    record.outcome = Outcome::CallersMistake(head.status.as_u16());
    settle(gateway, record.take());
    response
}

fn write_headers(headers: &mut HeaderMap, target: Target<'_>, record: &Record) {
    strip_headers(target.pool, headers);
    if let Some(decision) = &record.decision {
        headers.insert(snapshot::POLICY_HEADER, decision.deciding().version_header.clone());
    }
    let texts = [
        (snapshot::CLASS_HEADER, record.class.as_deref().unwrap_or_default().to_owned()),
        (snapshot::ENDPOINT_HEADER, target.endpoint.id.to_string()),
        (HeaderName::from_static("x-request-id"), record.request_id.clone()),
        (HeaderName::from_static("server-timing"), timing(record)),
    ];
    for (name, text) in texts {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    }
    headers.insert(snapshot::ATTEMPTS_HEADER, HeaderValue::from(record.attempts.len()));
}

/// Where the time until now went, as browsers show it.
fn timing(record: &Record) -> String {
    let ms = |span: Duration| span.as_secs_f64() * 1e3;
    let (decided_ms, first_ms) = (ms(record.decided_at), ms(record.elapsed().saturating_sub(record.ready_at())));
    let queue = record.waited.as_ref().map_or_else(String::new, |waited| format!("queue;dur={:.3}, ", waited.ms()));
    format!("decide;dur={decided_ms:.3}, {queue}first_byte;dur={first_ms:.3}")
}

fn begin_attempt(record: &mut Record, index: usize, target: &Target<'_>) {
    let began = record.elapsed();
    record.attempts.push(AttemptRecord {
        endpoint: target.endpoint.id.clone(),
        index,
        pool: target.facts.name.as_str().into(),
        span_id: fastrand::u64(1..),
        began,
        ended: began,
        status: None,
        failure: None,
        cause: "",
    });
}

fn end_attempt(record: &mut Record, failure: &Failure) {
    let ended = record.elapsed();
    if let Some(attempt) = record.attempts.last_mut() {
        attempt.ended = ended;
        attempt.status = failure.status;
        attempt.failure = Some(failure.message.clone());
        attempt.cause = failure.cause;
    }
}

/// Every attempt failed: the caller hears the kindest truth.
fn refuse(failures: &[&Failure], tried: String) -> Refusal {
    let all = |test: fn(&Failure) -> bool| !failures.is_empty() && failures.iter().all(|failure| test(failure));
    let waits = failures.iter().filter_map(|failure| match failure.verdict {
        Verdict::BackPressure(wait) => Some(Duration::from_micros(wait.0)),
        _ => None,
    });
    let retry_in_ms = waits.min().unwrap_or(RETRY_AFTER_FAILURE).as_secs_f64() * 1e3;
    if all(|failure| matches!(failure.verdict, Verdict::BackPressure(_))) {
        Unserved::Saturated { retry_in_ms }.into()
    } else if all(|failure| failure.cause == "timeout") {
        Refusal::TimedOut(tried)
    } else if all(|failure| matches!(failure.cause, "unauthorized" | "not-found")) {
        Refusal::Misconfigured(tried)
    } else {
        Unserved::Unavailable { retry_in_ms, tried }.into()
    }
}

impl Failure {
    fn connect(error: &ConnectError) -> Failure {
        let taken = matches!(error, ConnectError::Closed(..));
        Failure { cause: error.as_str(), message: error.to_string(), status: None, verdict: Verdict::Failed, taken }
    }

    fn out_of_lease(wait: Micros) -> Failure {
        let message = "the provider's limit was used up by another request".to_owned();
        Failure { cause: "lease", message, status: None, verdict: Verdict::BackPressure(wait), taken: false }
    }

    /// A machine that does not stream is silent while it works, so its silence says nothing against it.
    fn timed_out(limit: Duration, stream: bool) -> Failure {
        let message = format!("no first byte within {:.1} s", limit.as_secs_f64());
        let verdict = if stream { Verdict::Failed } else { Verdict::Neutral };
        Failure { cause: "timeout", message, status: None, verdict, taken: true }
    }

    fn broke_before_first_byte(message: String) -> Failure {
        Failure { cause: "broken", message, status: Some(200), verdict: Verdict::Failed, taken: true }
    }

    /// What a status other than success says of the machine; `None` where it is the caller's mistake.
    fn of_status(target: Target<'_>, status: StatusCode, headers: &HeaderMap, said: String) -> Option<Failure> {
        let (cause, verdict) = match status.as_u16() {
            429 | 503 | 529 => ("overloaded", Verdict::BackPressure(retry_after(headers))),
            401..=403 if !target.pool.forward_authorization => ("unauthorized", Verdict::Neutral),
            404 => ("not-found", Verdict::Neutral),
            400..=499 => return None,
            500..=599 => ("server-error", Verdict::Failed),
            _ => ("bad-status", Verdict::Failed),
        };
        // Providers repeat keys they refuse, so what they say of ours goes nowhere.
        let silent = said.is_empty() || cause == "unauthorized";
        let said = if silent { String::new() } else { format!(", it says: {said}") };
        let message = format!("status {}{said}", status.as_u16());
        Some(Failure { cause, message, status: Some(status.as_u16()), verdict, taken: cause == "server-error" })
    }
}

fn retry_after(headers: &HeaderMap) -> Micros {
    let number = |name: HeaderName| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let ms = number(HeaderName::from_static("retry-after-ms"));
    let ms = ms.or_else(|| number(RETRY_AFTER).map(|seconds| seconds * 1e3));
    let wait = ms.filter(|ms| ms.is_finite() && *ms >= 0.0).map_or(DEFAULT_BACK_PRESSURE, Micros::from_ms);
    wait.min(LONGEST_BACK_PRESSURE)
}
