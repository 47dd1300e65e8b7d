//! Units that travel between crates: integer microseconds on a clock the caller owns.

use std::ops::{Add, AddAssign, Sub};

/// A moment or a span, in integer microseconds. The origin is the caller's: process start in the gateway, zero in a
/// simulation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub u64);

impl Micros {
    /// The latest moment there is; used for "never".
    pub const NEVER: Micros = Micros(u64::MAX);

    /// A span from milliseconds; what is negative or no number becomes zero, what is too long the longest there is.
    pub fn from_ms(ms: f64) -> Micros {
        Micros((ms * 1e3).round().max(0.0) as u64)
    }

    /// A span from whole seconds.
    pub const fn from_secs(seconds: u64) -> Micros {
        Micros(seconds.saturating_mul(1_000_000))
    }

    /// In milliseconds.
    pub fn as_ms(self) -> f64 {
        self.0 as f64 / 1e3
    }

    /// In seconds.
    pub fn as_secs(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl Add for Micros {
    type Output = Micros;
    fn add(self, other: Micros) -> Micros {
        Micros(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Micros {
    fn add_assign(&mut self, other: Micros) {
        *self = *self + other;
    }
}

impl Sub for Micros {
    type Output = Micros;
    /// Saturates at zero: an earlier moment minus a later one is no time at all.
    fn sub(self, other: Micros) -> Micros {
        Micros(self.0.saturating_sub(other.0))
    }
}
