//! Metrics of what the gateway has learned: how good its predictions are, how far they are trusted, what it believes of
//! load that nobody tells of.

use std::sync::atomic::AtomicU64;

use pointsman_backends::learn::drift::Time;
use pointsman_policies::fleet::HardwareKind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::metrics::register::Register;
use super::names::metric;
use crate::gateway::Gateway;

type FloatGauge = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPool {
    pool: String,
    time: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfEndpoint {
    endpoint: String,
    time: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfClass {
    class: String,
    hardware: &'static str,
    time: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    endpoint: String,
}

/// All of them; read from the gateway when they are shown.
#[derive(Debug, Default)]
pub(super) struct LearnedMetrics {
    error: Family<OfPool, FloatGauge>,
    margin: Family<OfClass, FloatGauge>,
    hidden_load: Family<OfEndpoint, FloatGauge>,
    drifts: Counter,
    report_age: Family<Asked, FloatGauge>,
}

impl LearnedMetrics {
    pub(super) fn register(&self, registry: &mut Register) {
        registry.register(
            metric::PREDICTION_ERROR,
            "Mean error of predictions lately: the natural logarithm of observed over predicted, without its sign",
            self.error.clone(),
        );
        registry.register(metric::MARGIN, "The part of a bound that predictions may use up", self.margin.clone());
        registry.register(
            metric::HIDDEN_LOAD,
            "How many times longer than the load explains it takes now",
            self.hidden_load.clone(),
        );
        registry.register(metric::DRIFTS, "Times that machines were found changed", self.drifts.clone());
        let help = "Age of the last metrics of an endpoint's engine";
        registry.seconds(metric::REPORT_AGE, help, self.report_age.clone());
    }

    /// Reads what is known now.
    pub(super) fn read(&self, gateway: &Gateway) {
        let (snapshot, now) = (gateway.snapshot(), gateway.fleet().now());
        self.error.clear();
        self.hidden_load.clear();
        self.margin.clear();
        self.report_age.clear();
        let learner = gateway.learning().learner();
        for (at, pool) in snapshot.portfolio.facts.iter().enumerate() {
            for time in [Time::Ttft, Time::Itl] {
                if let Some(error) = learner.error(at, time) {
                    self.error.get_or_create(&OfPool { pool: pool.name.clone(), time: time.as_str() }).set(error);
                }
            }
        }
        let mut kinds: Vec<HardwareKind> = snapshot.portfolio.facts.iter().map(|pool| pool.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for (at, class) in snapshot.policy.classes.iter().enumerate() {
            for kind in &kinds {
                let margin = learner.margin(at, *kind);
                for (time, value) in [(Time::Ttft, margin.ttft), (Time::Itl, margin.itl)] {
                    let (hardware, time) = (kind.as_str(), time.as_str());
                    self.margin.get_or_create(&OfClass { class: class.name.clone(), hardware, time }).set(value);
                }
            }
        }
        let noticed = learner.drifts_noticed();
        self.drifts.inc_by(noticed.saturating_sub(self.drifts.get()));
        for target in snapshot.targets() {
            let endpoint = target.endpoint.id.to_string();
            if let Some(index) = learner.endpoint(&endpoint) {
                let factors = learner.factors(index, now);
                for (time, factor) in [(Time::Ttft, factors.ttft), (Time::Itl, factors.itl)] {
                    let label = OfEndpoint { endpoint: endpoint.clone(), time: time.as_str() };
                    self.hidden_load.get_or_create(&label).set(factor);
                }
            }
            if let Some((_, age)) = target.live.last_report(now) {
                self.report_age.get_or_create(&Asked { endpoint }).set(age);
            }
        }
    }
}
