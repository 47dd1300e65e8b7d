//! The decision: one request, one view of the fleet, one draw → a plan, with a reason for every candidate.

use crate::caps::{SitePower, allows, give_way, powered, read_load, site_power, waits_for_power, yields};
use crate::estimate::{Estimate, Line, Place, estimate, uncached_tokens};
use crate::explore::explore;
use crate::facts::Facts;
use crate::filter::{Rejection, filter};
use crate::fleet::{Availability, EndpointState, Fleet, ModelFacts, PoolFacts, PoolLoad, ServiceModel};
use crate::hedge::hedge;
use crate::home::Homes;
use crate::learned::Margin;
use crate::mechanisms::Mechanisms;
use crate::passing::until_passed;
use crate::pick::rank;
use crate::plan::{Plan, hold, plan};
use crate::policy::{Class, ClassId, Env, Policy, Route, Slo};
use crate::price::PoolPrice;
use crate::score::{Best, Promise, score, strain};
use crate::shortlist::shortlist;

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

/// Of a provider's limit, so many seconds' worth are left to each class that is more urgent: what is used up to the last
/// token makes the urgent wait for the next.
const RESERVE_S_PER_CLASS: f64 = 1.0;
/// Of the pace that is promised to those who are served, so much is left to each class that is more urgent: who fills a
/// machine up to what they can bear makes the next of them wait until somebody leaves. A batch beside a chat shows it;
/// on the merged Azure traces it is worth nothing up to load 2.0 (first 1,167 s: 0.965 kept with and without), and 0.1
/// costs half a point.
const PACE_PER_CLASS: f64 = 0.05;

/// How many seconds' worth of a provider's limit a request of a class leaves to those that are more urgent.
pub fn reserve_s(policy: &Policy, class: Option<&Class>) -> f64 {
    RESERVE_S_PER_CLASS * more_urgent(policy, class)
}

/// How many classes are more urgent than one.
fn more_urgent(policy: &Policy, class: Option<&Class>) -> f64 {
    let priority = class.map_or(0, |class| class.priority);
    policy.classes.iter().filter(|other| other.priority > priority).count() as f64
}

/// The part of the time that a request has waited which it is expected to wait once more where there is no room. Merged
/// Azure traces, first 1,167 s at load 1.6, two seeds: 0.952 kept with 0, 0.970 with 0.4, 0.976 with 0.75, 0.980 with 1,
/// which is dearer.
const WAITS_AGAIN: f64 = 0.75;

/// What is the same for all endpoints of one pool.
struct PoolView<'p> {
    pool: &'p PoolFacts,
    service: &'p ServiceModel,
    tier: u8,
    model: Result<&'p ModelFacts, Rejection>,
    promise: Promise,
    price: PoolPrice,
    power: Option<SitePower>,
    line: PoolLine,
    /// Seconds' worth of provider's limits that are left to more urgent classes.
    reserve_s: f64,
    /// The part of others' pace that may be used up.
    pace: f64,
}

/// What the gateway holds for one pool.
#[derive(Clone, Copy, Default)]
struct PoolLine {
    /// What goes before the request, as one endpoint's share.
    ahead: Line,
    /// How much the most pressed of those that come after it can be put off, milliseconds.
    slack_behind_ms: Option<f64>,
    /// Endpoints that take work.
    ready: f64,
}

fn weigh(
    request: &Request<'_>,
    fleet: Fleet<'_>,
    (class, slo): (Option<&Class>, &Slo),
    route: &Route,
    env: &Env<'_>,
    (homes, draw): (&Homes, u64),
) -> Vec<Candidate> {
    let limits = &request.policy.limits;
    let reads_load = request.policy.reads_load || read_load(limits) || !fleet.waiting.is_empty();
    let loads = match (reads_load, limits.site_power_kw.is_empty()) {
        (true, true) => fleet.loads_but_power(),
        (true, false) => fleet.loads(),
        (false, _) => Vec::new(),
    };
    let priority = class.map_or(0, |class| class.priority);
    let reserve_s = reserve_s(request.policy, class);
    let pace = (1.0 - PACE_PER_CLASS * more_urgent(request.policy, class)).max(0.0);
    let margins = fleet.learned.margins(class.map_or("", |class| class.name.as_str()));
    let views: Vec<PoolView<'_>> = (fleet.pools.iter().enumerate())
        .filter_map(|(index, pool)| {
            let load = loads.get(index);
            let allowed = allowed(request, route, (index, pool, load), env)
                .and_then(|found| allows(limits, fleet, &loads, request.facts, index).map(|()| found));
            let (tier, model) = match allowed {
                Ok((tier, model)) => (tier, Ok(model)),
                Err(rejection) => (0, Err(rejection)),
            };
            let margin = Margin::on(pool.kind, &margins);
            Some(PoolView {
                pool,
                service: fleet.service(index)?,
                tier,
                model,
                promise: Promise { slo: *slo, margin },
                price: fleet.learned.price(index).with_energy(pool, limits.usd_per_tonne_co2),
                power: site_power(limits, &loads, index),
                line: line(fleet, index, load, priority),
                reserve_s,
                pace,
            })
        })
        .collect();
    let max_usd = class.and_then(|class| class.max_usd);
    let candidate = |index: usize| {
        let own;
        let endpoint = match fleet.cached {
            [] => fleet.endpoints.get(index)?,
            _ => {
                own = fleet.endpoint(index)?;
                &own
            }
        };
        let view = views.get(endpoint.pool);
        let pinned_elsewhere = route.pin.as_ref().is_some_and(|pinned| !pinned.contains(&index));
        let verdict = match view {
            Some(view) if !pinned_elsewhere || view.model.is_err() => judge(request, max_usd, view, endpoint),
            Some(_) => Err(Rejection::Pinned),
            None => Err(Rejection::Route),
        };
        let tier = view.map_or(0, |view| view.tier);
        Some(Candidate { endpoint: index, in_flight: endpoint.in_flight, tier, verdict })
    };
    let used = |pool: usize| views.get(pool).is_some_and(|view| view.model.is_ok());
    let listed = shortlist(fleet, homes.places(), used, draw).filter(|_| route.pin.is_none());
    let mut candidates = Vec::with_capacity(listed.as_ref().map_or(fleet.endpoints.len(), Vec::len));
    match listed {
        Some(listed) => candidates.extend(listed.into_iter().filter_map(candidate)),
        None => candidates.extend((0..fleet.endpoints.len()).filter_map(candidate)),
    }
    candidates
}

