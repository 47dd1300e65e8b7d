//! Whether predictions come true: what came over what was predicted.

use super::Times;
use crate::simulation::router::{Ended, Predicted};

/// Ratios are counted in thousandths.
const UNIT: f64 = 1e3;

/// What came, in thousandths of what was predicted; of streams.
#[derive(Clone, Debug, Default)]
pub struct Calibration {
    /// Times to first token.
    pub ttft: Times,
    /// Times per output token.
    pub itl: Times,
}

impl Calibration {
    pub(in crate::simulation) fn compare(&mut self, predicted: &Predicted, ended: &Ended) {
        let ratio = |came: f64, predicted: f64| (came / predicted * UNIT).clamp(1.0, 1e9) as u64;
        if let Some(ttft_ms) = ended.ttft_ms.filter(|_| predicted.ttft_ms > 0.0) {
            self.ttft.record(ratio(ttft_ms, predicted.ttft_ms));
        }
        if let Some(itl_ms) = ended.itl_ms.filter(|_| predicted.itl_ms > 0.0) {
            self.itl.record(ratio(itl_ms, predicted.itl_ms));
        }
    }

    /// Adds all of another.
    pub fn add(&mut self, other: &Calibration) {
        self.ttft.add(&other.ttft);
        self.itl.add(&other.itl);
    }

    /// The ratio that this part of a kind of times does not exceed; `None` where nothing was predicted.
    pub fn ratio(times: &Times, part: f64) -> Option<f64> {
        Some(times.quantile(part) / UNIT).filter(|ratio| *ratio > 0.0)
    }
}
