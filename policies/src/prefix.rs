//! How a prompt begins, as a chain of hashes: two prompts have a hash in common exactly where they are the same up to
//! there. Whoever has read one of them need not read that part of the other again.
//!
//! ```text
//! text     | 256 bytes | 256 bytes | 256 bytes | ...
//! chain      h1 ───────► h2 ───────► h3 ───────► ...      each hash covers everything before it
//! marks      every one up to 8 KiB, then sixteen to each doubling
//! ```
//!
//! So a prompt of any length has few marks, and what is found in common is too short by a sixteenth at most.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::facts::BYTES_PER_TOKEN;

/// Bytes of text in one block of the chain.
pub const BLOCK_BYTES: usize = 256;
/// Marks kept of one prompt: they reach 2 MiB, half a million tokens. What comes later is taken for new.
pub const MOST_MARKS: usize = 160;
/// Marks to each doubling, once blocks are more than that.
const MARKS_PER_DOUBLING: u64 = 16;
/// Prompts that share so much at their beginning have the same homes, bytes. Longer, and the first turns of a
/// conversation would have another home than the later; shorter, and everybody with the same greeting would share one.
const HOME_BYTES: u64 = 1_024;

/// A place in a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Of everything up to here.
    pub hash: u64,
    /// How much that is, bytes.
    pub bytes: u64,
}

/// How a prompt begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    marks: Vec<Mark>,
    bytes: u64,
}

impl Prefix {
    /// The places in it that are known by hash, from its beginning.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// The length of the whole prompt, bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What its marks take in memory, bytes.
    pub fn marks_bytes(&self) -> usize {
        self.marks.capacity() * size_of::<Mark>()
    }

    /// What it has in common with those that have the same homes; 0 where it is too short to tell. 53 bits, which JSON
    /// can carry.
    pub fn home(&self) -> u64 {
        let deep = self.marks.iter().find(|mark| mark.bytes >= HOME_BYTES);
        deep.or(self.marks.first()).map_or(0, |mark| mark.hash >> 11)
    }

    /// Tokens of so many bytes at its beginning, of the tokens that the whole is taken for.
    pub fn tokens(&self, bytes: u64, input_tokens: u64) -> u64 {
        (bytes.min(self.bytes) as f64 / self.bytes.max(1) as f64 * input_tokens as f64) as u64
    }
}

/// Hashes a prompt as it is read. Nothing is allocated but its marks.
#[derive(Clone, Debug)]
pub struct Chain {
    hash: u64,
    bytes: u64,
    next: u64,
    rest: [u8; BLOCK_BYTES],
    filled: usize,
    marks: Vec<Mark>,
}

impl Default for Chain {
    fn default() -> Chain {
        Chain { hash: 0, bytes: 0, next: 1, rest: [0; BLOCK_BYTES], filled: 0, marks: Vec::new() }
    }
}

impl Chain {
    /// Text, however it is cut into pieces.
    pub fn text(&mut self, mut text: &[u8]) {
        if self.filled > 0 {
            text = self.fill(text);
        }
        while let Some((block, behind)) = text.split_at_checked(BLOCK_BYTES) {
            self.block(xxh3_64(block), BLOCK_BYTES as u64);
            text = behind;
        }
        self.fill(text);
    }

    /// Something that is no text, and as many tokens as a text of so many bytes has.
    pub fn thing(&mut self, hash: u64, bytes: u64) {
        self.text(&hash.to_le_bytes());
        self.bytes += bytes;
    }

    /// A block that somebody else has hashed, of so many bytes.
    pub fn block(&mut self, hash: u64, bytes: u64) {
        self.hash = rolled(self.hash, hash);
        self.bytes += bytes;
        if self.bytes >= self.next && self.marks.len() < MOST_MARKS {
            self.marks.push(Mark { hash: self.hash, bytes: self.bytes });
            let doubling = 1_u64 << self.bytes.max(1).ilog2();
            self.next = self.bytes + (doubling / MARKS_PER_DOUBLING).max(1);
        }
    }

    /// The prompt is at its end. `before` is of what machines read before it: the model, its tools.
    pub fn end(mut self, before: u64) -> Prefix {
        self.marks.iter_mut().for_each(|mark| mark.hash = rolled(before, mark.hash));
        Prefix { marks: self.marks, bytes: self.bytes + self.filled as u64 }
    }

