//! Files → sets and decisions. Reads one frame at a time, so memory is bounded whatever the file is. What is torn or
//! damaged is skipped and told; everything else is read.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use pointsman_policies::learned::Learned;

use super::entry::{Decision, Set};
use super::frame::{HEAD_BYTES, Head, Kind, MAGIC, MARKER, OPENING_BYTES, VERSION, entries};

/// Bytes are looked at in pieces of this size where a marker is searched.
const READ_BYTES: usize = 256 << 10;

/// A file being read.
#[derive(Debug)]
pub struct Reader<R = BufReader<File>> {
    input: R,
    /// Bytes that were read ahead.
    ahead: Vec<u8>,
    /// Where `ahead` begins in the file.
    offset: u64,
    ended: bool,
}

/// The next thing in a file.
#[derive(Debug)]
pub enum Piece {
    /// A configuration set; decisions after it may refer to it.
    Set(Box<Set>),
    /// Decisions, still packed: unpack them with [`Packed::decisions`], on whatever thread.
    Decisions(Packed),
    /// Something that is no whole frame.
    Damage(Damage),
}

/// A checked frame of decisions.
#[derive(Debug)]
pub struct Packed {
    head: Head,
    body: Vec<u8>,
    offset: u64,
}

/// What could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where it begins in the file.
    pub offset: u64,
    /// How much of the file it is.
    pub bytes: u64,
    /// How many decisions are lost, where a head could still be read.
    pub decisions: Option<u32>,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes from offset {} {}", self.bytes, self.offset, self.problem)?;
        match self.decisions {
            Some(0) | None => Ok(()),
            Some(1) => write!(f, "; 1 decision is lost"),
            Some(count) => write!(f, "; {count} decisions are lost"),
        }
    }
}

impl Packed {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.head.entries as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.head.entries == 0
    }

    /// Unpacks them, in order.
    pub fn decisions(&self, mut each: impl FnMut(Decision)) -> Result<(), Damage> {
        let mut learned: Option<Arc<Learned>> = None;
        let whole = |mut decision: Decision| {
            if decision.learned.is_some() {
                learned = decision.learned.take().filter(|learned| **learned != Learned::default());
            }
            decision.learned.clone_from(&learned);
            each(decision);
        };
        entries(&self.head, &self.body, whole).map_err(|error| Damage {
            offset: self.offset,
            bytes: (HEAD_BYTES + self.body.len()) as u64,
            decisions: Some(self.head.entries),
            problem: format!("cannot be understood ({error})"),
        })
    }
}

impl Reader {
    /// Opens a file; an error says why it is no log that this version reads.
    pub fn open(path: &Path) -> io::Result<Reader> {
        Reader::new(BufReader::new(File::open(path)?))
    }
}

