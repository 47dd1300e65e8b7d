//! The attempts of a plan, in order, until one gives a first byte. Nothing has reached the client before that, so any
//! failure can still be mended on another endpoint.

use std::fmt::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use pointsman_backends::call::{call, strip_headers};
use pointsman_backends::connect::Hold;
use pointsman_backends::endpoint::EndpointId;
use pointsman_backends::fleet::{Dispatched, Verdict, Work};
use pointsman_policies::plan::Attempt;

use super::Answer;
use super::body::Prompt;
use super::decide::Decided;
use super::failure::{Failure, may_retry, refuse};
use super::opening::{Opening, Source};
use super::race::race;
use super::relay::Relay;
use super::sending::{Patience, Reader};
use super::settle::{OpenRecord, settle};
use crate::gateway::Gateway;
use crate::learning::served;
use crate::record::{AttemptRecord, DecisionRecord, Outcome, REQUEST_ID, Record, TRACEPARENT};
use crate::refusal::Refusal;
use crate::snapshot::{self, Snapshot, Target};

/// How much of a machine's error answer is read, bytes.
const LONGEST_ERROR: usize = 64 << 10;
/// Where the time went, for browsers.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// What our own headers of an answer usually come to, bytes.
const LENGTH_OF_OURS: usize = 256;
/// What machines are told besides usually comes to, bytes.
const LENGTH_OF_ADDED: usize = 96;
/// How long a machine may take to send its error answer.
const ERROR_BODY_TIME: Duration = Duration::from_secs(5);

/// Tries each attempt of a plan, the first with another beside it where it is slow and the plan says so.
pub(super) async fn forward(
    gateway: &Arc<Gateway>,
    snapshot: &Arc<Snapshot>,
    prompt: &Prompt,
    decided: Decided,
    record: &mut OpenRecord,
) -> Result<Response<Answer>, Refusal> {
    let Decided { made, mut begun } = decided;
    let Some(plan) = &made.plan else { return Err(Refusal::Internal) };
    let mut tries = Tries { gateway, snapshot, prompt, failures: Vec::with_capacity(plan.attempts.len()) };
    let mut hedge = plan.hedge;
    for attempt in &plan.attempts {
        let Some(target) = snapshot.target(attempt.endpoint).filter(|_| !tries.failed_at(attempt.endpoint)) else {
            continue;
        };
        if target.live.lacks(&prompt.parsed.model) {
            if let Some(begun) = begun.take() {
                begun.refused(gateway.fleet().now());
            }
            let place = tries.begin(attempt.endpoint, &target, record);
            tries.note(place, target, Failure::not_listed(), record);
            continue;
        }
        if !tries.may_try(record) {
            break;
        }
        let place = tries.begin(attempt.endpoint, &target, record);
        let first = tries.attempt(attempt, begun.take(), target, record);
        let won = match hedge.take() {
            None => first.await.map_err(|failure| tries.note(place, target, failure, record)),
            Some(hedge) => Box::pin(race(&mut tries, (place, target, first), (attempt, hedge), record)).await,
        };
        if let Ok(won) = won {
            return Ok(won.response(gateway, record));
        }
        if tries.were_asked_for_patience() {
            break; // the machines have less room than the plan believed: it is made again
        }
    }
    Err(tries.refusal(record))
}

/// What all attempts of one request share.
pub(super) struct Tries<'s> {
    pub(super) gateway: &'s Arc<Gateway>,
    pub(super) snapshot: &'s Arc<Snapshot>,
    prompt: &'s Prompt,
    /// By index of the endpoint.
    failures: Vec<(usize, EndpointId, Failure)>,
}

/// An attempt that gave an answer, or the machine's verdict that the caller is wrong.
pub(super) struct Won<'s> {
    target: Target<'s>,
    pub(super) opened: Opened,
    pub(super) dispatched: Dispatched,
}

impl<'s> Tries<'s> {
    fn failed_at(&self, endpoint: usize) -> bool {
        self.failures.iter().any(|(known, ..)| *known == endpoint)
    }

    /// Whether every attempt so far met a machine that has too much work, and no other failure.
    fn were_asked_for_patience(&self) -> bool {
        self.failures.iter().all(|(.., failure)| matches!(failure.verdict, Verdict::BackPressure(_)))
    }

    /// A first attempt is always made, a further one where the route's budget allows it.
    fn may_try(&self, record: &mut Record) -> bool {
        if let Some(made) = record.decision.as_ref().filter(|_| record.attempts.is_empty()) {
            self.gateway.route_accounts().sent(made, self.gateway.fleet().now());
        }
        self.failures.is_empty() || may_retry(self.gateway, record)
    }

