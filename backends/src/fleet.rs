//! The live state of every endpoint, kept by its stable name so that a reload forgets nothing, and the view of it that
//! policies read.

/// What happened to which endpoint.
mod changes;
/// A request on its way.
mod dispatched;
/// An endpoint out of service by hand.
mod drained;
/// Asking machines whether they are well.
mod prober;
/// Asking engines for their metrics.
mod scraper;
/// What decisions see of many endpoints.
mod view;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use parking_lot::Mutex;
use pointsman_policies::fleet::{Availability, EndpointState, LeaseState, ModelFacts, Window};
use pointsman_policies::units::{Micros, seven_bits};
use tokio_util::task::TaskTracker;

use crate::connect::Connections;
use crate::endpoint::EndpointId;
use crate::health::breaker::{Breaker, Position};
use crate::health::engine_report::{EngineReport, Reported, Share};
use crate::health::slow_start;
use crate::inflight::Load;
pub use crate::inflight::Work;
use crate::learn::hidden_load::Hidden;
use crate::learn::observation;
use crate::lease::{Limiter, RateLimits, Shortage};
use crate::portfolio::{Endpoint, Portfolio};
use crate::prefixes::{Cache, Prefixes};
use crate::window::Congestion;
use changes::Changes;
pub use dispatched::{Dispatched, Flight};
use drained::Drain;
pub use drained::Drained;
use prober::{Examined, Prober};
use scraper::{Asked, Scraper};
pub use view::{Seen, View};

/// The longest a machine may ask us to stay away.
const LONGEST_BACK_PRESSURE: Micros = Micros::from_secs(60);

/// Who could not be asked for so long has most likely been started again, and read nothing since.
const RESTARTED: Micros = Micros::from_secs(10);

/// Everything known of all endpoints.
#[derive(Debug)]
pub struct Fleet {
    origin: Instant,
    live: DashMap<EndpointId, Arc<Live>>,
    leases: DashMap<String, Arc<Lease>>,
    pool_numbers: Mutex<Vec<String>>,
    prefixes: Arc<Prefixes>,
    changes: Arc<Changes>,
    tasks: TaskTracker,
}

/// What is left of a pool's rate limits.
#[derive(Debug)]
struct Lease {
    limits: RateLimits,
    limiter: Mutex<Limiter>,
}

/// What is known of one endpoint now.
#[derive(Debug)]
pub struct Live {
    /// Its name.
    pub id: EndpointId,
    /// Connections to it.
    pub connections: Arc<Connections>,
    origin: Instant,
    draining: bool,
    lease: Option<Arc<Lease>>,
    window: Option<Window>,
    scraper: Option<Arc<Scraper>>,
    prober: Option<Arc<Prober>>,
    /// Whether it is the only one of its pool.
    alone: bool,
    shared: Arc<State>,
}

/// Where an endpoint stands among those of its pool.
#[derive(Clone, Copy)]
struct Company {
    /// When it came to others, should it be new; 0 where they came together.
    came: Micros,
    /// Whether there are no others.
    alone: bool,
}

/// The part that survives a change of connection settings or limits.
#[derive(Debug)]
struct State {
    /// Its number among those of the fleet.
    number: u32,
    /// Told of whatever makes [`Live::state`] say something else, but for what time alone does.
    changes: Arc<Changes>,
    cache: Cache,
    load: Arc<Load>,
    breaker: Mutex<Breaker>,
    back_pressure_until: AtomicU64,
    congestion: Congestion,
    hidden: Mutex<Option<Hidden>>,
    reported: Mutex<Reported>,
    /// When it came, or came back after a while; 0 for a machine that was there at the start.
    came: AtomicU64,
    /// Whether it says that it is not well.
    unwell: AtomicBool,
    /// When it was last asked that.
    asked_at: Mutex<Option<Instant>>,
    /// Models that it does not list, by the names that clients use.
    missing: Mutex<Vec<String>>,
    misses: AtomicBool,
    drain: Drain,
}

impl State {
    fn new(cache: Cache, changes: &Arc<Changes>) -> State {
        State {
            number: changes.number(),
            changes: Arc::clone(changes),
            cache,
            load: Arc::default(),
            breaker: Mutex::default(),
            back_pressure_until: AtomicU64::default(),
            congestion: Congestion::default(),
            hidden: Mutex::default(),
            reported: Mutex::default(),
            came: AtomicU64::default(),
            unwell: AtomicBool::default(),
            asked_at: Mutex::default(),
            missing: Mutex::default(),
            misses: AtomicBool::default(),
            drain: Drain::default(),
        }
    }

