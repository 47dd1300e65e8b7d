//! Whether what is sent to receivers of telemetry arrives, for those who ask why they see nothing there.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

use crate::traffic::tend::now_ms;

/// Longest text of a failure that is kept, characters.
const LONGEST_TOLD: usize = 400;

/// What came of sending, and of being asked.
#[derive(Debug, Default)]
pub struct Health {
    sending: Mutex<Sending>,
    scraped_unix_ms: AtomicU64,
}

/// What came of sending spans.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sending {
    /// `idle` before the first message, then as the last one went: `ok`, `failing`.
    pub state: &'static str,
    /// Spans that arrived.
    pub sent: u64,
    /// Spans that did not, and are lost.
    pub failed: u64,
    /// When a message arrived last, milliseconds since 1970.
    pub last_ok_unix_ms: Option<u64>,
    /// What went wrong last.
    pub last_error: Option<Failure>,
}

/// A message that did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// When, milliseconds since 1970.
    pub unix_ms: u64,
    /// What the connection or the receiver said.
    pub told: String,
    /// What to do about it.
    pub help: &'static str,
}

impl Failure {
    /// Now, with advice.
    pub fn now(told: &str) -> Failure {
        Failure { unix_ms: now_ms(), told: told.chars().take(LONGEST_TOLD).collect(), help: help(told) }
    }
}

impl Health {
    /// So many spans have arrived, or have not for a reason.
    pub fn sent(&self, spans: u64, problem: Option<&str>) {
        let mut sending = self.sending.lock();
        match problem {
            None => {
                sending.sent += spans;
                sending.last_ok_unix_ms = Some(now_ms());
            }
            Some(told) => {
                sending.failed += spans;
                sending.last_error = Some(Failure::now(told));
            }
        }
        sending.state = if problem.is_none() { "ok" } else { "failing" };
    }

    /// What came of sending so far.
    pub fn sending(&self) -> Sending {
        let sending = self.sending.lock().clone();
        let state = if sending.state.is_empty() { "idle" } else { sending.state };
        Sending { state, ..sending }
    }

    /// Metrics have been asked for.
    pub fn scraped(&self) {
        self.scraped_unix_ms.store(now_ms(), Ordering::Relaxed);
    }

    /// When metrics were asked for last, milliseconds since 1970.
    pub fn scraped_unix_ms(&self) -> Option<u64> {
        Some(self.scraped_unix_ms.load(Ordering::Relaxed)).filter(|unix_ms| *unix_ms > 0)
    }
}

/// What most likely helps, by what is told.
fn help(told: &str) -> &'static str {
    let told = told.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| told.contains(word));
    match () {
        () if says(&["refused", "unreachable", "connect"]) => {
            "nothing listens there: check host and port; receivers take OTLP over HTTP at port 4318 by default"
        }
        () if says(&["no answer within", "timed out", "timeout"]) => {
            "the receiver is too slow or hangs; requests are not held up, but their traces are lost"
        }
        () if says(&["404", "not found", "405"]) => {
            "the receiver does not know the path: `/v1/traces` is put behind `otlp_endpoint`, which must not have it yet"
        }
        () if says(&["401", "403", "unauthorized", "forbidden"]) => {
            "the receiver wants credentials: send to a collector beside the gateway, which adds them"
        }
        () if says(&["certificate", "tls", "handshake"]) => {
            "TLS fails: the receiver's certificate must be one that this machine trusts, and its name that of the URL"
        }
        () if says(&["413", "429", "503"]) => "the receiver has too much to do: lower `telemetry.traces_per_s`",
        () => "look into the receiver's log; `otlp_endpoint` must be its base URL for OTLP over HTTP/protobuf",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_message_says_how_it_is() {
        let health = Health::default();
        assert_eq!((health.sending().state, health.scraped_unix_ms()), ("idle", None));
        health.sent(5, None);
        health.sent(7, Some("connection refused"));
        let sending = health.sending();
        assert_eq!((sending.state, sending.sent, sending.failed), ("failing", 5, 7));
        assert!(sending.last_error.is_some_and(|error| error.help.contains("4318")));
        health.sent(1, None);
        assert_eq!((health.sending().state, health.sending().sent), ("ok", 6));
        health.scraped();
        assert!(health.scraped_unix_ms().is_some());
    }
}