    /// Opens the record of an attempt and returns its place there.
    pub(super) fn begin(&self, endpoint: usize, target: &Target<'_>, record: &mut Record) -> usize {
        begin_attempt(record, endpoint, target);
        record.attempts.len().saturating_sub(1)
    }

    /// One attempt; everything of the record that it needs is taken from it first.
    pub(super) fn attempt(
        &self,
        attempt: &Attempt,
        begun: Option<Dispatched>,
        target: Target<'s>,
        record: &Record,
    ) -> Pin<Box<impl Future<Output = Result<Won<'s>, Failure>> + use<'s>>> {
        let (made, endpoint) = (record.decision.clone(), attempt.endpoint);
        let first_byte = Duration::try_from_secs_f64(attempt.first_byte_ms / 1e3).unwrap_or(Duration::MAX);
        let first_byte = first_byte.min(self.snapshot.process.timeouts.first_byte);
        let (gateway, snapshot, prompt, added) = (self.gateway, self.snapshot, self.prompt, added_headers(record));
        // Boxed: it is moved about, and a race holds two of them.
        Box::pin(async move {
            one_attempt(gateway, (snapshot, prompt, &added), (made, endpoint, begun, first_byte), target).await
        })
    }

    /// Books a failure.
    pub(super) fn note(&mut self, place: usize, target: Target<'_>, failure: Failure, record: &mut Record) {
        self.gateway.telemetry().metrics().attempt_failed(&target.facts.name, failure.cause);
        tracing::info!(
            request_id = %record.request_id,
            endpoint = %target.endpoint.id,
            cause = failure.cause,
            "attempt failed: {}",
            failure.message
        );
        let ended = record.elapsed();
        if let Some(attempt) = record.attempts.get_mut(place) {
            attempt.ended = ended;
            attempt.status = failure.status;
            attempt.failure = Some(failure.message.clone());
            attempt.cause = failure.cause;
            self.failures.push((attempt.index, target.endpoint.id.clone(), failure));
        }
    }

    fn refusal(&self, record: &Record) -> Refusal {
        let told = self.failures.iter().map(|(_, id, failure)| format!("{id}: {}", failure.message));
        let told = told.chain(record.retries_spent.map(|spent| format!("not tried again: {spent}")));
        let failures: Vec<&Failure> = self.failures.iter().map(|(.., failure)| failure).collect();
        refuse(&failures, told.collect::<Vec<_>>().join("; "))
    }
}

impl Won<'_> {
    fn response(self, gateway: &Arc<Gateway>, record: &mut OpenRecord) -> Response<Answer> {
        let Won { target, opened, dispatched } = self;
        match opened {
            Opened::Answer { head, opening } => answer(gateway, target, head, opening, dispatched, record),
            Opened::CallersMistake { head, body } => {
                dispatched.refused(gateway.fleet().now());
                callers_mistake(gateway, target, &head, body, record)
            }
        }
    }
}

/// One attempt: booked on its machine whatever comes of it.
pub(super) async fn one_attempt<'s>(
    gateway: &Gateway,
    (snapshot, prompt, added): (&Snapshot, &Prompt, &Added),
    (made, endpoint, begun, first_byte): (Option<Arc<DecisionRecord>>, usize, Option<Dispatched>, Duration),
    target: Target<'s>,
) -> Result<Won<'s>, Failure> {
    let fleet = gateway.fleet();
    let now = fleet.now();
    let begin = || made.as_ref().and_then(|made| made.begin(endpoint, now));
    let begun = begun.map(Ok).or_else(begin).unwrap_or_else(|| target.live.begin(now, Work::default()));
    let dispatched = begun.map_err(|shortage| Failure::out_of_lease(shortage.retry_after))?;
    let opened = tokio::time::timeout(first_byte, open(snapshot, prompt, target, added)).await;
    let failure = match opened {
        Ok(Ok(opened)) => {
            let answers = matches!(opened, Opened::Answer { .. });
            target.live.report(if answers { Verdict::Began } else { Verdict::Neutral }, fleet.now());
            return Ok(Won { target, opened, dispatched });
        }
        Ok(Err(failure)) => failure,
        Err(_) => Failure::timed_out(first_byte, prompt.parsed.stream),
    };
    target.live.report(failure.verdict, fleet.now());
    if failure.taken {
        let input_tokens = made.map_or(0, |made| made.facts.input_tokens);
        dispatched.settle(fleet.now(), input_tokens);
    } else {
        dispatched.refused(fleet.now());
    }
    gateway.room_made();
    Err(failure)
}

/// Headers that a machine is told besides.
pub(super) type Added = [Option<(HeaderName, HeaderValue)>; 2];

