//! What decisions see of many endpoints, kept up to date by what happens: an endpoint to which nothing has happened is as
//! it was, and is not asked again. A thousand endpoints each under locks of their own would take longer to ask than to
//! decide among.

/// What was seen, as it is remembered.
mod past;

use std::sync::Arc;

use pointsman_policies::fleet::{EndpointState, LeaseState};
use pointsman_policies::units::Micros;

use super::Live;
use past::Past;
pub use past::Seen;

/// What fades by itself, such as the trust in an old report, is read anew when it is so old.
const FADED: Micros = Micros(25_000);
/// At each look so many are asked whether they have faded, or this part of all.
const FADED_AT_ONCE: usize = 16;
const FADED_PART: usize = 16;
/// After so long without a look all are asked.
const LONG_UNSEEN: Micros = Micros::from_secs(1);

/// The endpoints of one generation, as they were when they were looked at last.
#[derive(Debug)]
pub struct View {
    watched: Vec<Watched>,
    states: Vec<EndpointState>,
    /// Who is asked next whether it has faded.
    next: usize,
    looked: Micros,
    past: Past,
}

#[derive(Debug)]
struct Watched {
    live: Arc<Live>,
    /// The count of its changes when it was read.
    changes: u64,
    read: Micros,
    fades: bool,
    /// When a prompt will have been read without a sign.
    reads: Micros,
}

impl View {
    /// Of endpoints, each with the index of its pool.
    pub fn new(endpoints: impl IntoIterator<Item = (Arc<Live>, usize)>) -> View {
        let unread = |(live, pool)| {
            let watched = Watched { live, changes: u64::MAX, read: Micros(0), fades: false, reads: Micros::NEVER };
            (watched, EndpointState::idle(pool))
        };
        let (watched, states) = endpoints.into_iter().map(unread).unzip();
        View { watched, states, next: 0, looked: Micros(0), past: Past::default() }
    }

    /// Their states now, in order.
    pub fn look(&mut self, now: Micros) -> &[EndpointState] {
        let all = self.watched.len();
        let asked = if now > self.looked + LONG_UNSEEN { all } else { (all / FADED_PART).max(FADED_AT_ONCE).min(all) };
        self.looked = now;
        for _ in 0..asked {
            self.next = if self.next + 1 < all { self.next + 1 } else { 0 };
            if let Some(watched) = self.watched.get_mut(self.next)
                && watched.fades
                && now >= watched.read + FADED
            {
                watched.changes = u64::MAX;
            }
        }
        let mut leased: Option<(usize, Option<LeaseState>)> = None;
        for (index, (watched, state)) in self.watched.iter_mut().zip(&mut self.states).enumerate() {
            let changes = watched.live.changes();
            if changes != watched.changes || now >= watched.reads {
                *state = watched.live.state_but_lease(state.pool, now);
                self.past.note(index, *state);
                (watched.changes, watched.read, watched.fades) = (changes, now, watched.live.fades());
                watched.reads = watched.live.next_read().unwrap_or(Micros::NEVER);
            } else if state.availability.retry_in_ms().is_some() {
                state.availability = watched.live.availability(now);
                self.past.note(index, *state);
            }
            if watched.live.lease.is_some() {
                // The endpoints of a pool have one lease.
                let known = leased.filter(|(pool, _)| *pool == state.pool).map(|(_, lease)| lease);
                state.lease = known.unwrap_or_else(|| watched.live.lease(now));
                leased = Some((state.pool, state.lease));
            }
        }
        self.past.turn(&self.states);
        &self.states
    }

    /// What was looked at last, to be remembered.
    pub fn seen(&mut self) -> Seen {
        let mut leases: Vec<(usize, LeaseState)> = Vec::new();
        for (watched, state) in self.watched.iter().zip(&self.states) {
            if watched.live.lease.is_some()
                && let Some(lease) = state.lease
                && leases.last().is_none_or(|(pool, _)| *pool != state.pool)
            {
                leases.push((state.pool, lease));
            }
        }
        self.past.moment(leases)
    }
}

#[cfg(test)]
mod tests;
