//! Streams an answer event by event, without holding it back; ends a stream that breaks with an error event, never like
//! a good one; lets go of the machine the moment the client leaves.

/// Leaves out what machines say in our name.
mod comments;

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pointsman_backends::connect::Hold;
use pointsman_backends::dialects::{Dialect, EventKind, Usage};
use pointsman_backends::fleet::{Dispatched, Verdict};
use pointsman_backends::frames::sse::Events;
use tokio::time::{Instant, Sleep, sleep_until};

use comments::without_own_comments;

use super::body::Prompt;
use super::mend::{Mended, Mending};
use super::opening::Opening;
use super::settle;
use crate::gateway::Gateway;
use crate::learning::served;
use crate::prompt::MAX_CHOICES;
use crate::record::{Outcome, Record};
use crate::refusal::broken_stream_event;
use crate::serve::strict::Answering;

/// Why an answer ends at its deadline, however it is read.
const TOOK_TOO_LONG: &str = "the answer took longer than `timeouts.total_s`";
/// A machine that leaves the connection open after the last event is let go after this.
const AFTER_LAST_EVENT: Duration = Duration::from_millis(250);
/// How nearly all events begin.
const DATA: &[u8] = b"data:";
/// How streams end.
const LAST_EVENT: &[u8] = b"data: [DONE]\n\n";
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

/// What comes of looking further.
enum Step {
    /// This is given to the client, the end where it is nothing.
    Give(Option<Result<Frame<Bytes>, BrokenOff>>),
    /// There may be more.
    GoOn,
}

/// The body of an answer on its way to the client.
pub(super) struct Relay {
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
    /// How many answers were asked for, and which of several have ended, a bit for each.
    choices: u32,
    ended_choices: u128,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    /// What it needs to go on elsewhere, where it may.
    mending: Option<Box<Mending>>,
    /// Tells the client's connection that it is being answered.
    answering: Option<Answering>,
    done: bool,
    ended: bool,
    finished: bool,
    /// Set when something is first waited for.
    idle: Option<Pin<Box<Sleep>>>,
    idle_limit: Duration,
    last_progress: Instant,
    deadline: Instant,
    /// Whether the client has yet to take what was given for it.
    behind: bool,
    /// What has ended before the client had it all: how it takes the rest is part of how it ends.
    unsettled: Option<Box<Record>>,
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
    pub(super) fn new(gateway: Arc<Gateway>, opening: Opening, dispatched: Dispatched, record: Box<Record>) -> Relay {
        let Opening { source, streamed, events, first, ended } = opening;
        let timeouts = record.decision.as_ref().map(|decision| decision.snapshot.process.timeouts);
        let timeouts = timeouts.unwrap_or_else(|| gateway.snapshot().process.timeouts);
        let total = total(&record).map_or(timeouts.total, |planned| planned.min(timeouts.total));
        let (now, choices) = (Instant::now(), u32::try_from(record.text.choices).unwrap_or(u32::MAX));
        let mut relay = Relay {
            gateway,
            body: source.body,
            hold: Some(source.hold),
            dialect: source.dialect,
            dispatched: Some(dispatched),
            record: Some(record),
            streamed,
            events,
            ready: first,
            last: [Vec::new(), Vec::new()],
            choices,
            ended_choices: 0,
            kept: Vec::new(),
            kept_bytes: 0,
            mending: None,
            answering: None,
            done: false,
            ended,
            finished: false,
            idle: None,
            idle_limit: timeouts.event_idle,
            last_progress: now,
            deadline: now + total,
            behind: false,
            unsettled: None,
        };
        if ended {
            relay.end(); // an empty answer: nobody will ask for a byte of it
        }
        relay
    }

    /// Holds a connection's token as long as this answer lives.
    pub(super) fn goes_with(&mut self, answering: Answering) {
        self.answering = Some(answering);
    }

