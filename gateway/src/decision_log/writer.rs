//! Records → files. A file that is full is moved aside (`FILE`, `FILE.1`, ...), the oldest goes. What the disk does not
//! take is counted, cut off, and tried no more; the next frame is tried again.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pointsman_policies::learned::Learned;

use super::entry::{Decision, Set};
use super::frame::{Builder, Kind, LARGEST_FRAME, MAGIC, OPENING_BYTES, opening};
use crate::record::{DecisionRecord, Record};

/// A frame is closed when it holds this much, unpacked: larger ones pack no better.
const FRAME_BYTES: usize = 128 << 10;

/// Where a log goes and how much of it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFiles {
    /// The file being written.
    pub file: PathBuf,
    /// It is moved aside before it is larger, bytes.
    pub max_bytes: u64,
    /// Files kept, the one being written included.
    pub keep: u32,
}

/// What came of writing some records.
#[derive(Debug, Default)]
pub struct Written {
    /// Decisions that are in the file.
    pub decisions: u64,
    /// Decisions that are not.
    pub lost: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Why some were lost.
    pub problem: Option<String>,
}

/// Writes one log.
#[derive(Debug)]
pub struct Writer {
    files: LogFiles,
    file: File,
    file_bytes: u64,
    /// Of those, the first line's, until something follows it.
    untold_bytes: u64,
    /// Numbers of the sets that are in this file, by version and hash.
    sets: HashMap<(String, String), u32>,
    builder: Builder,
    /// What had been learned by the last decision of the open frame.
    learned: Option<Arc<Learned>>,
}

impl Writer {
    /// Starts a new file; a log that is there is moved aside. A file that is no log is not touched.
    pub fn open(files: LogFiles) -> io::Result<Writer> {
        refuse_foreign(&files.file)?;
        rotate(&files)?;
        let file = create(&files.file)?;
        let opening = OPENING_BYTES as u64;
        let (sets, builder) = (HashMap::new(), Builder::default());
        Ok(Writer { files, file, file_bytes: opening, untold_bytes: opening, sets, builder, learned: None })
    }

    /// Writes what was decided, in the order in which it was.
    pub fn write(&mut self, records: &mut [Arc<Record>]) -> Written {
        records.sort_by_key(|record| record.wall + record.decided_at);
        let mut written = Written::default();
        for record in records.iter() {
            let Some(made) = &record.decision else { continue };
            let number = match self.number(made, &mut written) {
                Ok(number) => number,
                Err(error) => {
                    written.lost += 1;
                    written.problem = Some(error.to_string());
                    continue;
                }
            };
            if let Some(decision) = Decision::of(record, number) {
                self.push(&decision, &mut written);
            }
        }
        self.close_frame(&mut written);
        written
    }

    /// Adds one decision; for whoever makes logs without records. The frame is written when it is full, or by `finish`.
    pub fn push(&mut self, decision: &Decision, written: &mut Written) {
        let known = match (&self.learned, &decision.learned) {
            (Some(last), Some(learned)) => Arc::ptr_eq(last, learned) || last == learned,
            (None, None) => true,
            _ => false,
        };
        let result = match known {
            true => self.builder.push(&Decision { learned: None, ..decision.clone() }),
            false => self.builder.push(&Decision {
                learned: decision.learned.clone().or_else(|| Some(Arc::default())),
                ..decision.clone()
            }),
        };
        self.learned.clone_from(&decision.learned);
        if let Err(error) = result {
            written.lost += 1;
            written.problem = Some(error.to_string());
        }
        if self.builder.raw_bytes() >= FRAME_BYTES {
            self.close_frame(written);
        }
    }

    /// Adds a set and returns the number by which decisions refer to it.
    pub fn push_set(&mut self, mut set: Set, written: &mut Written) -> io::Result<u32> {
        self.close_frame(written);
        let number = self.sets.len() as u32;
        let key = (set.version.clone(), set.hash.clone());
        set.number = number;
        let mut builder = Builder::default();
        builder.push(&set).map_err(io::Error::other)?;
        if builder.raw_bytes() > LARGEST_FRAME {
            return Err(io::Error::other("the configuration is too large to be recorded"));
        }
        written.bytes += self.append(builder.frame(Kind::Set))?;
        self.sets.insert(key, number);
        Ok(number)
    }

    /// Writes the frame that is open.
    pub fn close_frame(&mut self, written: &mut Written) {
        self.learned = None;
        let entries = u64::from(self.builder.entries());
        if entries == 0 {
            return;
        }
        let mut builder = std::mem::take(&mut self.builder);
        match self.append(builder.frame(Kind::Decisions)) {
            Ok(bytes) => {
                written.bytes += bytes;
                written.decisions += entries;
            }
            Err(error) => {
                written.lost += entries;
                written.problem = Some(error.to_string());
            }
        }
        self.builder = builder;
    }

