//! A second attempt beside a first one whose first token is late: planned with the decision, made by whoever forwards it.

use crate::decide::Candidate;
use crate::fleet::{Availability, EndpointState, Fleet};
use crate::policy::{ClassId, HedgeAfter, Route};

/// Nobody is hedged while more of the places of the machines that may be asked are taken: a second attempt would make
/// somebody else late.
const MOST_BUSY: f64 = 0.8;
/// Times vary at least so much around their prediction, lognormal sigma: nobody is hedged for a hair's breadth.
const LEAST_SIGMA: f64 = 0.1;

/// A second attempt.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Hedge {
    /// Index of the endpoint in the fleet view; of another pool than the first attempt's.
    pub endpoint: usize,
    /// It begins when the first attempt has given nothing for so many milliseconds.
    pub after_ms: f64,
}

/// Plans one for a request that is sent at once, where its route wants one: on the best machine of another pool that has
/// room and is likely to keep the promise.
pub fn hedge(
    class: ClassId,
    route: &Route,
    (candidates, ranking): (&[Candidate], &[usize]),
    fleet: Fleet<'_>,
) -> Option<Hedge> {
    let wanted = route.hedge.filter(|hedge| hedge.class.is_none_or(|only| only == class))?;
    let pool = |candidate: &Candidate| fleet.endpoints.get(candidate.endpoint).map(|endpoint| endpoint.pool);
    let mut ranked = ranking.iter().filter_map(|index| candidates.get(*index));
    let first = ranked.next()?;
    let able = |candidate: &&Candidate| candidate.verdict.is_ok_and(|scored| scored.room && scored.feasible());
    let other = ranked.filter(able).find(|other| pool(other) != pool(first))?;
    if busy(candidates, fleet) > MOST_BUSY {
        return None;
    }
    let after_ms = match wanted.after {
        HedgeAfter::Ms(ms) => ms,
        HedgeAfter::Quantile(quantile) => {
            let sigma = fleet.service(pool(first)?)?.jitter_sigma.max(LEAST_SIGMA);
            first.verdict.as_ref().ok()?.estimate.ttft_ms * (sigma * probit(quantile)).exp()
        }
    };
    Some(Hedge { endpoint: other.endpoint, after_ms })
}

/// The quantile of the normal distribution, within 0.005 (Tukey's lambda).
fn probit(p: f64) -> f64 {
    let p = p.clamp(1e-4, 1.0 - 1e-4);
    4.91 * (p.powf(0.14) - (1.0 - p).powf(0.14))
}

/// The part of the places that is taken, of all machines that may be asked: also of those that were not weighed.
fn busy(candidates: &[Candidate], fleet: Fleet<'_>) -> f64 {
    let mut passed = vec![false; fleet.pools.len()];
    for candidate in candidates.iter().filter(|candidate| candidate.verdict.is_ok()) {
        let pool = fleet.endpoints.get(candidate.endpoint).and_then(|state| passed.get_mut(state.pool));
        pool.into_iter().for_each(|pool| *pool = true);
    }
    let mut weighed = candidates.iter().peekable();
    let able = |(index, state): &(usize, &EndpointState)| match weighed.next_if(|one| one.endpoint == *index) {
        Some(candidate) => candidate.verdict.is_ok(),
        None => state.availability == Availability::Ready && passed.get(state.pool).is_some_and(|passed| *passed),
    };
    let states = fleet.endpoints.iter().enumerate().filter(able);
    let (taken, places) = states.fold((0.0, 0.0), |(taken, places), (_, state)| {
        let slots = fleet.service(state.pool).map_or(1, |service| service.slots);
        let slots = state.window.map_or(slots, |window| window.requests.min(slots));
        (taken + f64::from(state.in_flight), places + f64::from(slots.max(1)))
    });
    taken / f64::max(places, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_late_at_the_quantile_asked_for() {
        // (quantile, its place on the normal distribution)
        for (p, expected) in [(0.5, 0.0), (0.9, 1.2816), (0.95, 1.6449), (0.99, 2.3263), (0.1, -1.2816)] {
            assert!((probit(p) - expected).abs() < 0.01, "{p}: {}", probit(p));
        }
    }
}
