//! Every endpoint as the decision saw it: what it would have given, what it scored, or why it was rejected.

use serde::{Deserialize, Serialize};

use super::{Given, Names, promise};
use crate::decide::{Candidate, Decision, Scored};
use crate::estimate::{Demand, Estimate};
use crate::filter::Rejection;
use crate::fleet::{EndpointState, PoolFacts};
use crate::learned::Margin;
use crate::policy::{ClassId, Objective};
use crate::score::{Best, Promise, strain, terms};

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CandidateReason {
    /// Its name.
    pub endpoint: String,
    /// Its pool.
    pub pool: String,
    /// Its entry of the hardware catalog.
    pub hardware: String,
    /// `gpu`, `wafer`, `lpu`, `cpu` or `cloud`.
    pub kind: String,
    /// The tier of the route that its pool is in, from 0.
    pub tier: u8,
    /// Requests it had in flight.
    pub in_flight: u32,
    /// Requests it serves at once.
    pub slots: u32,
    /// `ready`, `breaker-open`, `back-pressure`, `draining`.
    pub availability: String,
    /// Its place in the plan, from 1; `null` where it is not in it.
    pub attempt: Option<usize>,
    /// What the request would experience there; `null` where its pool does not serve the model.
    pub estimate: Option<Estimate>,
    /// Prediction over plan, worst part: at most 1 where the promise is likely to be kept.
    pub strain: Option<f64>,
    /// Whether the promise is likely to be kept.
    pub meets_slo: Option<bool>,
    /// Its score; `null` where it was rejected. Lower is better.
    pub score: Option<f64>,
    /// What the score consists of, before [`CandidateReason::home`] lowers it.
    pub terms: Vec<TermReason>,
    /// Whether it is a home of the request: by the route's affinity, else of its conversation or of what begins alike.
    pub home: bool,
    /// Whether it would be sent at once; else the gateway holds it until there is room. `null` where it was rejected.
    #[serde(default)]
    pub room: Option<bool>,
    /// What it counts as with everything that makes work there cheaper or dearer than its price, US dollars; `null` where
    /// it was rejected.
    #[serde(default)]
    pub effective_usd: Option<f64>,
    /// Why it counts as more or less than its price.
    #[serde(default)]
    pub counts_because: Vec<String>,
    /// Why it was not considered.
    pub rejection: Option<RejectionReason>,
}

/// One term of a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TermReason {
    /// What it measures, with its unit.
    pub name: String,
    /// Its share of the score.
    pub value: f64,
}

/// Why an endpoint was not considered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RejectionReason {
    /// Stable code.
    pub code: String,
    /// In words, with the number that decided.
    pub message: String,
    /// The numbers by name.
    pub figures: Rejection,
}

pub(super) fn candidates(
    given: &Given<'_>,
    class: ClassId,
    decision: &Decision,
    names: &Names,
) -> Vec<CandidateReason> {
    let passed = decision.candidates.iter().filter_map(|candidate| candidate.verdict.as_ref().ok());
    let best = Best::of(passed.map(|scored| &scored.estimate));
    let objective = given.policy.routes.get(decision.route).map(|route| route.objective);
    let reasons = decision.candidates.iter().map(|candidate| {
        let reason = seen(given, class, candidate, names)?;
        let attempts = decision.plan.iter().flat_map(|plan| &plan.attempts);
        let attempt = attempts.enumerate().find(|(_, attempt)| attempt.endpoint == candidate.endpoint);
        let reason = CandidateReason { attempt: attempt.map(|(place, _)| place + 1), ..reason };
        Some(match candidate.verdict {
            Ok(scored) => priced(given, candidate, &scored, passed_with(reason, &scored, objective, &best)),
            Err(rejection) => rejected_for(reason, rejection),
        })
    });
    reasons.flatten().collect()
}

/// What is told of an endpoint whatever became of it.
fn seen(given: &Given<'_>, class: ClassId, candidate: &Candidate, names: &Names) -> Option<CandidateReason> {
    let endpoint = given.fleet.endpoints.get(candidate.endpoint)?;
    let pool = given.fleet.pools.get(endpoint.pool)?;
    let predicted = predicted(given, pool, endpoint);
    let name = given.policy.classes.get(class.0).map_or("", |class| class.name.as_str());
    let margin = Margin::on(pool.kind, &given.fleet.learned.margins(name));
    let promise = Promise { slo: promise(given, class), margin };
    let strain = predicted.as_ref().map(|estimate| strain(&promise, estimate, given.facts));
    Some(CandidateReason {
        endpoint: names.endpoint(candidate.endpoint),
        pool: pool.name.clone(),
        hardware: pool.hardware.clone(),
        kind: pool.kind.as_str().to_owned(),
        tier: candidate.tier,
        in_flight: candidate.in_flight,
        slots: pool.service.slots,
        availability: endpoint.availability.as_str().to_owned(),
        attempt: None,
        estimate: predicted,
        strain,
        meets_slo: strain.map(|strain| strain <= 1.0),
        score: None,
        terms: Vec::new(),
        home: false,
        room: None,
        effective_usd: None,
        counts_because: Vec::new(),
        rejection: None,
    })
}

/// What the request would experience on an endpoint, were nobody before it.
fn predicted(given: &Given<'_>, pool: &PoolFacts, endpoint: &EndpointState) -> Option<Estimate> {
    let (model, service) = (pool.model(given.facts.model)?, given.fleet.service(endpoint.pool)?);
    Some(Demand::new(given.facts, pool, service, model).at(given.facts, endpoint))
}

fn passed_with(reason: CandidateReason, scored: &Scored, objective: Option<Objective>, best: &Best) -> CandidateReason {
    let terms = objective.map(|objective| terms(objective, scored, best));
    let told = terms.into_iter().flatten().filter(|term| !term.name.is_empty());
    CandidateReason {
        estimate: Some(scored.estimate),
        strain: Some(scored.strain),
        meets_slo: Some(scored.feasible()),
        score: Some(scored.score),
        terms: told.map(|term| TermReason { name: term.name.to_owned(), value: term.value }).collect(),
        home: scored.home,
        room: Some(scored.room),
        ..reason
    }
}

/// What it counts as, with the reasons.
fn priced(given: &Given<'_>, candidate: &Candidate, scored: &Scored, reason: CandidateReason) -> CandidateReason {
    let Some(endpoint) = given.fleet.endpoints.get(candidate.endpoint) else { return reason };
    let Some(pool) = given.fleet.pools.get(endpoint.pool) else { return reason };
    let price = given.fleet.learned.price(endpoint.pool);
    let mut counts_because = super::price::reasons(&price, pool, given.policy.limits.usd_per_tonne_co2);
    counts_because.splice(0..0, super::price::cached(scored.estimate.cached_tokens, given.facts.input_tokens));
    CandidateReason { effective_usd: Some(scored.effective_usd), counts_because, ..reason }
}

fn rejected_for(reason: CandidateReason, rejection: Rejection) -> CandidateReason {
    let code = rejection.as_str().to_owned();
    let rejection = RejectionReason { code, message: rejection.to_string(), figures: rejection };
    CandidateReason { rejection: Some(rejection), ..reason }
}
