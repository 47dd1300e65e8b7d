//! What decisions see of many endpoints, kept up to date by what happens: an endpoint to which nothing has happened is as
//! it was, and is not asked again. A thousand endpoints each under locks of their own would take longer to ask than to
//! decide among.

/// What was seen, as it is remembered.
mod past;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use pointsman_policies::fleet::{EndpointState, LeaseState};
use pointsman_policies::units::Micros;

use super::Live;
use super::changes::Changes;
use past::Past;
pub use past::Seen;

/// What fades by itself, such as the trust in an old report, is read anew when it is so old: a fiftieth of its half-life.
pub(super) const FADED: Micros = Micros(100_000);
/// At each look at most so many are asked because they have faded, and the others at the next: each may take a decision more
/// than a microsecond, of memory that nobody has touched for long.
const FADED_AT_ONCE: usize = 6;
/// Unless nobody has looked for so long that much has faded: then so many.
const FADED_AFTER_A_PAUSE: usize = 64;
/// Such a pause.
const PAUSE: Micros = Micros(1_000_000);

/// The endpoints of one generation, as they were when they were looked at last.
#[derive(Debug)]
pub struct View {
    watched: Vec<Watched>,
    states: Arc<Vec<EndpointState>>,
    /// Where endpoints stand here, by their numbers in the fleet.
    places: Vec<Option<u32>>,
    changes: Arc<Changes>,
    /// So many changes have been heard of.
    heard: u64,
    changed: Vec<u32>,
    /// When to look whether time alone has made another of an endpoint.
    fading: BTreeSet<(Micros, u32)>,
    /// Those that may not be asked for a while, which ends by itself.
    away: Vec<u32>,
    leased: Vec<Leased>,
    looks: u64,
    past: Past,
}

#[derive(Debug)]
struct Watched {
    live: Arc<Live>,
    /// The look at which it was read.
    read: u64,
    fades: Micros,
    /// Its moment among those that fade: as soon or sooner.
    queued: Micros,
}

/// Endpoints that share what is left of a provider's limits, as it was last.
#[derive(Debug)]
struct Leased {
    endpoints: Range<usize>,
    lease: Option<LeaseState>,
}

impl View {
    /// Of endpoints of one fleet, each with the index of its pool.
    pub fn new(endpoints: impl IntoIterator<Item = (Arc<Live>, usize)>) -> View {
        let unread = |(live, pool)| {
            let watched = Watched { live, read: 0, fades: Micros::NEVER, queued: Micros::NEVER };
            (watched, EndpointState::idle(pool))
        };
        let (watched, states): (Vec<Watched>, Vec<EndpointState>) = endpoints.into_iter().map(unread).unzip();
        View {
            places: places(&watched),
            changes: watched.first().map_or_else(Arc::default, |first| Arc::clone(&first.live.shared.changes)),
            heard: u64::MAX,
            changed: Vec::new(),
            fading: BTreeSet::new(),
            away: Vec::new(),
            leased: leased(&watched, &states),
            states: Arc::new(states),
            watched,
            looks: 0,
            past: Past::default(),
        }
    }

    /// Their states now, in order.
    pub fn look(&mut self, now: Micros) -> &Arc<Vec<EndpointState>> {
        self.looks += 1;
        let mut changed = std::mem::take(&mut self.changed);
        let known = self.changes.since(self.heard, &mut changed);
        self.heard = match known {
            Ok(heard) | Err(heard) => heard,
        };
        if known.is_err() {
            (0..self.watched.len()).for_each(|place| self.read(place, now));
        }
        for number in changed.drain(..) {
            if let Some(place) = self.places.get(number as usize).copied().flatten() {
                self.read(place as usize, now);
            }
        }
        self.changed = changed;
        self.fade(now);
        self.return_of_those_away(now);
        self.refill(now);
        self.past.turn(&self.states);
        &self.states
    }

