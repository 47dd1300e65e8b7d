//! Bounds on all requests together, as one decision finds them: what a vendor may still serve, what a site may still
//! draw, who gives way to a budget. What is used is what was counted, with what is in flight in this very view: requests
//! that come between two counts see each other.

use crate::decide::Candidate;
use crate::estimate::{Estimate, mean_remaining_ms};
use crate::facts::Facts;
use crate::filter::Rejection;
use crate::fleet::{EndpointState, Fleet, PoolFacts, PoolLoad};
use crate::policy::{Cap, Class, Limits, OverBudget, Policy};
use crate::power::{endpoint_kw, endpoint_kw_with_one_more};
use crate::price::LEAST_SHARED_TOKENS;

/// Whoever gives way to a budget that is being used up too fast is asked to come back after this long, milliseconds.
const PACE_RETRY_MS: f64 = 15_000.0;

/// Whether any bound needs the loads of pools.
pub(crate) fn read_load(limits: &Limits) -> bool {
    !(limits.pool_concurrency.is_empty() && limits.vendor_share.is_empty() && limits.site_power_kw.is_empty())
}

/// The bounds on one pool that hold whatever its endpoint.
pub(crate) fn allows(
    limits: &Limits,
    fleet: Fleet<'_>,
    loads: &[PoolLoad],
    facts: &Facts<'_>,
    pool: usize,
) -> Result<(), Rejection> {
    let allowed = limits.pool_concurrency.get(pool).copied().flatten();
    if let Some((load, allowed)) = loads.get(pool).zip(allowed)
        && load.in_flight >= allowed
    {
        return Err(Rejection::Concurrency { in_flight: load.in_flight, allowed });
    }
    let own_tokens = facts.input_tokens.saturating_add(facts.output_tokens) as f64;
    for cap in caps_of(&limits.vendor_share, pool) {
        let share = (served(fleet, loads, |index| cap.pools.contains(&index)) + own_tokens)
            / (served(fleet, loads, |_| true) + own_tokens).max(LEAST_SHARED_TOKENS);
        if share > cap.most {
            return Err(Rejection::VendorShare { share, allowed: cap.most });
        }
    }
    Ok(())
}

/// Tokens served of late and in flight, in some pools.
fn served(fleet: Fleet<'_>, loads: &[PoolLoad], of: impl Fn(usize) -> bool) -> f64 {
    let counted = fleet.learned.used.tokens.iter().enumerate().filter(|(index, _)| of(*index));
    let in_flight = loads.iter().enumerate().filter(|(index, _)| of(*index));
    counted.map(|(_, tokens)| tokens).sum::<f64>() + in_flight.map(|(_, load)| load.context_tokens as f64).sum::<f64>()
}

fn caps_of(caps: &[Cap], pool: usize) -> impl Iterator<Item = &Cap> {
    caps.iter().filter(move |cap| cap.pools.contains(&pool))
}

/// What the site of a pool may draw and does, kilowatts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SitePower {
    kw: f64,
    idle_kw: f64,
    most_kw: f64,
    remaining_tokens: f64,
}

/// The bound on the power of a pool's site; `None` where there is none.
pub(crate) fn site_power(limits: &Limits, loads: &[PoolLoad], pool: usize) -> Option<SitePower> {
    let cap = caps_of(&limits.site_power_kw, pool).next()?;
    let pools = || cap.pools.iter().filter_map(|pool| loads.get(*pool));
    let in_flight: f64 = pools().map(|load| f64::from(load.in_flight)).sum();
    let output_tokens: f64 = pools().map(|load| load.output_tokens_ahead as f64).sum();
    Some(SitePower {
        kw: pools().map(|load| load.kw).sum(),
        idle_kw: pools().map(|load| load.idle_kw).sum(),
        most_kw: cap.most,
        remaining_tokens: output_tokens / in_flight.max(1.0),
    })
}

