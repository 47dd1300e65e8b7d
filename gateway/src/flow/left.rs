//! Those who are held with their decisions, and those who have left the line and have yet to be told. What is told of when
//! to come back takes another decision each, so that is done when the line is free again.

use std::sync::Arc;

use pointsman_policies::facts::{Facts, OwnedFacts};
use pointsman_policies::fleet::Waiting;
use pointsman_policies::mechanisms::Mechanisms;
use pointsman_policies::refusal::Refusal;
use pointsman_policies::units::Micros;

use super::fresh::{Fresh, fresh};
use super::{Ask, HeldEnd, Released};
use crate::record::DecisionRecord;
use crate::snapshot::Snapshot;

/// A request that is held.
#[derive(Debug)]
pub(super) struct Parked<T> {
    /// The decision that has it held.
    pub(super) made: Arc<DecisionRecord>,
    pub(super) since: Micros,
    pub(super) moved: u32,
    pub(super) token: T,
}

impl<T> Parked<T> {
    /// What is known of it now.
    pub(super) fn facts(&self, now: Micros) -> Facts<'_> {
        Facts { waited_ms: (now - self.since).as_ms(), ..self.made.facts.facts() }
    }

    /// What is asked of a decision on it.
    pub(super) fn ask<'a>(&'a self, facts: &'a Facts<'a>) -> Ask<'a> {
        let DecisionRecord { snapshot, arm, prefix, class, draw, .. } = &*self.made;
        Ask { snapshot, arm: *arm, facts, prefix, class: *class, draw: *draw }
    }

    /// What is kept of a decision on it.
    pub(super) fn record(&self, fresh: Fresh, now: Micros) -> DecisionRecord {
        let facts = self.facts(now);
        let owned = OwnedFacts { waited_ms: facts.waited_ms, ..self.made.facts.clone() };
        fresh.record(&self.ask(&facts), owned)
    }
}

/// Those who have left the line.
#[derive(Debug)]
pub(super) struct Left<T> {
    pub(super) released: Vec<Released<T>>,
    /// Refused for want of room; how it came to that.
    pub(super) given_up: Vec<(Parked<T>, HeldEnd)>,
    /// What is held where somebody is given up: the work ahead of one that comes back.
    pub(super) waiting: Vec<Waiting>,
}

impl<T> Default for Left<T> {
    fn default() -> Left<T> {
        Left { released: Vec::new(), given_up: Vec::new(), waiting: Vec::new() }
    }
}

impl<T> Left<T> {
    pub(super) fn len(&self) -> usize {
        self.released.len() + self.given_up.len()
    }

    /// All of them with what they are told: whoever is given up may come back when the work that is ahead now will be
    /// done.
    pub(super) fn told(self, mechanisms: Mechanisms, now: Micros) -> Vec<Released<T>> {
        let Left { mut released, given_up, waiting } = self;
        for (parked, end) in given_up {
            let facts = Facts { waited_ms: 0.0, ..parked.made.facts.facts() };
            let ask = parked.ask(&facts);
            let waiting = seen_by(ask.snapshot, waiting.iter().copied());
            let retry_in_ms = fresh(&ask, mechanisms, waiting, now).retry_ms(&ask);
            let Parked { made, moved, token, .. } = parked;
            released.push(Released { token, made, outcome: Err(Refusal::Saturated { retry_in_ms }), end, moved });
        }
        released
    }
}

/// What is held, by the pools of one generation. What waits for pools that it has not is nothing to it.
pub(super) fn seen_by(snapshot: &Snapshot, waiting: impl IntoIterator<Item = Waiting>) -> Vec<Waiting> {
    let seen = |waiting: Waiting| Some(Waiting { pool: snapshot.pool_of(waiting.pool)?, ..waiting });
    waiting.into_iter().filter_map(seen).collect()
}
