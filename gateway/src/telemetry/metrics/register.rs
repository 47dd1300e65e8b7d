//! Where metrics are registered: Prometheus' registry, and beside it a list of their kinds and units, which the registry
//! tells only of those that have counted something.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Metric, Registry, Unit};

/// Both.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct Register {
    pub(in crate::telemetry) registry: Registry,
    pub(in crate::telemetry) kinds: Vec<Kind>,
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::telemetry) struct Kind {
    pub(in crate::telemetry) name: &'static str,
    pub(in crate::telemetry) kind: &'static str,
    pub(in crate::telemetry) unit: &'static str,
}

impl Register {
    /// Adds a metric.
    pub(in crate::telemetry) fn register(&mut self, name: &'static str, help: &str, metric: impl Metric) {
        self.kinds.push(Kind { name, kind: kind(metric.metric_type()), unit: unit(name) });
        self.registry.register(name, help, metric);
    }

    /// Adds one that is in seconds. The registry appends the unit, so it is taken off the name here.
    pub(in crate::telemetry) fn seconds(&mut self, name: &'static str, help: &str, metric: impl Metric) {
        self.kinds.push(Kind { name, kind: kind(metric.metric_type()), unit: unit(name) });
        self.registry.register_with_unit(name.strip_suffix("_seconds").unwrap_or(name), help, Unit::Seconds, metric);
    }
}

fn kind(kind: MetricType) -> &'static str {
    match kind {
        MetricType::Counter => "counter",
        MetricType::Gauge => "gauge",
        MetricType::Histogram => "histogram",
        MetricType::Info => "info",
        MetricType::Unknown => "unknown",
    }
}

/// The unit that a name ends with; counts and shares have none.
fn unit(name: &str) -> &'static str {
    let units = ["seconds", "bytes", "joules", "usd", "kw", "ratio"];
    let ends = |unit: &&&str| name.rsplit('_').next() == Some(**unit);
    units.iter().find(ends).copied().unwrap_or("1")
}
