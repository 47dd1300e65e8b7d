//! What the gateway tells the world about itself: metrics of every request, traces of it, logs.

/// Every name of a span, attribute and metric.
pub mod names;
/// Counters and histograms.
pub mod metrics;
/// Records → spans.
pub mod spans;
/// Spans → an OTLP receiver.
pub mod otlp;
/// Logs on stderr.
pub mod logs;

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::record::Record;
use metrics::Metrics;

/// Records waiting to be turned into spans; more are dropped and counted, the data path never waits.
const WAITING_RECORDS: usize = 8192;

/// Takes records off the data path.
#[derive(Debug)]
pub struct Telemetry {
    metrics: Arc<Metrics>,
    records: mpsc::Sender<Box<Record>>,
}

impl Telemetry {
    /// Metrics, and the end at which records come out.
    pub fn new() -> (Telemetry, mpsc::Receiver<Box<Record>>) {
        let (records, receiver) = mpsc::channel(WAITING_RECORDS);
        (Telemetry { metrics: Arc::new(Metrics::default()), records }, receiver)
    }

    /// Counters and histograms.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// A request has ended: counts it, and passes it on for tracing.
    pub fn request(&self, record: Record) {
        self.metrics.request(&record);
        if self.records.try_send(Box::new(record)).is_err() {
            self.metrics.record_dropped();
        }
    }
}
