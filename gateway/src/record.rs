//! What is remembered of one request: written along the pipeline, closed once, turned into spans and metrics behind it.

/// The decision as it was made.
mod decision;
/// One attempt.
mod attempt;
/// A request's time in line.
mod waited;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName};
use pointsman_backends::dialects::Usage;
use pointsman_policies::attain::{Observed, Part, parts_kept, parts_missed};
use pointsman_policies::extra::RetriesSpent;
use pointsman_policies::facts::Api;
use pointsman_policies::fleet::HardwareKind;
use pointsman_policies::plan::Tried;
use pointsman_policies::policy::Slo;

use crate::identity::Caller;
use crate::prompt::Text;

pub use attempt::{AttemptRecord, BROKEN_OFF, Continued, OUT_OF_LEASE, OUTRUN, OVERLOADED};
pub use decision::{DecisionRecord, Planned, work};
pub use waited::Waited;

/// Where a request stands among traces, as W3C Trace Context writes it.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What a request is called.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Where a request stands among traces, by W3C Trace Context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace_id: u128,
    /// The gateway's own root span; never 0.
    pub span_id: u64,
    /// The caller's span, where it sent one.
    pub parent_id: Option<u64>,
    /// Whether it is kept: as the caller wants, and where it said nothing, as long as there are not too many.
    pub sampled: bool,
}

impl TraceContext {
    /// Continues the trace of a `traceparent` header, or starts one where there is none or it is malformed; `sampled` says
    /// whether one that starts here is kept.
    pub fn from_headers(headers: &HeaderMap, sampled: impl FnOnce() -> bool) -> TraceContext {
        let given = headers.get(&TRACEPARENT).and_then(|value| value.to_str().ok()).and_then(parse_traceparent);
        let (trace_id, parent_id, sampled) = match given {
            Some((trace_id, parent_id, sampled)) => (trace_id, Some(parent_id), sampled),
            None => (fastrand::u128(1..), None, sampled()),
        };
        TraceContext { trace_id, span_id: fastrand::u64(1..), parent_id, sampled }
    }

    /// The header for a request that belongs to a span of this trace.
    pub fn write_traceparent(&self, span_id: u64, text: &mut impl Extend<u8>) {
        text.extend(*b"00-");
        text.extend(hex(self.trace_id.to_be_bytes()));
        text.extend(*b"-");
        text.extend(hex(span_id.to_be_bytes()));
        text.extend(*if self.sampled { b"-01" } else { b"-00" });
    }
}

/// Bytes of an id of our own, `req_` and 32 digits.
const OWN_ID_LENGTH: usize = 36;

/// Every request needs two ids; `format!` takes several times as long and grows its text in steps.
fn hex<const N: usize>(bytes: [u8; N]) -> impl Iterator<Item = u8> {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    bytes.into_iter().flat_map(move |byte| [digit(byte >> 4), digit(byte & 15)])
}

fn own_id() -> String {
    let mut text = String::with_capacity(OWN_ID_LENGTH);
    text.push_str("req_");
    text.extend(hex(fastrand::u128(..).to_be_bytes()).map(char::from));
    text
}

fn parse_traceparent(text: &str) -> Option<(u128, u64, bool)> {
    let mut parts = text.trim().split('-');
    let (version, trace_id, parent_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let well_formed = version.len() == 2 && version != "ff" && trace_id.len() == 32 && parent_id.len() == 16;
    let trace_id = u128::from_str_radix(trace_id, 16).ok().filter(|id| *id != 0)?;
    let parent_id = u64::from_str_radix(parent_id, 16).ok().filter(|id| *id != 0)?;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    well_formed.then_some((trace_id, parent_id, flags & 1 == 1))
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Answered whole.
    Answered,
    /// Refused by the gateway, with the code.
    Refused(&'static str),
    /// A machine called it the caller's mistake, with its status.
    CallersMistake(u16),
    /// The client left before the end.
    ClientLeft,
    /// The client took its answer too slowly and was cut.
    ClientSlow,
    /// The answer broke off, with the reason.
    Broken(String),
}

impl Outcome {
    /// The name in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Refused(_) => "refused",
            Outcome::CallersMistake(_) => "callers-mistake",
            Outcome::ClientLeft => "client-left",
            Outcome::ClientSlow => "client-slow",
            Outcome::Broken(_) => "broken",
        }
    }
}

