//! What the gateway tells the world about itself: metrics of every request, traces of it, logs.

/// Every name of a span, attribute and metric.
pub mod names;
/// Counters and histograms.
pub mod metrics;
/// Metrics of what is learned.
mod learned;
/// Records → spans.
pub mod spans;
/// Spans → an OTLP receiver.
pub mod otlp;
/// Logs on stderr.
pub mod logs;
/// The last requests, kept in memory.
pub mod recent;

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::decision_log::Recorder;
use crate::record::Record;
use metrics::Metrics;
use recent::Recent;

/// Records waiting to be turned into spans; more are dropped and counted, the data path never waits.
const WAITING_RECORDS: usize = 8192;

/// Takes records off the data path.
#[derive(Debug)]
pub struct Telemetry {
    metrics: Arc<Metrics>,
    recorder: Recorder,
    recent: Recent,
    records: mpsc::Sender<Arc<Record>>,
}

impl Telemetry {
    /// Metrics, and the end at which records come out.
    pub fn new() -> (Telemetry, mpsc::Receiver<Arc<Record>>) {
        let (records, receiver) = mpsc::channel(WAITING_RECORDS);
        let metrics = Arc::new(Metrics::default());
        let recorder = Recorder::new(Arc::clone(&metrics));
        (Telemetry { metrics, recorder, recent: Recent::default(), records }, receiver)
    }

    /// Counters and histograms.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Records decisions while it is on.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// The last requests.
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// A request has ended: counts it, and passes it on for recording and tracing.
    pub fn request(&self, record: Record) {
        self.metrics.request(&record);
        let record = Arc::new(record);
        self.recorder.offer(&record);
        self.recent.keep(&record);
        if self.records.try_send(record).is_err() {
            self.metrics.record_dropped();
        }
    }
}
