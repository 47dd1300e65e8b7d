//! The spread of a length as a few counts on a logarithmic scale; old counts fade, so that it follows what changes.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// Bins: two to the octave, from 1 token to 65,536.
pub(super) const BINS: usize = 32;
const PER_OCTAVE: f64 = 2.0;
/// How much of the old counts remains after each new one: about the last 200 count.
const MEMORY: f32 = 0.995;

/// Counts by length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sketch {
    counts: [f32; BINS],
}

impl Sketch {
    /// One more length.
    pub(super) fn add(&mut self, tokens: u64) {
        let bin = bin(tokens);
        for (at, count) in self.counts.iter_mut().enumerate() {
            *count = *count * MEMORY + if at == bin { 1.0 } else { 0.0 };
        }
    }

    /// Its own shares as far as it has seen enough, its parent's as much as `parent_weight` lengths would count.
    pub(super) fn shrunk_to(&self, parent: &Shares, parent_weight: f64) -> Shares {
        let total = self.counts.iter().map(|count| f64::from(*count)).sum::<f64>() + parent_weight;
        let mut shares = *parent;
        for (share, count) in shares.0.iter_mut().zip(self.counts) {
            *share = (f64::from(count) + *share * parent_weight) / total;
        }
        shares
    }

    pub(super) fn is_sound(&self) -> bool {
        self.counts.iter().all(|count| count.is_finite() && *count >= 0.0)
    }
}

/// The share of each bin; together one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shares([f64; BINS]);

impl Shares {
    /// A bell on the logarithmic scale around a median; `sigma` in natural logarithms.
    pub(super) fn lognormal(median: f64, sigma: f64) -> Shares {
        let mut shares = [0.0; BINS];
        for (at, share) in shares.iter_mut().enumerate() {
            let middle = ((at as f64 + 0.5) / PER_OCTAVE).exp2();
            let distance = (middle / median).ln() / sigma;
            *share = (-0.5 * distance * distance).exp();
        }
        let total: f64 = shares.iter().sum();
        Shares(shares.map(|share| share / total.max(f64::MIN_POSITIVE)))
    }

    /// The mean of lengths that are cut at `longest`, tokens.
    pub(super) fn mean(&self, longest: f64) -> f64 {
        let bins = self.0.iter().zip(SCALE.iter());
        bins.map(|(share, bin)| share * if bin.high <= longest { bin.mean } else { bin.mean_below(longest) }).sum()
    }

    /// The length that a part of all stays below, cut at `longest`, tokens.
    pub(super) fn quantile(&self, part: f64, longest: f64) -> f64 {
        let mut below = 0.0;
        for (at, share) in self.0.iter().enumerate() {
            if below + share >= part && *share > 0.0 {
                let within = (part - below) / share;
                return (edge(at) * (edge(at + 1) / edge(at)).powf(within)).min(longest);
            }
            below += share;
        }
        edge(BINS).min(longest)
    }
}

fn bin(tokens: u64) -> usize {
    ((tokens.max(1) as f64).log2() * PER_OCTAVE).floor().min(BINS as f64 - 1.0) as usize
}

/// Where a bin begins, tokens.
fn edge(bin: usize) -> f64 {
    (bin as f64 / PER_OCTAVE).exp2()
}

/// Lengths between two edges, even on the logarithmic scale.
#[derive(Clone, Copy, Debug)]
struct Bin {
    low: f64,
    high: f64,
    mean: f64,
}

/// All bins, reckoned once.
static SCALE: LazyLock<[Bin; BINS]> = LazyLock::new(|| std::array::from_fn(|at| Bin::between(edge(at), edge(at + 1))));

impl Bin {
    fn between(low: f64, high: f64) -> Bin {
        Bin { low, high, mean: (high - low) / (high / low).ln() }
    }

    /// The mean of `min(length, longest)`, where `longest` is not above the bin.
    fn mean_below(self, longest: f64) -> f64 {
        if longest <= self.low {
            return longest;
        }
        ((longest - self.low) + longest * (self.high / longest).ln()) / (self.high / self.low).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch_of(lengths: impl IntoIterator<Item = u64>) -> Shares {
        let mut sketch = Sketch::default();
        lengths.into_iter().for_each(|tokens| sketch.add(tokens));
        sketch.shrunk_to(&Shares::lognormal(200.0, 1.0), 0.0)
    }

    #[test]
    fn mean_and_quantiles_are_those_of_the_lengths() {
        let shares = sketch_of((0..200).map(|at| if at % 10 == 9 { 1_000 } else { 100 }));
        let (mean, median, p95) = (shares.mean(1e9), shares.quantile(0.5, 1e9), shares.quantile(0.95, 1e9));
        assert!((mean - 190.0).abs() < 0.15 * 190.0, "{mean}");
        assert!((median - 100.0).abs() < 0.2 * 100.0, "{median}");
        assert!((p95 - 1_000.0).abs() < 0.2 * 1_000.0, "{p95}");
    }

    #[test]
    fn a_bound_cuts_both() {
        let shares = sketch_of([10_000; 50]);
        assert_eq!(shares.quantile(0.9, 64.0), 64.0);
        assert!((shares.mean(64.0) - 64.0).abs() < 1e-9);
        assert_eq!(sketch_of([1; 10]).quantile(0.9, 0.0), 0.0);
    }

    #[test]
    fn extremes_fall_into_the_outer_bins() {
        for tokens in [0, 1, u64::MAX] {
            assert!(sketch_of([tokens]).mean(1e12).is_finite());
        }
        assert_eq!((bin(0), bin(1), bin(2), bin(u64::MAX)), (0, 0, 2, BINS - 1));
    }

    #[test]
    fn the_past_fades() {
        let drifted = sketch_of(std::iter::repeat_n(100, 1_000).chain(std::iter::repeat_n(800, 600)));
        let median = drifted.quantile(0.5, 1e9);
        assert!((median - 800.0).abs() < 0.2 * 800.0, "{median}");
    }
}