    /// It was asked whether it is well, and which of `models` it misses; `None` where it does not tell.
    fn examined(&self, well: bool, missing: Option<Vec<String>>, models: usize) {
        *self.asked_at.lock() = Some(Instant::now());
        if let Some(missing) = missing {
            self.misses.store(!missing.is_empty(), Ordering::Relaxed);
            *self.missing.lock() = missing;
        }
        let has_none = models > 0 && self.missing.lock().len() == models;
        if self.unwell.swap(!well || has_none, Ordering::Relaxed) != (!well || has_none) {
            self.changed();
        }
    }

    /// Since when little is sent to it; `None` where it was there at the start.
    fn came(&self) -> Option<Micros> {
        Some(Micros(self.came.load(Ordering::Relaxed))).filter(|came| came.0 > 0)
    }

    /// What others have there, and how much predictions are widened because that is not known well.
    fn reported(&self, now: Micros, asked: bool) -> (Share, f64) {
        let reported = self.reported.lock();
        let told = asked || reported.age_s(now).is_some();
        (reported.foreign(now), if told { reported.widening(now) } else { 1.0 })
    }

    /// What its engine says of itself.
    fn take_report(&self, at: Micros, report: &EngineReport, kv_tokens: Option<u64>) {
        let news = self.reported.lock().take(at, report, kv_tokens);
        if news.restarted {
            self.cache.forget();
        }
        if let Some(hit_rate) = news.prefix_hit_rate {
            self.cache.reported(hit_rate);
        }
        self.changed();
    }

    /// Something is different now; said after it is.
    fn changed(&self) {
        self.changes.note(self.number);
    }

    /// Keeps account of what the gateway has there, and of all that is known to be there, from this moment on.
    fn account(&self, now: Micros) {
        let (in_flight, context_tokens) = (self.load.requests(), self.load.context_tokens());
        let mut reported = self.reported.lock();
        reported.note(now, Share { in_flight, context_tokens });
        let foreign = reported.foreign(now);
        drop(reported);
        self.load.account(now, foreign);
        self.changed();
    }
}

/// How an attempt ended, for the endpoint's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its answer has begun.
    Began,
    /// Its answer was whole.
    Worked,
    /// Says nothing about it: the caller's mistake, or the caller left.
    Neutral,
    /// It has too much work and should be left alone for this long.
    BackPressure(Micros),
    /// It failed.
    Failed,
}

impl Default for Fleet {
    fn default() -> Fleet {
        Fleet {
            origin: Instant::now(),
            live: DashMap::new(),
            leases: DashMap::new(),
            pool_numbers: Mutex::new(Vec::new()),
            prefixes: Arc::default(),
            changes: Arc::default(),
            tasks: TaskTracker::new(),
        }
    }
}

impl Fleet {
    /// Time since the fleet came to be; the clock of breakers and leases.
    pub fn now(&self) -> Micros {
        since(self.origin)
    }

    /// The live endpoints of a portfolio, in its order: known ones as they are, new ones idle.
    pub fn adopt(&self, portfolio: &Portfolio) -> Vec<Arc<Live>> {
        for pool in &portfolio.pools {
            let known = self.leases.get(&pool.name).map(|lease| lease.limits);
            match pool.limits {
                Some(limits) if known != Some(limits) => {
                    let lease = Lease { limits, limiter: Mutex::new(Limiter::new(limits)) };
                    self.leases.insert(pool.name.clone(), Arc::new(lease));
                }
                Some(_) => {}
                None => drop(self.leases.remove(&pool.name)),
            }
        }
        let mut known = vec![false; portfolio.pools.len()];
        for endpoint in portfolio.endpoints.iter().filter(|endpoint| self.live.contains_key(&endpoint.id)) {
            known.get_mut(endpoint.pool).into_iter().for_each(|known| *known = true);
        }
        let now = self.now();
        let adopted = portfolio.endpoints.iter().map(|endpoint| {
            // Where all of a pool are new, there is nobody else to do the work.
            let joins = known.get(endpoint.pool).copied().unwrap_or(false);
            let alone = portfolio.facts.get(endpoint.pool).is_none_or(|pool| pool.endpoints.len() == 1);
            self.adopt_endpoint(portfolio, endpoint, Company { came: if joins { now } else { Micros(0) }, alone })
        });
        adopted.collect()
    }

    /// Forgets endpoints and leases that a portfolio no longer has; requests in flight keep what they hold.
    pub fn retain(&self, portfolio: &Portfolio) {
        let endpoints: HashSet<&EndpointId> = portfolio.endpoints.iter().map(|endpoint| &endpoint.id).collect();
        let pools: HashSet<&str> = portfolio.pools.iter().map(|pool| pool.name.as_str()).collect();
        self.live.retain(|id, _| endpoints.contains(id));
        self.leases.retain(|name, _| pools.contains(name.as_str()));
    }

