//! Many times as one histogram.

use hdrhistogram::Histogram;

/// The longest time that is told from others, in microseconds or nanoseconds: an hour of the former.
const LONGEST: u64 = 3_600_000_000;
/// Significant digits of times.
const DIGITS: u8 = 3;

/// Times of one kind, to three digits; empty where memory does not suffice.
#[derive(Clone, Debug)]
pub struct Times(Option<Histogram<u64>>);

impl Default for Times {
    fn default() -> Times {
        Times(Histogram::new_with_bounds(1, LONGEST, DIGITS).ok())
    }
}

impl Times {
    /// Counts one; longer ones count as the longest there is.
    pub fn record(&mut self, time: u64) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(time);
        }
    }

    /// Adds all of another.
    pub fn add(&mut self, other: &Times) {
        if let (Some(ours), Some(theirs)) = (&mut self.0, &other.0) {
            let _ = ours.add(theirs); // the bounds are the same
        }
    }

    /// The value that this part of them, 0 to 1, does not exceed; 0 where there are none.
    pub fn quantile(&self, part: f64) -> f64 {
        self.0.as_ref().map_or(0.0, |histogram| histogram.value_at_quantile(part) as f64)
    }
}
