//! What classes promise, and what of it was kept. Both stay when a policy goes, so that alerts outlive it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use pointsman_policies::attain::parts_missed;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::register::Register;
use crate::record::Record;
use crate::snapshot::Snapshot;
use crate::telemetry::names::metric;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Promise {
    class: Arc<str>,
    slo: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Judged {
    class: Arc<str>,
    slo: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InForce {
    policy: Arc<str>,
    hash: String,
}

/// Their metrics.
#[derive(Debug, Default)]
pub(super) struct Promises {
    events: Family<Judged, Counter>,
    objective: Family<Promise, Gauge<f64, AtomicU64>>,
    generation: Gauge,
    policy: Family<InForce, Gauge>,
}

impl Promises {
    pub(super) fn request(&self, record: &Record, class: &Arc<str>) {
        for (part, kept) in record.slo_results() {
            let result = if kept { "kept" } else { "missed" };
            self.events.get_or_create(&Judged { class: Arc::clone(class), slo: part.as_str(), result }).inc();
        }
    }

    /// Notes what a generation promises. Counters begin as zeros, so that the first miss is seen as a rise.
    pub(super) fn in_force(&self, snapshot: &Snapshot) {
        self.generation.set(i64::try_from(snapshot.generation).unwrap_or(i64::MAX));
        self.policy.clear();
        let in_force = InForce { policy: Arc::clone(&snapshot.version), hash: snapshot.hash.clone() };
        self.policy.get_or_create(&in_force).set(1);
        for (class, name) in snapshot.policy.classes.iter().zip(&snapshot.class_names) {
            for part in parts_missed(&class.slo) {
                let (class_name, slo) = (Arc::clone(name), part.as_str());
                for result in ["kept", "missed"] {
                    let _ = self.events.get_or_create(&Judged { class: Arc::clone(name), slo, result });
                }
                self.objective.get_or_create(&Promise { class: class_name, slo }).set(class.target);
            }
        }
    }

    pub(super) fn register(&self, r: &mut Register) {
        r.register(
            metric::SLO_EVENTS,
            "Parts of SLOs kept and missed; whole answers are held to ttft + itl x (tokens - 1), told as ttft",
            self.events.clone(),
        );
        let help = "Share of a class's requests that shall keep a part of its SLO, as promised last";
        r.register(metric::SLO_OBJECTIVE, help, self.objective.clone());
        r.register(metric::GENERATION, "The generation in force", self.generation.clone());
        r.register(
            metric::POLICY,
            "1 for the policy in force, with the hash of its configuration",
            self.policy.clone(),
        );
    }
}