impl<R: Read> Reader<R> {
    /// Reads from anything.
    pub fn new(input: R) -> io::Result<Reader<R>> {
        let mut reader = Reader { input, ahead: Vec::new(), offset: 0, ended: false };
        reader.fill(OPENING_BYTES)?;
        let invalid = |problem: String| Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        let Some(rest) = reader.ahead.strip_prefix(MAGIC) else {
            return invalid("it is no decision log".to_owned());
        };
        let digits = rest.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| digits.parse::<u32>().ok()) {
            Some(VERSION) if rest.get(3) == Some(&b'\n') => {}
            Some(VERSION) => return invalid("its first line is damaged".to_owned()),
            Some(version) => {
                return invalid(format!("its format is version {version}, this program reads version {VERSION}"));
            }
            None => return invalid("its first line is damaged".to_owned()),
        }
        reader.skip(OPENING_BYTES);
        Ok(reader)
    }

    /// The next set, frame of decisions or piece of damage; `None` at the end.
    pub fn read(&mut self) -> io::Result<Option<Piece>> {
        self.fill(HEAD_BYTES)?;
        if self.ahead.is_empty() {
            return Ok(None);
        }
        let Some(head) = Head::read(&self.ahead) else {
            let torn = self.ended && self.ahead.len() < HEAD_BYTES;
            return self.damage(if torn { "are torn off" } else { "are no frame" }, None).map(Some);
        };
        let lost = if head.kind == Kind::Decisions { Some(head.entries) } else { None };
        self.fill(HEAD_BYTES + head.packed_bytes)?;
        let Some(body) = self.ahead.get(HEAD_BYTES..HEAD_BYTES + head.packed_bytes) else {
            return self.damage("are torn off", lost).map(Some);
        };
        if !head.matches(body) {
            return self.damage("are damaged", lost).map(Some);
        }
        let packed = Packed { head, body: body.to_vec(), offset: self.offset };
        self.skip(HEAD_BYTES + head.packed_bytes);
        Ok(Some(match head.kind {
            Kind::Decisions => Piece::Decisions(packed),
            Kind::Set => set(&packed),
        }))
    }

    /// Skips to the next whole head, or to the end.
    fn damage(&mut self, mut problem: &str, decisions: Option<u32>) -> io::Result<Piece> {
        let offset = self.offset;
        self.skip(1);
        loop {
            self.fill(READ_BYTES)?;
            let start = memchr::memmem::find(&self.ahead, &MARKER);
            match start {
                Some(at) => {
                    self.skip(at);
                    self.fill(HEAD_BYTES)?;
                    if Head::read(&self.ahead).is_some() {
                        problem = "are damaged"; // something follows, so nothing is torn off
                        break;
                    }
                    self.skip(1);
                }
                None if self.ended => {
                    self.skip(self.ahead.len());
                    break;
                }
                // A marker may lie across the edge.
                None => self.skip(self.ahead.len().saturating_sub(MARKER.len() - 1)),
            }
        }
        Ok(Piece::Damage(Damage { offset, bytes: self.offset - offset, decisions, problem: problem.to_owned() }))
    }

    /// Reads until this many bytes are there, or all there are.
    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        if self.ahead.len() < wanted && !self.ended {
            let missing = (wanted - self.ahead.len()) as u64;
            let got = (&mut self.input).take(missing).read_to_end(&mut self.ahead)?;
            self.ended = (got as u64) < missing;
        }
        Ok(())
    }

    fn skip(&mut self, bytes: usize) {
        let bytes = bytes.min(self.ahead.len());
        self.ahead.drain(..bytes);
        self.offset += bytes as u64;
    }
}

fn set(packed: &Packed) -> Piece {
    let mut found = None;
    let read = entries(&packed.head, &packed.body, |set: Set| found = Some(set));
    match (read, found) {
        (Ok(()), Some(set)) => Piece::Set(Box::new(set)),
        (Ok(()), None) => Piece::Damage(packed.misread("it is empty")),
        (Err(error), _) => Piece::Damage(packed.misread(&error)),
    }
}

impl Packed {
    fn misread(&self, problem: &str) -> Damage {
        Damage {
            offset: self.offset,
            bytes: (HEAD_BYTES + self.body.len()) as u64,
            decisions: None,
            problem: format!("are a set that cannot be understood ({problem})"),
        }
    }
}

/// A decision that was looked for, with the set that made it.
#[derive(Clone, Debug)]
pub struct Found {
    /// The decision.
    pub decision: Decision,
    /// The set.
    pub set: Arc<Set>,
}

/// The first decision of a file with this request id or trace id.
pub fn find(path: &Path, id: &str) -> io::Result<Option<Found>> {
    let mut reader = Reader::open(path)?;
    let trace = u128::from_str_radix(id, 16).ok().filter(|_| id.len() == 32).map(u128::to_be_bytes);
    let mut sets: HashMap<u32, Arc<Set>> = HashMap::new();
    let mut found = None;
    while let (None, Some(piece)) = (&found, reader.read()?) {
        match piece {
            Piece::Set(set) => {
                sets.insert(set.number, Arc::from(set));
            }
            Piece::Decisions(packed) => {
                // A frame that cannot be understood holds nothing to be found.
                let _ = packed.decisions(|decision| {
                    let wanted = trace == Some(decision.trace_id) || decision.request_id.to_string() == id;
                    if wanted && found.is_none() {
                        found = sets.get(&decision.set).map(|set| Found { decision, set: Arc::clone(set) });
                    }
                });
            }
            Piece::Damage(_) => {}
        }
    }
    Ok(found)
}
