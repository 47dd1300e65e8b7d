//! The events of a run in order of time: arrivals, the network, machines, what routers do.

/// What gateways do and are told.
mod gateways;
/// What machines do and send.
mod machines;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;

use pointsman_backends::accounts::Commitment;
use pointsman_backends::lease::Limiter;
use pointsman_backends::portfolio::Portfolio;
use pointsman_backends::simulators::engine::Emission;
use pointsman_policies::fleet::PoolFacts;
use pointsman_policies::policy::{ClassId, Policy, Slo};
use pointsman_policies::price::Period;
use pointsman_policies::units::Micros;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use self::gateways::Gateway;
use super::attempts::{Attempts, Key};
use super::conditions::Conditions;
use super::machine::{Machine, metered, profile, seed};
use super::report::{End, Outcome, PoolReport, Report};
use super::router::{Act, BEGINNING_S, Reported, Router, SeenEndpoint};
use super::workload::{Request, Workload};

/// Power is judged over spans of this length.
const POWER_SPAN: Micros = Micros::from_secs(10);
/// Herding is judged over spans of this length.
const HERD_SPAN: Micros = Micros::from_secs(1);

/// What is simulated: machines, rules, the model that all requests ask for.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// The machines.
    pub portfolio: &'a Portfolio,
    /// Names the classes and their promises.
    pub policy: &'a Policy,
    /// The model.
    pub model: &'a str,
}