/// The tier of the route that a pool is in, and the model as it serves it; or why the route does not use it.
fn allowed<'p>(
    request: &Request<'_>,
    route: &Route,
    (index, pool, load): (usize, &'p PoolFacts, Option<&PoolLoad>),
    env: &Env<'_>,
) -> Result<(u8, &'p ModelFacts), Rejection> {
    let model = pool.model(request.facts.model).ok_or(Rejection::Model)?;
    let env = Env { pool: Some(pool), load, ..*env };
    if route.exclude.as_ref().is_some_and(|exclude| exclude.allows(index, &env)) {
        return Err(Rejection::Excluded);
    }
    let tier = route.tiers.iter().position(|tier| tier.allows(index, &env)).ok_or(Rejection::Route)?;
    Ok((u8::try_from(tier).unwrap_or(u8::MAX), model))
}

fn line(fleet: Fleet<'_>, pool: usize, load: Option<&PoolLoad>, priority: i32) -> PoolLine {
    let ready = f64::from(load.map_or(1, |load| load.ready).max(1));
    let mut line = PoolLine { ready, ..PoolLine::default() };
    for waiting in fleet.waiting.iter().filter(|waiting| waiting.pool == pool) {
        if waiting.priority >= priority {
            line.ahead.requests += f64::from(waiting.requests) / ready;
            line.ahead.input_tokens += waiting.input_tokens as f64 / ready;
        } else if let Some(slack_ms) = waiting.least_slack_ms {
            line.slack_behind_ms = Some(line.slack_behind_ms.map_or(slack_ms, |least| least.min(slack_ms)));
        }
    }
    line
}

fn judge(
    request: &Request<'_>,
    max_usd: Option<f64>,
    view: &PoolView<'_>,
    endpoint: &EndpointState,
) -> Result<Scored, Rejection> {
    let model = view.model?;
    filter(request, model, endpoint)?;
    let mut place = Place {
        pool: view.pool,
        service: view.service,
        model,
        endpoint,
        line: view.line.ahead,
        full: false,
        reserve_s: view.reserve_s,
    };
    let powered = powered(view.power, view.pool, endpoint)?;
    let mut predicted = estimate(request.facts, &place);
    let minds_others = request.mechanisms.victims && endpoint.window.is_some();
    if minds_others && pushes_others(request.facts, view, endpoint, &predicted) {
        place.full = true;
        predicted = estimate(request.facts, &place);
    }
    if let Some(site) = view.power.filter(|_| !powered) {
        predicted = waits_for_power(predicted, site, endpoint);
    }
    // Whoever has waited long is likely to wait long again, whatever the queue looks like: others keep coming.
    let room = powered && !place.full && has_room(request.facts, view, endpoint);
    let longer_ms = if room { 0.0 } else { (request.facts.waited_ms * WAITS_AGAIN - predicted.wait_ms).max(0.0) };
    let estimate = if longer_ms > 0.0 { predicted.put_off(longer_ms) } else { predicted };
    if let Some(ceiling) = max_usd.filter(|ceiling| estimate.usd > *ceiling) {
        return Err(Rejection::Price { usd: estimate.usd, ceiling });
    }
    let Margin { ttft, itl } = view.promise.margin;
    let margin = Margin { ttft: ttft / endpoint.widening, itl: itl / endpoint.widening };
    let promise = Promise { margin, ..view.promise };
    Ok(Scored {
        estimate,
        strain: strain(&promise, &estimate, request.facts),
        effective_usd: view.price.effective_usd(&estimate, endpoint.lease.map_or(0.0, |lease| lease.scarcity())),
        lost: view.promise.slo.ttft_ms.is_some_and(|ttft_ms| request.facts.waited_ms > ttft_ms),
        room,
        score: 0.0,
        home: false,
    })
}

/// Whether somebody who is served there, or waits with a lower class, would lose what he is promised.
fn pushes_others(facts: &Facts<'_>, view: &PoolView<'_>, endpoint: &EndpointState, estimate: &Estimate) -> bool {
    let slowed = |planned_ms: f64| estimate.itl_ms > planned_ms * view.pace;
    let served = endpoint.in_flight > 0 && endpoint.strictest_itl_ms.is_some_and(slowed);
    let prefill_ms = || uncached_tokens(facts, endpoint) as f64 / view.service.prefill_tokens_per_s * 1e3;
    let put_off = |slack_ms: f64| prefill_ms() / view.line.ready > slack_ms;
    served || view.line.slack_behind_ms.is_some_and(put_off)
}

/// Nobody overtakes those that the gateway holds for the pool and that go before.
fn has_room(facts: &Facts<'_>, view: &PoolView<'_>, endpoint: &EndpointState) -> bool {
    let leased = endpoint.lease.is_none_or(|lease| lease.ready_in_ms(facts, view.reserve_s) <= 0.0);
    let alone = view.line.ahead.requests <= 0.0;
    alone
        && leased
        && endpoint.availability == Availability::Ready
        && endpoint.has_room(uncached_tokens(facts, endpoint))
}
