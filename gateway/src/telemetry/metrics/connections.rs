//! Connections of clients: how many there are, why they were ended from this side, and the memory that they take.

use std::sync::atomic::Ordering;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::register::Register;
use crate::gateway::Gateway;
use crate::telemetry::names::metric;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WithReason {
    reason: &'static str,
}

/// Reasons to end one at once.
const CUT: [&str; 9] = [
    "per-address",
    "file-descriptors",
    "first-byte-timeout",
    "tls-timeout",
    "head-timeout",
    "idle",
    "nothing-read",
    "slow-reader",
    "http2-flood",
];
/// Reasons to ask one to end.
const ASKED: [&str; 4] = ["age", "idle", "memory", "shutdown"];
/// Reasons not to accept one.
const NOT_ACCEPTED: [&str; 2] = ["file-descriptors", "other"];

/// Their metrics. What never happened is there as a zero, so that the first time is seen as a rise.
#[derive(Debug)]
pub struct Connections {
    open: Gauge,
    cut: Family<WithReason, Counter>,
    asked: Family<WithReason, Counter>,
    not_accepted: Family<WithReason, Counter>,
    memory_used: Gauge,
    memory_limit: Gauge,
    overload: Gauge,
    kept_for_clients: Gauge,
    kept_for_continuation: Gauge,
}

impl Default for Connections {
    fn default() -> Connections {
        let zeros = |reasons: &[&'static str]| {
            let family = Family::<WithReason, Counter>::default();
            for reason in reasons {
                let _ = family.get_or_create(&WithReason { reason });
            }
            family
        };
        Connections {
            open: Gauge::default(),
            cut: zeros(&CUT),
            asked: zeros(&ASKED),
            not_accepted: zeros(&NOT_ACCEPTED),
            memory_used: Gauge::default(),
            memory_limit: Gauge::default(),
            overload: Gauge::default(),
            kept_for_clients: Gauge::default(),
            kept_for_continuation: Gauge::default(),
        }
    }
}

impl Connections {
    /// One was accepted.
    pub fn opened(&self) {
        self.open.inc();
    }

    /// One has ended.
    pub fn closed(&self) {
        self.open.dec();
    }

    /// One was ended at once, whatever it was doing.
    pub fn cut(&self, reason: &'static str) {
        self.cut.get_or_create(&WithReason { reason }).inc();
    }

    /// One was asked to end with what runs on it.
    pub fn asked_to_end(&self, reason: &'static str) {
        self.asked.get_or_create(&WithReason { reason }).inc();
    }

    /// One could not be accepted.
    pub fn not_accepted(&self, reason: &'static str) {
        self.not_accepted.get_or_create(&WithReason { reason }).inc();
    }

    /// Gauges that are set when they are read.
    pub(super) fn read(&self, gateway: &Gateway) {
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let overload = gateway.overload();
        self.memory_used.set(number(overload.used()));
        self.memory_limit.set(number(overload.limit()));
        self.overload.set(overload.level() as i64);
        self.kept_for_clients.set(number(gateway.kept_for_clients().load(Ordering::Relaxed) as u64));
        self.kept_for_continuation.set(number(gateway.kept_for_continuation().load(Ordering::Relaxed) as u64));
    }

    pub(super) fn register(&self, r: &mut Register) {
        r.register(metric::CONNECTIONS, "Open connections of clients", self.open.clone());
        r.register(metric::CONNECTIONS_CUT, "Connections of clients that were ended at once", self.cut.clone());
        let help = "Connections of clients that were asked to end after what runs on them";
        r.register(metric::CONNECTIONS_ASKED, help, self.asked.clone());
        r.register(metric::MEMORY_USED, "Resident memory of the process", self.memory_used.clone());
        r.register(
            metric::MEMORY_LIMIT,
            "Memory that it may use; 0 where there is no bound",
            self.memory_limit.clone(),
        );
        let help =
            "What is given up for memory: 0 nothing, 1 what may be shed, 2 all new requests, 3 idle connections too";
        r.register(metric::OVERLOAD, help, self.overload.clone());
        let help = "Bytes of answers that are kept because their clients do not take them";
        r.register(metric::KEPT_FOR_CLIENTS, help, self.kept_for_clients.clone());
        let help = "Bytes of requests and answers that are kept so that streams which break can go on elsewhere";
        r.register(metric::KEPT_FOR_CONTINUATION, help, self.kept_for_continuation.clone());
        r.register(metric::NOT_ACCEPTED, "Connections that could not be accepted", self.not_accepted.clone());
    }
}
