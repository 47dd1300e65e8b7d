//! The decision: one request, one view of the fleet, one draw → a plan, with a reason for every candidate.

use crate::caps::{give_way, yields};
use crate::estimate::Estimate;
use crate::explore::explore;
use crate::facts::Facts;
use crate::filter::Rejection;
use crate::fleet::Fleet;
use crate::hedge::hedge;
use crate::home::Homes;
use crate::mechanisms::Mechanisms;
use crate::passing::until_passed;
use crate::pick::rank;
use crate::plan::{Plan, hold, plan};
use crate::policy::{Class, ClassId, Env, Policy, Route, Slo};
use crate::score::{Best, score};
use crate::weigh::weigh;

pub use crate::weigh::reserve_s;

/// A classified request and the policy it is decided under.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The rules.
    pub policy: &'a Policy,
    /// What is known of it.
    pub facts: &'a Facts<'a>,
    /// Its class.
    pub class: ClassId,
    /// What the decision takes into account.
    pub mechanisms: Mechanisms,
}

impl<'a> Request<'a> {
    /// As a gateway decides it.
    pub fn new(policy: &'a Policy, facts: &'a Facts<'a>, class: ClassId) -> Request<'a> {
        Request { policy, facts, class, mechanisms: Mechanisms::default() }
    }
}

/// The outcome.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Index of the route that matched.
    pub route: usize,
    /// The endpoints of the fleet, in its order, each with the reason for or against it; of pools larger than
    /// [`WEIGHED_PER_POOL`](crate::shortlist::WEIGHED_PER_POOL) those that were weighed.
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
    /// Prediction over plan, worst part; at most 1 where the SLO is likely to be kept, its own and that of others.
    pub strain: f64,
    /// What it costs with everything that makes work there cheaper or dearer than its price, US dollars.
    pub effective_usd: f64,
    /// Whether the promise is broken already, so that nothing is worth paying for.
    pub lost: bool,
    /// Whether it would be sent at once; else the gateway holds it until the endpoint has room.
    pub room: bool,
    /// Lower is better; the unit is the objective's.
    pub score: f64,
    /// Whether it is a home of the request: what goes first among ties, and what an affinity of the route has lowered
    /// the score of.
    pub home: bool,
}

impl Scored {
    /// Whether the SLO is likely to be kept here.
    pub fn feasible(&self) -> bool {
        self.strain <= 1.0
    }
}

impl Decision {
    /// What was found of an endpoint; `None` where it was not weighed.
    pub fn candidate(&self, endpoint: usize) -> Option<&Candidate> {
        let at = self.candidates.binary_search_by_key(&endpoint, |candidate| candidate.endpoint).ok()?;
        self.candidates.get(at)
    }

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
    let homes = if request.mechanisms.affinity { Homes::of(route, request.facts, fleet) } else { Homes::default() };
    let mut candidates = weigh(request, fleet, (class, &slo), route, &env, (&homes, draw));
    if let Some(yields) = yields(request.policy, class, fleet, draw) {
        give_way(&yields, &mut candidates, fleet);
    }
    let best = Best::of(candidates.iter().filter_map(|candidate| Some(&candidate.verdict.as_ref().ok()?.estimate)));
    for scored in candidates.iter_mut().filter_map(|candidate| candidate.verdict.as_mut().ok()) {
        scored.score = score(route.objective, scored, &best);
    }
    homes.mark(&mut candidates, request.facts);
    let ranking = rank(&candidates, route, request.facts.input_tokens, draw);
    let (ranking, explored) = explore((request, &slo), ranking, &candidates, fleet);
    let first = ranking.first().and_then(|index| candidates.get(*index));
    let hold = first.and_then(|first| hold(first, &slo, request.facts, fleet));
    let hedge = hedge(request.class, route, (&candidates, &ranking), fleet);
    // Of an answer that comes whole no first token is seen.
    let hedge = hedge.filter(|_| hold.is_none() && request.facts.stream);
    let plan = plan(&candidates, &ranking, &slo, request.facts, &route.budgets);
    let plan = plan.map(|plan| Plan { hold, hedge, explored, ..plan });
    let plan = plan.or_else(|| until_passed(&candidates, &slo, request.facts, fleet));
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
