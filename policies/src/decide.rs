//! The decision: one request, one view of the fleet, one draw → a plan, with a reason for every candidate.

use crate::estimate::{Estimate, estimate};
use crate::facts::Facts;
use crate::filter::{Rejection, filter};
use crate::fleet::{EndpointState, Fleet, PoolFacts};
use crate::pick::rank;
use crate::plan::{Plan, plan};
use crate::policy::{Class, ClassId, Env, Objective, Policy, PoolSelector, Route, Slo};
use crate::score::{Best, score, strain};

/// A classified request and the policy it is decided under.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The rules.
    pub policy: &'a Policy,
    /// What is known of it.
    pub facts: &'a Facts<'a>,
    /// Its class.
    pub class: ClassId,
}

/// The outcome.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Index of the route that matched.
    pub route: usize,
    /// Every endpoint of the fleet, in fleet order, with the reason for or against it.
    pub candidates: Vec<Candidate>,
    /// What to attempt; `None` where every endpoint was rejected.
    pub plan: Option<Plan>,
}

/// One endpoint as the decision saw it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Its index in the fleet view.
    pub endpoint: usize,
    /// Requests it had in flight.
    pub in_flight: u32,
    /// Its score, or why it was rejected.
    pub verdict: Result<Scored, Rejection>,
}

/// A candidate that passed the filters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// The prediction.
    pub estimate: Estimate,
    /// Prediction over plan, worst part; at most 1 where the SLO is likely to be kept.
    pub strain: f64,
    /// Lower is better; the unit is the objective's.
    pub score: f64,
}

impl Scored {
    /// Whether the SLO is likely to be kept here.
    pub fn feasible(&self) -> bool {
        self.strain <= 1.0
    }
}

impl Decision {
    /// The least time after which any rejected endpoint may be asked again, milliseconds; `None` where waiting helps
    /// nowhere.
    pub fn retry_in_ms(&self) -> Option<f64> {
        let waits = self.candidates.iter().filter_map(|candidate| candidate.verdict.err()?.retry_in_ms());
        waits.min_by(f64::total_cmp)
    }
}

/// Decides. `draw` is a random number; the same arguments give the same decision.
pub fn decide(request: &Request<'_>, fleet: Fleet<'_>, draw: u64) -> Decision {
    let class = request.policy.classes.get(request.class.0);
    let slo = slo(class, request.facts);
    let env = Env { facts: request.facts, class: class.map_or("", |class| class.name.as_str()), pool: None };
    let route = first_match(&request.policy.routes, &env);
    let mut candidates = weigh(request, fleet, &slo, request.policy.routes.get(route), &env);
    let objective = request.policy.routes.get(route).map_or(Objective::CheapestThatMeetsSlo, |route| route.objective);
    let passed = candidates.iter().filter_map(|candidate| candidate.verdict.as_ref().ok());
    let best = Best::of(passed.map(|scored| &scored.estimate));
    for scored in candidates.iter_mut().filter_map(|candidate| candidate.verdict.as_mut().ok()) {
        scored.score = score(objective, &scored.estimate, scored.strain, &best);
    }
    let ranking = rank(&candidates, objective, draw);
    let plan = plan(&candidates, &ranking, &slo, request.facts);
    Decision { route, candidates, plan }
}

/// The class's promise, tightened by a deadline that the caller gave.
pub fn slo(class: Option<&Class>, facts: &Facts<'_>) -> Slo {
    let promised = class.map(|class| class.slo).unwrap_or_default();
    let deadline_ms = match (promised.deadline_ms, facts.deadline_ms) {
        (Some(promised), Some(asked)) => Some(promised.min(asked)),
        (promised, asked) => promised.or(asked),
    };
    Slo { deadline_ms, ..promised }
}

fn first_match(routes: &[Route], env: &Env<'_>) -> usize {
    let matching = routes.iter().position(|route| route.when.as_ref().is_none_or(|when| when.holds(env)));
    matching.unwrap_or(routes.len().saturating_sub(1))
}

fn weigh(request: &Request<'_>, fleet: Fleet<'_>, slo: &Slo, route: Option<&Route>, env: &Env<'_>) -> Vec<Candidate> {
    fleet
        .endpoints
        .iter()
        .enumerate()
        .map(|(index, endpoint)| Candidate {
            endpoint: index,
            in_flight: endpoint.in_flight,
            verdict: match fleet.pools.get(endpoint.pool) {
                Some(pool) => {
                    let allowed = route.is_none_or(|route| allows(&route.pools, endpoint.pool, pool, env));
                    judge(request, slo, allowed, pool, endpoint)
                }
                None => Err(Rejection::Route),
            },
        })
        .collect()
}

fn allows(selector: &PoolSelector, index: usize, pool: &PoolFacts, env: &Env<'_>) -> bool {
    match selector {
        PoolSelector::All => true,
        PoolSelector::Fixed(allowed) => allowed.get(index).copied().unwrap_or(false),
        PoolSelector::PerRequest(condition) => condition.holds(&Env { pool: Some(pool), ..*env }),
    }
}

fn judge(
    request: &Request<'_>,
    slo: &Slo,
    pool_allowed: bool,
    pool: &PoolFacts,
    endpoint: &EndpointState,
) -> Result<Scored, Rejection> {
    let model = filter(request, pool_allowed, pool, endpoint)?;
    let estimate = estimate(request.facts, pool, model, endpoint);
    let strain = strain(pool.kind, slo, &estimate, request.facts);
    Ok(Scored { estimate, strain, score: 0.0 })
}