    /// The number of a set in this file, which it is written into if it is not there yet.
    fn number(&mut self, made: &DecisionRecord, written: &mut Written) -> io::Result<u32> {
        if self.file_bytes + self.builder.raw_bytes() as u64 > self.files.max_bytes && !self.sets.is_empty() {
            self.close_frame(written);
            self.next_file()?;
        }
        match self.sets.get(&(made.deciding().version.to_string(), made.snapshot.hash.clone())) {
            Some(number) => Ok(*number),
            None => self.push_set(set_of(made), written),
        }
    }

    /// Moves the full file aside. It goes on being written if that fails.
    fn next_file(&mut self) -> io::Result<()> {
        rotate(&self.files)?;
        self.file = create(&self.files.file)?;
        self.file_bytes = OPENING_BYTES as u64;
        self.untold_bytes += OPENING_BYTES as u64;
        self.sets.clear();
        Ok(())
    }

    /// Appends a frame whole or not at all.
    fn append(&mut self, frame: &[u8]) -> io::Result<u64> {
        if let Err(error) = self.file.write_all(frame) {
            // What got there would hide what comes after it. A reader copes if even this fails.
            let _ = self.file.set_len(self.file_bytes);
            let _ = io::Seek::seek(&mut self.file, io::SeekFrom::Start(self.file_bytes));
            return Err(error);
        }
        self.file_bytes += frame.len() as u64;
        let untold = std::mem::take(&mut self.untold_bytes);
        Ok(untold + frame.len() as u64)
    }
}

/// A candidate that decided stands in it as the policy. Of what only people read, secrets are masked.
fn set_of(made: &DecisionRecord) -> Set {
    let (snapshot, deciding) = (&made.snapshot, made.deciding());
    let texts = snapshot.texts.masked();
    Set {
        number: 0,
        generation: snapshot.generation,
        hash: snapshot.hash.clone(),
        version: deciding.version.to_string(),
        process: texts.process.text.to_string(),
        portfolio: texts.portfolio.text.to_string(),
        policy: deciding.text.to_string(),
        pools: snapshot.portfolio.facts.clone(),
    }
}

/// Callers and their habits are in it, so that it is nobody else's to read.
fn create(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&opening())?;
    Ok(file)
}

fn refuse_foreign(path: &Path) -> io::Result<()> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut start = Vec::new();
    if file.metadata()?.is_file() {
        (&mut file).take(MAGIC.len() as u64).read_to_end(&mut start)?;
        // One that was torn off at once begins as they all do.
        if MAGIC.starts_with(&start) {
            return Ok(());
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is there and no decision log; name another file"))
}

/// `FILE` becomes `FILE.1`, that `FILE.2`, and so on; the last one goes.
fn rotate(files: &LogFiles) -> io::Result<()> {
    let numbered = |number: u32| match number {
        0 => files.file.clone(),
        _ => PathBuf::from(format!("{}.{number}", files.file.display())),
    };
    for number in (0..files.keep.max(1)).rev() {
        let (from, to) = (numbered(number), numbered(number + 1));
        let moved = if number + 1 >= files.keep { std::fs::remove_file(&from) } else { std::fs::rename(&from, &to) };
        match moved {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Reader;
    use super::super::reader::Piece;
    use super::super::tests::{decision, set};
    use super::*;

    #[test]
    fn a_full_disk_is_counted_and_leaves_the_file_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("decisions.log");
        let mut writer = Writer::open(LogFiles { file: file.clone(), max_bytes: 1 << 20, keep: 1 }).unwrap();
        let mut written = Written::default();
        writer.push_set(set(1), &mut written).unwrap();
        let good = writer.file.try_clone().unwrap();
        writer.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        writer.push(&decision(1), &mut written);
        writer.close_frame(&mut written);
        assert_eq!((written.decisions, written.lost), (0, 1));
        assert!(written.problem.take().unwrap().contains("No space left"));
        writer.file = good;
        writer.push(&decision(2), &mut written);
        writer.close_frame(&mut written);
        assert_eq!((written.decisions, written.lost, written.problem), (1, 1, None));
        let mut reader = Reader::open(&file).unwrap();
        assert!(matches!(reader.read().unwrap(), Some(Piece::Set(_))));
        let Some(Piece::Decisions(packed)) = reader.read().unwrap() else { panic!("the second is there") };
        packed.decisions(|read| assert_eq!(read, decision(2))).unwrap();
        assert!(reader.read().unwrap().is_none());
    }
}
