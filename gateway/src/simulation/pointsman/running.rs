//! A request that was sent: its attempt, and where that is slow another beside it.

use std::sync::Arc;

use pointsman_backends::fleet::Dispatched;
use pointsman_policies::hedge::Hedge;
use pointsman_policies::units::Micros;

use crate::learning::Answering;
use crate::record::DecisionRecord;
use crate::snapshot::Snapshot;

/// One request.
pub(super) struct Running {
    pub(super) made: Arc<DecisionRecord>,
    /// Made so far.
    pub(super) attempts: u32,
    pub(super) first: Flight,
    pub(super) beside: Option<Flight>,
    /// When another begins, until one has given its first token.
    pub(super) hedge: Option<(Micros, Hedge)>,
}

/// One attempt.
pub(super) struct Flight {
    pub(super) endpoint: usize,
    pub(super) dispatched: Dispatched,
}

impl Running {
    pub(super) fn new(made: Arc<DecisionRecord>, first: Flight, attempts: u32, now: Micros) -> Running {
        let hedge = made.plan.as_ref().and_then(|plan| plan.hedge).filter(|_| attempts == 1);
        let hedge = hedge.map(|hedge| (now + Micros::from_ms(hedge.after_ms), hedge));
        Running { made, attempts, first, beside: None, hedge }
    }

    /// The attempt at an endpoint.
    pub(super) fn at(&self, endpoint: usize) -> Option<&Flight> {
        [Some(&self.first), self.beside.as_ref()].into_iter().flatten().find(|flight| flight.endpoint == endpoint)
    }

    /// The attempt at an endpoint answers: the other, where there is one, is outrun.
    pub(super) fn won_by(&mut self, endpoint: usize) -> Option<Flight> {
        let other = self.beside.take()?;
        Some(if other.endpoint == endpoint { std::mem::replace(&mut self.first, other) } else { other })
    }

    /// The attempt at an endpoint is over: what it was, and what goes on where the other does.
    pub(super) fn without(mut self, endpoint: usize) -> (Flight, Result<Running, (Arc<DecisionRecord>, u32)>) {
        match self.beside.take() {
            Some(other) if other.endpoint == endpoint => (other, Ok(self)),
            Some(other) => (self.first, Ok(Running { first: other, ..self })),
            None => (self.first, Err((self.made, self.attempts))),
        }
    }

    pub(super) fn answering<'a>(&'a self, snapshot: &'a Snapshot, streamed: bool, now: Micros) -> Answering<'a> {
        let Flight { endpoint, dispatched } = &self.first;
        let (flight, retried) = (dispatched.flight(now), self.attempts > 1);
        Answering { snapshot, made: &self.made, endpoint: *endpoint, flight, retried, streamed }
    }
}
