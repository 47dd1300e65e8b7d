//! Requests that the gateway holds until a machine has room: one priority queue per pool. Pure: the clock is an argument.
//!
//! ```text
//! 1. who can still keep the promise goes before who has lost it; what may be shed comes last
//! 2. higher class first; of what may be shed, what is shed last
//! 3. tenants within their share before those beyond it
//! 4. who has to be sent soonest
//! ```
//!
//! One release in `AGING` goes to whoever has waited longest, so that nobody waits for ever. To see what this is worth, a
//! queue can also be a plain line.

/// What goes before what.
mod lane;
/// What tenants have used.
mod shares;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::fleet::Waiting;
use crate::units::Micros;
use lane::{Lane, LaneKey, Standing, Turn};
use shares::Shares;

pub use lane::Order;

/// Of so many releases of a pool, one goes to whoever has waited longest: 4 %.
pub const AGING: u32 = 25;
/// A tenant is beyond its share where it has used more than this many times the mean of those that wait.
const BEYOND_SHARE: f64 = 1.5;

/// A request that is held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Held {
    /// The caller's number for it.
    pub ticket: u64,
    /// Index of the pool that it waits for.
    pub pool: usize,
    /// Its class's priority: higher goes first.
    pub priority: i32,
    /// Whether it may be refused so that others keep their promise, and in which order: the lowest first.
    pub shed_order: Option<i32>,
    /// Who asks, as a hash.
    pub tenant: u64,
    /// Since when it is held.
    pub since: Micros,
    /// When it has to be sent for its promise to be kept.
    pub due: Micros,
    /// Prompt tokens that have to be computed.
    pub input_tokens: u64,
    /// Expected of the answer, tokens.
    pub output_tokens: u64,
}

impl Held {
    /// What it takes, for shares: an output token takes about as long as two of the prompt.
    fn work(&self) -> f64 {
        (self.input_tokens + 2 * self.output_tokens) as f64
    }
}

/// All that is held.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    order: Order,
    pools: BTreeMap<usize, PoolQueue>,
    places: BTreeMap<u64, Place>,
    reviews: BTreeSet<(Micros, u64)>,
    shares: Shares,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    pool: usize,
    lane: LaneKey,
    turn: Turn,
    review: Micros,
}

#[derive(Clone, Debug, Default)]
struct PoolQueue {
    lanes: BTreeMap<LaneKey, Lane>,
    by_age: BTreeSet<(Micros, u64)>,
    releases: u32,
}

