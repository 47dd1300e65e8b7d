//! Affinity: requests that belong together find the same few endpoints, without any state that replicas would have to
//! share.
//!
//! A route may say what belongs together and how much that counts. Where it says nothing, what belongs together is one
//! conversation, or what begins alike; that counts among endpoints that are as good as tied, and only as long as none that
//! may be asked is known to have a tenth of the prompt in its cache, which then counts.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::decide::Candidate;
use crate::facts::Facts;
use crate::fleet::Fleet;
use crate::policy::{Affinity, AffinityKey, Route};

/// Endpoints of one pool that are home to what begins alike, where the route does not say: the second is there for when
/// the first is busy.
const HOMES: usize = 2;
/// A smaller part of the prompt in a cache, as one of so many, is a greeting that many have in common.
const LEAST_CACHED_PART: u64 = 10;

/// Marks a request's homes, and lowers their score where the route says so: of each pool, the endpoints whose names hash
/// highest together with what the request belongs to. Every replica finds the same, and an endpoint that goes takes only
/// its own requests along.
pub fn homes(route: &Route, facts: &Facts<'_>, fleet: Fleet<'_>, candidates: &mut [Candidate]) {
    let (seed, homes, factor) = match &route.affinity {
        Some(affinity) => {
            let key = key(affinity, facts);
            let factor = 1.0 - f64::from(affinity.permille) / 1000.0;
            (seed(key), affinity.homes as usize, factor)
        }
        None => (beginning(facts, candidates), HOMES, 1.0),
    };
    let Some(seed) = seed else { return };
    let names = fleet.pools.iter().flat_map(|pool| &pool.endpoints);
    let hashes: Vec<u64> = names.map(|name| xxh3_64_with_seed(name.as_bytes(), seed)).collect();
    let mut first = 0;
    for pool in fleet.pools {
        let end = first + pool.endpoints.len();
        let least = least_of_homes(hashes.get(first..end).unwrap_or_default(), homes);
        let members = candidates.get_mut(first..end).unwrap_or_default().iter_mut();
        for (candidate, hash) in members.zip(hashes.get(first..end).unwrap_or_default()) {
            if let Ok(scored) = &mut candidate.verdict
                && *hash >= least
            {
                scored.home = true;
                scored.score *= factor;
            }
        }
        first = end;
    }
}

/// Whether so many tokens of a prompt in a cache count among endpoints that are as good as tied.
pub(crate) fn counts(cached_tokens: u64, input_tokens: u64) -> bool {
    cached_tokens > 0 && cached_tokens >= input_tokens / LEAST_CACHED_PART
}

/// Of one conversation, else of what begins alike; nothing where one that may be asked is known to have much of it.
fn beginning(facts: &Facts<'_>, candidates: &[Candidate]) -> Option<u64> {
    let mut passed = candidates.iter().filter_map(|candidate| candidate.verdict.as_ref().ok());
    let known = passed.any(|scored| counts(scored.estimate.cached_tokens, facts.input_tokens));
    seed(facts.session).or(Some(facts.prefix).filter(|prefix| *prefix != 0)).filter(|_| !known)
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

/// The lowest hash that still is a home.
fn least_of_homes(hashes: &[u64], homes: usize) -> u64 {
    if hashes.len() <= homes {
        return 0;
    }
    let mut sorted = hashes.to_vec();
    let at = hashes.len().saturating_sub(homes.max(1));
    let (_, least, _) = sorted.select_nth_unstable(at);
    *least
}
