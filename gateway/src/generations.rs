//! What was in force, since when, by whom, and what was refused: kept on disk across restarts, with the texts.

/// What is told of one of them.
pub mod entry;
/// Two sets of texts, compared.
pub mod comparison;
/// The folder.
mod folder;
/// One line for each change.
mod audit;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_policies::language::{Report, Severity};

use crate::config::process::Process;
use crate::config::set::{ConfigSet, Loaded, Text, Texts};
use crate::snapshot::Snapshot;
use audit::AuditLine;
use comparison::Comparison;
use entry::{Change, Entry, Id, Outcome};
use folder::Folder;

/// Entries that are kept where there is no folder; with one, `generations.keep`.
const KEPT_IN_MEMORY: usize = 50;

/// Every generation that is remembered.
#[derive(Debug)]
pub struct History {
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    keep: usize,
    generations: Line,
    refused: Line,
    folder: Result<Folder, String>,
}

/// Entries of one kind, the oldest first.
#[derive(Debug, Default)]
struct Line {
    entries: VecDeque<Remembered>,
    /// Numbers up to here have been given away, or are names of files that are not ours to write over.
    highest: u64,
}

/// An entry, and its texts where they are not on disk.
#[derive(Debug)]
struct Remembered {
    entry: Arc<Entry>,
    texts: Option<Texts>,
}

impl History {
    /// Opens the folder of the process file. What is wrong with it goes to the log; then there is no memory past the end
    /// of this process.
    pub fn open(process: &Process) -> History {
        let mut kept = Kept {
            keep: KEPT_IN_MEMORY,
            generations: Line::default(),
            refused: Line::default(),
            folder: Err(String::new()),
        };
        kept.folder = Folder::open(&process.state).inspect_err(|why| {
            tracing::warn!("generations are not kept past the end of this process: {why}");
        });
        if let Ok(folder) = &kept.folder {
            kept.keep = process.generations.keep;
            for (line, outcome) in [(&mut kept.generations, Outcome::Accepted), (&mut kept.refused, Outcome::Refused)] {
                let found = folder.read(outcome);
                line.highest = found.highest;
                let remembered = |entry| Remembered { entry: Arc::new(entry), texts: None };
                line.entries = found.entries.into_iter().map(remembered).collect();
            }
        }
        kept.prune();
        History { kept: Mutex::new(kept) }
    }

    /// The number of the first generation of this process: the last one's where the files are still the same.
    pub fn begin(&self, set: &ConfigSet) -> u64 {
        let mut kept = self.kept.lock();
        if let Some(last) = kept.generations.entries.back()
            && last.entry.hash == set.hash
        {
            return last.entry.number;
        }
        let number = kept.generations.highest + 1;
        let entry = Entry::accepted(number, &set.policy.name, &set.hash, &set.texts, &Change::start());
        let last = kept.generations.entries.back().map(|last| last.entry.id());
        let before = last.and_then(|id| kept.texts(id).ok());
        kept.accept(entry, &set.texts, before.as_ref());
        number
    }

    /// Lets a successor write to the folder.
    pub fn let_go(&self) {
        if let Ok(folder) = &self.kept.lock().folder {
            folder.unlock();
        }
    }

    /// Takes the folder back from a successor that has failed.
    pub fn take_back(&self) {
        if let Ok(folder) = &self.kept.lock().folder {
            folder.lock_again();
        }
    }

    /// The number of the generation that comes next.
    pub fn next_number(&self) -> u64 {
        self.kept.lock().generations.highest + 1
    }

    /// A generation has come into force in the place of another.
    pub fn accepted(&self, snapshot: &Snapshot, before: &Texts, change: &Change) {
        let Snapshot { generation, hash, policy, texts, .. } = snapshot;
        let entry = Entry::accepted(*generation, &policy.name, hash, texts, change);
        self.kept.lock().accept(entry, texts, Some(before));
    }

    /// A generation has come into force for another reason than its texts, in these words.
    pub fn accepted_because(&self, snapshot: &Snapshot, change: &Change, summary: String) {
        let Snapshot { generation, hash, policy, texts, .. } = snapshot;
        let entry = Entry::accepted(*generation, &policy.name, hash, texts, change);
        self.kept.lock().enter(Entry { summary, ..entry }, texts);
    }

    /// What was read has been refused; `texts` is what was read.
    pub fn refused(&self, current: &Snapshot, hash: &str, texts: &Texts, reports: &[Report], change: &Change) {
        let texts = texts.masked();
        let mut kept = self.kept.lock();
        let number = kept.refused.highest + 1;
        let mut entry = Entry::refused(number, current, hash, &texts, change);
        entry.diagnostics = reports.iter().flat_map(Report::records).map(|record| serde_json::json!(record)).collect();
        entry.summary = first_error(reports);
        kept.audit(AuditLine::of(&entry, current.generation));
        kept.remember(entry, &texts);
        kept.prune();
    }

    /// A change has been refused before anything was read; only the audit log tells of it.
    pub fn turned_away(&self, current: &Snapshot, change: &Change, code: &str, message: &str) {
        self.kept.lock().audit(AuditLine::turned_away(current, change, code, message));
    }