/// Runs a workload through gateways, one router each, and judges every answer.
pub fn run(
    setup: &Setup<'_>,
    workload: &Workload,
    conditions: &Conditions,
    routers: &mut [Box<dyn Router + '_>],
) -> Report {
    let mut world = World::new(setup, workload, conditions, routers);
    world.begin();
    while world.step(routers) {}
    world.end(routers)
}

/// Whether of every class at least its target is kept. Stops as soon as it is not.
pub fn keeps_targets(
    setup: &Setup<'_>,
    workload: &Workload,
    conditions: &Conditions,
    routers: &mut [Box<dyn Router + '_>],
) -> bool {
    let missable = missable(setup.policy, workload);
    let too_many = |report: &Report| {
        let missed = report.classes.iter().map(|class| class.kept.all - class.kept.good);
        missed.zip(&missable).any(|(missed, missable)| missed > *missable)
    };
    let mut world = World::new(setup, workload, conditions, routers);
    world.begin();
    while world.step(routers) {
        if too_many(&world.report) {
            return false;
        }
    }
    !too_many(&world.end(routers))
}

/// How many requests of each class of a workload may be missed; all of a class that the policy does not have.
fn missable(policy: &Policy, workload: &Workload) -> Vec<u64> {
    let mut all = vec![0u64; workload.classes.len()];
    for request in &workload.requests {
        if let Some(count) = all.get_mut(usize::from(request.class)) {
            *count += 1;
        }
    }
    let target = |name: &String| {
        let class = policy.class_by_name(name).and_then(|id| policy.classes.get(id.0));
        class.map_or(0.0, |class| class.target)
    };
    let classes = all.into_iter().zip(&workload.classes);
    classes.map(|(all, name)| ((1.0 - target(name)) * all as f64 + 1e-9) as u64).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: Micros,
    /// Of those at the same time, who was planned first happens first.
    number: u64,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// The next request of the workload comes.
    Arrival,
    /// A request reaches its machine.
    Reaches(Key),
    /// A machine has something to do.
    Machine(usize),
    /// The first token of a stream reaches its gateway.
    First(Key),
    /// The end of an answer reaches its gateway.
    Last(Key),
    /// Word that the connection broke reaches the gateway.
    Broke(Key),
    /// A machine's refusal reaches the gateway.
    Away(Key, Option<Micros>),
    /// A gateway's change of mind reaches the machine.
    Cancel(Key),
    /// Metrics of engines are read.
    Read,
    /// Metrics reach the gateways.
    Metrics,
    /// A gateway asked to be woken.
    Wake(usize),
    /// The disturbance with this index.
    Disturbance(usize),
    /// Health checks have noticed whether an endpoint is up.
    Noticed(usize, bool),
    /// A neighbour's next request at an endpoint.
    Neighbour(usize),
    /// Power is read.
    Power,
    /// Herding is counted.
    Herd,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Its attempts under way.
    attempts: Option<Key>,
    /// The attempt whose first token came first, and when.
    first: Option<(Key, Micros)>,
    /// It has been sent somewhere.
    sent: bool,
    settled: bool,
}

struct World<'a> {
    setup: Setup<'a>,
    workload: &'a Workload,
    conditions: &'a Conditions,
    now: Micros,
    /// What is not done by then is missed.
    last: Micros,
    events: BinaryHeap<Reverse<Event>>,
    planned: u64,
    arrived: usize,
    settled: usize,
    requests: Vec<Progress>,
    attempts: Attempts,
    machines: Vec<Machine>,
    /// The endpoints of each pool.
    pools: Vec<Range<usize>>,
    limiters: Vec<Option<Limiter>>,
    gateways: Vec<Gateway>,
    /// Classes of the workload as the policy knows them.
    classes: Vec<(ClassId, Slo, i32)>,
    report: Report,
    random: Pcg64Mcg,
    jobs_of_neighbours: u64,
    joules_before: f64,
    underway: VecDeque<Vec<Reported>>,
    emissions: Vec<Emission>,
    acts: Vec<Act>,
}

impl<'a> World<'a> {
    fn new(
        setup: &Setup<'a>,
        workload: &'a Workload,
        conditions: &'a Conditions,
        routers: &[Box<dyn Router + '_>],
    ) -> World<'a> {
        let pools = &setup.portfolio.facts;
        let seed = |index: usize| seed(conditions.seed, index);
        let rented = setup.portfolio.pools.iter().map(|pool| pool.limits.is_some());
        let profiles: Vec<_> = pools.iter().zip(rented).map(|(pool, rented)| metered(profile(pool), rented)).collect();
        let machines: Vec<Machine> = setup
            .portfolio
            .endpoints
            .iter()
            .enumerate()
            .filter_map(|(index, endpoint)| {
                Some(Machine::new(profiles.get(endpoint.pool)?, endpoint.pool, seed(index)))
            })
            .collect();
        let seen: Vec<SeenEndpoint> = machines
            .iter()
            .map(|machine| SeenEndpoint {
                pool: machine.pool,
                up: true,
                reported: None,
                in_flight: 0,
                prefill_tokens: 0,
                context_tokens: 0,
            })
            .collect();
        let names = pools.iter().map(|pool| pool.name.clone()).collect();
        let router = routers.first().map_or("", |router| router.name());
        World {
            setup: *setup,
            workload,
            conditions,
            now: Micros(0),
            last: workload.span + conditions.patience,
            events: BinaryHeap::new(),
            planned: 0,
            arrived: 0,
            settled: 0,
            requests: vec![Progress::default(); workload.requests.len()],
            attempts: Attempts::default(),
            limiters: setup.portfolio.pools.iter().map(|pool| pool.limits.map(Limiter::new)).collect(),
            gateways: routers.iter().map(|_| Gateway { seen: seen.clone(), wakes: Micros::NEVER }).collect(),
            classes: workload.classes.iter().map(|name| class(setup.policy, name)).collect(),
            report: Report::new(router, &workload.classes, workload.tenants.len(), names, workload.span),
            random: Pcg64Mcg::seed_from_u64(seed(usize::MAX)),
            jobs_of_neighbours: 0,
            joules_before: 0.0,
            underway: VecDeque::new(),
            emissions: Vec::new(),
            acts: Vec::new(),
            pools: ranges(&machines),
            machines,
        }
    }

    fn begin(&mut self) {
        if let Some(first) = self.workload.requests.first() {
            self.plan(first.at, What::Arrival);
        }
        if self.conditions.metrics.every > Micros(0) {
            self.plan(Micros(0), What::Read);
        }
        for (index, disturbance) in self.conditions.disturbances.iter().enumerate() {
            self.plan(disturbance.at, What::Disturbance(index));
        }
        self.plan(POWER_SPAN, What::Power);
        self.plan(HERD_SPAN, What::Herd);
    }

    /// The next event. `false` where the run is over.
    fn step(&mut self, routers: &mut [Box<dyn Router + '_>]) -> bool {
        let Some(Reverse(event)) = self.events.pop() else { return false };
        if event.at > self.last || self.settled == self.workload.requests.len() {
            return false;
        }
        self.now = event.at;
        self.report.events += 1;
        self.happen(event.what, routers);
        true
    }

    fn plan(&mut self, at: Micros, what: What) {
        self.planned += 1;
        self.events.push(Reverse(Event { at, number: self.planned, what }));
    }

    fn happen(&mut self, what: What, routers: &mut [Box<dyn Router + '_>]) {
        match what {
            What::Arrival => self.arrival(routers),
            What::Reaches(key) => self.reaches(key),
            What::Machine(endpoint) => self.machine(endpoint),
            What::First(key) => self.first(key, routers),
            What::Last(key) => self.ended(key, false, routers),
            What::Broke(key) => self.ended(key, true, routers),
            What::Away(key, wait) => self.away(key, wait, routers),
            What::Cancel(key) => self.cancel(key),
            What::Read => self.read(),
            What::Metrics => self.metrics(),
            What::Wake(gateway) => self.wake(gateway, routers),
            What::Disturbance(index) => self.disturb(index),
            What::Noticed(endpoint, up) => self.notice(endpoint, up),
            What::Neighbour(endpoint) => self.neighbour(endpoint),
            What::Power => self.power(),
            What::Herd => self.herd(),
        }
    }

    fn request(&self, id: u32) -> Option<&'a Request> {
        self.workload.requests.get(id as usize)
    }

    fn pool_of(&self, endpoint: usize) -> Option<(usize, &'a PoolFacts)> {
        let pool = self.machines.get(endpoint)?.pool;
        Some((pool, self.setup.portfolio.facts.get(pool)?))
    }

    /// One way through the network.
    fn one_way(&self, endpoint: usize) -> Micros {
        self.pool_of(endpoint).map_or(Micros(0), |(_, pool)| Micros::from_ms(pool.round_trip_ms / 2.0))
    }

    fn settle(&mut self, id: u32, end: End, pool: Option<usize>) {
        let Some(request) = self.request(id) else { return };
        let Some(progress) = self.requests.get_mut(id as usize).filter(|progress| !progress.settled) else { return };
        progress.settled = true;
        self.settled += 1;
        let slo = self.classes.get(usize::from(request.class)).map_or(Slo::default(), |(_, slo, _)| *slo);
        let (class, tenant) = (usize::from(request.class), usize::from(request.tenant));
        self.report.settle(&Outcome { at: request.at, class, tenant, slo, end, pool });
    }

    fn power(&mut self) {
        let joules = self.joules();
        let kilowatts = (joules - self.joules_before) / POWER_SPAN.as_secs() / 1e3;
        self.report.peak_kw = self.report.peak_kw.max(kilowatts);
        self.joules_before = joules;
        self.plan(self.now + POWER_SPAN, What::Power);
    }

    /// Used so far by all sites, joules.
    fn joules(&self) -> f64 {
        let pue = |pool: usize| self.setup.portfolio.facts.get(pool).map_or(1.0, |pool| pool.pue);
        self.machines.iter().map(|machine| machine.joules(self.now) * pue(machine.pool)).sum()
    }

    fn herd(&mut self) {
        self.report.herding.tick(&self.pools);
        if self.now <= self.workload.span {
            self.look();
        }
        self.plan(self.now + HERD_SPAN, What::Herd);
    }

    /// How much of every pool is in use now.
    fn look(&mut self) {
        let now = self.now;
        for machine in &self.machines {
            let pue = self.setup.portfolio.facts.get(machine.pool).map_or(1.0, |pool| pool.pue);
            let Some(pool) = self.report.pools.get_mut(machine.pool) else { continue };
            pool.usage.machine(&machine.engine);
            pool.usage.energy(now, machine.joules(now) * pue);
        }
        for (pool, limiter) in self.report.pools.iter_mut().zip(&self.limiters) {
            pool.usage.limit(limiter.as_ref().and_then(|limiter| limiter.state(self.now)));
        }
    }

    fn end(mut self, routers: &[Box<dyn Router + '_>]) -> Report {
        let open: Vec<u32> = (0..).zip(&self.requests).filter(|(_, one)| !one.settled).map(|(id, _)| id).collect();
        for id in open {
            self.settle(id, End::Unfinished, None);
        }
        let now = self.now;
        for machine in &self.machines {
            let pue = self.setup.portfolio.facts.get(machine.pool).map_or(1.0, |pool| pool.pue);
            if let Some(pool) = self.report.pools.get_mut(machine.pool) {
                pool.joules += machine.joules(now) * pue;
            }
        }
        for (pool, terms) in self.report.pools.iter_mut().zip(&self.setup.portfolio.pools) {
            pool.commitment_used = terms.commitment.and_then(|owed| commitment_used(owed, pool, self.workload.span));
        }
        self.report.moves = routers.iter().map(|router| router.moves()).sum();
        self.report
    }
}

/// The part of what is owed for a span that was used; of dollars and tokens, what was used less. What is owed for a month
/// is owed evenly.
fn commitment_used(owed: Commitment, pool: &PoolReport, span: Micros) -> Option<f64> {
    let month = Period::Month.around(i64::try_from(BEGINNING_S).unwrap_or_default(), 0);
    let part = span.as_secs() / month.length_s();
    let tokens = pool.input_tokens.saturating_add(pool.output_tokens) as f64;
    let used = [(owed.usd_per_month, pool.usd), (owed.tokens_per_month, tokens)];
    let parts = used.into_iter().filter_map(|(owed, used)| Some(used / (owed? * part).max(1e-9)));
    parts.min_by(f64::total_cmp)
}

/// The endpoints of each pool that has any.
fn ranges(machines: &[Machine]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut before = None;
    for (index, machine) in machines.iter().enumerate() {
        match ranges.last_mut().filter(|_| before == Some(machine.pool)) {
            Some(range) => range.end = index + 1,
            None => ranges.push(index..index + 1),
        }
        before = Some(machine.pool);
    }
    ranges
}

/// A class by name; one that the policy does not have promises nothing.
fn class(policy: &Policy, name: &str) -> (ClassId, Slo, i32) {
    let found = policy.class_by_name(name);
    let class = found.and_then(|id| Some((id, policy.classes.get(id.0)?)));
    class.map_or((ClassId(usize::MAX), Slo::default(), 0), |(id, class)| (id, class.slo, class.priority))
}

#[cfg(test)]
mod tests;
