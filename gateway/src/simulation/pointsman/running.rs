//! A request that was sent: its attempt, and where that is slow another beside it.

use std::sync::Arc;

use pointsman_backends::fleet::Dispatched;
use pointsman_policies::hedge::Hedge;
use pointsman_policies::plan::Tried;
use pointsman_policies::units::Micros;

use crate::learning::Answering;
use crate::record::DecisionRecord;
use crate::snapshot::Snapshot;

/// A request, and what has been tried for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    /// Its number.
    pub(super) request: u32,
    /// When it came.
    pub(super) since: Micros,
    /// What has come of it so far.
    pub(super) tried: Tried,
}

/// One request that was sent.
pub(super) struct Running {
    pub(super) made: Arc<DecisionRecord>,
    pub(super) pending: Pending,
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
    /// A request that is being sent.
    pub(super) fn new(made: Arc<DecisionRecord>, first: Flight, mut pending: Pending, now: Micros) -> Running {
        pending.tried.attempts += 1;
        let hedge = made.plan.as_ref().and_then(|plan| plan.hedge).filter(|_| pending.tried.attempts == 1);
        let hedge = hedge.map(|hedge| (now + Micros::from_ms(hedge.after_ms), hedge));
        Running { made, pending, first, beside: None, hedge }
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
    pub(super) fn without(mut self, endpoint: usize) -> (Flight, Result<Running, (Arc<DecisionRecord>, Pending)>) {
        match self.beside.take() {
            Some(other) if other.endpoint == endpoint => (other, Ok(self)),
            Some(other) => (self.first, Ok(Running { first: other, ..self })),
            None => (self.first, Err((self.made, self.pending))),
        }
    }

    pub(super) fn answering<'a>(&'a self, snapshot: &'a Snapshot, streamed: bool, now: Micros) -> Answering<'a> {
        let Flight { endpoint, dispatched } = &self.first;
        let (flight, retried) = (dispatched.flight(now), self.pending.tried.attempts > 1);
        Answering { snapshot, made: &self.made, endpoint: *endpoint, flight, retried, streamed }
    }
}