/// Whether a site's power allows a request on an endpoint now: `true`, or `false` where the gateway holds it until it
/// does. Rejected where it is not held, and where the site could never serve it.
pub(crate) fn powered(site: Option<SitePower>, pool: &PoolFacts, endpoint: &EndpointState) -> Result<bool, Rejection> {
    let Some(site) = site else { return Ok(true) };
    let with_it = endpoint_kw_with_one_more(pool, endpoint);
    let kw = site.kw - endpoint_kw(pool, endpoint) + with_it;
    if kw <= site.most_kw {
        return Ok(true);
    }
    let alone_kw =
        site.idle_kw - crate::power::idle_kw(pool) + endpoint_kw_with_one_more(pool, &EndpointState::idle(0));
    if endpoint.window.is_none() || alone_kw > site.most_kw {
        return Err(Rejection::Power { kw, allowed_kw: site.most_kw });
    }
    Ok(false)
}

/// An estimate with the wait until others at the site are done.
pub(crate) fn waits_for_power(estimate: Estimate, site: SitePower, endpoint: &EndpointState) -> Estimate {
    let others_ms = site.remaining_tokens * estimate.itl_ms;
    let longer_ms = (others_ms.max(mean_remaining_ms(endpoint, estimate.itl_ms)) - estimate.wait_ms).max(0.0);
    estimate.put_off(longer_ms)
}

/// How a request gives way to the budget that presses most.
pub(crate) enum Yields {
    /// It is refused.
    Refused(Rejection),
    /// Only the pool that costs least is asked.
    ToCheapest(Rejection),
}

/// Whether a request of a class gives way: sheddable classes in their order, then the rest, the least urgent first: what
/// is left of a budget is for those who can keep their promise nowhere else. `draw` decides who does where only a part
/// has to.
pub(crate) fn yields(policy: &Policy, class: Option<&Class>, fleet: Fleet<'_>, draw: u64) -> Option<Yields> {
    let budget = fleet.learned.used.budget?;
    let class = class?;
    let before = |other: &&Class| match (other.sheddable, class.sheddable) {
        (true, true) => other.shed_order < class.shed_order,
        (false, false) => other.priority < class.priority,
        (sheddable, _) => sheddable,
    };
    let rank = policy.classes.iter().filter(before).count();
    // Other bits than those that choose among near-ties.
    let drawn = f64::from((draw.rotate_left(17) >> 32) as u32) / f64::from(u32::MAX);
    if drawn >= budget.share(rank) {
        return None;
    }
    let retry_in_ms = if budget.is_used_up() { budget.ends_in_ms } else { PACE_RETRY_MS.min(budget.ends_in_ms) };
    let (period, spent_usd, usd) = (budget.period, budget.spent_usd, budget.usd);
    let rejection = Rejection::Budget { period, spent_usd, usd, retry_in_ms };
    let refuse = class.sheddable || (policy.limits.over_budget == OverBudget::Refuse && budget.is_used_up());
    Some(if refuse { Yields::Refused(rejection) } else { Yields::ToCheapest(rejection) })
}

/// Lets a request give way. What its pool costs is what the budget pays: no wait makes the dear one cheaper.
pub(crate) fn give_way(yields: &Yields, candidates: &mut [Candidate], fleet: Fleet<'_>) {
    let pool_of = |endpoint: usize| fleet.endpoints.get(endpoint).map(|endpoint| endpoint.pool);
    let passed = candidates.iter().filter_map(|one| {
        let price = fleet.learned.price(pool_of(one.endpoint)?);
        Some((one.endpoint, one.verdict.as_ref().ok()?.estimate.usd * price.usd_factor))
    });
    let (rejection, kept) = match yields {
        Yields::Refused(rejection) => (*rejection, None),
        Yields::ToCheapest(rejection) => {
            let cheapest = passed.min_by(|one, other| one.1.total_cmp(&other.1));
            (*rejection, cheapest.and_then(|(endpoint, _)| pool_of(endpoint)))
        }
    };
    for candidate in candidates.iter_mut().filter(|candidate| candidate.verdict.is_ok()) {
        if kept.is_none() || pool_of(candidate.endpoint) != kept {
            candidate.verdict = Err(rejection);
        }
    }
}