    /// Fills the block begun, and hashes it once it is full. What is left of the text.
    fn fill<'t>(&mut self, text: &'t [u8]) -> &'t [u8] {
        let free = self.rest.get_mut(self.filled..).unwrap_or_default();
        let (own, behind) = text.split_at(text.len().min(free.len()));
        if let Some(free) = free.get_mut(..own.len()) {
            free.copy_from_slice(own);
        }
        self.filled += own.len();
        if self.filled == BLOCK_BYTES {
            self.filled = 0;
            self.block(xxh3_64(&self.rest), BLOCK_BYTES as u64);
        }
        behind
    }
}

/// A prompt of which only the hashes of its blocks are known, each of so many tokens.
pub fn of_blocks(hashes: &[u64], block_tokens: u64, input_tokens: u64) -> Prefix {
    let mut chain = Chain::default();
    for (hash, end) in hashes.iter().zip(1..) {
        if end * block_tokens > input_tokens {
            break; // a block begun has another hash once it is full
        }
        chain.block(*hash, block_tokens * BYTES_PER_TOKEN);
    }
    Prefix { bytes: input_tokens * BYTES_PER_TOKEN, ..chain.end(0) }
}

fn rolled(before: u64, hash: u64) -> u64 {
    xxh3_64_with_seed(&hash.to_le_bytes(), before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(pieces: &[&str]) -> Prefix {
        let mut chain = Chain::default();
        pieces.iter().for_each(|piece| chain.text(piece.as_bytes()));
        chain.end(0)
    }

    fn common(a: &Prefix, b: &Prefix) -> u64 {
        let same = a.marks().iter().zip(b.marks()).take_while(|(a, b)| a == b);
        same.last().map_or(0, |(mark, _)| mark.bytes)
    }

    #[test]
    fn the_chain_is_the_same_however_the_text_is_cut() {
        let text: String = (0..9_000).map(|at| char::from(b'a' + (at * at % 23) as u8)).collect();
        let whole = prefix(&[&text]);
        for cut in [1, 255, 256, 257, 1_000] {
            let pieces: Vec<&str> =
                text.as_bytes().chunks(cut).map(|piece| std::str::from_utf8(piece).unwrap()).collect();
            assert_eq!(prefix(&pieces), whole, "{cut}");
        }
        assert_eq!((whole.bytes(), whole.marks()[0].bytes), (9_000, 256));
    }

    #[test]
    fn prompts_have_in_common_what_they_begin_with() {
        let begun = "x".repeat(100_000);
        let (one, other) = (prefix(&[&begun, &"a".repeat(5_000)]), prefix(&[&begun, &"b".repeat(9_000)]));
        let shared = common(&one, &other);
        assert!((94_000..=100_000).contains(&shared), "{shared}");
        assert_eq!(common(&one, &prefix(&["y", &begun])), 0, "what comes first is in every hash");
        assert_eq!(one.tokens(shared, 26_250), shared / 4);
        let mut salted = Chain::default();
        salted.text(begun.as_bytes());
        assert_eq!(common(&one, &salted.end(7)), 0, "other tools come first");
    }

    #[test]
    fn marks_are_few_and_bounded() {
        let marks = |bytes: usize| prefix(&[&"z".repeat(bytes)]).marks().len();
        assert_eq!([255, 256, 8_192, 16_384, 100_000, 8 << 20].map(marks), [0, 1, 32, 48, 88, MOST_MARKS]);
    }

    #[test]
    fn a_conversation_keeps_its_home_and_a_short_prompt_has_none() {
        let turn = |turns: usize| prefix(&[&"you are helpful ".repeat(100), &"and then? ".repeat(turns * 40)]);
        assert_eq!(turn(1).home(), turn(9).home());
        assert_ne!(turn(1).home(), prefix(&["somebody else ".repeat(100).as_str()]).home());
        assert_eq!(prefix(&["hello"]).home(), 0);
    }

    #[test]
    fn blocks_hashed_by_others_count_once_they_are_full() {
        let prefix = of_blocks(&[11, 12, 13], 512, 1_300);
        let marks: Vec<u64> = prefix.marks().iter().map(|mark| mark.bytes).collect();
        assert_eq!((marks, prefix.tokens(4_096, 1_300)), (vec![2_048, 4_096], 1_024));
        assert_eq!(of_blocks(&[11, 99], 512, 1_024).marks()[0], prefix.marks()[0]);
        assert_ne!(of_blocks(&[10, 12], 512, 1_024).marks()[1], prefix.marks()[1]);
    }
}
