//! Whether memory grows: a straight line through means of batches, with the interval in which its slope lies.

/// Batches that samples are gathered into, so that neighbours that resemble each other count once.
const BATCHES: usize = 10;
/// Two-sided 95 % of Student's t for eight degrees of freedom.
const T_95: f64 = 2.306;

/// Growth, and the 95 % interval around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slope {
    /// Per unit of time.
    pub(crate) rate: f64,
    /// From here.
    pub(crate) low: f64,
    /// To here.
    pub(crate) high: f64,
}

/// The slope of (time, value) pairs; `None` where there are too few.
pub(crate) fn of(samples: &[(f64, f64)]) -> Option<Slope> {
    let size = samples.len() / BATCHES;
    if size == 0 {
        return None;
    }
    let mean = |values: &mut dyn Iterator<Item = f64>, count: usize| values.sum::<f64>() / count as f64;
    let batches: Vec<(f64, f64)> = samples
        .chunks_exact(size)
        .take(BATCHES)
        .map(|batch| {
            let time = mean(&mut batch.iter().map(|(time, _)| *time), size);
            (time, mean(&mut batch.iter().map(|(_, value)| *value), size))
        })
        .collect();
    let middle_time = mean(&mut batches.iter().map(|(time, _)| *time), BATCHES);
    let middle_value = mean(&mut batches.iter().map(|(_, value)| *value), BATCHES);
    let spread: f64 = batches.iter().map(|(time, _)| (time - middle_time).powi(2)).sum();
    let both: f64 = batches.iter().map(|(time, value)| (time - middle_time) * (value - middle_value)).sum();
    let rate = both / spread;
    let residual = |(time, value): &(f64, f64)| (value - middle_value - rate * (time - middle_time)).powi(2);
    let variance = batches.iter().map(residual).sum::<f64>() / (BATCHES - 2) as f64;
    let margin = T_95 * (variance / spread).sqrt();
    Some(Slope { rate, low: rate - margin, high: rate + margin })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_from_noise() {
        let noise = |place: usize| f64::from((place * 7919 % 101) as u32) - 50.0;
        let flat: Vec<(f64, f64)> = (0..500).map(|place| (place as f64, 1000.0 + noise(place))).collect();
        let slope = of(&flat).unwrap();
        assert!(slope.low < 0.0 && slope.high > 0.0, "{slope:?}");
        let grows: Vec<(f64, f64)> = flat.iter().map(|(time, value)| (*time, value + 2.0 * time)).collect();
        let slope = of(&grows).unwrap();
        assert!(slope.low > 1.5 && slope.high < 2.5, "{slope:?}");
        assert!(of(&flat[..9]).is_none());
    }
}
