//! What has been seen, by class: measured by the clients, priced by the gateway's records.

use std::collections::BTreeMap;
use std::sync::Arc;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use pointsman_policies::attain::{Observed, parts_kept};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::record::Record;
use crate::snapshot::Snapshot;

/// Latencies are kept from a microsecond to an hour with three digits.
const LONGEST_US: u64 = 3_600_000_000;
const DIGITS: u8 = 3;

/// One answered or failed request, as its client saw it.
#[derive(Debug)]
pub(super) struct Measured {
    /// The class the gateway named.
    pub(super) class: String,
    /// The endpoint that answered.
    pub(super) endpoint: String,
    /// Whether it took more than one attempt.
    pub(super) failed_over: bool,
    /// The figures, or what went wrong.
    pub(super) read: Result<Observed, String>,
}

/// Counts since the start, and since the last look.
#[derive(Debug, Default)]
pub(super) struct Tally {
    classes: BTreeMap<String, ClassTally>,
    /// Requests by hardware kind since somebody last looked.
    recent: BTreeMap<&'static str, u64>,
    errors: u64,
    last_error: Option<String>,
    failed_over: u64,
    usd: f64,
    joules: f64,
}

#[derive(Debug, Default)]
struct ClassTally {
    requests: u64,
    kept: u64,
    ttft: Latencies,
    itl: Latencies,
    hardware: BTreeMap<&'static str, u64>,
    usd: f64,
    joules: f64,
}

#[derive(Debug)]
struct Latencies(Option<Histogram<u64>>);

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies(Histogram::new_with_bounds(1, LONGEST_US, DIGITS).ok())
    }
}

impl Latencies {
    fn record(&mut self, ms: Option<f64>) {
        if let (Some(histogram), Some(ms)) = (&mut self.0, ms) {
            histogram.saturating_record(((ms * 1e3) as u64).max(1));
        }
    }

    /// In milliseconds; `None` where nothing was recorded.
    fn quantile(&self, quantile: f64) -> Option<f64> {
        let histogram = self.0.as_ref().filter(|histogram| !histogram.is_empty())?;
        Some(histogram.value_at_quantile(quantile) as f64 / 1e3)
    }
}

/// Adds up what the gateway's records say of money and energy, until the gateway is gone.
pub(super) async fn count_records(mut records: mpsc::Receiver<Arc<Record>>, tally: Arc<Mutex<Tally>>) {
    while let Some(record) = records.recv().await {
        let mut tally = tally.lock();
        let joules = record.joules.unwrap_or(0.0);
        tally.usd += record.usd;
        tally.joules += joules;
        if let Some(class) = &record.class {
            let class = tally.classes.entry(class.to_string()).or_default();
            class.usd += record.usd;
            class.joules += joules;
        }
    }
}

impl Tally {
    /// Counts one request against the promise of its class.
    pub(super) fn count(&mut self, snapshot: &Snapshot, measured: Measured) {
        self.failed_over += u64::from(measured.failed_over);
        let name = if measured.class.is_empty() { "none".to_owned() } else { measured.class };
        let slo = snapshot.policy.class_by_name(&name).and_then(|id| snapshot.policy.classes.get(id.0));
        let slo = slo.map(|class| class.slo).unwrap_or_default();
        let class = self.classes.entry(name).or_default();
        class.requests += 1;
        match measured.read {
            Ok(observed) => {
                class.kept += u64::from(parts_kept(&slo, &observed).all(|(_, kept)| kept));
                class.ttft.record(observed.ttft_ms.or(Some(observed.total_ms)));
                class.itl.record(observed.itl_ms);
                if let Some(kind) = kind(snapshot, &measured.endpoint) {
                    *class.hardware.entry(kind).or_default() += 1;
                    *self.recent.entry(kind).or_default() += 1;
                }
            }
            Err(error) => {
                self.errors += 1;
                self.last_error = Some(error);
            }
        }
    }

