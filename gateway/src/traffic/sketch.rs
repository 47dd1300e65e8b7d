//! Quantiles of times in a few dozen bytes: counts by logarithmic bucket, only those that are not empty.

/// Times up to this are all in the first bucket, milliseconds.
const LEAST_MS: f64 = 0.05;
/// A bucket ends at so many times its beginning: quantiles are within 7 % of the truth.
const STEP: f64 = 1.15;
/// The last bucket, of times beyond sixteen hours.
const LAST: u8 = 150;
/// How far a quantile may be off, as a share.
pub const WITHIN: f64 = 0.07;

/// Times, as far as quantiles need them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sketch {
    counts: Vec<(u8, u32)>,
}

impl Sketch {
    /// Counts a time; one that is not known counts as none.
    pub fn add(&mut self, ms: f64) {
        if ms.is_finite() {
            self.count(bucket(ms), 1);
        }
    }

    fn count(&mut self, bucket: u8, more: u32) {
        match self.counts.binary_search_by_key(&bucket, |(known, _)| *known) {
            Ok(place) => {
                self.counts.get_mut(place).into_iter().for_each(|(_, count)| *count = count.saturating_add(more))
            }
            Err(place) => self.counts.insert(place, (bucket, more)),
        }
    }

    /// Counts what another has counted.
    pub fn merge(&mut self, other: &Sketch) {
        other.counts.iter().for_each(|(bucket, count)| self.count(*bucket, *count));
    }

    /// How many times were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// The time that a share of all is at most, milliseconds; `None` where nothing was counted.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = ((self.total() as f64 * share).ceil() as u64).max(1);
        let mut passed = 0;
        let reached = self.counts.iter().find(|(_, count)| {
            passed += u64::from(*count);
            passed >= wanted
        });
        reached.map(|(bucket, _)| LEAST_MS * STEP.powf(f64::from(*bucket) - 0.5))
    }

    /// Forgets half of everything, so that what comes counts more than what was.
    pub fn halve(&mut self) {
        self.counts.iter_mut().for_each(|(_, count)| *count /= 2);
        self.counts.retain(|(_, count)| *count > 0);
    }
}

fn bucket(ms: f64) -> u8 {
    ((ms / LEAST_MS).ln() / STEP.ln()).ceil().clamp(0.0, f64::from(LAST)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_as_near_as_is_said() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut times: Vec<f64> = (0..5_000).map(|_| 0.1 * (random.f64() * 12.0).exp()).collect();
        let mut sketch = Sketch::default();
        times.iter().for_each(|ms| sketch.add(*ms));
        times.sort_by(f64::total_cmp);
        for share in [0.5, 0.95, 0.99] {
            let (told, truth) = (sketch.quantile(share).unwrap(), times[(5_000.0 * share) as usize - 1]);
            assert!((told / truth - 1.0).abs() <= WITHIN + 0.005, "p{share}: {told} instead of {truth}");
        }
    }

    #[test]
    fn extremes_have_a_bucket_and_nothing_has_no_quantile() {
        let mut sketch = Sketch::default();
        assert_eq!(sketch.quantile(0.5), None);
        [0.0, f64::NAN, 1e12].iter().for_each(|ms| sketch.add(*ms));
        assert_eq!(sketch.total(), 2, "what is not known is not counted");
        assert!(sketch.quantile(1.0).unwrap() > 1e7);
        let mut both = sketch.clone();
        both.merge(&sketch);
        assert_eq!(both.total(), 4);
        both.halve();
        assert_eq!(both, sketch);
    }
}
