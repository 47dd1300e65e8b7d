//! What the fuzz targets have in common: what every report must be like, what every accepted policy must do, and
//! mutations that know lines and words, so that inputs stay near what people write.

/// What must hold of every report, and of every text that is formatted.
pub mod told;
/// Requests and fleets to decide with.
pub mod world;
/// Mutations of whole lines.
pub mod lines;
/// Mutations of the words of an expression.
pub mod words;
/// A connection of a client in memory, as the gateway reads it and as others do.
pub mod connection;

/// Chance from a seed: the same seed, the same numbers.
pub struct Chance(u64);

impl Chance {
    /// Chance that begins with a seed.
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// Chance that begins with a text: the same input, the same numbers (FNV-1a).
    pub fn of(data: &[u8]) -> Chance {
        Chance(
            data.iter()
                .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)),
        )
    }

    /// The next number (splitmix64).
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below a bound; 0 where the bound is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.number().checked_rem(bound as u64).unwrap_or(0) as usize
    }

    /// One of several; panics where there is none.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Writes a mutated text back over the fuzzer's bytes, as much of it as there is room for.
pub fn put(text: &[u8], data: &mut [u8], most: usize) -> usize {
    let size = text.len().min(most).min(data.len());
    data[..size].copy_from_slice(&text[..size]);
    size
}
