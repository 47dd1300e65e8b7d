//! Who called, and what of keys and certificates is in force.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::register::Register;
use crate::identity::By;
use crate::record::Record;
use crate::telemetry::names::metric;

/// Callers with a label of their own; those that come later share one. Names of keys are few, but files of keys change
/// as long as a process lives.
const MOST_CALLERS: usize = 256;
/// The label that they share, and that of callers whose names nobody here has given.
const OTHERS: &str = "(others)";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Identified {
    by: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Called {
    caller: Arc<str>,
    by: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct What {
    what: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Read {
    what: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    certificate: String,
}

/// Their metrics.
#[derive(Debug, Default)]
pub(super) struct IdentityMetrics {
    identified: Family<Identified, Counter>,
    requests: Family<Called, Counter>,
    known: Mutex<HashSet<Arc<str>>>,
    ok: Family<What, Gauge>,
    reads: Family<Read, Counter>,
    ends: Family<Of, Gauge>,
}

impl IdentityMetrics {
    pub(super) fn identified(&self, by: &'static str, result: &'static str) {
        self.identified.get_or_create(&Identified { by, result }).inc();
    }

    pub(super) fn request(&self, record: &Record) {
        let Some(caller) = &record.caller else { return };
        let (by, outcome) = (caller.by.as_str(), record.outcome.as_str());
        self.requests.get_or_create(&Called { caller: self.label(caller.by, &caller.name), by, outcome }).inc();
    }

    /// Names of keys are the operator's; those of tokens and certificates are as many as there are users.
    fn label(&self, by: By, name: &Arc<str>) -> Arc<str> {
        let mut known = self.known.lock();
        let own = by == By::Key && (known.contains(name) || known.len() < MOST_CALLERS);
        if !own {
            return OTHERS.into();
        }
        if !known.contains(name) {
            known.insert(Arc::clone(name));
        }
        Arc::clone(name)
    }

    pub(super) fn read(&self, what: &'static str, ok: bool) {
        let result = if ok { "ok" } else { "refused" };
        self.reads.get_or_create(&Read { what, result }).inc();
    }

    pub(super) fn ok(&self, what: &'static str, ok: bool) {
        self.ok.get_or_create(&What { what }).set(i64::from(ok));
    }

    pub(super) fn ends(&self, ends: &[(String, u64)]) {
        self.ends.clear();
        for (name, end) in ends {
            let gauge = self.ends.get_or_create(&Of { certificate: name.clone() });
            gauge.set(i64::try_from(*end).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn register(&self, r: &mut Register) {
        r.register(
            metric::IDENTIFIED,
            "Requests that had to say who calls, by proof and result",
            self.identified.clone(),
        );
        r.register(metric::CALLER_REQUESTS, "Requests by caller and outcome", self.requests.clone());
        r.register(
            metric::CREDENTIALS_OK,
            "1 if keys or certificates as they are now are in force, 0 if the last good ones stay",
            self.ok.clone(),
        );
        r.register(metric::CREDENTIALS_READ, "Keys and certificates taken up and refused", self.reads.clone());
        r.register(
            metric::CERTIFICATE_ENDS,
            "When certificates that are shown to clients and machines end, seconds since 1970",
            self.ends.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_callers_are_bounded() {
        let metrics = IdentityMetrics::default();
        let label = |by, name: &str| metrics.label(by, &name.into()).to_string();
        assert_eq!(label(By::Token, "somebody"), OTHERS);
        for number in 0..MOST_CALLERS {
            assert_eq!(label(By::Key, &format!("key-{number}")), format!("key-{number}"));
        }
        assert_eq!(label(By::Key, "one-more"), OTHERS);
        assert_eq!(label(By::Key, "key-7"), "key-7");
    }
}