    /// A number for each pool of a portfolio, in its order, that stays with the pool's name from one portfolio to the
    /// next: requests of several generations wait together.
    pub fn pool_numbers(&self, portfolio: &Portfolio) -> Vec<usize> {
        let mut known = self.pool_numbers.lock();
        let mut number = |name: &String| match known.iter().position(|known| known == name) {
            Some(number) => number,
            None => {
                known.push(name.clone());
                known.len() - 1
            }
        };
        portfolio.pools.iter().map(|pool| number(&pool.name)).collect()
    }

    /// What endpoints have in their prefix caches.
    pub fn prefixes(&self) -> &Arc<Prefixes> {
        &self.prefixes
    }

    /// Lets go of every endpoint and waits a while for their connections to close.
    pub async fn shut_down(&self, patience: Duration) {
        self.live.clear();
        self.tasks.close();
        let _ = tokio::time::timeout(patience, self.tasks.wait()).await;
    }

    /// Closes connections that have been idle too long; to be called about once a second.
    pub fn sweep(&self) {
        for live in &self.live {
            live.connections.sweep();
        }
    }

    fn adopt_endpoint(&self, portfolio: &Portfolio, endpoint: &Endpoint, company: Company) -> Arc<Live> {
        let known = self.live.get(&endpoint.id).map(|known| Arc::clone(known.value()));
        let pool = portfolio.pools.get(endpoint.pool);
        let (tls, version) = pool.map_or((None, crate::connect::Version::Negotiated), |pool| {
            (pool.tls.as_ref().filter(|_| endpoint.address.tls), pool.version)
        });
        let draining = pool.is_some_and(|pool| pool.drain);
        let lease = pool.and_then(|pool| self.leases.get(&pool.name)).map(|lease| Arc::clone(lease.value()));
        let same_lease = |live: &Live| match (&live.lease, &lease) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (None, None) => true,
            _ => false,
        };
        let window = pool.and_then(|pool| pool.window);
        let reusable = known.as_ref().filter(|live| live.connections.serves(&endpoint.address, tls, version));
        let connections = reusable.map_or_else(
            || Arc::new(Connections::new(endpoint.address.clone(), tls.cloned(), version, self.tasks.clone())),
            |live| Arc::clone(&live.connections),
        );
        let new = || {
            let state = State::new(self.prefixes.cache(), &self.changes);
            state.came.store(company.came.0, Ordering::Relaxed);
            Arc::new(state)
        };
        let shared = known.as_ref().map_or_else(new, |known| Arc::clone(&known.shared));
        if let Some(facts) = portfolio.facts.get(endpoint.pool) {
            shared.cache.belongs_to(facts);
        }
        let scraper = self.scraper(portfolio, endpoint, known.as_deref(), (&connections, &shared));
        let same_scraper = |live: &Live| live.scraper.as_ref().map(Arc::as_ptr) == scraper.as_ref().map(Arc::as_ptr);
        let prober = self.prober(portfolio, endpoint, known.as_deref(), (&connections, &shared));
        let same_prober = live_prober(known.as_deref()) == prober.as_ref().map(Arc::as_ptr);
        let same = |live: &Live| {
            same_prober
                && same_lease(live)
                && live.draining == draining
                && live.window == window
                && live.alone == company.alone
        };
        if let Some(live) = reusable.filter(|live| same(live) && same_scraper(live)) {
            return Arc::clone(live);
        }
        let id = endpoint.id.clone();
        let live = Arc::new(Live {
            id,
            connections,
            origin: self.origin,
            draining,
            alone: company.alone,
            lease,
            window,
            scraper,
            prober,
            shared,
        });
        self.live.insert(endpoint.id.clone(), Arc::clone(&live));
        live
    }

    /// Who asks an endpoint whether it is well: as before where nothing has changed.
    fn prober(
        &self,
        portfolio: &Portfolio,
        endpoint: &Endpoint,
        known: Option<&Live>,
        (connections, state): (&Arc<Connections>, &Arc<State>),
    ) -> Option<Arc<Prober>> {
        let pool = portfolio.pools.get(endpoint.pool)?;
        let Some(probe) = pool.probe(endpoint) else {
            state.examined(true, Some(Vec::new()), 0);
            return None;
        };
        let name = |model: &ModelFacts| (model.name.clone(), pool.upstream_models.get(&model.name).cloned());
        let models = portfolio.facts.get(endpoint.pool)?.models.iter().map(name);
        let models: Vec<(String, String)> = models.map(|(own, theirs)| (own.clone(), theirs.unwrap_or(own))).collect();
        let before = known.and_then(|known| known.prober.as_ref());
        if let Some(before) = before.filter(|before| before.serves(&probe, &models, connections)) {
            return Some(Arc::clone(before));
        }
        let (connections, state) = (Arc::clone(connections), Arc::clone(state));
        let examined = Examined { id: endpoint.id.clone(), connections, state, models };
        Prober::start(probe, pool, examined, &self.tasks).map(Arc::new)
    }

    /// Who asks an endpoint for its metrics: as before where nothing has changed.
    fn scraper(
        &self,
        portfolio: &Portfolio,
        endpoint: &Endpoint,
        known: Option<&Live>,
        (connections, state): (&Arc<Connections>, &Arc<State>),
    ) -> Option<Arc<Scraper>> {
        let pool = portfolio.pools.get(endpoint.pool)?;
        let scrape = pool.scrape(endpoint)?;
        let kv_tokens = portfolio.facts.get(endpoint.pool)?.service.kv_tokens;
        let before = known.and_then(|known| known.scraper.as_ref());
        if let Some(before) = before.filter(|before| before.serves(&scrape, kv_tokens, connections)) {
            return Some(Arc::clone(before));
        }
        let (id, origin) = (endpoint.id.clone(), self.origin);
        let asked = Asked { id, connections: Arc::clone(connections), state: Arc::clone(state), kv_tokens, origin };
        Scraper::start(scrape, pool, asked, &self.tasks).map(Arc::new)
    }
}

