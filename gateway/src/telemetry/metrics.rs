//! Counters and histograms of every request, in Prometheus' text form.

/// Their kinds and units.
pub(super) mod register;
/// Attempts that failed, and those beyond the first.
mod attempts;
/// Who called, and what of keys and certificates is in force.
mod identity;
/// Clients' connections.
mod connections;
/// Histograms of what requests take.
mod times;
/// What classes promise, and what of it was kept.
mod promises;
/// Commitments, budgets, sites, vendors.
mod prices;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use pointsman_policies::fleet::Availability;
use pointsman_policies::trial::Arm;
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::learned::LearnedMetrics;
use super::names::metric;
use crate::gateway::Gateway;
use crate::record::Record;
use crate::snapshot::Snapshot;
use register::Register;

type FloatCounter = Counter<f64, AtomicU64>;

/// The label of what has no class or met no pool.
static NONE: LazyLock<Arc<str>> = LazyLock::new(|| "none".into());

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Served {
    class: Arc<str>,
    pool: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Requested {
    class: Arc<str>,
    pool: Arc<str>,
    hardware: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Direction {
    class: Arc<str>,
    pool: Arc<str>,
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Energy {
    class: Arc<str>,
    pool: Arc<str>,
    source: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tried {
    arm: &'static str,
    class: Arc<str>,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Held {
    class: Arc<str>,
    pool: Arc<str>,
    end: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WithResult {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfEndpoint {
    endpoint: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    endpoint: String,
    state: &'static str,
}

/// States of an endpoint.
const STATES: [&str; 4] = ["ready", "breaker-open", "back-pressure", "draining"];

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    register: Mutex<Register>,
    requests: Family<Requested, Counter>,
    attempts: attempts::Attempts,
    connections: connections::Connections,
    promises: promises::Promises,
    tokens: Family<Direction, Counter>,
    cost_usd: Family<Served, FloatCounter>,
    energy_joules: Family<Energy, FloatCounter>,
    times: times::Times,
    overhead: Histogram,
    decide: Histogram,
    queue_held: Family<Served, Gauge>,
    queue_ended: Family<Held, Counter>,
    queue_moves: Family<Served, Counter>,
    reload_ok: Gauge,
    reloads: Family<WithResult, Counter>,
    trial_requests: Family<Tried, Counter>,
    trial_rollbacks: Counter,
    shadow_decisions: Family<WithResult, Counter>,
    records_dropped: Counter,
    decisions_recorded: Family<WithResult, Counter>,
    spans: Family<WithResult, Counter>,
    in_flight: Family<OfEndpoint, Gauge>,
    available: Family<OfEndpoint, Gauge>,
    endpoint_state: Family<InState, Gauge>,
    learned: LearnedMetrics,
    identity: identity::IdentityMetrics,
    prices: prices::Prices,
}

/// Edges for what takes microseconds.
const DECIDE_BUCKETS_S: [f64; 14] =
    [2e-6, 4e-6, 6e-6, 8e-6, 1e-5, 1.3e-5, 1.6e-5, 2e-5, 3e-5, 5e-5, 1e-4, 2e-4, 1e-3, 1e-2];
const OVERHEAD_BUCKETS_S: [f64; 9] = [2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 1e-3, 1e-2];

impl Default for Metrics {
    fn default() -> Metrics {
        let metrics = Metrics {
            register: Mutex::default(),
            requests: Family::default(),
            attempts: attempts::Attempts::default(),
            connections: connections::Connections::default(),
            promises: promises::Promises::default(),
            tokens: Family::default(),
            cost_usd: Family::default(),
            energy_joules: Family::default(),
            times: times::Times::default(),
            overhead: Histogram::new(OVERHEAD_BUCKETS_S),
            decide: Histogram::new(DECIDE_BUCKETS_S),
            queue_held: Family::default(),
            queue_ended: Family::default(),
            queue_moves: Family::default(),
            reload_ok: Gauge::default(),
            reloads: Family::default(),
            trial_requests: Family::default(),
            trial_rollbacks: Counter::default(),
            shadow_decisions: Family::default(),
            records_dropped: Counter::default(),
            decisions_recorded: Family::default(),
            spans: Family::default(),
            in_flight: Family::default(),
            available: Family::default(),
            endpoint_state: Family::default(),
            learned: LearnedMetrics::default(),
            identity: identity::IdentityMetrics::default(),
            prices: prices::Prices::default(),
        };
        metrics.reload_ok.set(1);
        for result in ["same", "different", "dropped"] {
            let _ = metrics.shadow_decisions.get_or_create(&WithResult { result });
        }
        metrics.register_all();
        metrics
    }
}

impl Metrics {
    /// Counts a request that has ended.
    pub fn request(&self, record: &Record) {
        let class = record.class.as_ref().unwrap_or(&NONE).clone();
        let pool = record.endpoint().map_or(&*NONE, |attempt| &attempt.pool).clone();
        let hardware = record.hardware.map_or("none", |kind| kind.as_str());
        let outcome = record.outcome.as_str();
        self.requests.get_or_create(&Requested { class: class.clone(), pool: pool.clone(), hardware, outcome }).inc();
        self.promises.request(record, &class);
        let served = Served { class: class.clone(), pool: pool.clone() };
        self.times.request(record, &served);
        if record.decision.is_some() {
            self.overhead.observe(record.decided_at.saturating_sub(record.read_at).as_secs_f64());
            self.decide.observe(record.decided_at.saturating_sub(record.classified_at).as_secs_f64());
        }
        if let Some(waited) = &record.waited {
            let served = Served { class: class.clone(), pool: Arc::clone(&waited.pool) };
            self.times.held(record, &served, waited.ms());
            self.queue_moves.get_or_create(&served).inc_by(u64::from(waited.moved));
            let Served { class, pool } = served;
            self.queue_ended.get_or_create(&Held { class, pool, end: waited.end.as_str() }).inc();
        }
        self.attempts.request(record, &class);
        self.identity.request(record);
        if let Some(usage) = record.usage {
            let of = |direction| Direction { class: class.clone(), pool: pool.clone(), direction };
            self.tokens.get_or_create(&of("input")).inc_by(usage.input_tokens);
            self.tokens.get_or_create(&of("output")).inc_by(usage.output_tokens);
            self.cost_usd.get_or_create(&served).inc_by(record.usd);
            if let Some(joules) = record.joules {
                let energy = Energy { class, pool, source: "modelled" };
                self.energy_joules.get_or_create(&energy).inc_by(joules);
            }
        }
    }

    /// Clients' connections.
    pub fn connections(&self) -> &connections::Connections {
        &self.connections
    }

    /// Counts a failed attempt.
    pub fn attempt_failed(&self, pool: &str, cause: &'static str) {
        self.attempts.failed(pool, cause);
    }

    /// Counts a further attempt after one that failed: made, or refused by its route's budget.
    pub fn retry(&self, route: &str, made: bool) {
        self.attempts.retry(route, made);
    }

    /// Counts a request that had to say who calls, by what proved it and the result.
    pub fn identified(&self, by: &'static str, result: &'static str) {
        self.identity.identified(by, result);
    }

    /// Counts keys or certificates that were read because they had changed.
    pub fn credentials_read(&self, what: &'static str, ok: bool) {
        self.identity.read(what, ok);
    }

    /// Notes whether keys or certificates as they are now are in force.
    pub fn credentials_ok(&self, what: &'static str, ok: bool) {
        self.identity.ok(what, ok);
    }

    /// Notes when certificates end, seconds since 1970.
    pub fn certificate_ends(&self, ends: &[(String, u64)]) {
        self.identity.ends(ends);
    }

    /// Notes the generation in force and what it promises.
    pub fn in_force(&self, snapshot: &Snapshot) {
        self.promises.in_force(snapshot);
        self.times.promise(&snapshot.policy.classes);
    }

    /// Counts a reload.
    pub fn reload(&self, ok: bool) {
        self.reload_ok.set(i64::from(ok));
        self.reloads.get_or_create(&WithResult { result: if ok { "ok" } else { "refused" } }).inc();
    }

    /// Counts a request while a canary runs.
    pub fn trial_request(&self, arm: Arm, class: &str, kept: bool) {
        let result = if kept { "kept" } else { "missed" };
        self.trial_requests.get_or_create(&Tried { arm: arm.as_str(), class: class.into(), result }).inc();
    }

    /// Counts a canary rolled back by its guard.
    pub fn rollback(&self) {
        self.trial_rollbacks.inc();
    }

    /// Counts a decision compared with a shadow's: `same`, `different`, `dropped`.
    pub fn shadow(&self, result: &'static str) {
        self.shadow_decisions.get_or_create(&WithResult { result }).inc();
    }

    /// Counts a record that telemetry could not take.
    pub fn record_dropped(&self) {
        self.records_dropped.inc();
    }

    /// Records that telemetry could not take.
    pub fn dropped_records(&self) -> u64 {
        self.records_dropped.get()
    }

    /// Counts decisions by what became of them while recording: `written`, `dropped`.
    pub fn decisions_recorded(&self, result: &'static str, count: u64) {
        self.decisions_recorded.get_or_create(&WithResult { result }).inc_by(count);
    }

    /// Counts spans by what became of them: `sent`, `failed`, `dropped`.
    pub fn spans(&self, result: &'static str, count: u64) {
        self.spans.get_or_create(&WithResult { result }).inc_by(count);
    }

    /// Everything in OpenMetrics text.
    pub fn render(&self, gateway: &Gateway) -> String {
        let register = self.register.lock(); // also keeps two scrapes apart
        self.in_flight.clear();
        self.available.clear();
        self.endpoint_state.clear();
        self.queue_held.clear();
        for waiting in gateway.queue().flow().overview(gateway.fleet().now()) {
            let served = Served { class: waiting.class.into(), pool: waiting.pool.into() };
            self.queue_held.get_or_create(&served).set(i64::try_from(waiting.requests).unwrap_or(i64::MAX));
        }
        let snapshot = gateway.snapshot();
        let states = snapshot.endpoint_states(gateway.fleet().now());
        for (target, state) in snapshot.targets().zip(states) {
            let endpoint = OfEndpoint { endpoint: target.endpoint.id.to_string() };
            self.in_flight.get_or_create(&endpoint).set(i64::from(state.in_flight));
            let available = state.availability == Availability::Ready;
            self.available.get_or_create(&endpoint).set(i64::from(available));
            for name in STATES {
                let labels = InState { endpoint: endpoint.endpoint.clone(), state: name };
                self.endpoint_state.get_or_create(&labels).set(i64::from(name == state_name(&state.availability)));
            }
        }
        self.learned.read(gateway);
        self.connections.read(gateway);
        self.prices.set(&gateway.accounting().statement());
        let mut text = String::new();
        match encode(&mut text, &register.registry) {
            Ok(()) => text,
            Err(error) => format!("# cannot write the metrics: {error}\n"),
        }
    }

    /// What there is, in the order in which it is shown.
    #[cfg(test)]
    pub(super) fn kinds(&self) -> Vec<register::Kind> {
        self.register.lock().kinds.clone()
    }

    fn register_all(&self) {
        let mut register = self.register.lock();
        let r = &mut *register;
        r.register(metric::REQUESTS, "Requests by class, pool, hardware and outcome", self.requests.clone());
        self.promises.register(r);
        r.register(metric::TOKENS, "Tokens by class, pool and direction", self.tokens.clone());
        r.register(metric::COST_USD, "US dollars by the portfolio's prices", self.cost_usd.clone());
        r.register(metric::ENERGY_JOULES, "Energy including PUE", self.energy_joules.clone());
        self.times.register(r);
        r.seconds(metric::OVERHEAD, "From the end of a request's body to its plan", self.overhead.clone());
        r.seconds(metric::DECIDE, "The decision alone: from a request's class to its plan", self.decide.clone());
        r.register(metric::QUEUE_HELD, "Requests held now, by the pool they wait for", self.queue_held.clone());
        r.register(metric::QUEUE_ENDED, "Requests that were held, by how that ended", self.queue_ended.clone());
        r.register(metric::QUEUE_MOVES, "Moves of held requests to another pool's line", self.queue_moves.clone());
        self.attempts.register(r);
        self.connections.register(r);
        r.register(metric::RELOAD_OK, "1 if the files as they are now are in force", self.reload_ok.clone());
        r.register(metric::RELOADS, "Reloads by result", self.reloads.clone());
        r.register(metric::TRIAL_REQUESTS, "Requests under either policy of a canary", self.trial_requests.clone());
        r.register(metric::TRIAL_ROLLBACKS, "Canaries rolled back by their guard", self.trial_rollbacks.clone());
        r.register(metric::SHADOW_DECISIONS, "Decisions compared with a shadow's", self.shadow_decisions.clone());
        r.register(metric::RECORDS_DROPPED, "Records not traced for want of room", self.records_dropped.clone());
        let recorded = self.decisions_recorded.clone();
        r.register(metric::DECISIONS_RECORDED, "Decisions by what became of them while recording", recorded);
        r.register(metric::SPANS, "Spans by what became of them", self.spans.clone());
        r.register(metric::IN_FLIGHT, "Requests in flight by endpoint", self.in_flight.clone());
        r.register(metric::AVAILABLE, "1 if the endpoint may be asked", self.available.clone());
        r.register(metric::ENDPOINT_STATE, "1 for the state that an endpoint is in", self.endpoint_state.clone());
        self.learned.register(r);
        self.identity.register(r);
        self.prices.register(r);
    }
}

fn state_name(availability: &Availability) -> &'static str {
    match availability {
        Availability::Ready => "ready",
        Availability::BreakerOpen { .. } => "breaker-open",
        Availability::BackPressure { .. } => "back-pressure",
        Availability::Draining => "draining",
    }
}