/// One request. Times are spans after `began`.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its id, the caller's where it sent one.
    pub request_id: String,
    /// HTTP method.
    pub method: http::Method,
    /// Its place among traces.
    pub trace: TraceContext,
    /// When it came, for traces.
    pub wall: SystemTime,
    /// When it came, for durations.
    pub began: Instant,
    /// Method and path.
    pub path: String,
    /// Who called, where it was asked.
    pub caller: Option<Arc<Caller>>,
    /// The client API, once known.
    pub api: Option<Api>,
    /// The model the client named.
    pub model: String,
    /// Whether it asked for a stream.
    pub stream: bool,
    /// Its class, once known.
    pub class: Option<Arc<str>>,
    /// What named the class.
    pub because: &'static str,
    /// What it was promised.
    pub slo: Slo,
    /// Prompt tokens as estimated.
    pub input_tokens: u64,
    /// What that was estimated from.
    pub text: Text,
    /// When the body was read.
    pub read_at: Duration,
    /// When the class was known.
    pub classified_at: Duration,
    /// When the plan was made.
    pub decided_at: Duration,
    /// Its time in line, where it was held.
    pub waited: Option<Waited>,
    /// The decision, once made.
    pub decision: Option<Arc<DecisionRecord>>,
    /// Every attempt, in order.
    pub attempts: Vec<AttemptRecord>,
    /// Why it was not tried again, where that is its route's budget for retries.
    pub retries_spent: Option<RetriesSpent>,
    /// Why its stream could not go on elsewhere, should it have broken, where its route wanted that.
    pub not_continued: Option<&'static str>,
    /// Kind of the hardware that answered.
    pub hardware: Option<HardwareKind>,
    /// When the first event or the answer came.
    pub first_byte_at: Option<Duration>,
    /// When the last event came.
    pub last_byte_at: Option<Duration>,
    /// Events of the stream.
    pub events: u64,
    /// Tokens as the machine counted them.
    pub usage: Option<Usage>,
    /// Whether `usage` is our own estimate, because the caller asked the machine for no report.
    pub usage_estimated: bool,
    /// What it cost, US dollars, by the portfolio's prices.
    pub usd: f64,
    /// What it took, joules, modelled; `None` where the hardware's energy is unknown.
    pub joules: Option<f64>,
    /// HTTP status of the answer to the client.
    pub status: u16,
    /// How it ended.
    pub outcome: Outcome,
    /// When it ended.
    pub ended_at: Duration,
}

/// Longest path that is remembered, bytes.
const LONGEST_PATH: usize = 256;
/// Longest request id taken from a caller, bytes.
const LONGEST_REQUEST_ID: usize = 128;

