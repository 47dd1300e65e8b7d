//! The decision: one request, one view of the fleet, one draw → a plan, with a reason for every candidate.

use crate::estimate::{Estimate, estimate};
use crate::facts::Facts;
use crate::filter::{Rejection, filter};
use crate::fleet::{EndpointState, Fleet, ModelFacts, PoolFacts, PoolLoad};
use crate::home::homes;
use crate::pick::rank;
use crate::plan::{Plan, plan};
use crate::policy::{Class, ClassId, Env, Policy, Route, Slo};
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
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Its index in the fleet view.
    pub endpoint: usize,
    /// Requests it had in flight.
    pub in_flight: u32,
    /// The tier of the route that its pool is in; 0 are the route's own pools, others its fallbacks.
    pub tier: u8,
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
    /// Whether the route's affinity makes it a home of the request, which has lowered its score.
    pub home: bool,
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
    let env = Env::of(request.policy, request.facts, class.map_or("", |class| class.name.as_str()));
    let index = first_match(&request.policy.routes, &env);
    let Some(route) = request.policy.routes.get(index) else {
        return Decision { route: index, candidates: Vec::new(), plan: None };
    };
    let mut candidates = weigh(request, fleet, (class, &slo), route, &env);
    let passed = candidates.iter().filter_map(|candidate| candidate.verdict.as_ref().ok());
    let best = Best::of(passed.map(|scored| &scored.estimate));
    for scored in candidates.iter_mut().filter_map(|candidate| candidate.verdict.as_mut().ok()) {
        scored.score = score(route.objective, &scored.estimate, scored.strain, &best);
    }
    homes(route, request.facts, fleet, &mut candidates);
    let ranking = rank(&candidates, route, draw);
    let plan = plan(&candidates, &ranking, &slo, request.facts, &route.budgets);
    Decision { route: index, candidates, plan }
}

/// The class's promise, tightened by what the caller asked for.
pub fn slo(class: Option<&Class>, facts: &Facts<'_>) -> Slo {
    let promised = class.map(|class| class.slo).unwrap_or_default();
    let deadline_ms = match (promised.deadline_ms, facts.deadline_ms) {
        (Some(promised), Some(asked)) => Some(promised.min(asked)),
        (promised, asked) => promised.or(asked),
    };
    Slo { deadline_ms, ..promised }
}

/// Index of the first route whose condition holds; the last has none.
pub fn first_match(routes: &[Route], env: &Env<'_>) -> usize {
    let matching = routes.iter().position(|route| route.when.as_ref().is_none_or(|when| when.holds(env)));
    matching.unwrap_or(routes.len().saturating_sub(1))
}

/// What is the same for all endpoints of one pool.
struct PoolView<'p> {
    pool: &'p PoolFacts,
    tier: u8,
    model: Result<&'p ModelFacts, Rejection>,
}

fn weigh(
    request: &Request<'_>,
    fleet: Fleet<'_>,
    (class, slo): (Option<&Class>, &Slo),
    route: &Route,
    env: &Env<'_>,
) -> Vec<Candidate> {
    let limits = &request.policy.limits;
    let loads =
        if request.policy.reads_load || !limits.pool_concurrency.is_empty() { fleet.loads() } else { Vec::new() };
    let views: Vec<PoolView<'_>> = fleet
        .pools
        .iter()
        .enumerate()
        .map(|(index, pool)| view(request, route, (index, pool, loads.get(index)), env))
        .collect();
    let max_usd = class.and_then(|class| class.max_usd);
    let endpoints = fleet.endpoints.iter().enumerate();
    endpoints
        .map(|(index, endpoint)| {
            let view = views.get(endpoint.pool);
            let pinned_elsewhere = route.pin.as_ref().is_some_and(|pinned| !pinned.contains(&index));
            let verdict = match view {
                Some(view) if !pinned_elsewhere || view.model.is_err() => {
                    judge(request, (slo, max_usd), view, endpoint)
                }
                Some(_) => Err(Rejection::Pinned),
                None => Err(Rejection::Route),
            };
            let tier = view.map_or(0, |view| view.tier);
            Candidate { endpoint: index, in_flight: endpoint.in_flight, tier, verdict }
        })
        .collect()
}

fn view<'p>(
    request: &Request<'_>,
    route: &Route,
    (index, pool, load): (usize, &'p PoolFacts, Option<&PoolLoad>),
    env: &Env<'_>,
) -> PoolView<'p> {
    let refused = |reason| PoolView { pool, tier: 0, model: Err(reason) };
    let Some(model) = pool.model(request.facts.model) else { return refused(Rejection::Model) };
    let env = Env { pool: Some(pool), load, ..*env };
    if route.exclude.as_ref().is_some_and(|exclude| exclude.allows(index, &env)) {
        return refused(Rejection::Excluded);
    }
    let Some(tier) = route.tiers.iter().position(|tier| tier.allows(index, &env)) else {
        return refused(Rejection::Route);
    };
    let allowed = request.policy.limits.pool_concurrency.get(index).copied().flatten();
    if let Some((load, allowed)) = load.zip(allowed)
        && load.in_flight >= allowed
    {
        return refused(Rejection::Concurrency { in_flight: load.in_flight, allowed });
    }
    PoolView { pool, tier: u8::try_from(tier).unwrap_or(u8::MAX), model: Ok(model) }
}

fn judge(
    request: &Request<'_>,
    (slo, max_usd): (&Slo, Option<f64>),
    view: &PoolView<'_>,
    endpoint: &EndpointState,
) -> Result<Scored, Rejection> {
    let model = view.model?;
    filter(request, model, endpoint)?;
    let estimate = estimate(request.facts, view.pool, model, endpoint);
    if let Some(ceiling) = max_usd.filter(|ceiling| estimate.usd > *ceiling) {
        return Err(Rejection::Price { usd: estimate.usd, ceiling });
    }
    let strain = strain(view.pool.kind, slo, &estimate, request.facts);
    Ok(Scored { estimate, strain, score: 0.0, home: false })
}
