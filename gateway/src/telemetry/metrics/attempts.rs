//! Attempts that failed, those made after them, and those made beside slow ones.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::register::Register;
use crate::record::{Outcome, Record};
use crate::telemetry::names::metric;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failed {
    pool: String,
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Hedged {
    class: String,
    pool: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Retried {
    route: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Broken {
    class: String,
    result: &'static str,
}

/// Their metrics.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    failures: Family<Failed, Counter>,
    hedges: Family<Hedged, Counter>,
    retries: Family<Retried, Counter>,
    broken_streams: Family<Broken, Counter>,
}

impl Attempts {
    pub(super) fn request(&self, record: &Record, class: &str) {
        for (hedge, result) in record.attempts.iter().filter_map(|attempt| Some((attempt, attempt.hedge_result()?))) {
            let hedged = Hedged { class: class.to_owned(), pool: hedge.pool.to_string(), result };
            self.hedges.get_or_create(&hedged).inc();
        }
        let broke = matches!(record.outcome, Outcome::Broken(_)) && record.stream;
        if broke || record.was_continued() {
            let result = if broke { "ended" } else { "continued" };
            self.broken_streams.get_or_create(&Broken { class: class.to_owned(), result }).inc();
        }
    }

    pub(super) fn failed(&self, pool: &str, cause: &'static str) {
        self.failures.get_or_create(&Failed { pool: pool.to_owned(), cause }).inc();
    }

    pub(super) fn retry(&self, route: &str, made: bool) {
        let result = if made { "made" } else { "refused" };
        self.retries.get_or_create(&Retried { route: route.to_owned(), result }).inc();
    }

    pub(super) fn register(&self, r: &mut Register) {
        r.register(metric::ATTEMPT_FAILURES, "Failed attempts by pool and cause", self.failures.clone());
        r.register(metric::HEDGES, "Second attempts beside slow ones, by how they ended", self.hedges.clone());
        let broken = self.broken_streams.clone();
        r.register(metric::BROKEN_STREAMS, "Streams that broke: ended so, or continued on another machine", broken);
        r.register(
            metric::RETRIES,
            "Further attempts after failed ones, by route: made, or refused by its budget",
            self.retries.clone(),
        );
    }
}
