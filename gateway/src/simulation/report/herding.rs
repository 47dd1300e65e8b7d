//! Whether requests run after one another.

use std::ops::Range;

/// Whether requests of one second go to one machine of a pool though it has several: the chance that two of them met at
/// the same, times the number of machines. 1 is as if each were thrown; 0 they never meet; the number of machines says
/// that all ran after one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Herding {
    counts: Vec<u32>,
    met: f64,
    pairs: f64,
}

impl Herding {
    pub(in crate::simulation) fn sent(&mut self, endpoint: usize) {
        if self.counts.len() <= endpoint {
            self.counts.resize(endpoint + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(endpoint) {
            *count += 1;
        }
    }

    /// A second is over.
    pub(in crate::simulation) fn tick(&mut self, pools: &[Range<usize>]) {
        for pool in pools {
            let machines = pool.len() as f64;
            let Some(counts) = self.counts.get(pool.start..pool.end.min(self.counts.len()).max(pool.start)) else {
                continue;
            };
            let sent: f64 = counts.iter().map(|count| f64::from(*count)).sum();
            if machines < 2.0 || sent < 2.0 {
                continue;
            }
            let pairs: f64 = counts.iter().map(|count| f64::from(*count) * (f64::from(*count) - 1.0)).sum();
            self.met += pairs * machines;
            self.pairs += sent * (sent - 1.0);
        }
        self.counts.iter_mut().for_each(|count| *count = 0);
    }

    /// The index.
    pub fn index(&self) -> f64 {
        if self.pairs == 0.0 { 1.0 } else { self.met / self.pairs }
    }
}
