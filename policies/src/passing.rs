//! What stands in the way for a while only: when the work ahead of a request will be done, and whether it is worth holding
//! where no machine may be asked yet.

use crate::decide::Candidate;
use crate::estimate::{Demand, Estimate, batches};
use crate::facts::Facts;
use crate::filter::Rejection;
use crate::fleet::{Availability, EndpointState, Fleet};
use crate::plan::{Attempt, Hold, Plan, slack_ms};
use crate::policy::Slo;

/// Where nothing is promised, machines that ask for patience are waited for this long, milliseconds: a caller would
/// rather know.
const UNPROMISED_PATIENCE_MS: f64 = 10_000.0;
/// Nobody is told to come back sooner, milliseconds.
const SOONEST_RETRY_MS: f64 = 100.0;
/// Nobody is told to stay away longer, milliseconds.
const LATEST_RETRY_MS: f64 = 60_000.0;

/// Holds a request for the machine that may be asked soonest, where none may be asked now and its promise can still be
/// kept then. `None` where waiting helps nowhere or takes too long.
pub fn until_passed(candidates: &[Candidate], slo: &Slo, facts: &Facts<'_>, fleet: Fleet<'_>) -> Option<Plan> {
    let passing = candidates.iter().filter_map(|candidate| Some((passes_in_ms(candidate, fleet)?, candidate)));
    let (passes_ms, soonest) = passing.min_by(|a, b| a.0.total_cmp(&b.0))?;
    let pool = fleet.endpoints.get(soonest.endpoint)?.pool;
    let alone = alone(soonest, facts, fleet)?;
    let promised = slo.ttft_ms.or(slo.deadline_ms).is_some();
    let slack_ms = slack_ms(&alone, slo, facts).min(if promised { f64::MAX } else { UNPROMISED_PATIENCE_MS });
    let attempt = Attempt { endpoint: soonest.endpoint, first_byte_ms: slack_ms + alone.ttft_ms };
    let hold = Some(Hold { pool, slack_ms });
    let plan = Plan { attempts: vec![attempt], total_ms: None, hold, hedge: None, explored: None };
    (passes_ms + held_ms(pool, fleet) <= slack_ms).then_some(plan)
}

/// When somebody who is refused may come back, milliseconds: when the work ahead of such a request will be done where it
/// is done first.
pub fn retry_in_ms(candidates: &[Candidate], facts: &Facts<'_>, fleet: Fleet<'_>) -> Option<f64> {
    // Candidates of one pool stand together.
    let mut known: Option<(usize, f64)> = None;
    let ahead = |candidate: &Candidate| match &candidate.verdict {
        Ok(scored) => Some(scored.estimate.ttft_ms - alone(candidate, facts, fleet)?.ttft_ms),
        Err(rejection) => {
            let pool = fleet.endpoints.get(candidate.endpoint)?.pool;
            let told = known.filter(|(of, _)| *of == pool).map_or_else(|| held_ms(pool, fleet), |(_, held_ms)| held_ms);
            known = Some((pool, told));
            Some(rejection.retry_in_ms()? + told)
        }
    };
    let soonest = candidates.iter().filter_map(ahead).min_by(f64::total_cmp)?;
    Some(soonest.clamp(SOONEST_RETRY_MS, LATEST_RETRY_MS))
}

/// When an endpoint may be asked again that is out for a reason that passes by itself; `None` for other reasons, and
/// where the gateway holds nothing for it.
fn passes_in_ms(candidate: &Candidate, fleet: Fleet<'_>) -> Option<f64> {
    fleet.endpoints.get(candidate.endpoint)?.window?;
    match candidate.verdict.err()? {
        Rejection::BackPressure { retry_in_ms } => Some(retry_in_ms),
        // The next request of the pool that ends makes room.
        Rejection::Concurrency { .. } => Some(0.0),
        _ => None,
    }
}

/// The request on the same machine with nothing else to do.
fn alone(candidate: &Candidate, facts: &Facts<'_>, fleet: Fleet<'_>) -> Option<Estimate> {
    let state = fleet.endpoint(candidate.endpoint)?;
    let pool = fleet.pools.get(state.pool)?;
    let model = pool.model(facts.model)?;
    let idle = EndpointState { cached_tokens: state.cached_tokens, ..EndpointState::idle(state.pool) };
    let service = fleet.service(state.pool)?;
    Some(Demand::new(facts, pool, service, model).at(facts, &idle))
}

/// How long a pool will take for the beginnings of what is held for it, milliseconds.
fn held_ms(pool: usize, fleet: Fleet<'_>) -> f64 {
    let Some((facts, service)) = fleet.pools.get(pool).zip(fleet.service(pool)) else { return 0.0 };
    let of_pool = |endpoint: &&EndpointState| endpoint.pool == pool;
    let able = |endpoint: &&EndpointState| {
        matches!(endpoint.availability, Availability::Ready | Availability::BackPressure { .. })
    };
    let machines = fleet.endpoints.iter().filter(of_pool).filter(able).count().max(1) as f64;
    let held = fleet.waiting.iter().filter(|waiting| waiting.pool == pool);
    let work_ms = held.map(|held| {
        let prefill_ms = held.input_tokens as f64 / service.prefill_tokens_per_s * 1e3;
        let whole_ms = || prefill_ms + held.output_tokens as f64 * service.step_base_ms;
        if batches(facts.kind) { prefill_ms } else { whole_ms() / f64::from(service.slots.max(1)) }
    });
    work_ms.sum::<f64>() / machines
}
