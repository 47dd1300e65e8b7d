//! What each endpoint that is weighed would do for a request: judged once for its pool as far as that goes, then by what
//! the endpoint does now.

use crate::caps::{SitePower, allows, powered, read_load, site_power, waits_for_power};
use crate::decide::{Candidate, Request, Scored};
use crate::estimate::{Demand, Estimate, Line};
use crate::filter::{Rejection, filter, fits};
use crate::fleet::{Availability, Cached, EndpointState, Fleet, ModelFacts, PoolFacts, PoolLoad, ServiceModel};
use crate::home::Homes;
use crate::learned::Margin;
use crate::policy::{Class, Env, Policy, Route, Slo};
use crate::price::PoolPrice;
use crate::score::{Promise, strain};
use crate::shortlist::shortlist;

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
    /// What the request demands of its machines, or why they may not be asked.
    demand: Result<Demand<'p>, Rejection>,
    /// Why none of them can take the request, however long it waits.
    fits: Result<(), Rejection>,
    promise: Promise,
    price: PoolPrice,
    power: Option<SitePower>,
    line: PoolLine,
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

/// Weighs the endpoints of a route.
pub(crate) fn weigh(
    request: &Request<'_>,
    fleet: Fleet<'_>,
    (class, slo): (Option<&Class>, &Slo),
    route: &Route,
    env: &Env<'_>,
    (homes, draw): (&Homes, u64),
) -> Vec<Candidate> {
    let views = views(request, fleet, (class, slo), route, env);
    let max_usd = class.and_then(|class| class.max_usd);
    let mut cached = fleet.cached;
    let mut candidates = Vec::new();
    let weigh = |index: usize| {
        let Some(endpoint) = fleet.endpoints.get(index) else { return };
        let view = views.get(endpoint.pool);
        let pinned_elsewhere = route.pin.as_ref().is_some_and(|pinned| !pinned.contains(&index));
        let verdict = match view {
            Some(view) if !pinned_elsewhere || view.demand.is_err() => {
                judge(request, max_usd, view, endpoint, cached_tokens(&mut cached, index, endpoint))
            }
            Some(_) => Err(Rejection::Pinned),
            None => Err(Rejection::Route),
        };
        let tier = view.map_or(0, |view| view.tier);
        candidates.push(Candidate { endpoint: index, in_flight: endpoint.in_flight, tier, verdict });
    };
    let used = |pool: usize| views.get(pool).is_some_and(|view| view.demand.is_ok());
    let listed = shortlist(fleet, homes.places(), used, draw).filter(|_| route.pin.is_none());
    match listed {
        Some(listed) => listed.into_iter().for_each(weigh),
        None => (0..fleet.endpoints.len()).for_each(weigh),
    }
    candidates
}

/// What an endpoint is believed to have of the prompt; `cached` are those that come from here on, in order.
fn cached_tokens(cached: &mut &[Cached], index: usize, endpoint: &EndpointState) -> u64 {
    while let Some((first, others)) = cached.split_first().filter(|(first, _)| first.endpoint <= index) {
        if first.endpoint == index {
            return first.tokens;
        }
        *cached = others;
    }
    endpoint.cached_tokens
}

fn views<'p>(
    request: &Request<'_>,
    fleet: Fleet<'p>,
    (class, slo): (Option<&Class>, &Slo),
    route: &Route,
    env: &Env<'_>,
) -> Vec<PoolView<'p>> {
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
    let mut views = Vec::with_capacity(fleet.pools.len());
    for (index, pool) in fleet.pools.iter().enumerate() {
        let Some(service) = fleet.service(index) else { continue };
        let load = loads.get(index);
        let allowed = allowed(request, route, (index, pool, load), env)
            .and_then(|found| allows(limits, fleet, &loads, request.facts, index).map(|()| found));
        let line = line(fleet, index, load, priority);
        let demand = |model| Demand::new(request.facts, pool, service, model).behind(line.ahead, reserve_s);
        let (tier, demand, fits) = match allowed {
            Ok((tier, model)) => (tier, Ok(demand(model)), fits(request.facts, model)),
            Err(rejection) => (0, Err(rejection), Ok(())),
        };
        let margin = Margin::on(pool.kind, &margins);
        views.push(PoolView {
            pool,
            service,
            tier,
            demand,
            fits,
            promise: Promise { slo: *slo, margin },
            price: fleet.learned.price(index).with_energy(pool, limits.usd_per_tonne_co2),
            power: site_power(limits, &loads, index),
            line,
            pace,
        });
    }
    views
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

#[inline]
fn judge(
    request: &Request<'_>,
    max_usd: Option<f64>,
    view: &PoolView<'_>,
    endpoint: &EndpointState,
    cached_tokens: u64,
) -> Result<Scored, Rejection> {
    let demand = view.demand.as_ref().map_err(|rejection| *rejection)?;
    filter(request.facts, view.fits, endpoint)?;
    let powered = powered(view.power, view.pool, endpoint)?;
    let leased_in_ms = demand.leased_in_ms(request.facts, endpoint);
    let mut predicted = demand.estimate(endpoint, cached_tokens, leased_in_ms, false);
    let uncached_tokens = demand.uncached(cached_tokens);
    let minds_others = request.mechanisms.victims && endpoint.window.is_some();
    let full = minds_others && pushes_others(view, endpoint, uncached_tokens, &predicted);
    if full {
        predicted = demand.estimate(endpoint, cached_tokens, leased_in_ms, full);
    }
    if let Some(site) = view.power.filter(|_| !powered) {
        predicted = waits_for_power(predicted, site, endpoint);
    }
    // Whoever has waited long is likely to wait long again, whatever the queue looks like: others keep coming.
    let room = powered && !full && leased_in_ms <= 0.0 && has_room(view, endpoint, uncached_tokens);
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
fn pushes_others(view: &PoolView<'_>, endpoint: &EndpointState, uncached_tokens: u64, estimate: &Estimate) -> bool {
    let slowed = |planned_ms: f64| estimate.itl_ms > planned_ms * view.pace;
    let served = endpoint.in_flight > 0 && endpoint.strictest_itl_ms.is_some_and(slowed);
    let prefill_ms = || uncached_tokens as f64 / view.service.prefill_tokens_per_s * 1e3;
    let put_off = |slack_ms: f64| prefill_ms() / view.line.ready > slack_ms;
    served || view.line.slack_behind_ms.is_some_and(put_off)
}

/// Nobody overtakes those that the gateway holds for the pool and that go before.
fn has_room(view: &PoolView<'_>, endpoint: &EndpointState, uncached_tokens: u64) -> bool {
    let alone = view.line.ahead.requests <= 0.0;
    alone && endpoint.availability == Availability::Ready && endpoint.has_room(uncached_tokens)
}
