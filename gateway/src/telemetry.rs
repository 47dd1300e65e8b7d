//! What the gateway tells the world about itself: metrics of every request, traces of it, logs.

/// Every name of a span, attribute and metric.
pub mod names;
/// Counters and histograms.
pub mod metrics;
/// Metrics of what is learned.
mod learned;
/// Which records.
pub mod sampling;
/// Records → spans.
pub mod spans;
/// Spans → an OTLP receiver.
pub mod otlp;
/// Whether what is sent arrives.
pub mod health;
/// Logs on stderr.
pub mod logs;

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::decision_log::Recorder;
use crate::record::Record;
use crate::traffic::{Room, Traffic};
use health::Health;
use metrics::Metrics;
use sampling::{Sampler, TRACES_PER_S};

/// Records waiting to be turned into spans; more are dropped and counted, the data path never waits.
const WAITING_RECORDS: usize = 8192;

/// Takes records off the data path.
#[derive(Debug)]
pub struct Telemetry {
    metrics: Arc<Metrics>,
    recorder: Recorder,
    traffic: Traffic,
    sampler: Sampler,
    readers: Readers,
    health: Arc<Health>,
    records: mpsc::Sender<Arc<Record>>,
}

/// Who reads records behind the data path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Nobody.
    None,
    /// A receiver of traces: those that are traced.
    Traces,
    /// Somebody who wants all of them.
    All,
}

impl Telemetry {
    /// Metrics, and the end at which records come out.
    pub fn new() -> (Telemetry, mpsc::Receiver<Arc<Record>>) {
        let (records, receiver) = mpsc::channel(WAITING_RECORDS);
        let metrics = Arc::new(Metrics::default());
        let recorder = Recorder::new(Arc::clone(&metrics));
        let (sampler, readers) = (Sampler::new(TRACES_PER_S), Readers::All);
        (
            Telemetry {
                metrics,
                recorder,
                traffic: Traffic::new(Room::default()),
                sampler,
                readers,
                health: Arc::default(),
                records,
            },
            receiver,
        )
    }

    /// The same, of so many traces a second, for these readers.
    pub fn read_by(self, readers: Readers, traces_per_s: Option<u32>) -> Telemetry {
        Telemetry { sampler: Sampler::new(traces_per_s.unwrap_or(TRACES_PER_S)), readers, ..self }
    }

    /// The same, with room to remember so much.
    pub fn remembering(self, room: Room) -> Telemetry {
        Telemetry { traffic: Traffic::new(room), ..self }
    }

    /// Which requests are traced.
    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// Whether what is sent arrives.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Counters and histograms.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Records decisions while it is on.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// What has passed.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// A request is kept whole for a reason, so that whoever receives traces shall have it, too.
    pub fn kept(&self, record: &Arc<Record>) {
        if self.readers != Readers::Traces || record.trace.sampled || !self.sampler.look_again_at_kept(record) {
            return;
        }
        let mut record = Record::clone(record);
        record.trace.sampled = true;
        if self.records.try_send(Arc::new(record)).is_err() {
            self.metrics.record_dropped();
        }
    }

    /// A request has ended: counts it, and passes it on for recording and tracing.
    pub fn request(&self, mut record: Box<Record>) {
        record.trace.sampled |= self.sampler.look_again(&record);
        self.metrics.request(&record);
        let record: Arc<Record> = Arc::from(record);
        self.recorder.offer(&record);
        self.traffic.ended(&record);
        let read = match self.readers {
            Readers::None => false,
            Readers::Traces => record.trace.sampled,
            Readers::All => true,
        };
        if read && self.records.try_send(record).is_err() {
            self.metrics.record_dropped();
        }
    }
}
