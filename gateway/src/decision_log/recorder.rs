//! Recording on and off. The data path offers each record that has been settled and never waits; a task of its own
//! writes them, at least once a second.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::writer::{LogFiles, Writer, Written};
use crate::record::Record;
use crate::telemetry::metrics::Metrics;

/// Records waiting to be written; more are let go and counted. Each holds the reasons for every endpoint.
const WAITING: usize = 2048;
/// Records written at a time.
const BATCH: usize = 512;
/// Nothing waits longer to be written.
const FLUSH: Duration = Duration::from_secs(1);
/// How often trouble is mentioned in the log.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// How the recording goes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Recording {
    /// Whether decisions are being recorded.
    pub on: bool,
    /// The file, the last one's where recording is off.
    pub file: Option<PathBuf>,
    /// It is moved aside before it is larger, bytes.
    pub max_bytes: u64,
    /// Files kept.
    pub keep: u32,
    /// Bytes written since the process began.
    pub bytes: u64,
    /// Decisions written since the process began.
    pub decisions: u64,
    /// Decisions that were made while recording and are in no file, since the process began.
    pub dropped: u64,
    /// Why the last ones were not written; gone as soon as writing works again.
    pub problem: Option<String>,
}

/// Records decisions while it is on.
#[derive(Debug)]
pub struct Recorder {
    channel: ArcSwapOption<mpsc::Sender<Arc<Record>>>,
    task: AsyncMutex<Option<JoinHandle<()>>>,
    progress: Arc<Progress>,
}

#[derive(Debug)]
struct Progress {
    on: AtomicBool,
    files: Mutex<Option<LogFiles>>,
    bytes: AtomicU64,
    decisions: AtomicU64,
    dropped: AtomicU64,
    problem: Mutex<Option<String>>,
    metrics: Arc<Metrics>,
}

impl Recorder {
    /// A recorder that is off.
    pub fn new(metrics: Arc<Metrics>) -> Recorder {
        let progress = Progress {
            on: AtomicBool::new(false),
            files: Mutex::new(None),
            bytes: AtomicU64::new(0),
            decisions: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            problem: Mutex::new(None),
            metrics,
        };
        Recorder { channel: ArcSwapOption::empty(), task: AsyncMutex::new(None), progress: Arc::new(progress) }
    }

    /// Takes a record that was settled, if recording is on and something was decided. Never waits.
    pub fn offer(&self, record: &Arc<Record>) {
        let channel = self.channel.load();
        let Some(channel) = channel.as_ref().filter(|_| record.decision.is_some()) else { return };
        if channel.try_send(Arc::clone(record)).is_err() {
            self.progress.dropped(1);
        }
    }

    /// Begins recording into a new file; what was recorded into before is finished first. Must run inside a runtime.
    pub async fn start(&self, files: LogFiles) -> io::Result<()> {
        let mut task = self.task.lock().await;
        self.finish(&mut task).await;
        let opened = files.clone();
        let writer = tokio::task::spawn_blocking(move || Writer::open(opened)).await.map_err(io::Error::other)?;
        let writer = writer.map_err(|error| {
            io::Error::new(error.kind(), format!("cannot record into `{}`: {error}", files.file.display()))
        })?;
        tracing::info!(file = %files.file.display(), "recording decisions");
        *self.progress.files.lock() = Some(files);
        let (sender, records) = mpsc::channel(WAITING);
        *task = Some(tokio::spawn(write(records, writer, Arc::clone(&self.progress))));
        self.progress.on.store(true, Ordering::Relaxed);
        self.channel.store(Some(Arc::new(sender)));
        Ok(())
    }

    /// Stops recording; what was offered before is in the file when this returns.
    pub async fn stop(&self) {
        let mut task = self.task.lock().await;
        self.finish(&mut task).await;
    }

    async fn finish(&self, task: &mut Option<JoinHandle<()>>) {
        self.channel.store(None);
        if let Some(task) = task.take()
            && let Err(error) = task.await
        {
            tracing::error!("recording ended by a defect: {error}");
        }
        self.progress.on.store(false, Ordering::Relaxed);
    }

    /// How it goes.
    pub fn recording(&self) -> Recording {
        let progress = &self.progress;
        let files = progress.files.lock().clone();
        Recording {
            on: progress.on.load(Ordering::Relaxed),
            max_bytes: files.as_ref().map_or(0, |files| files.max_bytes),
            keep: files.as_ref().map_or(0, |files| files.keep),
            file: files.map(|files| files.file),
            bytes: progress.bytes.load(Ordering::Relaxed),
            decisions: progress.decisions.load(Ordering::Relaxed),
            dropped: progress.dropped.load(Ordering::Relaxed),
            problem: progress.problem.lock().clone(),
        }
    }
}

impl Progress {
    fn dropped(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
        self.metrics.decisions_recorded("dropped", count);
    }

    fn note(&self, written: Written) {
        self.bytes.fetch_add(written.bytes, Ordering::Relaxed);
        self.decisions.fetch_add(written.decisions, Ordering::Relaxed);
        self.metrics.decisions_recorded("written", written.decisions);
        if written.lost > 0 {
            self.dropped(written.lost);
        }
        *self.problem.lock() = written.problem;
    }
}

