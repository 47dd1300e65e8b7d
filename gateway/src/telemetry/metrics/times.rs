//! Histograms of what requests take. Every bound that a class promises is an edge of the buckets, so that the part of
//! requests that kept it can be read off exactly; each bucket names one traced request as its exemplar.

use std::fmt::Write as _;
use std::sync::Arc;

use parking_lot::RwLock;
use pointsman_policies::policy::Class;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::{Family, MetricConstructor};

use super::Served;
use super::register::Register;
use crate::record::Record;
use crate::telemetry::names::metric;

/// Finer than the conventions' buckets, which start too late for wafer-scale.
const TTFT_S: [f64; 14] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
const ITL_S: [f64; 13] = [0.0005, 0.001, 0.002, 0.004, 0.007, 0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.5, 1.0];
const DURATION_S: [f64; 13] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0, 180.0, 600.0, 3600.0];
/// The conventions' own.
const TOKENS: [f64; 14] = [
    1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0,
    67108864.0,
];
/// Edges of one histogram; bounds of policies beyond are no edges.
const MOST_EDGES: usize = 64;

/// A trace id as the label of an exemplar.
#[derive(Clone, Debug, EncodeLabelSet)]
struct Traced {
    trace_id: TraceId,
}

#[derive(Clone, Debug)]
struct TraceId(u128);

impl EncodeLabelValue for TraceId {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        write!(encoder, "{:032x}", self.0)
    }
}

/// A histogram for each label, all with the same edges.
#[derive(Clone, Debug)]
struct Timed<S: Clone + std::hash::Hash + Eq>(Family<S, HistogramWithExemplars<Traced>, Edges>);

/// Upper edges of buckets, ascending.
#[derive(Clone, Debug)]
struct Edges(Arc<RwLock<Vec<f64>>>);

impl MetricConstructor<HistogramWithExemplars<Traced>> for Edges {
    fn new_metric(&self) -> HistogramWithExemplars<Traced> {
        HistogramWithExemplars::new(self.0.read().iter().copied())
    }
}

impl<S: Clone + std::hash::Hash + Eq> Timed<S> {
    fn new(edges: &[f64]) -> Timed<S> {
        Timed(Family::new_with_constructor(Edges(Arc::new(RwLock::new(edges.to_vec())))))
    }

    fn observe(&self, labels: &S, value: f64, trace_id: Option<u128>) {
        let exemplar = trace_id.map(|id| Traced { trace_id: TraceId(id) });
        self.0.get_or_create(labels).observe(value, exemplar, None);
    }
}

/// What requests take.
#[derive(Debug)]
pub(super) struct Times {
    ttft: Timed<Served>,
    itl: Timed<Served>,
    duration: Timed<Served>,
    queue: Timed<Served>,
    tokens: Timed<OfType>,
    edges: [Edges; 3],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfType {
    class: Arc<str>,
    pool: Arc<str>,
    gen_ai_token_type: &'static str,
}

impl Default for Times {
    fn default() -> Times {
        let edges = [&TTFT_S[..], &ITL_S, &DURATION_S].map(|edges| Edges(Arc::new(RwLock::new(edges.to_vec()))));
        let [ttft, itl, duration] = edges.clone().map(|edges| Timed(Family::new_with_constructor(edges)));
        Times { ttft, itl, duration, queue: Timed::new(&TTFT_S), tokens: Timed::new(&TOKENS), edges }
    }
}

impl Times {
    /// A request has ended. It is an exemplar where its trace is sent somewhere.
    pub(super) fn request(&self, record: &Record, served: &Served) {
        let trace_id = record.trace.sampled.then_some(record.trace.trace_id);
        if let Some(ms) = record.ttft_ms() {
            self.ttft.observe(served, ms / 1e3, trace_id);
            self.duration.observe(served, record.ended_at.as_secs_f64(), trace_id);
        }
        if let Some(ms) = record.itl_ms() {
            self.itl.observe(served, ms / 1e3, trace_id);
        }
        if let Some(usage) = record.usage {
            let Served { class, pool } = served.clone();
            let mut of = OfType { class, pool, gen_ai_token_type: "input" };
            self.tokens.observe(&of, usage.input_tokens as f64, trace_id);
            of.gen_ai_token_type = "output";
            self.tokens.observe(&of, usage.output_tokens as f64, trace_id);
        }
    }

    /// It was held for this long.
    pub(super) fn held(&self, record: &Record, served: &Served, ms: f64) {
        self.queue.observe(served, ms / 1e3, record.trace.sampled.then_some(record.trace.trace_id));
    }

    /// Makes what these classes promise edges. Where one is new, the histogram begins anew with it: all its series must
    /// have the same edges to be added up, and whoever takes rates knows how to read a beginning.
    pub(super) fn promise(&self, classes: &[Class]) {
        let bounds = |of: fn(&Class) -> Option<f64>| classes.iter().filter_map(of).map(|ms| ms / 1e3);
        let [ttft, itl, duration] = &self.edges;
        if add(ttft, bounds(|class| class.slo.ttft_ms)) {
            self.ttft.0.clear();
        }
        if add(itl, bounds(|class| class.slo.itl_ms)) {
            self.itl.0.clear();
        }
        if add(duration, bounds(|class| class.slo.deadline_ms)) {
            self.duration.0.clear();
        }
    }

    pub(super) fn register(&self, r: &mut Register) {
        r.seconds(metric::TTFT, "Time to first token", self.ttft.0.clone());
        r.seconds(metric::ITL, "Time per output token after the first", self.itl.0.clone());
        r.seconds(metric::DURATION, "Whole requests", self.duration.0.clone());
        let help = "Time that requests were held, by the pool they waited for";
        r.seconds(metric::QUEUE_TIME, help, self.queue.0.clone());
        r.register(metric::TOKEN_USAGE, "Tokens of a request, by type", self.tokens.0.clone());
    }
}

/// Puts bounds between the edges; true where one is new.
fn add(edges: &Edges, bounds: impl Iterator<Item = f64>) -> bool {
    let mut edges = edges.0.write();
    let before = edges.len();
    for bound in bounds {
        if let Err(place) = edges.binary_search_by(|edge| edge.total_cmp(&bound))
            && edges.len() < MOST_EDGES
        {
            edges.insert(place, bound);
        }
    }
    edges.len() > before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_is_an_edge_once() {
        let edges = Edges(Arc::new(RwLock::new(vec![0.1, 0.3, 1.0])));
        assert!(!add(&edges, [0.3, 1.0].into_iter()));
        assert!(add(&edges, [0.25, 2.0, 0.25].into_iter()));
        assert_eq!(*edges.0.read(), [0.1, 0.25, 0.3, 1.0, 2.0]);
        assert!(add(&edges, (0..1000).map(|number| 3.0 + f64::from(number))));
        assert_eq!(edges.0.read().len(), MOST_EDGES);
    }
}
