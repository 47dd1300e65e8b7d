//! How many requests a flat machine serves at once before the next one waits: nobody publishes it, waiting tells.

use super::regression::TRUST;

/// A first token that comes this many times later than predicted has waited for a slot.
const WAITED: f64 = 2.0;
/// Nor has it waited if it came no later than this behind the prediction, milliseconds.
const SHORTEST_WAIT_MS: f64 = 20.0;
/// How far one request that waited moves the knee below its own batch.
const DOWN: f64 = 0.1;
/// How far one request that did not wait, though it should have, moves it up to its own batch.
const UP: f64 = 0.2;
/// By how much the knee recovers with each request that ran without waiting close to it.
const RECOVERY: f64 = 1.02;
/// A batch this close to the knee is close.
const CLOSE: f64 = 0.7;

/// The learned number of slots.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Knee {
    prior: f64,
    slots: f64,
}

impl Knee {
    pub(super) fn new(slots: u32) -> Knee {
        let prior = f64::from(slots.max(1));
        Knee { prior, slots: prior }
    }

    /// What is to be believed, in requests.
    pub(super) fn slots(&self) -> u32 {
        self.slots.round().max(1.0) as u32
    }

    pub(super) fn value(&self) -> f64 {
        self.slots
    }

    pub(super) fn restore(&mut self, slots: f64) {
        self.set(slots);
    }

    /// A request was one of `batch`; its first token was predicted for a free slot.
    pub(super) fn learn(&mut self, batch: f64, predicted_ms: f64, observed_ms: f64) {
        let waited = observed_ms > WAITED * predicted_ms && observed_ms > predicted_ms + SHORTEST_WAIT_MS;
        match waited {
            true if batch <= self.slots => self.set(self.slots - DOWN * (self.slots - batch + 1.0)),
            true => {}
            false if batch > self.slots => self.set(self.slots + UP * (batch - self.slots)),
            false if batch > CLOSE * self.slots => self.set((self.slots * RECOVERY).min(self.slots.max(self.prior))),
            false => {}
        }
    }

    fn set(&mut self, slots: f64) {
        if slots.is_finite() {
            self.slots = slots.clamp((self.prior / TRUST).max(1.0), self.prior * TRUST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of 1 to 60 on a machine of `truth` slots, `rounds` times.
    fn learned(prior: u32, truth: u32, rounds: u32) -> u32 {
        let mut knee = Knee::new(prior);
        for batch in (0..rounds).flat_map(|_| 1..=60) {
            let observed = if batch > truth { 400.0 } else { 55.0 };
            knee.learn(f64::from(batch), 50.0, observed);
        }
        knee.slots()
    }

    #[test]
    fn it_finds_the_number_of_slots_from_both_sides() {
        for (prior, truth) in [(64, 20), (16, 40)] {
            let found = learned(prior, truth, 20);
            assert!(found.abs_diff(truth) * 4 <= truth, "{found} instead of {truth}");
        }
    }

    #[test]
    fn a_rare_late_token_is_forgiven() {
        let mut knee = Knee::new(64);
        for batch in (0..50).flat_map(|_| 1..=60) {
            knee.learn(f64::from(batch), 50.0, if batch == 30 { 400.0 } else { 55.0 });
        }
        assert!(knee.slots() > 45, "{}", knee.slots());
    }

    #[test]
    fn it_stays_in_its_trust_region() {
        let mut knee = Knee::new(64);
        (0..1_000).for_each(|_| knee.learn(1.0, 50.0, 1e9));
        assert_eq!(knee.slots(), 8);
        (0..1_000).for_each(|_| knee.learn(1e9, 50.0, 1.0));
        assert_eq!(knee.slots(), 512);
        knee.restore(f64::NAN);
        assert_eq!(knee.slots(), 512);
    }
}