/// What machines are told of where a request stands.
pub(super) fn added_headers(record: &Record) -> Added {
    let span_id = record.attempts.last().map_or(record.trace.span_id, |attempt| attempt.span_id);
    // In one piece of memory, which copies for further attempts share.
    let mut text = BytesMut::with_capacity(LENGTH_OF_ADDED);
    record.trace.write_traceparent(span_id, &mut text);
    let traceparent = text.split();
    text.put_slice(record.request_id.as_bytes());
    [(TRACEPARENT, traceparent), (REQUEST_ID, text)]
        .map(|(name, text)| Some((name, HeaderValue::from_maybe_shared(text.freeze()).ok()?)))
}

/// How an attempt was answered.
pub(super) enum Opened {
    /// With an answer.
    Answer { head: http::response::Parts, opening: Opening },
    /// With the verdict that the caller is wrong.
    CallersMistake { head: http::response::Parts, body: Bytes },
}

/// Sends and waits for the first event of a stream or the first bytes of a whole answer.
async fn open(snapshot: &Snapshot, prompt: &Prompt, target: Target<'_>, added: &Added) -> Result<Opened, Failure> {
    let body = prompt.body_for(target.pool.upstream_models.get(&prompt.parsed.model));
    let endpoint = (target.pool, target.endpoint, &**target.live);
    let timeout = snapshot.process.timeouts.connect;
    let sent = call(endpoint, prompt.api, &prompt.headers, added, body, timeout).await;
    let (response, hold) = sent.map_err(|error| {
        if error.nobody_listens() {
            target.live.is_gone();
        }
        Failure::connect(&error)
    })?;
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        return Box::pin(refused_by_machine(target, head, body, hold)).await;
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
    let patience = patience(gateway, record);
    let relay = Relay::new(Arc::clone(gateway), opening, dispatched, record.take());
    Response::from_parts(head, Answer::Relay(Reader::new(relay, patience)))
}

/// How far its client may be behind.
fn patience(gateway: &Gateway, record: &Record) -> Patience {
    let snapshot = record.decision.as_ref().map_or_else(|| gateway.snapshot(), |made| Arc::clone(&made.snapshot));
    let (edge, timeouts) = (&snapshot.process.edge, &snapshot.process.timeouts);
    Patience {
        bytes: edge.client_buffer_bytes,
        bytes_of_all: edge.client_buffers_bytes,
        nothing_taken: timeouts.client_write,
        full: timeouts.client_behind,
        kept_for_all: Arc::clone(gateway.kept_for_clients()),
    }
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
    // One piece of memory for all of them.
    let mut text = BytesMut::with_capacity(LENGTH_OF_OURS);
    let mut value = |write: &dyn Fn(&mut BytesMut)| {
        write(&mut text);
        HeaderValue::from_maybe_shared(text.split().freeze())
    };
    let values = [
        (snapshot::CLASS_HEADER, value(&|text| text.put_slice(record.class.as_deref().unwrap_or_default().as_bytes()))),
        (snapshot::ENDPOINT_HEADER, value(&|text| text.put_slice(target.endpoint.id.as_str().as_bytes()))),
        (REQUEST_ID, value(&|text| text.put_slice(record.request_id.as_bytes()))),
        (SERVER_TIMING, value(&|text| timing(record, text))),
    ];
    for (name, value) in values {
        if let Ok(value) = value {
            headers.insert(name, value);
        }
    }
    let attempts = match record.attempts.len() {
        1 => HeaderValue::from_static("1"),
        more => HeaderValue::from(more),
    };
    headers.insert(snapshot::ATTEMPTS_HEADER, attempts);
}

/// Where the time until now went, as browsers show it: milliseconds, with microseconds.
fn timing(record: &Record, text: &mut BytesMut) {
    let mut span = |name: &str, span: Duration| {
        let (ms, micros) = (span.as_millis(), span.subsec_micros() % 1_000);
        let _ = write!(text, "{name};dur={ms}.{micros:03}");
    };
    span("decide", record.decided_at);
    if let Some(waited) = &record.waited {
        span(", queue", waited.until.saturating_sub(waited.from));
    }
    span(", first_byte", record.elapsed().saturating_sub(record.ready_at()));
}

/// Opens the record of an attempt.
pub(super) fn begin_attempt(record: &mut Record, index: usize, target: &Target<'_>) {
    let began = record.elapsed();
    record.attempts.push(AttemptRecord {
        endpoint: target.endpoint.id.clone(),
        index,
        pool: Arc::clone(target.pool_name),
        span_id: fastrand::u64(1..),
        began,
        ended: began,
        status: None,
        failure: None,
        cause: "",
        hedge: false,
        continued: None,
    });
}