impl Queue {
    /// Nobody is held yet.
    pub fn new(order: Order) -> Queue {
        Queue { order, ..Queue::default() }
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The pools that somebody waits for.
    pub fn pools(&self) -> Vec<usize> {
        self.pools.iter().filter(|(_, pool)| !pool.lanes.is_empty()).map(|(index, _)| *index).collect()
    }

    /// Holds a request. A ticket that is held already moves.
    pub fn hold(&mut self, now: Micros, held: Held) {
        self.remove(held.ticket);
        self.put(held, self.order.lane(&held), next_review(now, held.due));
    }

    /// Lets go of a request: it is sent, refused, or its caller has left.
    pub fn remove(&mut self, ticket: u64) -> Option<Held> {
        let place = self.places.remove(&ticket)?;
        self.reviews.remove(&(place.review, ticket));
        let pool = self.pools.get_mut(&place.pool)?;
        let lane = pool.lanes.get_mut(&place.lane)?;
        let held = lane.remove(&place.turn)?;
        if lane.held.is_empty() {
            pool.lanes.remove(&place.lane);
        }
        pool.by_age.remove(&(held.since, ticket));
        Some(held)
    }

    /// Who goes next to a pool; it stays held until it is removed.
    pub fn next(&mut self, now: Micros, pool: usize) -> Option<Held> {
        self.expire(now);
        let queue = self.pools.get(&pool)?;
        if queue.releases % AGING == AGING - 1 {
            let (_, ticket) = queue.by_age.first()?;
            return self.get(*ticket);
        }
        let lane = queue.lanes.values().next()?;
        if self.order == Order::Coming {
            return lane.held.values().next().copied();
        }
        let mean = self.shares.mean(lane.held.values().take(LOOK_AHEAD).map(|held| held.tenant), now);
        let within = |held: &&Held| self.shares.of(now, held.tenant) <= mean * BEYOND_SHARE;
        let soonest = || lane.held.values();
        soonest().take(LOOK_AHEAD).find(within).or_else(|| soonest().next()).copied()
    }

    /// One of a pool was sent: its tenant has had so much.
    pub fn sent(&mut self, now: Micros, held: &Held) {
        self.shares.charge(now, held.tenant, held.work());
        if let Some(pool) = self.pools.get_mut(&held.pool) {
            pool.releases = pool.releases.wrapping_add(1);
        }
    }

    /// Work that was sent without being held counts towards its tenant's share as well.
    pub fn passed(&mut self, now: Micros, tenant: u64, input_tokens: u64, output_tokens: u64) {
        self.shares.charge(now, tenant, (input_tokens + 2 * output_tokens) as f64);
    }

    /// Who is held, by ticket.
    pub fn get(&self, ticket: u64) -> Option<Held> {
        let place = self.places.get(&ticket)?;
        self.pools.get(&place.pool)?.lanes.get(&place.lane)?.held.get(&place.turn).copied()
    }

    /// Requests that go before one, but for those that come to be late; at most 256 of its own standing.
    pub fn ahead(&self, ticket: u64) -> usize {
        let Some(place) = self.places.get(&ticket) else { return 0 };
        let lanes = self.pools.get(&place.pool).into_iter().flat_map(|pool| pool.lanes.range(..=place.lane));
        let before = |(key, lane): (&LaneKey, &Lane)| match *key == place.lane {
            true => lane.held.range(..place.turn).take(LOOK_AHEAD).count(),
            false => lane.held.len(),
        };
        lanes.map(before).sum()
    }

    /// Those that are to be decided again now, at most `limit`: each time that half of what they can still wait has
    /// passed.
    pub fn to_review(&mut self, now: Micros, limit: usize) -> Vec<Held> {
        let tickets: Vec<(Micros, u64)> = self.reviews.range(..=(now, u64::MAX)).take(limit).copied().collect();
        tickets
            .into_iter()
            .filter_map(|entry| {
                self.reviews.remove(&entry);
                let held = self.get(entry.1)?;
                let next = next_review(now, held.due);
                self.reviews.insert((next, held.ticket));
                self.places.get_mut(&held.ticket)?.review = next;
                Some(held)
            })
            .collect()
    }

    /// Those to be given up, at most `limit`: who may be shed and is late, and whoever has been held for `longest`; whether
    /// it is that.
    pub fn lost(&self, now: Micros, longest: Micros, limit: usize) -> Vec<(Held, bool)> {
        let sheddable = |key: &LaneKey| key.standing == Standing::Sheddable;
        let lanes = self.pools.values().flat_map(|pool| pool.lanes.iter().filter(move |(key, _)| sheddable(key)));
        let late = lanes.flat_map(|(_, lane)| lane.held.range(..(now, 0)).map(|(_, held)| (*held, false)));
        let old = self.pools.values().flat_map(|pool| pool.by_age.range(..(now - longest, 0)));
        let old = old.filter_map(|(_, ticket)| Some((self.get(*ticket)?, true)));
        let mut lost: Vec<(Held, bool)> = old.chain(late).take(limit).collect();
        lost.sort_by_key(|(held, _)| held.ticket);
        lost.dedup_by_key(|(held, _)| held.ticket);
        lost
    }

    /// When the first of those who are held is to be decided again, or given up, where none is held for longer than
    /// `longest`.
    pub fn due(&self, longest: Micros) -> Micros {
        let review = self.reviews.first().map(|(at, _)| *at);
        let passed = |at: Micros| at + Micros(1);
        let old = self.pools.values().filter_map(|pool| Some(passed(pool.by_age.first()?.0 + longest)));
        let sheddable = |(key, lane): (&LaneKey, &Lane)| {
            let first = lane.held.first_key_value().filter(|_| key.standing == Standing::Sheddable);
            first.map(|((due, _), _)| passed(*due))
        };
        let late = self.pools.values().flat_map(|pool| pool.lanes.iter().filter_map(sheddable));
        review.into_iter().chain(old).chain(late).min().unwrap_or(Micros::NEVER)
    }

    /// The one to give up where there is no room for a better one: of those that are shed first the least urgent.
    pub fn least(&self) -> Option<Held> {
        let sheddable = |pool: &PoolQueue| {
            let (key, lane) = pool.lanes.iter().next_back()?;
            lane.held.values().next_back().copied().filter(|_| key.standing == Standing::Sheddable)
        };
        let lasts = self.pools.values().filter_map(sheddable);
        lasts.min_by_key(|held| (held.shed_order, held.priority, Reverse(held.due), Reverse(held.ticket)))
    }

    /// What is held, by pool and priority, as decisions read it: for a request that comes now, or for one that is held
    /// and has only those before it that have to be sent sooner. Late ones go after all others.
    pub fn waiting(&mut self, now: Micros, of: Option<u64>) -> Vec<Waiting> {
        self.expire(now);
        let of = of.and_then(|ticket| self.places.get(&ticket).copied());
        let lanes = self.pools.iter().flat_map(|(pool, queue)| queue.lanes.iter().map(|lane| (*pool, lane)));
        let before = |pool: usize, key: &LaneKey| {
            of.filter(|place| place.pool == pool && place.lane == *key).map(|place| place.turn)
        };
        lanes.filter_map(|(pool, (key, lane))| lane.waiting(now, pool, *key, before(pool, key))).collect()
    }

    /// The same for one whose turn it is at its pool: nobody goes before it there, whoever else waits.
    pub fn waiting_behind(&mut self, now: Micros, first: &Held) -> Vec<Waiting> {
        let mut waiting = self.waiting(now, Some(first.ticket));
        waiting.retain(|waiting| waiting.pool != first.pool || waiting.priority < first.priority);
        waiting
    }

    /// Others that wait for the pool of one whose turn it is, in order, at most `limit`.
    pub fn after(&self, first: &Held, limit: usize) -> Vec<Held> {
        let lanes = self.pools.get(&first.pool).into_iter().flat_map(|pool| pool.lanes.values());
        let held = lanes.flat_map(|lane| lane.held.values()).filter(|held| held.ticket != first.ticket);
        held.take(limit).copied().collect()
    }

    /// Everyone who is held, pool by pool, in the order in which they would go.
    pub fn everyone(&self) -> impl Iterator<Item = Held> {
        self.pools.values().flat_map(|pool| pool.lanes.values()).flat_map(|lane| lane.held.values().copied())
    }

    fn put(&mut self, held: Held, lane: LaneKey, review: Micros) {
        let pool = self.pools.entry(held.pool).or_default();
        let turn = self.order.turn(&held);
        pool.lanes.entry(lane).or_default().insert(turn, held);
        pool.by_age.insert((held.since, held.ticket));
        self.places.insert(held.ticket, Place { pool: held.pool, lane, turn, review });
        self.reviews.insert((review, held.ticket));
    }

    /// Those whose last moment has passed fall behind.
    fn expire(&mut self, now: Micros) {
        if self.order == Order::Coming {
            return;
        }
        let lanes = self.pools.values().flat_map(|pool| &pool.lanes);
        let in_time = lanes.filter(|(key, _)| key.standing == Standing::InTime);
        let late: Vec<(u64, LaneKey)> = in_time
            .flat_map(|(key, lane)| lane.held.range(..(now, 0)).map(|((_, ticket), _)| (*ticket, *key)))
            .collect();
        for (ticket, key) in late {
            if let Some(held) = self.remove(ticket) {
                self.put(held, LaneKey { standing: Standing::Late, ..key }, now + REVIEWS_OF_LATE);
            }
        }
    }
}

/// A held request is decided again each time that half of what it can still wait has passed, but not more often than
/// this.
const BETWEEN_REVIEWS: Micros = Micros(20_000);
/// Who is late is decided again after this, and then each time that it is half as late again: in a long overload most are
/// late, and have little to win.
const REVIEWS_OF_LATE: Micros = Micros(500_000);

/// How far behind the soonest due others are looked at: bounds the work of a release.
const LOOK_AHEAD: usize = 256;

fn next_review(now: Micros, due: Micros) -> Micros {
    match due > now {
        true => now + Micros((due - now).0 / 2).max(BETWEEN_REVIEWS),
        false => now + Micros((now - due).0 / 2).max(REVIEWS_OF_LATE),
    }
}
