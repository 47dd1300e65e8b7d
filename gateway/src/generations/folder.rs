//! The folder in which generations outlive the process: `generations/N.json`, `refused/N.json`, `audit.jsonl`. One gateway
//! at a time writes there; what it cannot read it names and leaves alone.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::audit::Audit;
use super::entry::{Entry, FORMAT, Outcome};
use crate::config::set::{Text, Texts};
use crate::config::write;

/// Larger files are none of ours, bytes: three texts of the largest size, escaped.
const MOST_FILE_BYTES: u64 = 64 << 20;

/// The folder, held by this process.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// The audit log.
    pub(super) audit: Audit,
    /// Other gateways find it locked until this one ends.
    lock: File,
}

/// What was there at the start.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In the order of their numbers.
    pub(super) entries: Vec<Entry>,
    /// The highest number that any file has, readable or not.
    pub(super) highest: u64,
}

/// An entry as it lies on disk.
#[derive(Serialize, Deserialize)]
struct OnDisk {
    #[serde(flatten)]
    entry: Entry,
    texts: TextsOnDisk,
}

#[derive(Serialize, Deserialize)]
struct TextsOnDisk {
    process: TextOnDisk,
    portfolio: TextOnDisk,
    policy: TextOnDisk,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    candidate: Option<TextOnDisk>,
}

#[derive(Serialize, Deserialize)]
struct TextOnDisk {
    path: PathBuf,
    text: String,
}

/// Enough of an entry to know whether the rest can be read.
#[derive(Deserialize)]
struct Formatted {
    format: u32,
}

impl Folder {
    /// Makes it where it is missing, and locks it; the error says why it cannot be used.
    pub(super) fn open(path: &Path) -> Result<Folder, String> {
        let failed = |what: &Path, error: &std::io::Error| format!("cannot write `{}`: {error}", what.display());
        for outcome in [Outcome::Accepted, Outcome::Refused] {
            let folder = path.join(name(outcome));
            std::fs::create_dir_all(&folder).map_err(|error| failed(&folder, &error))?;
        }
        let lock_file = path.join("lock");
        let opened = File::options().create(true).truncate(false).write(true).open(&lock_file);
        let lock = opened.map_err(|error| failed(&lock_file, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!("another gateway uses `{}`; give each its own `state`", path.display()));
            }
            Err(TryLockError::Error(error)) => return Err(failed(&lock_file, &error)),
        }
        let audit = Audit::open(path).map_err(|error| failed(&path.join("audit.jsonl"), &error))?;
        Ok(Folder { path: path.to_owned(), audit, lock })
    }

    /// Lets another process write there.
    pub(super) fn unlock(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!("`{}` cannot be let go: {error}", self.path.display());
        }
    }

    /// Takes it back from one that did not come to write.
    pub(super) fn lock_again(&self) {
        if let Err(error) = self.lock.try_lock() {
            tracing::warn!("`{}` cannot be taken back: {error}", self.path.display());
        }
    }

    /// What lies there. Files that cannot be read are named in the log.
    pub(super) fn read(&self, outcome: Outcome) -> Found {
        let mut found = Found::default();
        let folder = self.path.join(name(outcome));
        for path in std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if stem.starts_with('.') {
                let _ = std::fs::remove_file(&path); // left behind by a crash in the middle of writing
                continue;
            }
            let number = stem.parse::<u64>().ok().filter(|_| path.extension().is_some_and(|end| end == "json"));
            found.highest = found.highest.max(number.unwrap_or_default());
            match read(&path).map(|on_disk| on_disk.entry) {
                Ok(entry) if Some(entry.number) == number && entry.result == outcome => found.entries.push(entry),
                Ok(_) => tracing::warn!("`{}` is not what its name says; left alone", path.display()),
                Err(why) => tracing::warn!("`{}` is left alone: {why}", path.display()),
            }
        }
        found.entries.sort_by_key(|entry| entry.number);
        found
    }

    /// The texts of an entry.
    pub(super) fn texts(&self, entry: &Entry) -> Result<Texts, String> {
        let path = self.file(entry);
        let texts = read(&path).map_err(|why| format!("`{}`: {why}", path.display()))?.texts;
        let text = |on_disk: TextOnDisk| Text { path: on_disk.path, text: on_disk.text.into() };
        Ok(Texts {
            process: text(texts.process),
            portfolio: text(texts.portfolio),
            policy: text(texts.policy),
            candidate: texts.candidate.map(text),
        })
    }

    /// Writes an entry with its texts; never over another.
    pub(super) fn write(&self, entry: &Entry, texts: &Texts) -> Result<(), String> {
        let path = self.file(entry);
        if path.exists() {
            return Err(format!("`{}` is there already", path.display()));
        }
        let text = |text: &Text| TextOnDisk { path: text.path.clone(), text: text.text.to_string() };
        let texts = TextsOnDisk {
            process: text(&texts.process),
            portfolio: text(&texts.portfolio),
            policy: text(&texts.policy),
            candidate: texts.candidate.as_ref().map(text),
        };
        let json = serde_json::to_vec_pretty(&OnDisk { entry: entry.clone(), texts });
        let json = json.map_err(|error| error.to_string())?;
        write::replace(&path, &json).map_err(|error| format!("cannot write `{}`: {error}", path.display()))
    }

    /// Removes an entry's file.
    pub(super) fn remove(&self, entry: &Entry) {
        let path = self.file(entry);
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!("cannot remove `{}`: {error}", path.display());
        }
    }

    fn file(&self, entry: &Entry) -> PathBuf {
        self.path.join(name(entry.result)).join(format!("{}.json", entry.number))
    }
}

fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Accepted => "generations",
        Outcome::Refused => "refused",
    }
}

fn read(path: &Path) -> Result<OnDisk, String> {
    let bytes = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if bytes > MOST_FILE_BYTES {
        return Err(format!("it has {bytes} bytes, more than any generation"));
    }
    let json = std::fs::read(path).map_err(|error| error.to_string())?;
    match serde_json::from_slice::<Formatted>(&json) {
        Ok(Formatted { format: FORMAT }) => {}
        Ok(Formatted { format }) => return Err(format!("it has format {format}, this version knows {FORMAT}")),
        Err(error) => return Err(format!("it is damaged: {error}")),
    }
    serde_json::from_slice(&json).map_err(|error| format!("it is damaged: {error}"))
}
