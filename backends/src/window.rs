//! How much of its work an endpoint is sent at once: about what it can have in progress. The rest is better held by the
//! gateway, which can still give it to somebody else, or let something more urgent go first.
//!
//! An endpoint that tells nothing of itself is bounded by its window, by what it refuses, and by estimates: the slots that
//! it is seen to have and the factor for hidden load make waiting there look as long as it is. A limit by gradient (least
//! over recent time to first token, less what the prompt's length adds) was tried and left out: neighbours take what it
//! leaves. On two rented accounts of 64 slots with 150 long jobs every two minutes, three seeds, it kept 0.938 for 0.961
//! without neighbours, 0.894 for 0.919 where they take two thirds and 0.835 for 0.877 where they take most; made so tame
//! that it lost nothing, it did nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use pointsman_policies::estimate::batches;
use pointsman_policies::fleet::{PoolFacts, Window};
use pointsman_policies::units::Micros;

use crate::pool::WindowShape;

/// A machine that batches is sent as many prompt tokens as it computes in this time beyond its fixed time and the round
/// trip, so that it never waits for the next while the gateway hears that one is done, milliseconds. Merged Azure traces,
/// first 1,167 s at load 2.0, two seeds: 0.956 kept with 20, 0.965 with 60, 0.939 with 100, 0.845 with 230, where the
/// urgent wait behind the rest.
const PREFILL_AHEAD_MS: f64 = 60.0;
/// What is left of a window after a machine said that it has too much.
const DECREASE: f64 = 0.7;
/// A machine that says so many times about the same moment has said it once.
const DECREASE_ONCE_IN: Micros = Micros::from_secs(1);

/// The window as the portfolio has it, else as the figures of the pool have it.
pub fn of(pool: &PoolFacts, given: WindowShape) -> Window {
    let ahead_ms = pool.round_trip_ms + pool.service.fixed_ttft_ms + PREFILL_AHEAD_MS;
    let prefill_tokens = match batches(pool.kind) {
        true => (pool.service.prefill_tokens_per_s * ahead_ms / 1e3) as u64,
        false => u64::MAX,
    };
    Window {
        requests: given.requests.unwrap_or(pool.service.slots).max(1),
        prefill_tokens: given.prefill_tokens.unwrap_or(prefill_tokens),
    }
}

/// How much of the window is used, by what the machine says: less at once where it has too much, more again answer by
/// answer.
#[derive(Debug, Default)]
pub struct Congestion {
    /// Requests, in thousandths; 0 while the machine has never complained.
    limit: AtomicU64,
    complained: AtomicU64,
}

impl Congestion {
    /// Requests that may be in flight.
    pub fn limit(&self, window: Window) -> u32 {
        match self.limit.load(Ordering::Relaxed) {
            0 => window.requests,
            limit => u32::try_from(limit / 1000).unwrap_or(u32::MAX).clamp(1, window.requests.max(1)),
        }
    }

    /// The machine said that it has too much, with so many requests in flight.
    pub fn too_much(&self, now: Micros, in_flight: u32) {
        let heard = Micros(self.complained.load(Ordering::Relaxed));
        let known = self.limit.load(Ordering::Relaxed);
        if known != 0 && now < heard + DECREASE_ONCE_IN {
            return;
        }
        self.complained.store(now.0, Ordering::Relaxed);
        let limit = (f64::from(in_flight) * DECREASE * 1e3) as u64;
        // Those still in flight from before are no reason to allow more.
        let limit = if known == 0 { limit } else { limit.min(known) };
        self.limit.store(limit.max(1000), Ordering::Relaxed);
    }

    /// The machine gave an answer: one request more for every window of answers.
    pub fn answered(&self, window: Window) {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == 0 {
            return;
        }
        let raised = limit + 1_000_000 / limit.max(1000);
        let whole = u64::from(window.requests) * 1000;
        self.limit.store(if raised >= whole { 0 } else { raised }, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_goes_on_complaining_is_sent_less_and_less() {
        let (window, congestion) = (Window { requests: 10, prefill_tokens: 1 }, Congestion::default());
        let mut in_flight = 10;
        for tenth in 0..40 {
            congestion.too_much(Micros(tenth * 300_000), in_flight);
            in_flight = congestion.limit(window).max(5); // streams that go on for long
        }
        assert_eq!(congestion.limit(window), 3);
        congestion.too_much(Micros::from_secs(60), 10);
        assert_eq!(congestion.limit(window), 3, "what is still in flight allows no more");
    }

    #[test]
    fn a_window_shrinks_at_once_and_grows_answer_by_answer() {
        let window = Window { requests: 10, prefill_tokens: 1 };
        let congestion = Congestion::default();
        assert_eq!(congestion.limit(window), 10);
        congestion.too_much(Micros::from_secs(5), 10);
        congestion.too_much(Micros(5_000_100), 10);
        assert_eq!(congestion.limit(window), 7, "one complaint, said twice");
        for _ in 0..8 {
            congestion.answered(window);
        }
        assert_eq!(congestion.limit(window), 8);
        congestion.too_much(Micros::from_secs(9), 1);
        assert_eq!(congestion.limit(window), 1, "never none");
        for _ in 0..1000 {
            congestion.answered(window);
        }
        assert_eq!(congestion.limit(window), 10);
    }
}
