//! What one request adds to its endpoint's load, taken off again when its last byte has passed or it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Everything dispatched to one endpoint and not yet finished.
#[derive(Debug, Default)]
pub struct Load {
    requests: AtomicU32,
    prefill_tokens: AtomicU64,
    context_tokens: AtomicU64,
    output_tokens: AtomicU64,
}

impl Load {
    /// Requests.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Prompt tokens of requests whose first token has not been seen.
    pub fn prefill_tokens(&self) -> u64 {
        self.prefill_tokens.load(Ordering::Relaxed)
    }

    /// Prompt and expected answer tokens of all requests.
    pub fn context_tokens(&self) -> u64 {
        self.context_tokens.load(Ordering::Relaxed)
    }

    /// Answer tokens still expected.
    pub fn output_tokens(&self) -> u64 {
        self.output_tokens.load(Ordering::Relaxed)
    }
}

/// The guard of one request; it lives as long as the body.
#[derive(Debug)]
pub struct InFlight {
    load: Arc<Load>,
    input_tokens: u64,
    output_tokens: u64,
    prefilling: bool,
}

impl InFlight {
    /// Adds a request to the load.
    pub fn begin(load: &Arc<Load>, input_tokens: u64, output_tokens: u64) -> InFlight {
        load.requests.fetch_add(1, Ordering::Relaxed);
        load.prefill_tokens.fetch_add(input_tokens, Ordering::Relaxed);
        load.context_tokens.fetch_add(input_tokens + output_tokens, Ordering::Relaxed);
        load.output_tokens.fetch_add(output_tokens, Ordering::Relaxed);
        InFlight { load: Arc::clone(load), input_tokens, output_tokens, prefilling: true }
    }

    /// The first token has come: the prompt is read.
    pub fn first_token(&mut self) {
        if std::mem::take(&mut self.prefilling) {
            self.load.prefill_tokens.fetch_sub(self.input_tokens, Ordering::Relaxed);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.first_token();
        self.load.requests.fetch_sub(1, Ordering::Relaxed);
        self.load.context_tokens.fetch_sub(self.input_tokens + self.output_tokens, Ordering::Relaxed);
        self.load.output_tokens.fetch_sub(self.output_tokens, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_adds_its_load_and_takes_it_off_once() {
        let load = Arc::new(Load::default());
        let figures =
            |load: &Load| (load.requests(), load.prefill_tokens(), load.context_tokens(), load.output_tokens());
        let mut one = InFlight::begin(&load, 100, 20);
        let other = InFlight::begin(&load, 10, 2);
        assert_eq!(figures(&load), (2, 110, 132, 22));
        one.first_token();
        one.first_token();
        assert_eq!(figures(&load), (2, 10, 132, 22));
        drop(one);
        drop(other);
        assert_eq!(figures(&load), (0, 0, 0, 0));
    }
}