    /// Asks one endpoint, once a look.
    fn read(&mut self, place: usize, now: Micros) {
        let Some(watched) = self.watched.get_mut(place).filter(|watched| watched.read != self.looks) else { return };
        let Some(known) = self.states.get(place) else { return };
        watched.read = self.looks;
        let state = EndpointState { lease: known.lease, ..watched.live.state_but_lease(known.pool, now) };
        watched.fades = watched.live.fades(now);
        if watched.fades < watched.queued {
            self.fading.remove(&(watched.queued, place as u32));
            watched.queued = watched.fades;
            self.fading.insert((watched.queued, place as u32));
        }
        let (was_away, is_away) = (known.availability.retry_in_ms(), state.availability.retry_in_ms());
        if was_away.is_none() && is_away.is_some() {
            self.away.push(place as u32);
        }
        self.note(place, state);
    }

    /// Asks those whose moment has come, unless they were asked since and have another.
    fn fade(&mut self, now: Micros) {
        let paused = self.fading.first().is_some_and(|(at, _)| *at + PAUSE <= now);
        for _ in 0..if paused { FADED_AFTER_A_PAUSE } else { FADED_AT_ONCE } {
            let Some((_, place)) = self.fading.first().copied().filter(|(at, _)| *at <= now) else { break };
            self.fading.pop_first();
            let Some(watched) = self.watched.get_mut(place as usize) else { continue };
            watched.queued = Micros::NEVER;
            if watched.fades <= now {
                self.read(place as usize, now);
            } else if watched.fades < Micros::NEVER {
                watched.queued = watched.fades;
                self.fading.insert((watched.queued, place));
            }
        }
    }

    fn note(&mut self, place: usize, state: EndpointState) {
        if self.states.get(place).is_none_or(|known| *known == state) {
            return;
        }
        // Whoever still decides by what was seen before keeps that.
        if let Some(known) = Arc::make_mut(&mut self.states).get_mut(place) {
            *known = state;
        }
        self.past.note(place, state);
    }

    /// Breakers open and machines' wishes end by themselves.
    fn return_of_those_away(&mut self, now: Micros) {
        let mut away = std::mem::take(&mut self.away);
        away.retain(|place| {
            let place = *place as usize;
            let Some((watched, known)) = self.watched.get(place).zip(self.states.get(place)) else { return false };
            let state = EndpointState { availability: watched.live.availability(now), ..*known };
            self.note(place, state);
            state.availability.retry_in_ms().is_some()
        });
        self.away = away;
    }

    /// Limits refill by themselves.
    fn refill(&mut self, now: Micros) {
        for leased in &mut self.leased {
            let one = self.watched.get(leased.endpoints.start);
            let lease = one.and_then(|one| one.live.lease(now));
            if lease != leased.lease {
                leased.lease = lease;
                let states = Arc::make_mut(&mut self.states).get_mut(leased.endpoints.clone());
                states.unwrap_or_default().iter_mut().for_each(|state| state.lease = lease);
            }
        }
    }

    /// What was looked at last, to be remembered.
    pub fn seen(&mut self) -> Seen {
        let pool = |leased: &Leased| Some((self.states.get(leased.endpoints.start)?.pool, leased.lease?));
        let leases = self.leased.iter().filter_map(pool).collect();
        self.past.moment(leases)
    }
}

fn places(watched: &[Watched]) -> Vec<Option<u32>> {
    let mut places = Vec::new();
    for (place, watched) in (0..).zip(watched) {
        let number = watched.live.shared.number as usize;
        places.resize(places.len().max(number + 1), None);
        places.get_mut(number).into_iter().for_each(|known| *known = Some(place));
    }
    places
}

/// The endpoints of each pool that has limits.
fn leased(watched: &[Watched], states: &[EndpointState]) -> Vec<Leased> {
    let mut all: Vec<(usize, Leased)> = Vec::new();
    for (place, (watched, state)) in watched.iter().zip(states).enumerate() {
        if watched.live.lease.is_none() {
            continue;
        }
        match all.last_mut().filter(|(pool, leased)| *pool == state.pool && leased.endpoints.end == place) {
            Some((_, leased)) => leased.endpoints.end += 1,
            None => all.push((state.pool, Leased { endpoints: place..place + 1, lease: None })),
        }
    }
    all.into_iter().map(|(_, leased)| leased).collect()
}

#[cfg(test)]
mod tests;
