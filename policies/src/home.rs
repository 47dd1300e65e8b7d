//! Affinity: requests that belong together find the same few endpoints, without any state that replicas would have to
//! share.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::decide::Candidate;
use crate::facts::Facts;
use crate::fleet::Fleet;
use crate::policy::{Affinity, AffinityKey, Route};

/// Lowers the score of a request's homes: of each pool, the endpoints whose names hash highest together with what the
/// request belongs to. Every replica finds the same, and an endpoint that goes takes only its own requests along.
pub fn homes(route: &Route, facts: &Facts<'_>, fleet: Fleet<'_>, candidates: &mut [Candidate]) {
    let Some(affinity) = &route.affinity else { return };
    let key = key(affinity, facts);
    if key.is_empty() {
        return;
    }
    let seed = xxh3_64(key.as_bytes());
    let names = fleet.pools.iter().flat_map(|pool| &pool.endpoints);
    let hashes: Vec<u64> = names.map(|name| xxh3_64_with_seed(name.as_bytes(), seed)).collect();
    let factor = 1.0 - f64::from(affinity.permille) / 1000.0;
    let mut first = 0;
    for pool in fleet.pools {
        let end = first + pool.endpoints.len();
        let least = least_of_homes(hashes.get(first..end).unwrap_or_default(), affinity.homes as usize);
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