/// Writes until the last sender is gone.
async fn write(mut records: mpsc::Receiver<Arc<Record>>, mut writer: Writer, progress: Arc<Progress>) {
    let mut complaint: Option<Instant> = None;
    let mut told = progress.dropped.load(Ordering::Relaxed);
    let mut open = true;
    while open {
        let mut batch = Vec::with_capacity(BATCH);
        open = gather(&mut records, &mut batch).await;
        let writing = tokio::task::spawn_blocking(move || {
            let written = writer.write(&mut batch);
            (writer, written)
        });
        let written = match writing.await {
            Ok((back, written)) => {
                writer = back;
                written
            }
            Err(error) => {
                tracing::error!("recording stopped by a defect: {error}");
                return;
            }
        };
        progress.note(written);
        let dropped = progress.dropped.load(Ordering::Relaxed);
        if dropped > told && complaint.is_none_or(|last| last.elapsed() > COMPLAIN_EVERY) {
            let problem = progress.problem.lock().clone();
            let reason = problem.unwrap_or_else(|| "more was decided than the disk took".to_owned());
            tracing::warn!(decisions = dropped - told, "decisions were not recorded: {reason}");
            (complaint, told) = (Some(Instant::now()), dropped);
        }
    }
}

/// Fills a batch until it is full or its first record has waited long enough; false when no more will come.
async fn gather(records: &mut mpsc::Receiver<Arc<Record>>, batch: &mut Vec<Arc<Record>>) -> bool {
    if records.recv_many(batch, BATCH).await == 0 {
        return false;
    }
    let until = Instant::now() + FLUSH;
    while batch.len() < BATCH {
        let room = BATCH - batch.len();
        match tokio::time::timeout_at(until, records.recv_many(batch, room)).await {
            Ok(0) => return false,
            Ok(_) => {}
            Err(_) => return true,
        }
    }
    true
}

#[cfg(test)]
pub(crate) mod tests {
    use pointsman_backends::fleet::{Fleet, Seen};
    use pointsman_backends::portfolio::Secrets;
    use pointsman_policies::facts::OwnedFacts;
    use pointsman_policies::policy::ClassId;
    use std::time::{Instant as StdInstant, SystemTime};

    use super::*;
    use crate::config::set;
    use crate::record::DecisionRecord;
    use crate::snapshot::Snapshot;

    pub(crate) fn snapshot(folder: &std::path::Path) -> Arc<Snapshot> {
        let pool = "[pool.a]\nhardware = \"h100\"\nendpoints = [\"http://127.0.0.1:1\"]\n[pool.a.model.m]\n";
        for (name, text) in [("pointsman.toml", ""), ("portfolio.toml", pool), ("policy.toml", "name = \"p\"\n")] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let loaded = set::load(&folder.join("pointsman.toml"), Secrets::Required);
        let Some(set) = loaded.set else { panic!("{}", set::render(&loaded.reports, false)) };
        Arc::new(Snapshot::build(1, set, None, &Fleet::default()))
    }

    pub(crate) fn record(snapshot: &Arc<Snapshot>) -> Arc<Record> {
        let decision = DecisionRecord {
            snapshot: Arc::clone(snapshot),
            arm: pointsman_policies::trial::Arm::Incumbent,
            mechanisms: Default::default(),
            facts: OwnedFacts {
                headers: vec![("authorization".into(), "Bearer sk-1".into())],
                ..OwnedFacts::default()
            },
            prefix: Arc::default(),
            class: ClassId(0),
            endpoints: Seen::of(Vec::new()),
            learned: Arc::default(),
            waiting: Vec::new(),
            draw: 0,
            route: 0,
            planned: Vec::new(),
            plan: None,
        };
        let blank = Record::blank(StdInstant::now(), SystemTime::now());
        Arc::new(Record { decision: Some(decision.into()), ..blank })
    }

    #[tokio::test]
    async fn what_waits_too_long_is_let_go_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let record = record(&snapshot(folder.path()));
        let recorder = Recorder::new(Arc::new(Metrics::default()));
        recorder.offer(&record);
        assert_eq!(recorder.recording().dropped, 0, "recording is off");
        let (sender, stuck) = mpsc::channel(3);
        recorder.channel.store(Some(Arc::new(sender)));
        for _ in 0..5 {
            recorder.offer(&record);
        }
        assert_eq!((recorder.recording().dropped, stuck.len()), (2, 3));
    }

    #[tokio::test]
    async fn what_was_offered_before_the_end_is_in_the_file_and_no_credential_is() {
        let folder = tempfile::tempdir().unwrap();
        let record = record(&snapshot(folder.path()));
        let recorder = Recorder::new(Arc::new(Metrics::default()));
        let file = folder.path().join("decisions.log");
        recorder.start(LogFiles { file: file.clone(), max_bytes: 1 << 20, keep: 2 }).await.unwrap();
        for _ in 0..700 {
            recorder.offer(&record);
        }
        recorder.stop().await;
        let recording = recorder.recording();
        assert_eq!((recording.on, recording.decisions, recording.dropped), (false, 700, 0));
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        assert!(text.contains("[withheld]") && !text.contains("sk-1"), "{text:?}");
        recorder.offer(&record);
        assert_eq!(recorder.recording().dropped, 0, "recording is off again");
    }
}
