//! Affinity: requests that belong together find the same few endpoints, without any state that replicas would have to
//! share.
//!
//! A route may say what belongs together and how much that counts. Where it says nothing, what belongs together is one
//! conversation, or what begins alike; that counts among endpoints that are as good as tied, and only as long as none that
//! may be asked is known to have a tenth of the prompt in its cache, which then counts.

use xxhash_rust::xxh3::xxh3_64;

use crate::decide::Candidate;
use crate::facts::Facts;
use crate::fleet::Fleet;
use crate::policy::{Affinity, AffinityKey, Route};

/// Endpoints of one pool that are home to what begins alike, where the route does not say: the second is there for when
/// the first is busy.
const HOMES: usize = 2;
/// A smaller part of the prompt in a cache, as one of so many, is a greeting that many have in common.
const LEAST_CACHED_PART: u64 = 10;

/// The homes of a request: of each pool, the endpoints whose names hash highest together with what the request belongs
/// to. Every replica finds the same, and an endpoint that goes takes only its own requests along.
#[derive(Debug, Default)]
pub struct Homes {
    /// By index in the fleet view, in order.
    places: Vec<usize>,
    /// What their scores are multiplied by.
    factor: f64,
    /// Whether they count however much others have of the prompt in their caches.
    asked_for: bool,
}

impl Homes {
    /// Of a request on a route.
    pub fn of(route: &Route, facts: &Facts<'_>, fleet: Fleet<'_>) -> Homes {
        let (seed, homes, factor) = match &route.affinity {
            Some(affinity) => {
                let factor = 1.0 - f64::from(affinity.permille) / 1000.0;
                (seed(key(affinity, facts)), affinity.homes as usize, factor)
            }
            None => (beginning(facts), HOMES, 1.0),
        };
        let Some(seed) = seed else { return Homes::default() };
        let homes = homes.max(1);
        let mut places = Vec::with_capacity(fleet.pools.iter().map(|pool| pool.endpoints.len().min(homes)).sum());
        let (mut highest, mut first) = (Vec::with_capacity(homes.min(fleet.endpoints.len())), 0);
        for pool in fleet.pools {
            let hash = |(place, name): (usize, &String)| {
                let name = fleet.names.get(place).copied().unwrap_or_else(|| name_hash(name));
                (mixed(name ^ seed), place)
            };
            keep_highest(&mut highest, (first..).zip(&pool.endpoints).map(hash), homes);
            let begun = places.len();
            places.extend(highest.iter().map(|(_, place)| *place));
            if let Some(own) = places.get_mut(begun..) {
                own.sort_unstable();
            }
            first += pool.endpoints.len();
        }
        Homes { places, factor, asked_for: route.affinity.is_some() }
    }

    /// By index in the fleet view, in order.
    pub fn places(&self) -> &[usize] {
        &self.places
    }

    /// Marks them, and lowers their score where the route says so. Where it says nothing and one that may be asked is
    /// known to have much of the prompt, nobody is a home.
    pub fn mark(&self, candidates: &mut [Candidate], facts: &Facts<'_>) {
        let mut passed = candidates.iter().filter_map(|candidate| candidate.verdict.as_ref().ok());
        let mut known = || passed.any(|scored| counts(scored.estimate.cached_tokens, facts.input_tokens));
        if self.places.is_empty() || (!self.asked_for && known()) {
            return;
        }
        for place in &self.places {
            let found = candidates.binary_search_by_key(place, |candidate| candidate.endpoint).ok();
            if let Some(Ok(scored)) = found.and_then(|at| candidates.get_mut(at)).map(|home| &mut home.verdict) {
                scored.home = true;
                scored.score *= self.factor;
            }
        }
    }
}

/// Whether so many tokens of a prompt in a cache count among endpoints that are as good as tied.
pub(crate) fn counts(cached_tokens: u64, input_tokens: u64) -> bool {
    cached_tokens > 0 && cached_tokens >= input_tokens / LEAST_CACHED_PART
}

/// An endpoint's name as homes are found by it.
pub fn name_hash(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

/// Bits that look unlike each other for numbers that are like each other (the end of splitmix64).
fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Keeps the highest few, the highest first, in a pass: hardly any but the first are looked at twice.
fn keep_highest(kept: &mut Vec<(u64, usize)>, hashes: impl Iterator<Item = (u64, usize)>, few: usize) {
    kept.clear();
    for hash in hashes {
        if kept.len() == few {
            if kept.last().is_some_and(|least| *least >= hash) {
                continue;
            }
            kept.pop();
        }
        let place = kept.partition_point(|higher| *higher >= hash);
        kept.insert(place, hash);
    }
}

/// Of one conversation, else of what begins alike.
fn beginning(facts: &Facts<'_>) -> Option<u64> {
    seed(facts.session).or(Some(facts.prefix).filter(|prefix| *prefix != 0))
}

fn seed(key: &str) -> Option<u64> {
    (!key.is_empty()).then(|| xxh3_64(key.as_bytes()))
}

fn key<'f>(affinity: &Affinity, facts: &Facts<'f>) -> &'f str {
    match &affinity.by {
        AffinityKey::Session => facts.session,
        AffinityKey::Tenant => facts.tenant,
        AffinityKey::Header(name) => facts.headers.header(name).unwrap_or_default(),
    }
}