impl Live {
    /// The view that the decision reads.
    pub fn state(&self, pool: usize, now: Micros) -> EndpointState {
        EndpointState { lease: self.lease(now), ..self.state_but_lease(pool, now) }
    }

    /// When time alone changes what is known of it, availability and lease aside.
    fn fades(&self, now: Micros) -> Micros {
        let told = || self.shared.reported.lock().at().is_some();
        let slow = || self.came().and_then(|came| slow_start::part(came, now)).is_some();
        let slowly = self.scraper.is_some() || self.shared.hidden.lock().is_some() || told() || slow();
        let faded = if slowly { now + view::FADED } else { Micros::NEVER };
        self.next_read().map_or(faded, |read| read.min(faded))
    }

    /// When it is expected to have read the next prompt whose first token nobody sees.
    pub fn next_read(&self) -> Option<Micros> {
        self.shared.load.next_read()
    }

    fn state_but_lease(&self, pool: usize, now: Micros) -> EndpointState {
        let load = &self.shared.load;
        load.read_by(now);
        let (foreign, widening) = self.shared.reported(now, self.scraper.is_some());
        let hidden = self.shared.hidden.lock().map_or(observation::Factors::NEUTRAL, |hidden| hidden.factors(now));
        EndpointState {
            pool,
            availability: self.availability(now),
            in_flight: load.requests().saturating_add(foreign.in_flight),
            prefill_tokens: load.prefill_tokens(),
            context_tokens: load.context_tokens().saturating_add(foreign.context_tokens),
            output_tokens_ahead: load.output_tokens(),
            prefilling: load.prefilling(),
            strictest_itl_ms: load.strictest_itl_ms(),
            window: self.window(now),
            ttft_factor: seven_bits(hidden.ttft),
            itl_factor: seven_bits(hidden.itl),
            widening: seven_bits(widening),
            ..EndpointState::idle(pool)
        }
    }

    /// Takes it out of service, or with `None` gives it back; whether that is a change.
    pub fn drain(&self, drained: Option<Drained>) -> bool {
        let changes = self.shared.drain.set(drained);
        if changes {
            self.shared.changed();
        }
        changes
    }

    /// Who took it out of service, where an operator did.
    pub fn drained(&self) -> Option<Arc<Drained>> {
        self.shared.drain.by()
    }

    /// Whether the portfolio takes it out of service.
    pub fn is_drained_by_portfolio(&self) -> bool {
        self.draining
    }

    /// Its prefix cache, as far as is known.
    pub fn cache(&self) -> &Cache {
        &self.shared.cache
    }

    /// What has been learned of load there that nobody tells of; `None` for nothing.
    pub fn set_hidden(&self, hidden: Option<Hidden>) {
        *self.shared.hidden.lock() = hidden;
        self.shared.changed();
    }

    /// Its engine said of itself what was true at a moment; `kv_tokens` is its memory. For whoever asks it himself.
    pub fn take_report(&self, at: Micros, report: &EngineReport, kv_tokens: Option<u64>) {
        self.shared.take_report(at, report, kv_tokens);
    }