    /// Something has been done that makes no new generation; only the audit log tells of it.
    pub fn noted(&self, current: &Snapshot, change: &Change, summary: &str) {
        self.kept.lock().audit(AuditLine::noted(current, change, summary));
    }

    /// What is remembered, the newest first.
    pub fn entries(&self, limit: usize) -> Vec<Arc<Entry>> {
        let kept = self.kept.lock();
        let (generations, refused) = (&kept.generations.entries, &kept.refused.entries);
        let all = generations.iter().chain(refused).map(|one| Arc::clone(&one.entry));
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|entry| std::cmp::Reverse((entry.at_unix_ms, entry.number)));
        all.truncate(limit);
        all
    }

    /// One of them.
    pub fn entry(&self, id: Id) -> Option<Arc<Entry>> {
        self.kept.lock().find(id).map(|found| Arc::clone(&found.entry))
    }

    /// Its texts; the error says why they are not there.
    pub fn texts(&self, id: Id) -> Result<Texts, String> {
        self.kept.lock().texts(id)
    }

    /// The newest generation before one that a test holds of.
    pub fn before(&self, number: u64, wanted: impl Fn(&Entry) -> bool) -> Option<Arc<Entry>> {
        let kept = self.kept.lock();
        let mut before = kept.generations.entries.iter().rev().map(|one| &one.entry);
        before.find(|entry| entry.number < number && wanted(entry)).map(Arc::clone)
    }

    /// Why nothing outlives this process; `None` where it does.
    pub fn forgetful(&self) -> Option<String> {
        self.kept.lock().folder.as_ref().err().cloned()
    }
}

impl Kept {
    fn line(&mut self, outcome: Outcome) -> &mut Line {
        match outcome {
            Outcome::Accepted => &mut self.generations,
            Outcome::Refused => &mut self.refused,
        }
    }

    fn find(&self, id: Id) -> Option<&Remembered> {
        let (line, number) = match id {
            Id::Generation(number) => (&self.generations, number),
            Id::Refused(number) => (&self.refused, number),
        };
        line.entries.iter().find(|one| one.entry.number == number)
    }

    fn texts(&self, id: Id) -> Result<Texts, String> {
        let found = self.find(id).ok_or_else(|| format!("{id} is not remembered"))?;
        match (&found.texts, &self.folder) {
            (Some(texts), _) => Ok(texts.clone()),
            (None, Ok(folder)) => folder.texts(&found.entry),
            (None, Err(why)) => Err(why.clone()),
        }
    }

    fn accept(&mut self, mut entry: Entry, texts: &Texts, before: Option<&Texts>) {
        entry.summary = match before {
            Some(before) => Comparison::of(before, texts).summary(),
            None => "the first that is remembered".to_owned(),
        };
        self.enter(entry, texts);
    }

    fn enter(&mut self, entry: Entry, texts: &Texts) {
        let last = self.generations.entries.back().map_or(0, |last| last.entry.number);
        self.audit(AuditLine::of(&entry, last));
        self.remember(entry, texts);
        self.prune();
    }

    fn remember(&mut self, entry: Entry, texts: &Texts) {
        let written = match &self.folder {
            Ok(folder) => folder.write(&entry, texts).inspect_err(|why| {
                tracing::warn!("{} is kept in memory only: {why}", entry.id());
            }),
            Err(why) => Err(why.clone()),
        };
        let line = self.line(entry.result);
        line.highest = line.highest.max(entry.number);
        let texts = written.is_err().then(|| texts.clone());
        line.entries.push_back(Remembered { entry: Arc::new(entry), texts });
    }

    fn prune(&mut self) {
        for line in [&mut self.generations, &mut self.refused] {
            while line.entries.len() > self.keep {
                if let (Some(oldest), Ok(folder)) = (line.entries.pop_front(), &self.folder) {
                    folder.remove(&oldest.entry);
                }
            }
        }
    }

    fn audit(&mut self, line: AuditLine) {
        if let Ok(folder) = &mut self.folder
            && let Err(why) = folder.audit.write(&line)
        {
            tracing::warn!("a change is missing in the audit log: {why}");
        }
    }
}

fn first_error(reports: &[Report]) -> String {
    let errors = reports.iter().flat_map(Report::records).filter(|record| record.severity == Severity::Error);
    let mut errors = errors.map(|record| {
        let file = Path::new(&record.file).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let line = record.place.map(|place| format!(":{}", place.line)).unwrap_or_default();
        format!("{file}{line}: {}", record.message)
    });
    match (errors.next(), errors.count()) {
        (Some(first), 0) => first,
        (Some(first), more) => format!("{first}, and {more} more"),
        (None, _) => String::new(),
    }
}

/// The texts that an attempt had, as far as they could be read.
pub fn texts_of(loaded: &Loaded, process_file: &Path, current: &Texts) -> Texts {
    loaded.texts.clone().unwrap_or_else(|| {
        let text = loaded.reports.first().map_or("", |report| report.source().text.as_str());
        Texts { process: Text { path: process_file.to_owned(), text: text.into() }, ..current.clone() }
    })
}

#[cfg(test)]
mod tests;
