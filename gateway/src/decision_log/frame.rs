//! A file is one line that names the format, then frames:
//!
//! ```text
//! marker 4 | kind 1 | entries 4 | raw bytes 4 | packed bytes 4 | checksum 8 | packed (LZ4 of postcard)
//! ```
//!
//! Numbers are little-endian; the checksum is xxh3 over everything else after the marker. A frame that is damaged is
//! found out by it, and the next one by its marker.

use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::Xxh3Default;

/// Raised whenever the meaning of a byte changes.
pub const VERSION: u32 = 6;
/// The first bytes of every file, before the version.
pub const MAGIC: &[u8; 20] = b"pointsman decisions ";
/// Length of the first line: magic, three digits, line feed.
pub const OPENING_BYTES: usize = 24;
/// Length of a frame's head.
pub const HEAD_BYTES: usize = 25;
/// Starts every frame.
pub const MARKER: [u8; 4] = [0xf5, 0x9e, b'F', b'r'];
/// No frame is larger, neither packed nor unpacked: three texts of the largest size, and pools.
pub const LARGEST_FRAME: usize = 16 << 20;

/// What is in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One [`super::Set`].
    Set,
    /// One [`super::Decision`] after the other.
    Decisions,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What is in it.
    pub kind: Kind,
    /// How many of them.
    pub entries: u32,
    /// Length unpacked.
    pub raw_bytes: usize,
    /// Length as it stands in the file.
    pub packed_bytes: usize,
    checksum: u64,
}

/// The first line of a file.
pub fn opening() -> [u8; OPENING_BYTES] {
    let mut line = [b'\n'; OPENING_BYTES];
    let text = MAGIC.iter().copied().chain(format!("{VERSION:03}").into_bytes());
    line.iter_mut().zip(text).for_each(|(slot, byte)| *slot = byte);
    line
}

/// Gathers entries and packs them.
#[derive(Debug, Default)]
pub struct Builder {
    raw: Vec<u8>,
    entries: u32,
    packed: Vec<u8>,
}

impl Builder {
    /// Adds an entry. One that cannot be written leaves no trace.
    pub fn push(&mut self, entry: &impl Serialize) -> Result<(), postcard::Error> {
        let before = self.raw.len();
        match postcard::to_io(entry, &mut self.raw) {
            Ok(_) => {
                self.entries += 1;
                Ok(())
            }
            Err(error) => {
                self.raw.truncate(before);
                Err(error)
            }
        }
    }

    /// Entries gathered.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Bytes gathered, unpacked.
    pub fn raw_bytes(&self) -> usize {
        self.raw.len()
    }

    /// Packs what was gathered into a frame and starts anew.
    pub fn frame(&mut self, kind: Kind) -> &[u8] {
        let room = HEAD_BYTES + lz4_flex::block::get_maximum_output_size(self.raw.len());
        self.packed.clear();
        self.packed.resize(room, 0);
        let (head, body) = self.packed.split_at_mut(HEAD_BYTES);
        let length = lz4_flex::block::compress_into(&self.raw, body).unwrap_or(0); // there is room for the worst case
        let mut fields = [0; HEAD_BYTES - 12];
        let parts = [
            &[kind as u8][..],
            &self.entries.to_le_bytes(),
            &(self.raw.len() as u32).to_le_bytes(),
            &(length as u32).to_le_bytes(),
        ];
        fields.iter_mut().zip(parts.concat()).for_each(|(slot, byte)| *slot = byte);
        let checksum = checksum(&fields, body.get(..length).unwrap_or_default()).to_le_bytes();
        let bytes = MARKER.iter().chain(&fields).chain(&checksum);
        head.iter_mut().zip(bytes).for_each(|(slot, byte)| *slot = *byte);
        self.packed.truncate(HEAD_BYTES + length);
        self.raw.clear();
        self.entries = 0;
        &self.packed
    }
}

impl Head {
    /// Reads a head; `None` where there is none, or one that no frame has.
    pub fn read(bytes: &[u8]) -> Option<Head> {
        let fields = bytes.strip_prefix(&MARKER)?;
        let number = |at: usize| Some(u32::from_le_bytes(fields.get(at..at + 4)?.try_into().ok()?));
        let kind = match fields.first()? {
            0 => Kind::Set,
            1 => Kind::Decisions,
            _ => return None,
        };
        let (entries, raw_bytes, packed_bytes) = (number(1)?, number(5)? as usize, number(9)? as usize);
        let checksum = u64::from_le_bytes(fields.get(13..21)?.try_into().ok()?);
        let fits = raw_bytes <= LARGEST_FRAME && packed_bytes <= LARGEST_FRAME;
        fits.then_some(Head { kind, entries, raw_bytes, packed_bytes, checksum })
    }

    /// Whether this is the body that was written with this head.
    pub fn matches(&self, packed: &[u8]) -> bool {
        let mut fields = [0; HEAD_BYTES - 12];
        let numbers = [self.entries, self.raw_bytes as u32, self.packed_bytes as u32];
        let bytes = [self.kind as u8].into_iter().chain(numbers.into_iter().flat_map(u32::to_le_bytes));
        fields.iter_mut().zip(bytes).for_each(|(slot, byte)| *slot = byte);
        packed.len() == self.packed_bytes && checksum(&fields, packed) == self.checksum
    }
}

fn checksum(fields: &[u8], packed: &[u8]) -> u64 {
    let mut hasher = Xxh3Default::new();
    hasher.update(fields);
    hasher.update(packed);
    hasher.digest()
}

/// The entries of a frame's body, one after the other; an error where this version cannot read them.
pub fn entries<T: DeserializeOwned>(head: &Head, packed: &[u8], mut each: impl FnMut(T)) -> Result<(), String> {
    let raw = lz4_flex::block::decompress(packed, head.raw_bytes).map_err(|error| error.to_string())?;
    let mut rest = raw.as_slice();
    for _ in 0..head.entries {
        let (entry, after) = postcard::take_from_bytes(rest).map_err(|error| error.to_string())?;
        each(entry);
        rest = after;
    }
    if rest.is_empty() { Ok(()) } else { Err(format!("{} bytes are left over", rest.len())) }
}