    /// Keeps what a stream needs to go on elsewhere, should it break.
    pub(super) fn may_go_on(&mut self, prompt: Prompt) {
        let Some(record) = self.record.as_mut().filter(|_| self.streamed) else { return };
        match Mending::of(&self.gateway, record, prompt) {
            Ok(mending) => self.mending = mending.map(Box::new),
            Err(unable) => record.not_continued = Some(unable),
        }
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
            let asking = self.mending.as_ref().is_some_and(|mending| mending.is_asking());
            let step = match (asking, self.ended) {
                (true, _) => ready!(self.go_on(context)),
                (false, true) => self.end(),
                (false, false) => ready!(self.read(context)),
            };
            if let Step::Give(last) = step {
                return Poll::Ready(last);
            }
        }
    }

    /// Takes what the machine has sent.
    fn read(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.last_progress = Instant::now();
                if self.last_progress >= self.deadline {
                    let complete = self.done || self.is_complete();
                    return Poll::Ready(if complete { self.end() } else { self.broken(TOOK_TOO_LONG) });
                }
                if let Ok(bytes) = frame.into_data() {
                    self.arrived(bytes);
                }
            }
            // What breaks behind the last event takes nothing from the answer.
            Poll::Ready(Some(Err(_))) if self.done || self.is_complete() => return Poll::Ready(self.end()),
            Poll::Ready(Some(Err(error))) => {
                return Poll::Ready(self.broken(&format!("the connection to the machine broke: {error}")));
            }
            Poll::Ready(None) => self.ended = true,
            Poll::Pending => match self.overdue(context) {
                Some(_) if self.done || self.is_complete() => return Poll::Ready(self.end()),
                Some(reason) => return Poll::Ready(self.broken(&reason)),
                None => return Poll::Pending,
            },
        }
        Poll::Ready(Step::GoOn)
    }

    fn arrived(&mut self, bytes: Bytes) {
        if self.streamed {
            self.events.push(bytes);
        } else {
            self.ready.push_back(bytes);
        }
    }

    fn next_ready(&mut self) -> Option<Bytes> {
        loop {
            let bytes = self.ready.pop_front().or_else(|| self.events.take())?;
            if !self.streamed {
                self.kept_bytes += bytes.len();
                if self.kept_bytes <= LONGEST_KEPT {
                    self.kept.push(bytes.clone());
                }
                return Some(bytes);
            }
            if let Some(event) = self.event(bytes) {
                return Some(event);
            }
        }
    }

    /// One event as the client gets it; `None` where it gets none for it.
    fn event(&mut self, bytes: Bytes) -> Option<Bytes> {
        let bytes = if bytes.starts_with(DATA) { bytes } else { without_own_comments(bytes)? };
        match self.dialect.event_kind(&bytes) {
            EventKind::Content => {
                let bytes = self.pass(bytes)?;
                let [last, before] = &mut self.last;
                std::mem::swap(last, before);
                last.clear();
                last.extend_from_slice(&bytes);
                if self.choices > 1 {
                    self.ended_choices |= self.dialect.ended(&bytes).choices;
                }
                if let Some(record) = &mut self.record {
                    record.events += 1;
                    record.last_byte_at = Some(record.began.elapsed());
                }
                return Some(bytes);
            }
            EventKind::Done => {
                if let Some(told) = self.trailer() {
                    self.ready.push_front(bytes);
                    return Some(told);
                }
                self.done = true;
            }
            EventKind::Error => {
                let bytes = self.without_key(bytes);
                if !self.dialect.blames_caller(&bytes) && self.mend(&self.complaint(&bytes)) {
                    return None;
                }
                self.error_event(&bytes);
                return Some(bytes);
            }
            EventKind::Comment => {}
        }
        Some(bytes)
    }

    /// An event with content as the client gets it; `None` where the client has it.
    fn pass(&mut self, event: Bytes) -> Option<Bytes> {
        let Some(mending) = &mut self.mending else { return Some(event) };
        let passed = mending.pass(event);
        if let Some(unable) = mending.is_over() {
            self.mending = None;
            if let Some(record) = &mut self.record {
                record.not_continued = Some(unable);
            }
        }
        passed
    }

    /// An error event without the key of its machine: some providers repeat the key they refuse.
    fn without_key(&self, event: Bytes) -> Bytes {
        let said = String::from_utf8_lossy(&event);
        let told = self.record.as_ref().and_then(|record| {
            let attempt = record.attempts.last()?;
            let mut targets = record.decision.as_ref()?.snapshot.targets();
            Some(targets.find(|target| target.endpoint.id == attempt.endpoint)?.pool.redact(said.clone().into_owned()))
        });
        told.filter(|told| *told != said).map_or_else(|| event.clone(), Bytes::from)
    }

    /// What the machine says went wrong.
    fn complaint(&self, event: &[u8]) -> String {
        let said = self.dialect.error_message(pointsman_backends::frames::sse::data(event));
        said.unwrap_or_else(|| "the machine sent an error event".to_owned())
    }

    /// Whether the last of the answer has come, though the stream has no end yet. Of several choices each has an end.
    fn is_complete(&self) -> bool {
        let ends = |event: &Vec<u8>| match self.choices {
            0 | 1 => self.dialect.completes(event),
            _ => self.dialect.ended(event).all,
        };
        let counted = self.choices > 1 && u64::from(self.choices) < MAX_CHOICES; // of more than that not all are known
        let all_ended = counted && self.ended_choices.count_ones() >= self.choices;
        self.streamed && (all_ended || self.last.iter().any(ends))
    }

    /// What a complete stream lacks of its end, as far as that is known.
    fn make_up_end(&mut self) -> Step {
        if !std::mem::replace(&mut self.ended, true) {
            self.hold = None; // it broke
        }
        let reported = self.usage().is_some();
        if let (Some(mending), Some(record), false) = (&mut self.mending, &self.record, reported) {
            self.ready.extend(mending.missing_report(record));
        }
        self.ready.push_back(Bytes::from_static(LAST_EVENT));
        Step::GoOn
    }

    fn trailer(&mut self) -> Option<Bytes> {
        self.mending.as_mut()?.trailer(self.record.as_ref()?)
    }

    /// The last event of this stream, whatever the machine sends behind it.
    fn error_event(&mut self, event: &[u8]) {
        self.done = true;
        self.ended = true;
        self.events = Events::default();
        self.ready.clear();
        let blames_caller = self.dialect.blames_caller(event);
        let complaint = self.complaint(event);
        if let Some(record) = &mut self.record {
            record.outcome = match blames_caller {
                true => Outcome::CallersMistake(400),
                false => Outcome::Broken(complaint),
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
            let now = Instant::now();
            if now < due {
                idle.as_mut().reset(due);
            } else if now >= self.deadline {
                return Some(TOOK_TOO_LONG.to_owned());
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
    fn end(&mut self) -> Step {
        if self.streamed && !self.done && !self.is_complete() {
            return self.broken("the machine ended the stream before it was complete");
        }
        if self.streamed && !self.done {
            return self.make_up_end();
        }
        if !self.streamed && self.body.size_hint().exact().is_some_and(|rest| rest > 0) {
            return self.broken("the machine ended the answer before it was complete");
        }
        if let Some(told) = self.trailer() {
            return Step::Give(Some(Ok(Frame::data(told))));
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
        Step::Give(None)
    }

    /// The answer broke: it goes on elsewhere or ends as broken.
    fn broken(&mut self, reason: &str) -> Step {
        if self.mend(reason) {
            return Step::GoOn;
        }
        self.finished = true;
        self.hold = None;
        if let Some(dispatched) = &self.dispatched {
            dispatched.live().report(Verdict::Failed, self.gateway.fleet().now());
        }
        self.close(Some(Outcome::Broken(reason.to_owned())));
        if self.streamed {
            let event = broken_stream_event(&format!("the stream broke: {reason}"));
            Step::Give(Some(Ok(Frame::data(event))))
        } else {
            Step::Give(Some(Err(BrokenOff(reason.to_owned()))))
        }
    }

    /// Whether a stream that broke goes on elsewhere: the machine that broke is let go, and what has come of an event that
    /// is not whole is forgotten, as the client never got it.
    fn mend(&mut self, reason: &str) -> bool {
        let (Some(mending), Some(record)) = (&mut self.mending, &mut self.record) else { return false };
        match mending.begin(&self.gateway, record, reason, self.deadline) {
            Mended::Asking => {}
            Mended::Lacking(events) => {
                self.ready = events.into_iter().chain([Bytes::from_static(LAST_EVENT)]).collect();
                self.ended = true;
            }
            Mended::No => return false,
        }
        let used_tokens = record.input_tokens.saturating_add(mending.tokens(record.events));
        self.hold = None;
        self.events = Events::default();
        if let Some(dispatched) = self.dispatched.take() {
            let now = self.gateway.fleet().now();
            dispatched.live().report(Verdict::Failed, now);
            dispatched.settle(now, used_tokens);
            self.gateway.room_made();
        }
        true
    }

    /// Waits for the machine that goes on.
    fn go_on(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        let (Some(mending), Some(record)) = (&mut self.mending, &mut self.record) else {
            return Poll::Ready(Step::Give(None));
        };
        let Some((opening, mut dispatched)) = ready!(mending.poll(&self.gateway, record, self.deadline, context))
        else {
            let broke = mending.broke().to_owned();
            self.mending = None;
            return Poll::Ready(self.broken(&broke));
        };
        dispatched.first_token(self.gateway.fleet().now());
        self.gateway.room_made();
        if let Some(attempt) = record.attempts.last_mut() {
            attempt.status = Some(record.status);
        }
        let Opening { source, events, first, ended, .. } = opening;
        (self.body, self.hold, self.dialect) = (source.body, Some(source.hold), source.dialect);
        (self.dispatched, self.events, self.ready, self.ended) = (Some(dispatched), events, first, ended);
        self.last_progress = Instant::now();
        Poll::Ready(Step::GoOn)
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
        let mending = self.mending.as_deref();
        record.usage_estimated = record.usage.is_some() && mending.is_some_and(Mending::is_guessed);
        record.outcome = match (outcome, &record.outcome) {
            (Some(outcome), _) => outcome,
            (None, told @ (Outcome::Broken(_) | Outcome::CallersMistake(_))) => told.clone(),
            (None, _) => Outcome::Answered,
        };
        if record.usage.is_none() && record.stream && record.outcome == Outcome::Answered {
            // The caller asked for no usage report, so the machine sent none: events are the best count there is.
            let continued = mending.filter(|_| record.was_continued());
            let output_tokens = continued.map_or(record.events, |mending| mending.tokens(record.events));
            record.usage = Some(Usage { input_tokens: record.input_tokens, output_tokens, cached_tokens: None });
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
        match self.behind {
            true => self.unsettled = Some(record),
            false => settle::settle(&self.gateway, record),
        }
    }

    /// When it must have come, unless it has.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.finished).then_some(self.deadline)
    }

    /// What is given from now on is kept for a client that does not take it.
    pub(super) fn client_is_behind(&mut self) {
        self.behind = true;
    }

    /// The client has taken what was kept for it.
    pub(super) fn client_has_all(&mut self) {
        self.behind = false;
        if let Some(record) = self.unsettled.take() {
            settle::settle(&self.gateway, record);
        }
    }

    /// The client was too slow; the machine is let go.
    pub(super) fn client_is_cut(&mut self) {
        self.client_goes(Outcome::ClientSlow);
    }

    fn client_goes(&mut self, outcome: Outcome) {
        self.finished = true;
        self.hold = None;
        self.behind = false;
        self.close(Some(outcome.clone()));
        if let Some(mut record) = self.unsettled.take() {
            record.outcome = outcome;
            settle::settle(&self.gateway, record);
        }
    }
}

impl Drop for Relay {
    /// Dropped before its end: the client has left. Letting go of the connection tells the machine.
    fn drop(&mut self) {
        self.client_goes(Outcome::ClientLeft);
    }
}

/// How long the route lets an answer take after its first byte.
fn total(record: &Record) -> Option<Duration> {
    let total_ms = record.decision.as_ref()?.plan.as_ref()?.total_ms?;
    Duration::try_from_secs_f64(total_ms / 1e3).ok()
}
