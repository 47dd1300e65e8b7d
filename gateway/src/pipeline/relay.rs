//! Streams an answer event by event, without holding it back; ends a stream that breaks with an error event, never like
//! a good one; lets go of the machine the moment the client leaves.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pointsman_backends::connect::Hold;
use pointsman_backends::dialects::{Dialect, EventKind, Usage};
use pointsman_backends::fleet::{Dispatched, Verdict};
use pointsman_backends::frames::sse::Events;
use tokio::time::{Instant, Sleep, sleep_until};

use super::opening::Opening;
use super::settle;
use crate::gateway::Gateway;
use crate::learning::served;
use crate::record::{Outcome, Record};
use crate::refusal::broken_stream_event;

/// A machine that leaves the connection open after the last event is let go after this.
const AFTER_LAST_EVENT: Duration = Duration::from_millis(250);
/// Answers that come whole are kept up to this size for their usage report, bytes; no copy is made.
const LONGEST_KEPT: usize = 4 << 20;

/// An answer that broke off where no error event can say so.
#[derive(Debug)]
pub struct BrokenOff(String);

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the answer broke off: {}", self.0)
    }
}

impl std::error::Error for BrokenOff {}

/// The body of an answer on its way to the client.
pub struct Relay {
    gateway: Arc<Gateway>,
    body: Incoming,
    hold: Option<Hold>,
    dialect: &'static dyn Dialect,
    dispatched: Option<Dispatched>,
    record: Option<Box<Record>>,
    streamed: bool,
    events: Events,
    ready: VecDeque<Bytes>,
    /// The last two events with content: the end of a stream and its usage report are read from them. Copies, since a slice
    /// would keep the whole buffer that was read into, and the next read would need another one.
    last: [Vec<u8>; 2],
    kept: Vec<Bytes>,
    kept_bytes: usize,
    done: bool,
    ended: bool,
    finished: bool,
    /// Set when something is first waited for.
    idle: Option<Pin<Box<Sleep>>>,
    idle_limit: Duration,
    last_progress: Instant,
    deadline: Instant,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("streamed", &self.streamed)
            .field("finished", &self.finished)
            .finish_non_exhaustive()
    }
}

