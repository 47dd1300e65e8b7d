//! What is remembered of a request's time in line.

use std::sync::Arc;
use std::time::Duration;

use crate::flow::HeldEnd;

/// A request that was held before its first attempt. Times are spans after the request came.
#[derive(Clone, Debug, PartialEq)]
pub struct Waited {
    /// The pool that it waited for last.
    pub pool: Arc<str>,
    /// Since when.
    pub from: Duration,
    /// Until when.
    pub until: Duration,
    /// Requests that stood before it when it came.
    pub ahead: usize,
    /// How often it moved from one pool's line to another's.
    pub moved: u32,
    /// How much later it could be sent when it came, milliseconds; negative where it was late already.
    pub slack_ms: f64,
    /// How it ended.
    pub end: HeldEnd,
}

impl Waited {
    /// How long, milliseconds.
    pub fn ms(&self) -> f64 {
        self.until.saturating_sub(self.from).as_secs_f64() * 1e3
    }
}
