//! What is remembered of one attempt.

use std::sync::Arc;
use std::time::Duration;

use pointsman_backends::endpoint::EndpointId;

/// One attempt on one endpoint.
#[derive(Clone, Debug)]
pub struct AttemptRecord {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The endpoint's index in the decision.
    pub index: usize,
    /// Its pool.
    pub pool: Arc<str>,
    /// Its span, as the machine sees it in `traceparent`.
    pub span_id: u64,
    /// When it began, after the request.
    pub began: Duration,
    /// When it ended or failed, after the request.
    pub ended: Duration,
    /// The status of the answer, where there was one.
    pub status: Option<u16>,
    /// Why it failed; `None` for the one that answered.
    pub failure: Option<String>,
    /// Short name of the failure, for metrics.
    pub cause: &'static str,
    /// Whether it was made beside one that was slow.
    pub hedge: bool,
    /// What it gave of the answer before it broke; `None` where it broke before, or not at all.
    pub continued: Option<Continued>,
}

/// A part of an answer that went on elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Continued {
    /// Tokens of it, as far as events tell.
    pub output_tokens: u64,
    /// What it cost, US dollars, once that is booked.
    pub usd: f64,
}

/// [`AttemptRecord::cause`] of an attempt that was given up because another answered first.
pub const OUTRUN: &str = "outrun";
/// The same of a machine that had too much to do.
pub const OVERLOADED: &str = "overloaded";
/// The same of a stream that broke and went on elsewhere.
pub const BROKEN_OFF: &str = "broken-off";
/// The same where another request took the last of a provider's limit.
pub const OUT_OF_LEASE: &str = "lease";

impl AttemptRecord {
    /// Whether it failed; neither one that was outrun did, nor one whose machine only asked for patience.
    pub fn failed(&self) -> bool {
        self.failure.is_some() && ![OUTRUN, OVERLOADED, OUT_OF_LEASE].contains(&self.cause)
    }

    /// How it ended, of one that was made beside a slow one: `won`, `lost`, `failed`.
    pub fn hedge_result(&self) -> Option<&'static str> {
        let result = match (&self.failure, self.cause) {
            (None, _) => "won",
            (Some(_), OUTRUN) => "lost",
            (Some(_), _) => "failed",
        };
        self.hedge.then_some(result)
    }
}
