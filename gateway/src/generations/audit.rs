//! The audit log: one JSON line for each change and each change that was refused, on disk before anything else goes on.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::entry::{Change, Entry, Outcome};
use crate::snapshot::Snapshot;

/// The file is put aside when it has grown past this, bytes.
const MOST_BYTES: u64 = 10 << 20;
/// Files that have been put aside and are kept.
const PUT_ASIDE: usize = 5;

/// The log.
#[derive(Debug)]
pub(super) struct Audit {
    folder: PathBuf,
    file: File,
    bytes: u64,
}

/// One line.
#[derive(Debug, Serialize)]
pub(super) struct AuditLine {
    at: String,
    who: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    source: &'static str,
    result: &'static str,
    generation_before: u64,
    generation_after: u64,
    hash: String,
    summary: String,
    /// Code of the refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// The refused attempt, as `pointsman policy show` knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<String>,
}

impl AuditLine {
    pub(super) fn of(entry: &Entry, before: u64) -> AuditLine {
        let refused = entry.result == Outcome::Refused;
        AuditLine {
            at: entry.at.clone(),
            who: entry.who.clone(),
            from: entry.from.clone(),
            source: entry.source.as_str(),
            result: if refused { "refused" } else { "in-force" },
            generation_before: before,
            generation_after: if refused { before } else { entry.number },
            hash: entry.hash.clone(),
            summary: entry.summary.clone(),
            code: None,
            attempt: refused.then(|| entry.id().to_string()),
        }
    }

    pub(super) fn turned_away(current: &Snapshot, change: &Change, code: &str, message: &str) -> AuditLine {
        AuditLine { result: "refused", code: Some(code.to_owned()), ..AuditLine::noted(current, change, message) }
    }

    pub(super) fn noted(current: &Snapshot, change: &Change, summary: &str) -> AuditLine {
        AuditLine {
            at: humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string(),
            who: change.who.clone(),
            from: change.from.map(|from| from.to_string()),
            source: change.origin.as_str(),
            result: "done",
            generation_before: current.generation,
            generation_after: current.generation,
            hash: current.hash.clone(),
            summary: summary.to_owned(),
            code: None,
            attempt: None,
        }
    }
}

impl Audit {
    pub(super) fn open(folder: &Path) -> io::Result<Audit> {
        let file = File::options().create(true).append(true).open(folder.join("audit.jsonl"))?;
        let bytes = file.metadata()?.len();
        Ok(Audit { folder: folder.to_owned(), file, bytes })
    }

    pub(super) fn write(&mut self, line: &AuditLine) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        if self.bytes > 0 && self.bytes + text.len() as u64 > MOST_BYTES {
            self.put_aside()?;
        }
        self.file.write_all(&text)?;
        self.bytes += text.len() as u64;
        self.file.sync_data()
    }

    /// `audit.jsonl` becomes `audit.1.jsonl`, that one `audit.2.jsonl`; the last goes.
    fn put_aside(&mut self) -> io::Result<()> {
        let name = |age: usize| match age {
            0 => self.folder.join("audit.jsonl"),
            age => self.folder.join(format!("audit.{age}.jsonl")),
        };
        for age in (0..PUT_ASIDE).rev() {
            match std::fs::rename(name(age), name(age + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        *self = Audit::open(&self.folder)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_grown_too_long_is_put_aside_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let mut audit = Audit::open(folder.path()).unwrap();
        let line = |number| AuditLine {
            at: String::new(),
            who: "ada".to_owned(),
            from: None,
            source: "api",
            result: "in-force",
            generation_before: number,
            generation_after: number + 1,
            hash: String::new(),
            summary: String::new(),
            code: None,
            attempt: None,
        };
        for number in 0..8 {
            audit.write(&line(number)).unwrap();
            audit.bytes = MOST_BYTES; // as if it had grown
        }
        let numbers: Vec<u64> = ["audit.jsonl", "audit.1.jsonl", "audit.2.jsonl", "audit.5.jsonl"]
            .map(|name| std::fs::read_to_string(folder.path().join(name)).unwrap())
            .iter()
            .map(|text| serde_json::from_str::<serde_json::Value>(text).unwrap()["generation_before"].as_u64().unwrap())
            .collect();
        assert_eq!(numbers, [7, 6, 5, 2]);
        assert!(!folder.path().join("audit.6.jsonl").exists());
    }
}
