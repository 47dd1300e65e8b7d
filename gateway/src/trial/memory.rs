//! What survives a restart: the counts of the trial that runs, and which candidates were rolled back and why.

use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::run::{Counts, Run};
use crate::config::set::folder_of;

/// The file in the folder of what the gateway itself remembers.
pub const FILE: &str = "trial.json";
/// A larger file is not ours, bytes.
const MAX_BYTES: u64 = 16 << 20;

/// A candidate that was rolled back, with the figures that it was judged by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stopped {
    /// Hash of its text.
    pub hash: String,
    /// Its name.
    pub policy: String,
    /// Its file.
    pub file: String,
    /// When, seconds since 1970.
    pub at_unix_s: u64,
    /// The class that it did worse for.
    pub class: String,
    /// Requests of that class under the policy in force, and its attainment, 0 to 1.
    pub incumbent: Figures,
    /// The same under the candidate.
    pub candidate: Figures,
    /// By how much it might have been worse, 0 to 1.
    pub margin: f64,
    /// How sure one had to be, 0 to 1.
    pub confidence: f64,
}

/// A side of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Requests.
    pub requests: u64,
    /// Share whose promise was kept.
    pub attainment: f64,
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        write!(
            f,
            "class {}: {} of {} requests kept under the candidate, {} of {} under the policy in force; more than {} below \
             with {} confidence",
            self.class,
            percent(self.candidate.attainment),
            self.candidate.requests,
            percent(self.incumbent.attainment),
            self.incumbent.requests,
            percent(self.margin),
            percent(self.confidence),
        )
    }
}

/// The file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// The trial that runs.
    run: Option<SavedRun>,
    /// Candidates that were rolled back.
    pub stopped: Vec<Stopped>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SavedRun {
    key: String,
    counts: Counts,
}

impl Memory {
    /// What there is to remember.
    pub fn of(run: Option<&Run>, stopped: Vec<Stopped>) -> Memory {
        let saved = |run: &Run| SavedRun { key: run.key.clone(), counts: run.counts().clone() };
        Memory { run: run.map(saved), stopped }
    }

    /// The counts of a run, once.
    pub fn take(&mut self, key: &str) -> Option<Counts> {
        self.run.take_if(|run| run.key == key).map(|run| run.counts)
    }

    fn is_empty(&self) -> bool {
        self.run.is_none() && self.stopped.is_empty()
    }
}

/// Reads the file; what cannot be read is told, and nothing is remembered.
pub fn read(file: &Path) -> Memory {
    let read = || -> io::Result<Memory> {
        let mut text = Vec::new();
        std::fs::File::open(file)?.take(MAX_BYTES).read_to_end(&mut text)?;
        serde_json::from_slice(&text).map_err(io::Error::other)
    };
    read().unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            tracing::warn!("what is known of earlier trials is lost: cannot read `{}`: {error}", file.display());
        }
        Memory::default()
    })
}

/// Replaces the file whole. Where there has never been anything to remember, there is no file.
pub fn write(file: &Path, memory: &Memory) -> io::Result<()> {
    if memory.is_empty() && !file.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(folder_of(file))?;
    let beside = file.with_extension("json.new");
    std::fs::write(&beside, serde_json::to_vec(memory)?)?;
    std::fs::rename(beside, file)
}
