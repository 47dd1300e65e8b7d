//! What a simulated machine says: plausible words and vectors, the same for the same seed.

use bytes::{BufMut, BytesMut};
use rand::SeedableRng;
use rand_distr::{Distribution, LogNormal, StandardNormal};
use rand_pcg::Pcg64Mcg;
use xxhash_rust::xxh3::Xxh3;

use super::profile::PREFIX_BLOCK_TOKENS;

/// Bytes of prompt text that make one token.
const BYTES_PER_TOKEN: u64 = 4;
/// Median length of an answer, tokens; assumed.
const MEDIAN_ANSWER: f64 = 150.0;
/// Lognormal sigma of answer lengths; assumed.
const ANSWER_SIGMA: f64 = 0.9;

/// A power of two, so that a word is picked by masking; none needs escaping in JSON.
const WORDS: [&str; 64] = [
    "the", "train", "takes", "a", "track", "that", "suits", "its", "load", "and", "each", "signal", "tells", "what",
    "lies", "ahead", "when", "points", "are", "set", "early", "nobody", "waits", "long", "some", "lines", "run",
    "fast", "but", "few", "may", "use", "them", "others", "carry", "heavy", "freight", "at", "night", "while",
    "people", "sleep", "station", "by", "station", "work", "is", "shared", "so", "every", "journey", "ends", "on",
    "time", "or", "close", "to", "it", "with", "less", "cost", "than", "one", "would",
];

/// Appends words, one a token, from the `from`th of an answer on; a space parts a word from the one before it.
pub(super) fn put_words(out: &mut BytesMut, seed: u64, from: u64, count: u64) {
    for position in from..from.saturating_add(count) {
        if position > 0 {
            out.put_u8(b' ');
        }
        let index = mix(seed.wrapping_add(position)) as usize % WORDS.len();
        out.put_slice(WORDS.get(index).unwrap_or(&"so").as_bytes());
    }
}

/// A vector of unit length.
pub(super) fn embedding(seed: u64, dimensions: usize) -> Vec<f32> {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let raw: Vec<f64> = (0..dimensions).map(|_| StandardNormal.sample(&mut random)).collect();
    let length = raw.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    raw.iter().map(|x| (x / length) as f32).collect()
}

/// How long the machine would talk if nobody cut it short, tokens.
pub(super) fn answer_length(seed: u64) -> u64 {
    // The parameters are constants that the distribution accepts; the median stands in should that ever change.
    let drawn = LogNormal::new(MEDIAN_ANSWER.ln(), ANSWER_SIGMA)
        .map_or(MEDIAN_ANSWER, |lengths| lengths.sample(&mut Pcg64Mcg::seed_from_u64(seed)));
    (drawn.round() as u64).max(1)
}

/// Text as the machine measures it: length and a seed for what it says in return.
#[derive(Default)]
pub(super) struct Reading {
    hash: Xxh3,
    bytes: u64,
    counted_tokens: u64,
    blocks: Vec<u64>,
}

impl Reading {
    pub(super) fn text(&mut self, text: &str) {
        let block_bytes = PREFIX_BLOCK_TOKENS * BYTES_PER_TOKEN;
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let free = (block_bytes - self.bytes % block_bytes) as usize;
            let (own, behind) = rest.split_at(rest.len().min(free));
            self.hash.update(own);
            self.bytes += own.len() as u64;
            if self.bytes.is_multiple_of(block_bytes) {
                self.blocks.push(self.hash.digest());
            }
            rest = behind;
        }
    }

    /// Hashes of the blocks that the text fills, each over all before it.
    pub(super) fn blocks(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.blocks)
    }

    /// Tokens that the caller counted already.
    pub(super) fn tokens(&mut self, tokens: &[u64]) {
        for token in tokens {
            self.hash.update(&token.to_le_bytes());
        }
        self.counted_tokens += tokens.len() as u64;
    }

    pub(super) fn prompt_tokens(&self) -> u64 {
        self.bytes.div_ceil(BYTES_PER_TOKEN) + self.counted_tokens
    }

    pub(super) fn seed(&self, machine: u64) -> u64 {
        self.hash.digest() ^ mix(machine)
    }
}

/// The finalizer of `SplitMix64`: neighbours come out unlike.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Little-endian 32-bit floats in base64, as SDKs ask for by default.
pub(super) fn base64_floats(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let packed = group.iter().fold(0_u32, |packed, byte| packed << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for position in 0..4 {
            let index = (packed >> (18 - 6 * position)) as usize & 63;
            let letter = if position > group.len() { &b'=' } else { BASE64.get(index).unwrap_or(&b'=') };
            text.push(char::from(*letter));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_pieces_is_the_answer_at_once() {
        let (mut whole, mut pieces) = (BytesMut::new(), BytesMut::new());
        put_words(&mut whole, 7, 0, 10);
        for (from, count) in [(0, 1), (1, 3), (4, 6)] {
            put_words(&mut pieces, 7, from, count);
        }
        assert_eq!(whole, pieces);
        assert_eq!(whole.iter().filter(|byte| **byte == b' ').count() + 1, 10);
    }

    #[test]
    fn answers_have_the_stated_median() {
        let mut lengths: Vec<u64> = (0..2001).map(|seed| answer_length(mix(seed))).collect();
        lengths.sort_unstable();
        assert!((135..165).contains(&lengths[1000]), "{}", lengths[1000]);
    }

    #[test]
    fn floats_become_base64() {
        let table: [(&[f32], &str); 3] = [(&[], ""), (&[1.0], "AACAPw=="), (&[1.0, -2.0, 0.5], "AACAPwAAAMAAAAA/")];
        for (vector, expected) in table {
            assert_eq!(base64_floats(vector), expected, "{vector:?}");
        }
    }

    #[test]
    fn prompts_are_measured_in_fours_of_bytes() {
        for (text, expected) in [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("schön", 2)] {
            let mut reading = Reading::default();
            reading.text(text);
            assert_eq!(reading.prompt_tokens(), expected, "{text}");
        }
    }
}