    /// Requests by hardware kind since the last call.
    pub(super) fn take_recent(&mut self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.recent)
    }

    /// The figures so far.
    pub(super) fn result(&self, snapshot: &Snapshot) -> Outcome {
        let figures = |(name, class): (&String, &ClassTally)| {
            let answered: u64 = class.hardware.values().sum();
            let share = |(kind, count): (&&'static str, &u64)| (*kind, *count as f64 / answered.max(1) as f64);
            ClassFigures {
                name: name.clone(),
                requests: class.requests,
                attainment: class.kept as f64 / class.requests.max(1) as f64,
                ttft_ms: [class.ttft.quantile(0.5), class.ttft.quantile(0.99)],
                itl_ms: [class.itl.quantile(0.5), class.itl.quantile(0.99)],
                hardware: class.hardware.iter().map(share).collect(),
                usd: class.usd,
                joules: class.joules,
            }
        };
        Outcome {
            policy: snapshot.policy.name.clone(),
            generation: snapshot.generation,
            requests: self.classes.values().map(|class| class.requests).sum(),
            errors: self.errors,
            last_error: self.last_error.clone(),
            failed_over: self.failed_over,
            let_go: 0,
            usd: self.usd,
            joules: self.joules,
            classes: self.in_policy_order(snapshot).map(figures).collect(),
        }
    }

    fn in_policy_order<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = (&'a String, &'a ClassTally)> {
        let known = snapshot.policy.classes.iter().filter_map(|class| self.classes.get_key_value(&class.name));
        let gone = self.classes.iter().filter(|(name, _)| snapshot.policy.class_by_name(name).is_none());
        known.chain(gone)
    }
}

/// The kind of hardware behind an endpoint's name.
fn kind(snapshot: &Snapshot, endpoint: &str) -> Option<&'static str> {
    let target = snapshot.targets().find(|target| target.endpoint.id.as_str() == endpoint)?;
    Some(target.facts.kind.as_str())
}

/// The figures of a run.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) policy: String,
    pub(super) generation: u64,
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) last_error: Option<String>,
    pub(super) failed_over: u64,
    /// Still running at the end; counted nowhere else.
    pub(super) let_go: usize,
    pub(super) usd: f64,
    pub(super) joules: f64,
    pub(super) classes: Vec<ClassFigures>,
}

/// The figures of a class. Latencies are p50 and p99; of whole answers the time to the answer stands for TTFT.
#[derive(Debug)]
pub(super) struct ClassFigures {
    pub(super) name: String,
    pub(super) requests: u64,
    pub(super) attainment: f64,
    pub(super) ttft_ms: [Option<f64>; 2],
    pub(super) itl_ms: [Option<f64>; 2],
    pub(super) hardware: Vec<(&'static str, f64)>,
    pub(super) usd: f64,
    pub(super) joules: f64,
}

impl Outcome {
    /// As the object that `--json` prints.
    pub(super) fn json(&self) -> Value {
        let classes: Map<String, Value> = self.classes.iter().map(|class| (class.name.clone(), class.json())).collect();
        json!({
            "policy": self.policy,
            "generation": self.generation,
            "requests": self.requests,
            "errors": self.errors,
            "usd": rounded(self.usd, 1e6),
            "joules": rounded(self.joules, 1.0),
            "classes": classes,
        })
    }
}

impl ClassFigures {
    fn json(&self) -> Value {
        let hardware: Map<String, Value> =
            self.hardware.iter().map(|(kind, share)| ((*kind).to_owned(), json!(rounded(*share, 1e4)))).collect();
        let latency = |figures: [Option<f64>; 2]| {
            let [p50, p99] = figures.map(|figure| figure.map(|ms| rounded(ms, 1e3)));
            json!({ "p50": p50, "p99": p99 })
        };
        json!({
            "requests": self.requests,
            "attainment": rounded(self.attainment, 1e4),
            "ttft_ms": latency(self.ttft_ms),
            "itl_ms": latency(self.itl_ms),
            "hardware": hardware,
        })
    }
}

fn rounded(figure: f64, steps: f64) -> f64 {
    (figure * steps).round() / steps
}
