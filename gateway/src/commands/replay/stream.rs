//! Files in, counts out. The files are read one frame at a time by one thread; the others decide, each every so many
//! frames; counts are added in the order of the frames. So memory is bounded, every core is used, and the result is the
//! same every time.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use pointsman_policies::language::Report;

use super::Question;
use super::again::again;
use super::ground::{Ground, Grounds};
use super::tally::Tally;
use crate::decision_log::reader::{Packed, Piece};
use crate::decision_log::{Damage, Reader};

/// Threads that decide; more would wait for the one that reads.
const MOST_THREADS: usize = 16;
/// Frames that a thread may have before it: the bound on what is read ahead.
const AHEAD: usize = 4;

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The counts.
    pub(super) tally: Tally,
    /// The files with their sizes, in the order given.
    pub(super) files: Vec<(PathBuf, u64)>,
    /// What could not be read.
    pub(super) damage: Vec<(PathBuf, Damage)>,
    /// Classes that the two sides promise different things.
    pub(super) promises: BTreeSet<String>,
    /// What is doubtful about the candidate and the incumbent.
    pub(super) warnings: Vec<Report>,
    /// How long it took.
    pub(super) took: Duration,
    /// On how many threads.
    pub(super) threads: usize,
}

/// Replays files in the order given; the inner error are the reports of a policy that cannot be used.
pub(super) fn replay(files: &[PathBuf], question: &Question) -> anyhow::Result<Result<Outcome, Vec<Report>>> {
    let began = Instant::now();
    let threads = thread::available_parallelism().map_or(1, |count| count.get().min(MOST_THREADS));
    let outcome = Outcome {
        tally: Tally::default(),
        files: Vec::new(),
        damage: Vec::new(),
        promises: BTreeSet::new(),
        warnings: Vec::new(),
        took: Duration::ZERO,
        threads,
    };
    thread::scope(|scope| {
        let workers = (0..threads).map(|_| Worker::start(scope, question.limit)).collect();
        let mut replay = Replay { question, workers, given: 0, taken: 0, outcome };
        for file in files {
            if let Some(refused) = replay.file(file)? {
                return Ok(Err(refused));
            }
        }
        while replay.taken < replay.given {
            replay.take()?;
        }
        replay.outcome.took = began.elapsed();
        Ok(Ok(replay.outcome))
    })
}

struct Worker {
    frames: SyncSender<(Packed, Arc<Grounds>)>,
    tallies: Receiver<Tally>,
}

impl Worker {
    fn start<'scope>(scope: &'scope Scope<'scope, '_>, limit: usize) -> Worker {
        let (frames, work) = sync_channel::<(Packed, Arc<Grounds>)>(AHEAD);
        let (done, tallies) = sync_channel(AHEAD);
        scope.spawn(move || {
            for (packed, grounds) in work {
                if done.send(again(&packed, &grounds, limit)).is_err() {
                    return;
                }
            }
        });
        Worker { frames, tallies }
    }
}

struct Replay<'q> {
    question: &'q Question,
    workers: Vec<Worker>,
    given: usize,
    taken: usize,
    outcome: Outcome,
}

impl Replay<'_> {
    /// Reads one file; `Some` reports where a policy cannot be used.
    fn file(&mut self, file: &Path) -> anyhow::Result<Option<Vec<Report>>> {
        let cannot_read = || format!("cannot read `{}`", file.display());
        let bytes = std::fs::metadata(file).with_context(cannot_read)?.len();
        self.outcome.files.push((file.to_owned(), bytes));
        let mut reader = Reader::open(file).with_context(cannot_read)?;
        let mut grounds: Arc<Grounds> = Arc::new(HashMap::new());
        while let Some(piece) = reader.read().with_context(cannot_read)? {
            match piece {
                Piece::Set(set) => {
                    let (ground, reports) = Ground::new(*set, self.question);
                    let Some(ground) = ground else { return Ok(Some(reports)) };
                    self.warn(reports);
                    self.outcome.promises.extend(ground.promises());
                    let mut more = (*grounds).clone();
                    more.insert(ground.set.number, Arc::new(ground));
                    grounds = Arc::new(more);
                }
                Piece::Decisions(packed) => {
                    self.give(packed, Arc::clone(&grounds))?;
                }
                Piece::Damage(damage) => self.outcome.damage.push((file.to_owned(), damage)),
            }
        }
        while self.taken < self.given {
            self.take()?;
        }
        let damage = std::mem::take(&mut self.outcome.tally.damage);
        self.outcome.damage.extend(damage.into_iter().map(|damage| (file.to_owned(), damage)));
        Ok(None)
    }

    /// The same warning comes with every set; it is told once.
    fn warn(&mut self, reports: Vec<Report>) {
        for report in reports.into_iter().filter(|report| !report.is_empty()) {
            let text = report.render(false);
            if self.outcome.warnings.iter().all(|known| known.render(false) != text) {
                self.outcome.warnings.push(report);
            }
        }
    }

    fn give(&mut self, packed: Packed, grounds: Arc<Grounds>) -> anyhow::Result<()> {
        if self.given - self.taken >= AHEAD * self.workers.len() {
            self.take()?;
        }
        let worker = self.workers.get(self.given % self.workers.len()).ok_or_else(defect)?;
        worker.frames.send((packed, grounds)).map_err(|_| defect())?;
        self.given += 1;
        Ok(())
    }

    fn take(&mut self) -> anyhow::Result<()> {
        let worker = self.workers.get(self.taken % self.workers.len()).ok_or_else(defect)?;
        let tally = worker.tallies.recv().map_err(|_| defect())?;
        let file = self.outcome.files.len().saturating_sub(1);
        self.outcome.tally.add(tally, file, self.question.limit);
        self.taken += 1;
        Ok(())
    }
}

/// A thread that decides has ended before its time.
fn defect() -> anyhow::Error {
    anyhow!("deciding failed by a defect of this program; the lines above say where")
}