impl Record {
    /// Opens a record; `sampled` says whether a trace that starts now is kept.
    pub fn open(
        method: &http::Method,
        path: &str,
        headers: &HeaderMap,
        sampled: impl FnOnce(SystemTime) -> bool,
    ) -> Record {
        let given = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok());
        let given = given.filter(|id| !id.is_empty() && id.len() <= LONGEST_REQUEST_ID);
        let wall = SystemTime::now();
        Record {
            request_id: given.map_or_else(own_id, str::to_owned),
            trace: TraceContext::from_headers(headers, || sampled(wall)),
            method: method.clone(),
            path: path.get(..path.floor_char_boundary(LONGEST_PATH)).unwrap_or_default().to_owned(),
            ..Record::blank(Instant::now(), wall)
        }
    }

    /// A record of nothing.
    pub fn blank(began: Instant, wall: SystemTime) -> Record {
        Record {
            request_id: String::new(),
            trace: TraceContext { trace_id: 0, span_id: 0, parent_id: None, sampled: false },
            wall,
            began,
            method: http::Method::GET,
            path: String::new(),
            caller: None,
            api: None,
            model: String::new(),
            stream: false,
            class: None,
            because: "",
            slo: Slo::default(),
            input_tokens: 0,
            text: Text::default(),
            read_at: Duration::ZERO,
            classified_at: Duration::ZERO,
            decided_at: Duration::ZERO,
            waited: None,
            decision: None,
            attempts: Vec::new(),
            retries_spent: None,
            not_continued: None,
            hardware: None,
            first_byte_at: None,
            last_byte_at: None,
            events: 0,
            usage: None,
            usage_estimated: false,
            usd: 0.0,
            joules: None,
            status: 0,
            outcome: Outcome::ClientLeft,
            ended_at: Duration::ZERO,
        }
    }

    /// Time since the request came.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Answer tokens of machines that broke off, before the last goes on.
    pub fn said_before(&self) -> u64 {
        self.attempts.iter().filter_map(|attempt| Some(attempt.continued?.output_tokens)).sum()
    }

    /// How often its stream went on on another machine.
    pub fn continued(&self) -> u64 {
        let broke_off = self.attempts.iter().filter(|attempt| attempt.continued.is_some()).count() as u64;
        if self.attempts.last().is_some_and(|last| last.failure.is_none()) { broke_off } else { 0 }
    }

    /// Whether it was to go on on another machine.
    pub fn was_continued(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.continued.is_some())
    }

    /// Why a stream that broke did not go on on another machine, where it was to.
    pub fn why_not_continued(&self) -> Option<&'static str> {
        self.not_continued.filter(|_| matches!(self.outcome, Outcome::Broken(_)))
    }

    /// What has come of its attempts.
    pub fn tried(&self) -> Tried {
        Tried { attempts: self.attempts.len(), failed: self.attempts.iter().filter(|attempt| attempt.failed()).count() }
    }

    /// When it could be sent: once it was decided and, where it was held, let go.
    pub fn ready_at(&self) -> Duration {
        self.waited.as_ref().map_or(self.decided_at, |waited| waited.until)
    }

    /// Time to first token, milliseconds.
    pub fn ttft_ms(&self) -> Option<f64> {
        self.first_byte_at.map(|at| at.as_secs_f64() * 1e3)
    }

    /// Time per output token after the first, milliseconds; needs a stream and the machine's own count.
    pub fn itl_ms(&self) -> Option<f64> {
        let tokens = self.usage?.output_tokens;
        let span = self.last_byte_at?.checked_sub(self.first_byte_at?)?;
        (self.stream && tokens > 1).then(|| span.as_secs_f64() * 1e3 / (tokens - 1) as f64)
    }

    /// Each part of the promise and whether it was kept; nothing for a request that was the caller's own mistake or
    /// that the caller gave up.
    pub fn slo_results(&self) -> Vec<(Part, bool)> {
        let missed = || parts_missed(&self.slo).map(|part| (part, false)).collect();
        match &self.outcome {
            Outcome::Answered => {
                let observed = Observed {
                    streamed: self.stream,
                    ttft_ms: self.ttft_ms(),
                    itl_ms: self.itl_ms(),
                    total_ms: self.ended_at.as_secs_f64() * 1e3,
                    output_tokens: self.usage.map_or(0, |usage| usage.output_tokens),
                };
                parts_kept(&self.slo, &observed).collect()
            }
            Outcome::Broken(_) => missed(),
            Outcome::Refused(_) if self.status >= 500 || self.status == 429 => missed(),
            Outcome::Refused(_) | Outcome::CallersMistake(_) | Outcome::ClientLeft | Outcome::ClientSlow => Vec::new(),
        }
    }

    /// Whether the promise was kept as a whole; `None` where the client's own doing left nothing to judge. A client that
    /// left after its first token was overdue has been failed, whatever it did then.
    pub fn attained(&self) -> Option<bool> {
        match &self.outcome {
            Outcome::Answered => Some(self.slo_results().iter().all(|(_, kept)| *kept)),
            Outcome::Broken(_) => Some(false),
            Outcome::Refused(_) if self.status >= 500 || self.status == 429 => Some(false),
            Outcome::ClientLeft if self.was_overdue() => Some(false),
            Outcome::Refused(_) | Outcome::CallersMistake(_) | Outcome::ClientLeft | Outcome::ClientSlow => None,
        }
    }

    fn was_overdue(&self) -> bool {
        let until = |at: Option<Duration>| at.unwrap_or(self.ended_at).as_secs_f64() * 1e3;
        let late = |bound: Option<f64>, ms: f64| bound.is_some_and(|bound| ms > bound);
        let first_token = self.stream && late(self.slo.ttft_ms, until(self.first_byte_at));
        first_token || late(self.slo.deadline_ms, until(None))
    }

    /// The endpoint that answered.
    pub fn endpoint(&self) -> Option<&AttemptRecord> {
        self.attempts.last().filter(|attempt| attempt.failure.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_what_is_read_again() {
        let trace = TraceContext { trace_id: 0x1f, span_id: 1, parent_id: None, sampled: true };
        let mut bytes = Vec::new();
        trace.write_traceparent(0xab, &mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text, "00-0000000000000000000000000000001f-00000000000000ab-01");
        assert_eq!(parse_traceparent(&text), Some((0x1f, 0xab, true)));
        assert_eq!((own_id().len(), own_id().capacity()), (OWN_ID_LENGTH, OWN_ID_LENGTH));
    }

    #[test]
    fn traceparent_is_continued_or_replaced() {
        #[track_caller]
        fn check(text: &str, expected: Option<(u128, u64, bool)>) {
            assert_eq!(parse_traceparent(text), expected, "{text}");
        }
        check(
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            Some((0x0af7651916cd43dd8448eb211c80319c, 0xb7ad6b7169203331, true)),
        );
        check(
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            Some((0x0af7651916cd43dd8448eb211c80319c, 0xb7ad6b7169203331, false)),
        );
        check("00-00000000000000000000000000000000-b7ad6b7169203331-01", None);
        check("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None);
        check("garbage", None);
    }
}
