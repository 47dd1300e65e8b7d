//! A request on its way to an endpoint, and what happened to it there.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use pointsman_policies::prefix::Prefix;
use pointsman_policies::units::Micros;

use super::{Live, Verdict, since};
use crate::inflight::{InFlight, Work};
use crate::learn::meter::{Exposure, Mark};
use crate::learn::observation::Load;
use crate::lease::Reservation;
use crate::prefixes::{Booked, Prefixes};

/// A request on its way: holds its place in the endpoint's load until dropped.
///
/// Dropped without being settled, its client has left: what it had reserved beyond its prompt is free again, and it says
/// nothing about the endpoint.
#[derive(Debug)]
pub struct Dispatched {
    live: Arc<Live>,
    reservation: Option<Reservation>,
    in_flight: Option<InFlight>,
    input_tokens: u64,
    /// Of these, tokens that were claimed to be in the endpoint's prefix cache.
    claimed_tokens: u64,
    /// Its prompt, until it is known whether its endpoint has read it.
    unread: Option<Unread>,
    sent: Micros,
    at_dispatch: Load,
    first: Option<(Micros, Mark)>,
    settled: bool,
}

/// A prompt that is taken for held by an endpoint which has not answered yet.
#[derive(Debug)]
struct Unread {
    prefixes: Arc<Prefixes>,
    prefix: Arc<Prefix>,
    booked: Booked,
}

/// What happened to a request on its endpoint so far.
#[derive(Clone, Copy, Debug)]
pub struct Flight {
    /// When it was sent.
    pub sent: Micros,
    /// The endpoint's load then, without it.
    pub at_dispatch: Load,
    /// When its first token came; `None` while it has not.
    pub first_token: Option<Micros>,
    /// What the endpoint did since its first token.
    pub during: Option<Exposure>,
}

impl Dispatched {
    pub(super) fn new(live: Arc<Live>, reservation: Option<Reservation>, now: Micros, work: Work) -> Dispatched {
        let load = &live.shared.load;
        load.read_by(now);
        let foreign = live.shared.reported.lock().foreign(now);
        let at_dispatch = Load {
            in_flight: load.requests().saturating_add(foreign.in_flight),
            prefill_tokens: load.prefill_tokens(),
            context_tokens: load.context_tokens().saturating_add(foreign.context_tokens),
        };
        let in_flight = Some(InFlight::begin(load, work, now));
        live.shared.account(now);
        let input_tokens = work.input_tokens;
        Dispatched {
            live,
            reservation,
            in_flight,
            input_tokens,
            claimed_tokens: 0,
            unread: None,
            sent: now,
            at_dispatch,
            first: None,
            settled: false,
        }
    }

    /// The endpoint.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Its endpoint will have read its prompt, unless no answer begins.
    pub fn reads(&mut self, prefixes: &Arc<Prefixes>, prefix: &Arc<Prefix>, output_tokens: u64) {
        let booked = prefixes.sent(prefix, &self.live.shared.cache, self.input_tokens, output_tokens);
        self.claimed_tokens = booked.claimed_tokens;
        self.unread = Some(Unread { prefixes: Arc::clone(prefixes), prefix: Arc::clone(prefix), booked });
    }

    /// It was answered. Its answer may tell how much of its prompt was cached.
    pub fn answered(&mut self, cached_tokens: Option<u64>) {
        self.was_read();
        self.live.shared.cache.answered(self.claimed_tokens, cached_tokens);
    }

    fn was_read(&mut self) {
        if let Some(Unread { prefixes, prefix, booked }) = self.unread.take() {
            prefixes.was_read(&prefix, &self.live.shared.cache, booked);
        }
    }

    /// The first token has come.
    pub fn first_token(&mut self, now: Micros) {
        self.was_read();
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.first_token();
            self.live.shared.changed();
        }
        self.first.get_or_insert((now, self.live.shared.load.mark(now)));
    }

    /// What happened to it so far.
    pub fn flight(&self, now: Micros) -> Flight {
        let during = self.first.and_then(|(_, mark)| mark.until(&self.live.shared.load.mark(now)));
        let first_token = self.first.map(|(at, _)| at);
        Flight { sent: self.sent, at_dispatch: self.at_dispatch, first_token, during }
    }

    /// It ended, having used this many tokens: the provider's limit is settled on them.
    pub fn settle(mut self, now: Micros, used_tokens: u64) {
        if let (Some(lease), Some(reservation)) = (&self.live.lease, self.reservation.take()) {
            lease.limiter.lock().settle(now, reservation, used_tokens);
        }
        self.leave(now);
    }

    /// The provider never took it.
    pub fn refused(mut self, now: Micros) {
        if let (Some(lease), Some(reservation)) = (&self.live.lease, self.reservation.take()) {
            lease.limiter.lock().give_back(now, reservation);
        }
        self.leave(now);
    }

    fn leave(&mut self, now: Micros) {
        self.settled = true;
        self.in_flight = None;
        if let Some(Unread { prefixes, prefix, booked }) = self.unread.take() {
            prefixes.take_back(&prefix, &self.live.shared.cache, booked);
        }
        self.live.shared.account(now);
    }
}

impl Drop for Dispatched {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let now = since(self.live.origin);
        self.live.report(Verdict::Neutral, now);
        if let (Some(lease), Some(reservation)) = (&self.live.lease, self.reservation.take()) {
            lease.limiter.lock().settle(now, reservation, self.input_tokens);
        }
        self.leave(now);
    }
}
