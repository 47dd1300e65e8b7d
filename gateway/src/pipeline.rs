//! The life of a request, in one function. Alphabetical order of the stages is request order.

/// Who asks, for what.
mod accept;
/// Reads the prompt, parsed just far enough.
mod body;
/// What kind of work it is.
mod classify;
/// Which machine shall do it.
mod decide;
/// Why attempts fail.
mod failure;
/// Attempts: the first byte wins.
mod forward;
/// What streams that may break keep, all together.
mod keeping;
/// Lets a stream that broke go on elsewhere.
mod mend;
/// Waits for the first event of an answer.
mod opening;
/// A second attempt beside a slow first one.
mod race;
/// Streams the answer.
mod relay;
/// Sends it to a client that may be behind.
mod sending;
/// Books what it cost, once.
mod settle;
/// A request that is only supposed.
mod suppose;

/// What callers say of themselves and of their patience.
mod wishes;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::gateway::Gateway;
use crate::identity::Caller;
use crate::record::{Outcome, REQUEST_ID, Record};
use crate::refusal::Refusal;
use crate::serve::strict::Answering;
use crate::snapshot::{self, Snapshot};
use settle::OpenRecord;

pub use sending::{Reader, Watch};
pub use suppose::{Supposed, suppose};
pub use wishes::Wishes;

/// Body of an answer.
#[derive(Debug)]
pub enum Answer {
    /// Known whole.
    Whole(Option<Bytes>),
    /// Streamed from a machine.
    Relay(Reader),
}

impl Answer {
    /// Holds a connection's token until its last byte; what is known whole is written at once.
    pub fn goes_with(&mut self, answering: Answering) {
        if let Answer::Relay(relay) = self {
            relay.goes_with(answering);
        }
    }
}

/// Answers one request, whatever happens: refusals in the caller's dialect, a panic as a 500. `peer` is who the
/// connection's certificate says, `admitted` what the listener says of the request.
pub async fn serve(
    gateway: Arc<Gateway>,
    request: Request<Incoming>,
    peer: Option<Arc<Caller>>,
    admitted: Result<(), Refusal>,
) -> Response<Answer> {
    let sampled = |now| gateway.telemetry().sampler().begin(now);
    let record = Box::new(Record::open(request.method(), request.uri().path(), request.headers(), sampled));
    let mut record = OpenRecord::new(Arc::clone(&gateway), record);
    let snapshot = gateway.snapshot(); // one immutable view per request, whatever becomes of it
    let answered = async {
        admitted?;
        answer(&gateway, &snapshot, (request, peer), &mut record).await
    };
    match catch_panic(answered).await {
        Ok(Ok(response)) => response,
        Ok(Err(refusal)) => refuse(&gateway, &snapshot, record.take(), &refusal),
        Err(Panicked) => refuse(&gateway, &snapshot, record.take(), &Refusal::Internal),
    }
}

async fn answer(
    gateway: &Arc<Gateway>,
    snapshot: &Arc<Snapshot>,
    asked: (Request<Incoming>, Option<Arc<Caller>>),
    record: &mut OpenRecord,
) -> Result<Response<Answer>, Refusal> {
    let call = match accept::accept(gateway, snapshot, asked, record).await? {
        accept::Asked::Models(json) => return Ok(list_models(gateway, snapshot, json, record.take())),
        accept::Asked::Generate(call) => call, // who asks, which API, until when
    };
    let prompt = body::read(gateway, snapshot, call, record).await?; // parsed just far enough
    let work = classify::classify(gateway, snapshot, &prompt, record)?; // what kind of work
    classify::refuse_if_short_of_memory(gateway, snapshot, &work)?;
    let mut decided = decide::decide(gateway, snapshot, &work, record).await?; // pure; held where there is no room
    loop {
        match forward::forward(gateway, snapshot, &prompt, decided, record).await {
            Ok(response) => return Ok(mend::keep(response, prompt)), // attempts, first byte wins
            Err(refusal) => decided = Box::pin(decide::again(gateway, snapshot, &work, refusal, record)).await?,
        }
    }
} // relay streams the body and carries the record; settle accounts once, also on drop

fn list_models(gateway: &Gateway, snapshot: &Snapshot, json: Bytes, mut record: Box<Record>) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(Some(json)));
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(snapshot::POLICY_HEADER, snapshot.version_header.clone());
    identify(&mut response, &record);
    record.status = 200;
    record.outcome = Outcome::Answered;
    settle::settle(gateway, record);
    response
}

fn refuse(gateway: &Gateway, snapshot: &Snapshot, mut record: Box<Record>, refusal: &Refusal) -> Response<Answer> {
    let mut response = refusal.response().map(|body| Answer::Whole(Some(body)));
    let headers = response.headers_mut();
    let version = record.decision.as_ref().map(|decision| decision.deciding().version_header.clone());
    headers.insert(snapshot::POLICY_HEADER, version.unwrap_or_else(|| snapshot.version_header.clone()));
    if let Some(class) = record.class.as_deref().and_then(|class| HeaderValue::try_from(class).ok()) {
        headers.insert(snapshot::CLASS_HEADER, class);
    }
    headers.insert(snapshot::ATTEMPTS_HEADER, HeaderValue::from(record.attempts.len()));
    identify(&mut response, &record);
    record.status = refusal.status().as_u16();
    record.outcome = Outcome::Refused(refusal.code());
    if refusal == &Refusal::Internal {
        tracing::error!(request_id = %record.request_id, "a request failed by a defect of the gateway");
    }
    settle::settle(gateway, record);
    response
}

fn identify(response: &mut Response<Answer>, record: &Record) {
    if let Ok(id) = HeaderValue::try_from(&record.request_id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
}

struct Panicked;

/// hyper answers a panic by closing the connection without a byte; we answer it.
async fn catch_panic<T>(work: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(move |context| {
        match std::panic::catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    })
    .await
}

impl Body for Answer {
    type Data = Bytes;
    type Error = relay::BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            Answer::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Answer::Relay(relay) => relay.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Whole(bytes) => bytes.is_none(),
            Answer::Relay(relay) => relay.is_finished(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Answer::Relay(relay) => relay.size_hint(),
        }
    }
}
