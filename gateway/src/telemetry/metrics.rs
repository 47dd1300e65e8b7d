//! Counters and histograms of every request, in Prometheus' text form.

/// Attempts that failed, and those beyond the first.
mod attempts;
/// Who called, and what of keys and certificates is in force.
mod identity;
/// Clients' connections.
mod connections;
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
use prometheus_client::registry::{Registry, Unit};

use super::learned::LearnedMetrics;
use super::names::metric;
use crate::gateway::Gateway;
use crate::record::Record;

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
struct SloPart {
    class: Arc<str>,
    slo: &'static str,
    result: &'static str,
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

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<Requested, Counter>,
    attempts: attempts::Attempts,
    connections: connections::Connections,
    slo_events: Family<SloPart, Counter>,
    tokens: Family<Direction, Counter>,
    cost_usd: Family<Served, FloatCounter>,
    energy_joules: Family<Energy, FloatCounter>,
    ttft: Family<Served, Histogram>,
    itl: Family<Served, Histogram>,
    duration: Family<Served, Histogram>,
    overhead: Histogram,
    decide: Histogram,
    queue_time: Family<Served, Histogram>,
    queue_held: Family<Served, Gauge>,
    queue_ended: Family<Held, Counter>,
    queue_moves: Family<Served, Counter>,
    generation: Gauge,
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
    learned: LearnedMetrics,
    identity: identity::IdentityMetrics,
    prices: prices::Prices,
}

/// Finer than the conventions' buckets, which start too late for wafer-scale; the SLOs of the shipped policies are edges.
const TTFT_BUCKETS_S: [f64; 14] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
const ITL_BUCKETS_S: [f64; 13] = [0.0005, 0.001, 0.002, 0.004, 0.007, 0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.5, 1.0];
const DURATION_BUCKETS_S: [f64; 13] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0, 180.0, 600.0, 3600.0];
const DECIDE_BUCKETS_S: [f64; 14] =
    [2e-6, 4e-6, 6e-6, 8e-6, 1e-5, 1.3e-5, 1.6e-5, 2e-5, 3e-5, 5e-5, 1e-4, 2e-4, 1e-3, 1e-2];
const OVERHEAD_BUCKETS_S: [f64; 9] = [2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 1e-3, 1e-2];

impl Default for Metrics {
    fn default() -> Metrics {
        let metrics = Metrics {
            registry: Mutex::new(Registry::default()),
            requests: Family::default(),
            attempts: attempts::Attempts::default(),
            connections: connections::Connections::default(),
            slo_events: Family::default(),
            tokens: Family::default(),
            cost_usd: Family::default(),
            energy_joules: Family::default(),
            ttft: Family::new_with_constructor(|| Histogram::new(TTFT_BUCKETS_S)),
            itl: Family::new_with_constructor(|| Histogram::new(ITL_BUCKETS_S)),
            duration: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS_S)),
            overhead: Histogram::new(OVERHEAD_BUCKETS_S),
            decide: Histogram::new(DECIDE_BUCKETS_S),
            queue_time: Family::new_with_constructor(|| Histogram::new(TTFT_BUCKETS_S)),
            queue_held: Family::default(),
            queue_ended: Family::default(),
            queue_moves: Family::default(),
            generation: Gauge::default(),
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
            learned: LearnedMetrics::default(),
            identity: identity::IdentityMetrics::default(),
            prices: prices::Prices::default(),
        };
        metrics.reload_ok.set(1);
        for result in ["same", "different", "dropped"] {
            let _ = metrics.shadow_decisions.get_or_create(&WithResult { result });
        }
        metrics.register();
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
        for (part, kept) in record.slo_results() {
            let result = if kept { "kept" } else { "missed" };
            self.slo_events.get_or_create(&SloPart { class: class.clone(), slo: part.as_str(), result }).inc();
        }
        let served = Served { class: class.clone(), pool: pool.clone() };
        if let Some(ms) = record.ttft_ms() {
            self.ttft.get_or_create(&served).observe(ms / 1e3);
            self.duration.get_or_create(&served).observe(record.ended_at.as_secs_f64());
        }
        if let Some(ms) = record.itl_ms() {
            self.itl.get_or_create(&served).observe(ms / 1e3);
        }
        if record.decision.is_some() {
            self.overhead.observe(record.decided_at.saturating_sub(record.read_at).as_secs_f64());
            self.decide.observe(record.decided_at.saturating_sub(record.classified_at).as_secs_f64());
        }
        if let Some(waited) = &record.waited {
            let served = Served { class: class.clone(), pool: Arc::clone(&waited.pool) };
            self.queue_time.get_or_create(&served).observe(waited.ms() / 1e3);
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

    /// Notes the generation in force.
    pub fn generation(&self, generation: u64) {
        self.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
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
        let registry = self.registry.lock(); // also keeps two scrapes apart
        self.in_flight.clear();
        self.available.clear();
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
        }
        self.learned.read(gateway);
        self.connections.read(gateway);
        self.prices.set(&gateway.accounting().statement());
        let mut text = String::new();
        match encode(&mut text, &registry) {
            Ok(()) => text,
            Err(error) => format!("# cannot write the metrics: {error}\n"),
        }
    }

    fn register(&self) {
        let mut registry = self.registry.lock();
        let r = &mut *registry;
        r.register(metric::REQUESTS, "Requests by class, pool, hardware and outcome", self.requests.clone());
        r.register(
            metric::SLO_EVENTS,
            "Parts of SLOs kept and missed; whole answers are held to ttft + itl x (tokens - 1), told as ttft",
            self.slo_events.clone(),
        );
        r.register(metric::TOKENS, "Tokens by class, pool and direction", self.tokens.clone());
        r.register(metric::COST_USD, "US dollars by the portfolio's prices", self.cost_usd.clone());
        r.register(metric::ENERGY_JOULES, "Energy including PUE", self.energy_joules.clone());
        seconds(r, metric::TTFT, "Time to first token", self.ttft.clone());
        seconds(r, metric::ITL, "Time per output token after the first", self.itl.clone());
        seconds(r, metric::DURATION, "Whole requests", self.duration.clone());
        seconds(r, metric::OVERHEAD, "From the end of a request's body to its plan", self.overhead.clone());
        seconds(r, metric::DECIDE, "The decision alone: from a request's class to its plan", self.decide.clone());
        seconds(
            r,
            metric::QUEUE_TIME,
            "Time that requests were held, by the pool they waited for",
            self.queue_time.clone(),
        );
        r.register(metric::QUEUE_HELD, "Requests held now, by the pool they wait for", self.queue_held.clone());
        r.register(metric::QUEUE_ENDED, "Requests that were held, by how that ended", self.queue_ended.clone());
        r.register(metric::QUEUE_MOVES, "Moves of held requests to another pool's line", self.queue_moves.clone());
        self.attempts.register(r);
        self.connections.register(r);
        r.register(metric::GENERATION, "The generation in force", self.generation.clone());
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
        self.learned.register(r);
        self.identity.register(r);
        self.prices.register(r);
    }
}

/// The unit is appended by the registry, so it is taken off the name here.
fn seconds(registry: &mut Registry, name: &str, help: &str, metric: impl prometheus_client::registry::Metric) {
    let name = name.strip_suffix("_seconds").unwrap_or(name);
    registry.register_with_unit(name, help, Unit::Seconds, metric);
}
