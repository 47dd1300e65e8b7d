//! Units that travel between crates: integer microseconds on a clock the caller owns; and figures told to three digits.

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

/// A figure to three digits. Nothing that is learned is known better, and what is told so stays the same from one decision
/// to the next: a log of decisions needs not write it again.
pub fn three_digits(figure: f64) -> f64 {
    if figure == 0.0 || !figure.is_finite() {
        return figure;
    }
    let exponent = figure.abs().log10().floor() as i32 - 2;
    let unit = 10.0_f64.powi(exponent.abs());
    let told = if exponent > 0 { (figure / unit).round() * unit } else { (figure * unit).round() / unit };
    if told.is_finite() { told } else { figure }
}

/// A figure to seven binary digits after its first, within 0.4 %: the same where every request pays for it.
pub fn seven_bits(figure: f64) -> f64 {
    const DROPPED: u32 = f64::MANTISSA_DIGITS - 1 - 7;
    if !figure.is_finite() {
        return figure;
    }
    let half = 1_u64 << (DROPPED - 1);
    f64::from_bits(figure.to_bits().wrapping_add(half) & !((1 << DROPPED) - 1))
}

#[cfg(test)]
mod tests {
    use super::{seven_bits, three_digits};

    #[test]
    fn seven_bits_are_told_of_what_every_request_reads() {
        for (figure, told) in [(1.0, 1.0), (1.003, 1.0), (1.004, 1.0078125), (-0.75, -0.75), (0.0, 0.0), (1e9, 1e9)] {
            assert!((seven_bits(figure) - told).abs() <= told.abs() / 256.0, "{figure}: {}", seven_bits(figure));
        }
        assert_eq!([1.0, 1.003, 0.5, f64::INFINITY].map(seven_bits), [1.0, 1.0, 0.5, f64::INFINITY]);
        assert!(seven_bits(f64::NAN).is_nan());
    }

    #[test]
    fn three_digits_are_told_and_those_that_had_no_more_stay_as_they_are() {
        for (figure, told) in [(1.234, 1.23), (0.99951, 1.0), (15_049.0, 15_000.0), (-0.012345, -0.0123), (5.499, 5.5)]
        {
            assert_eq!(three_digits(figure), told);
        }
        for same in [0.0, 1.0, 0.85, 0.36, 15_000.0, 17.7, 2.7e6, 1e9, 5e-324, f64::MAX, f64::INFINITY] {
            assert_eq!(three_digits(same), same);
        }
        assert!(three_digits(f64::NAN).is_nan());
    }
}
