//! All of trials that outlives a generation.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use pointsman_policies::policy::TrialMode;
use tokio::sync::Notify;

use super::Trial;
use super::memory::{self, Memory, Stopped};
use super::run::{self, Run};
use crate::config::set::ConfigSet;
use crate::record::DecisionRecord;

/// Decisions waiting to be compared with a shadow's; more are dropped and counted, no request ever waits.
const MOST_WAITING: usize = 1024;
/// Rolled back candidates that are remembered; the oldest is forgotten.
pub const MOST_STOPPED: usize = 64;

/// The trial that runs, and those that were rolled back.
#[derive(Debug)]
pub struct Trials {
    state: Mutex<State>,
    waiting: Mutex<VecDeque<Arc<DecisionRecord>>>,
    /// Told when something waits or a canary has failed.
    pub(super) work: Notify,
    file: PathBuf,
}

#[derive(Debug, Default)]
struct State {
    run: Option<Arc<Run>>,
    /// By the hash of the candidate.
    stopped: BTreeMap<String, Stopped>,
    /// What a process before this one counted.
    saved: Memory,
}

impl Trials {
    /// Goes on from what was saved in a folder.
    pub fn new(folder: &Path) -> Trials {
        let file = folder.join(memory::FILE);
        let saved = memory::read(&file);
        let stopped = saved.stopped.iter().map(|stopped| (stopped.hash.clone(), stopped.clone())).collect();
        let state = State { run: None, stopped, saved };
        Trials { state: Mutex::new(state), waiting: Mutex::default(), work: Notify::new(), file }
    }

    /// The trial of a set as the given generation runs it; none where the set names none, or where its canary was rolled
    /// back.
    pub fn adopt(&self, generation: u64, set: &ConfigSet) -> Option<Arc<Trial>> {
        let mut state = self.state.lock();
        let named = set.policy.trial.as_ref().zip(set.candidate.as_ref());
        let named = named.filter(|(trial, candidate)| !state.keeps_away(&trial.mode, &candidate.hash));
        let Some((trial, candidate)) = named else {
            state.run = None;
            return None;
        };
        let key = run::key(&set.texts.policy.text, candidate, &trial.mode);
        let run = match state.run.take().filter(|run| run.key == key) {
            Some(run) => run,
            None => Arc::new(match state.saved.take(&key) {
                Some(counts) => Run::of(key, counts),
                None => {
                    let margin = match &trial.mode {
                        TrialMode::Canary(canary) => canary.guard.margin,
                        TrialMode::Shadow { .. } => 0.0,
                    };
                    Run::new(key, &set.policy, &candidate.policy, margin, unix_s())
                }
            }),
        };
        state.run = Some(Arc::clone(&run));
        Some(Arc::new(Trial::new(generation, candidate.clone(), trial.mode.clone(), run)))
    }

    /// Lays a decision aside for comparison; `false` where there is no room.
    pub(super) fn lay_aside(&self, decision: &Arc<DecisionRecord>) -> bool {
        let mut waiting = self.waiting.lock();
        let room = waiting.len() < MOST_WAITING;
        if room {
            waiting.push_back(Arc::clone(decision));
            self.work.notify_one();
        }
        room
    }

    /// A decision that was laid aside.
    pub(super) fn next_waiting(&self) -> Option<Arc<DecisionRecord>> {
        self.waiting.lock().pop_front()
    }

    /// The canary has failed.
    pub(super) fn failed(&self) {
        self.work.notify_one();
    }

    /// Remembers that a candidate was rolled back.
    pub(super) fn stop(&self, stopped: Stopped) {
        let mut state = self.state.lock();
        state.stopped.insert(stopped.hash.clone(), stopped);
        if state.stopped.len() > MOST_STOPPED {
            let oldest = state.stopped.values().min_by_key(|stopped| stopped.at_unix_s).map(|old| old.hash.clone());
            state.stopped.remove(&oldest.unwrap_or_default());
        }
        state.run = None;
    }

    /// Forgets that a candidate was rolled back, so that it may be tried again; whether it was.
    pub fn resume(&self, hash: &str) -> bool {
        self.state.lock().stopped.remove(hash).is_some()
    }

    /// Why a candidate was rolled back.
    pub fn stopped(&self, hash: &str) -> Option<Stopped> {
        self.state.lock().stopped.get(hash).cloned()
    }

    /// Saves what is to survive the process. A folder that cannot be written is told once by whoever asks.
    pub fn save(&self) -> std::io::Result<()> {
        let state = self.state.lock();
        let memory = Memory::of(state.run.as_deref(), state.stopped.values().cloned().collect());
        drop(state);
        memory::write(&self.file, &memory)
    }
}

impl State {
    fn keeps_away(&self, mode: &TrialMode, hash: &str) -> bool {
        matches!(mode, TrialMode::Canary(_)) && self.stopped.contains_key(hash)
    }
}

/// Now, seconds since 1970.
pub(super) fn unix_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