impl Relay {
    pub(super) fn new(gateway: Arc<Gateway>, opening: Opening, dispatched: Dispatched, record: Record) -> Relay {
        let Opening { source, streamed, events, first, ended } = opening;
        let timeouts = record.decision.as_ref().map(|decision| decision.snapshot.process.timeouts);
        let timeouts = timeouts.unwrap_or_else(|| gateway.snapshot().process.timeouts);
        let total = total(&record).map_or(timeouts.total, |planned| planned.min(timeouts.total));
        let now = Instant::now();
        let mut relay = Relay {
            gateway,
            body: source.body,
            hold: Some(source.hold),
            dialect: source.dialect,
            dispatched: Some(dispatched),
            record: Some(Box::new(record)),
            streamed,
            events,
            ready: first,
            last: [Vec::new(), Vec::new()],
            kept: Vec::new(),
            kept_bytes: 0,
            done: false,
            ended,
            finished: false,
            idle: None,
            idle_limit: timeouts.event_idle,
            last_progress: now,
            deadline: now + total,
        };
        if ended {
            relay.end(); // an empty answer: nobody will ask for a byte of it
        }
        relay
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// A streamed answer's length is unknown; a whole one is as long as the machine says.
    pub(super) fn size_hint(&self) -> SizeHint {
        if self.streamed {
            return SizeHint::default();
        }
        let waiting: u64 = self.ready.iter().map(|bytes| bytes.len() as u64).sum();
        let mut hint = SizeHint::default();
        if let Some(rest) = self.body.size_hint().exact() {
            hint.set_exact(waiting + rest);
        }
        hint
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        loop {
            if let Some(bytes) = self.next_ready() {
                self.end_with_length();
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if self.finished {
                return Poll::Ready(None);
            }
            if self.ended {
                return Poll::Ready(self.end());
            }
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.last_progress = Instant::now();
                    if let Ok(bytes) = frame.into_data() {
                        self.arrived(bytes);
                    }
                }
                // What breaks behind the last event takes nothing from the answer.
                Poll::Ready(Some(Err(_))) if self.done => return Poll::Ready(self.end()),
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(self.broken(&format!("the connection to the machine broke: {error}")));
                }
                Poll::Ready(None) => self.ended = true,
                Poll::Pending => match self.overdue(context) {
                    Some(_) if self.done => return Poll::Ready(self.end()),
                    Some(reason) => return Poll::Ready(self.broken(&reason)),
                    None => return Poll::Pending,
                },
            }
        }
    }

    fn arrived(&mut self, bytes: Bytes) {
        if self.streamed {
            self.events.push(bytes);
        } else {
            self.ready.push_back(bytes);
        }
    }

    fn next_ready(&mut self) -> Option<Bytes> {
        let bytes = self.ready.pop_front().or_else(|| self.events.take())?;
        if !self.streamed {
            self.kept_bytes += bytes.len();
            if self.kept_bytes <= LONGEST_KEPT {
                self.kept.push(bytes.clone());
            }
            return Some(bytes);
        }
        match self.dialect.event_kind(&bytes) {
            EventKind::Content => {
                let [last, before] = &mut self.last;
                std::mem::swap(last, before);
                last.clear();
                last.extend_from_slice(&bytes);
                if let Some(record) = &mut self.record {
                    record.events += 1;
                    record.last_byte_at = Some(record.began.elapsed());
                }
            }
            EventKind::Done => self.done = true,
            EventKind::Error => self.error_event(&bytes),
            EventKind::Comment => {}
        }
        Some(bytes)
    }

    /// The last event of this stream, whatever the machine sends behind it.
    fn error_event(&mut self, event: &[u8]) {
        self.done = true;
        self.ended = true;
        self.events = Events::default();
        self.ready.clear();
        let blames_caller = self.dialect.blames_caller(event);
        if let Some(record) = &mut self.record {
            let said = self.dialect.error_message(pointsman_backends::frames::sse::data(event));
            record.outcome = match blames_caller {
                true => Outcome::CallersMistake(400),
                false => Outcome::Broken(said.unwrap_or_else(|| "the machine sent an error event".to_owned())),
            };
        }
        self.hold = None; // what may still come is not waited for
        if let Some(dispatched) = &self.dispatched {
            let verdict = if blames_caller { Verdict::Neutral } else { Verdict::Failed };
            dispatched.live().report(verdict, self.gateway.fleet().now());
        }
    }

    /// Why nothing more is waited for, if so. The timer is moved only when it fires, not for every event.
    fn overdue(&mut self, context: &mut Context<'_>) -> Option<String> {
        let limit = if self.done { AFTER_LAST_EVENT } else { self.idle_limit };
        let due = (self.last_progress + limit).min(self.deadline);
        let idle = self.idle.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if self.done {
            idle.as_mut().reset(due);
        }
        while idle.as_mut().poll(context).is_ready() {
            if Instant::now() < due {
                idle.as_mut().reset(due);
            } else if due == self.deadline {
                return Some("the answer took longer than `timeouts.total_s`".to_owned());
            } else {
                return Some(format!("the machine sent nothing for {limit:?}"));
            }
        }
        None
    }

    /// hyper asks for nothing behind the length it was told, so an answer of known length ends with its last bytes.
    fn end_with_length(&mut self) {
        let none_left = self.body.is_end_stream() || self.body.size_hint().exact() == Some(0);
        if !self.streamed && self.ready.is_empty() && none_left {
            self.ended = true;
            self.end();
        }
    }

    /// The machine's bytes have ended: well if the stream was complete, else as broken.
    fn end(&mut self) -> Option<Result<Frame<Bytes>, BrokenOff>> {
        if self.streamed && !self.done && !self.last.iter().any(|event| self.dialect.completes(event)) {
            return self.broken("the machine ended the stream before it was complete");
        }
        if !self.streamed && self.body.size_hint().exact().is_some_and(|rest| rest > 0) {
            return self.broken("the machine ended the answer before it was complete");
        }
        self.finished = true;
        if let Some(hold) = self.hold.take().filter(|_| self.ended) {
            hold.finish();
        }
        let complained = self
            .record
            .as_ref()
            .is_some_and(|record| matches!(record.outcome, Outcome::Broken(_) | Outcome::CallersMistake(_)));
        if let Some(dispatched) = self.dispatched.as_ref().filter(|_| !complained) {
            dispatched.live().report(Verdict::Worked, self.gateway.fleet().now());
        }
        self.close(None);
        None
    }

    fn broken(&mut self, reason: &str) -> Option<Result<Frame<Bytes>, BrokenOff>> {
        self.finished = true;
        self.hold = None;
        if let Some(dispatched) = &self.dispatched {
            dispatched.live().report(Verdict::Failed, self.gateway.fleet().now());
        }
        self.close(Some(Outcome::Broken(reason.to_owned())));
        if self.streamed {
            let event = broken_stream_event(&format!("the stream broke: {reason}"));
            Some(Ok(Frame::data(event)))
        } else {
            Some(Err(BrokenOff(reason.to_owned())))
        }
    }

    fn usage(&self) -> Option<Usage> {
        if self.streamed {
            return self.last.iter().find_map(|event| self.dialect.usage(event));
        }
        match self.kept.as_slice() {
            [one] => self.dialect.usage(one),
            _ if self.kept_bytes <= LONGEST_KEPT => self.dialect.usage(&self.kept.concat()),
            _ => None,
        }
    }

    /// Books the request, once. Without an outcome it was answered, unless an error event said otherwise.
    fn close(&mut self, outcome: Option<Outcome>) {
        let Some(mut record) = self.record.take() else { return };
        record.usage = self.usage();
        record.outcome = match (outcome, &record.outcome) {
            (Some(outcome), _) => outcome,
            (None, told @ (Outcome::Broken(_) | Outcome::CallersMistake(_))) => told.clone(),
            (None, _) => Outcome::Answered,
        };
        if record.usage.is_none() && record.stream && record.outcome == Outcome::Answered {
            // The caller asked for no usage report, so the machine sent none: events are the best count there is.
            record.usage =
                Some(Usage { input_tokens: record.input_tokens, output_tokens: record.events, cached_tokens: None });
            record.usage_estimated = true;
        }
        let input_tokens = record.usage.map_or(record.input_tokens, |usage| usage.input_tokens);
        let output_tokens = record.usage.map_or(record.events, |usage| usage.output_tokens);
        if let Some(mut dispatched) = self.dispatched.take() {
            let now = self.gateway.fleet().now();
            if let Some(usage) = record.usage.filter(|_| !record.usage_estimated) {
                dispatched.answered(usage.cached_tokens);
            }
            served::ended(&self.gateway, &record, dispatched.flight(now), self.streamed);
            dispatched.settle(self.gateway.fleet().now(), input_tokens.saturating_add(output_tokens));
        }
        settle::settle(&self.gateway, *record);
    }
}

impl Drop for Relay {
    /// Dropped before its end: the client has left. Letting go of the connection tells the machine.
    fn drop(&mut self) {
        self.hold = None;
        self.close(Some(Outcome::ClientLeft));
    }
}

/// How long the route lets an answer take after its first byte.
fn total(record: &Record) -> Option<Duration> {
    let total_ms = record.decision.as_ref()?.plan.as_ref()?.total_ms?;
    Duration::try_from_secs_f64(total_ms / 1e3).ok()
}