    /// Its engine is not there, so it has lost what it had read.
    pub fn is_gone(&self) {
        self.shared.cache.forget();
    }

    /// The last report of its engine and its age, seconds; `None` where there is none.
    pub fn last_report(&self, now: Micros) -> Option<(EngineReport, f64)> {
        self.shared.reported.lock().last(now)
    }

    /// Whether it said that it is well when it was last asked, and how long ago that was; `None` where it is not asked.
    pub fn last_probe(&self) -> Option<(bool, Duration)> {
        let asked_at = self.prober.as_ref().and_then(|_| *self.shared.asked_at.lock())?;
        Some((!self.shared.unwell.load(Ordering::Relaxed), asked_at.elapsed()))
    }

    /// What it is sent at once.
    pub fn window(&self, now: Micros) -> Option<Window> {
        let requests = |window| slow_start::requests(self.shared.congestion.limit(window), self.came(), now);
        self.window.map(|window| Window { requests: requests(window), ..window })
    }

    /// Since when it is sent less than others, as long as there are others who can be sent more.
    fn came(&self) -> Option<Micros> {
        if self.alone { None } else { self.shared.came() }
    }

    /// Whether it is known not to have a model, by the name that clients use.
    pub fn lacks(&self, model: &str) -> bool {
        self.shared.misses.load(Ordering::Relaxed) && self.shared.missing.lock().iter().any(|missing| missing == model)
    }

    /// Whether it may be asked.
    pub fn availability(&self, now: Micros) -> Availability {
        if self.draining || self.shared.drain.is_on() {
            return Availability::Draining;
        }
        if let Some(prober) = self.prober.as_ref().filter(|_| self.shared.unwell.load(Ordering::Relaxed)) {
            return Availability::BreakerOpen { retry_in_ms: prober.interval().as_secs_f64() * 1e3 };
        }
        let until = Micros(self.shared.back_pressure_until.load(Ordering::Relaxed));
        match self.shared.breaker.lock().position(now) {
            Position::Open { retry_in } => Availability::BreakerOpen { retry_in_ms: retry_in.as_ms() },
            Position::Trial | Position::Closed if now < until => {
                Availability::BackPressure { retry_in_ms: (until - now).as_ms() }
            }
            Position::Trial | Position::Closed => Availability::Ready,
        }
    }

    /// A request is being sent: counts it and takes what the provider will take off its limits. Refused if another
    /// request took the last of them since the decision.
    pub fn begin(self: &Arc<Self>, now: Micros, work: Work) -> Result<Dispatched, Shortage> {
        let reservation = match &self.lease {
            Some(lease) => Some(lease.limiter.lock().try_take(now, work.input_tokens, work.max_output_tokens)?),
            None => None,
        };
        let mut breaker = self.shared.breaker.lock();
        if breaker.ejected_for(now) >= RESTARTED {
            self.shared.cache.forget();
        }
        breaker.on_attempt(now);
        drop(breaker);
        Ok(Dispatched::new(Arc::clone(self), reservation, now, work))
    }

    /// Books how an attempt ended.
    pub fn report(&self, verdict: Verdict, now: Micros) {
        let mut breaker = self.shared.breaker.lock();
        let comes_back = matches!(verdict, Verdict::Began | Verdict::Worked) && breaker.ejected_for(now) >= RESTARTED;
        if comes_back {
            self.shared.came.store(now.0, Ordering::Relaxed);
        }
        match verdict {
            Verdict::Began => breaker.on_first_byte(),
            Verdict::Worked => {
                breaker.on_success();
                if let Some(window) = self.window {
                    self.shared.congestion.answered(window);
                }
            }
            Verdict::Neutral => breaker.on_neutral(),
            Verdict::Failed => breaker.on_failure(now),
            Verdict::BackPressure(wait) => {
                breaker.on_neutral();
                self.shared.congestion.too_much(now, self.shared.load.requests());
                let until = now + wait.min(LONGEST_BACK_PRESSURE);
                self.shared.back_pressure_until.fetch_max(until.0, Ordering::Relaxed);
            }
        }
        drop(breaker);
        self.shared.changed();
    }

    /// The provider's limits as they stand.
    pub fn lease(&self, now: Micros) -> Option<LeaseState> {
        self.lease.as_ref().and_then(|lease| lease.limiter.lock().state(now))
    }
}

fn live_prober(live: Option<&Live>) -> Option<*const Prober> {
    live.and_then(|live| live.prober.as_ref()).map(Arc::as_ptr)
}

fn since(origin: Instant) -> Micros {
    Micros(origin.elapsed().as_micros() as u64)
}
