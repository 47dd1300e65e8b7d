//! What became of every request: sent = ok + refused + failed, or the run has lost one.

use std::collections::BTreeMap;
use std::time::Duration;

/// What became of one request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ended {
    /// Answered whole; every event once, in order.
    Ok,
    /// Answered with an error of the gateway before the first byte, by its code.
    Refused(String),
    /// Broken after the first byte, and told so by the dialect's error event.
    Told,
    /// Everything else, in words: lost, doubled, moved, reset, hung, ended like a good one.
    Wrong(String),
}

/// The books of a scenario.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// Requests sent.
    pub(crate) sent: u64,
    /// Answered whole.
    pub(crate) ok: u64,
    /// Refused in words.
    pub(crate) refused: u64,
    /// Of those that failed, how many were told so as promised.
    pub(crate) told: u64,
    /// Of those that failed, what none may.
    pub(crate) wrong: u64,
    /// How long the slowest of all took, however it ended.
    pub(crate) slowest: Duration,
    /// How long the slowest failure took to be told, from whatever caused it.
    pub(crate) slowest_told: Duration,
    /// What was wrong, and what refusals said, with how often.
    pub(crate) words: BTreeMap<String, u64>,
}

impl Ledger {
    /// Books one.
    pub(crate) fn book(&mut self, ended: &Ended) {
        self.sent += 1;
        match ended {
            Ended::Ok => self.ok += 1,
            Ended::Told => self.told += 1,
            Ended::Refused(code) => {
                self.refused += 1;
                *self.words.entry(format!("refused: {code}")).or_default() += 1;
            }
            Ended::Wrong(words) => {
                self.wrong += 1;
                *self.words.entry(words.clone()).or_default() += 1;
            }
        }
    }

    /// Adds another's.
    pub(crate) fn add(&mut self, other: Ledger) {
        self.sent += other.sent;
        self.ok += other.ok;
        self.refused += other.refused;
        self.told += other.told;
        self.wrong += other.wrong;
        self.slowest = self.slowest.max(other.slowest);
        self.slowest_told = self.slowest_told.max(other.slowest_told);
        for (words, count) in other.words {
            *self.words.entry(words).or_default() += count;
        }
    }

    /// Failed: told or wrong.
    pub(crate) fn failed(&self) -> u64 {
        self.told + self.wrong
    }

    /// What is left when all that is known is taken off; zero.
    pub(crate) fn left(&self) -> i64 {
        self.sent as i64 - (self.ok + self.refused + self.failed()) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_in_one_column() {
        let mut ledger = Ledger::default();
        let all = [Ended::Ok, Ended::Refused("x".to_owned()), Ended::Told, Ended::Wrong("lost".to_owned())];
        for ended in &all {
            ledger.book(ended);
        }
        let mut sum = ledger.clone();
        sum.add(ledger);
        assert_eq!((sum.sent, sum.ok, sum.refused, sum.failed(), sum.wrong, sum.left()), (8, 2, 2, 4, 2, 0));
        sum.sent += 1;
        assert_eq!(sum.left(), 1, "one that nobody knows of is seen");
    }
}
