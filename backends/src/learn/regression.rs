//! Recursive least squares with forgetting, kept sane: parameters stay positive and within a factor of their priors, one
//! odd observation moves them only so far, and what is not observed is not forgotten.

use serde::{Deserialize, Serialize};

/// How much of the old observations remains after each new one: about the last 200 count.
pub(super) const FORGETTING: f64 = 0.995;
/// Parameters stay within this factor of their priors, both ways.
pub(super) const TRUST: f64 = 8.0;
/// Relative standard deviation of one observation: jitter, neighbours, unknown lengths.
const NOISE: f64 = 0.3;
/// Relative standard deviation of a prior taken from the catalog.
const PRIOR_SIGMA: f64 = 0.8;
/// No observation counts as further off than this many times the prediction.
const FARTHEST: f64 = 1.0;
/// Predictions are at least this, so that relative errors exist.
const TINY: f64 = 1e-6;

/// What is believed of one parameter before anything is seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prior {
    value: f64,
    /// Its unit within the regression: the value itself, or what it might come to where the value is zero.
    scale: f64,
    sigma: f64,
}

impl Prior {
    /// To be learned, starting here. Where the catalog has zero, `otherwise` says of what order it may become.
    pub(super) fn learned(value: f64, otherwise: f64) -> Prior {
        let scale = if value > 0.0 { value } else { otherwise / TRUST };
        Prior { value, scale: scale.max(f64::MIN_POSITIVE), sigma: PRIOR_SIGMA }
    }

    /// Stays as it is.
    pub(super) fn fixed(value: f64) -> Prior {
        Prior { value, scale: if value > 0.0 { value } else { 1.0 }, sigma: 0.0 }
    }

    fn start(&self) -> f64 {
        self.value / self.scale
    }

    fn clamp(&self, theta: f64) -> f64 {
        if self.sigma == 0.0 || !theta.is_finite() {
            return self.start();
        }
        theta.clamp(self.start() / TRUST, TRUST)
    }
}

/// The regression: `observed = offset + sum(parameter * feature)`, fitted by relative error.
#[derive(Clone, Debug)]
pub(super) struct Regression<const N: usize> {
    priors: [Prior; N],
    theta: [f64; N],
    covariance: [[f64; N]; N],
    observations: u64,
}

/// What a regression has learned, as saved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    values: Vec<f64>,
    covariance: Vec<Vec<f64>>,
    observations: u64,
}

impl<const N: usize> Regression<N> {
    /// Knows nothing but its priors.
    pub(super) fn new(priors: [Prior; N]) -> Regression<N> {
        Regression { priors, theta: priors.map(|prior| prior.start()), covariance: ignorance(&priors), observations: 0 }
    }

    /// The parameters in their own units.
    pub(super) fn values(&self) -> [f64; N] {
        let mut values = self.theta;
        for (value, prior) in values.iter_mut().zip(&self.priors) {
            *value *= prior.scale;
        }
        values
    }

    /// What is expected for these features.
    pub(super) fn predict(&self, features: &[f64; N], offset: f64) -> f64 {
        (offset + dot(&self.values(), features)).max(TINY)
    }

    /// Takes one observation in; `weight` 1 for a clean one, less for one that says little. Returns the logarithm of
    /// observed over predicted, as it was before.
    pub(super) fn learn(&mut self, features: &[f64; N], offset: f64, observed: f64, weight: f64) -> Option<f64> {
        let predicted = self.predict(features, offset);
        let usable = observed.is_finite() && observed > 0.0 && predicted.is_finite() && weight > 0.0;
        if !usable || !features.iter().all(|feature| feature.is_finite() && *feature >= 0.0) {
            return None;
        }
        let mut relative = *features;
        for (feature, prior) in relative.iter_mut().zip(&self.priors) {
            *feature *= prior.scale / predicted;
        }
        let error = (observed / predicted - 1.0).clamp(-FARTHEST, FARTHEST);
        self.update(&relative, error, NOISE * NOISE / weight);
        self.observations = self.observations.saturating_add(1);
        Some((observed / predicted).ln())
    }

    /// Something has changed: what was learned may be wrong, the next observations count as the first ones did.
    pub(super) fn doubt(&mut self) {
        self.covariance = ignorance(&self.priors);
    }

    /// Relative standard deviation of a prediction for these features, by what is not known of the parameters.
    pub(super) fn doubtfulness(&self, features: &[f64; N], offset: f64) -> f64 {
        let predicted = self.predict(features, offset);
        let mut relative = *features;
        for (feature, prior) in relative.iter_mut().zip(&self.priors) {
            *feature *= prior.scale / predicted;
        }
        dot(&relative, &self.times(&relative)).max(0.0).sqrt()
    }

    /// Observations taken in.
    pub(super) fn observations(&self) -> u64 {
        self.observations
    }

    fn times(&self, vector: &[f64; N]) -> [f64; N] {
        self.covariance.map(|row| dot(&row, vector))
    }

    fn update(&mut self, features: &[f64; N], error: f64, noise: f64) {
        let spread = self.times(features);
        let scale = FORGETTING * noise + dot(features, &spread);
        for ((theta, prior), part) in self.theta.iter_mut().zip(&self.priors).zip(&spread) {
            *theta = prior.clamp(*theta + part / scale * error);
        }
        for (row, left) in self.covariance.iter_mut().zip(&spread) {
            for (cell, right) in row.iter_mut().zip(&spread) {
                *cell = (*cell - left * right / scale) / FORGETTING;
            }
        }
        self.bound_ignorance();
    }

    /// Forgetting without seeing would let the covariance grow without end: no parameter is less known than at first.
    fn bound_ignorance(&mut self) {
        let mut shrink = [1.0; N];
        for (at, (factor, (row, prior))) in shrink.iter_mut().zip(self.covariance.iter().zip(&self.priors)).enumerate()
        {
            let most = prior.sigma * prior.sigma;
            match row.get(at) {
                Some(variance) if variance.is_finite() && *variance > most => *factor = (most / variance).sqrt(),
                Some(variance) if variance.is_finite() && *variance >= 0.0 => {}
                _ => return self.doubt(),
            }
        }
        for (row, left) in self.covariance.iter_mut().zip(shrink) {
            for (cell, right) in row.iter_mut().zip(shrink) {
                *cell *= left * right;
            }
        }
    }

    /// What is to be saved: values in their own units, so that a changed prior keeps them.
    pub(super) fn save(&self) -> Saved {
        let covariance = self.covariance.iter().map(|row| row.to_vec()).collect();
        Saved { values: self.values().to_vec(), covariance, observations: self.observations }
    }

    /// Takes over what was saved, as far as it is sound and within reach of the priors of today.
    pub(super) fn restore(&mut self, saved: &Saved) {
        let square = saved.covariance.len() == N && saved.covariance.iter().all(|row| row.len() == N);
        if saved.values.len() != N || !square {
            return;
        }
        for ((theta, prior), value) in self.theta.iter_mut().zip(&self.priors).zip(&saved.values) {
            *theta = prior.clamp(value / prior.scale);
        }
        for (row, saved) in self.covariance.iter_mut().zip(&saved.covariance) {
            row.iter_mut().zip(saved).for_each(|(cell, saved)| *cell = *saved);
        }
        self.observations = saved.observations;
        let finite = self.covariance.iter().flatten().all(|cell| cell.is_finite());
        if finite { self.bound_ignorance() } else { self.doubt() }
    }
}

fn ignorance<const N: usize>(priors: &[Prior; N]) -> [[f64; N]; N] {
    let mut covariance = [[0.0; N]; N];
    for (at, (row, prior)) in covariance.iter_mut().zip(priors).enumerate() {
        if let Some(cell) = row.get_mut(at) {
            *cell = prior.sigma * prior.sigma;
        }
    }
    covariance
}

fn dot<const N: usize>(left: &[f64; N], right: &[f64; N]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    use super::*;

    fn model() -> Regression<3> {
        Regression::new([Prior::learned(5.0, 0.0), Prior::learned(0.4, 0.0), Prior::learned(0.0, 0.2)])
    }

    /// Feeds `rounds` observations of a true model with 20 % noise.
    fn feed(model: &mut Regression<3>, truth: [f64; 3], rounds: u64, random: &mut Pcg64Mcg) {
        for _ in 0..rounds {
            let features = [1.0, random.random_range(1.0..40.0), random.random_range(0.0..60.0)];
            let noise = random.random_range(0.8..1.2);
            model.learn(&features, 3.0, 3.0 + dot(&truth, &features) * noise, 1.0);
        }
    }

    #[track_caller]
    fn near(model: &Regression<3>, truth: [f64; 3], tolerance: f64) {
        for features in [[1.0, 1.0, 5.0], [1.0, 20.0, 30.0], [1.0, 40.0, 60.0]] {
            let (told, wanted) = (model.predict(&features, 3.0), 3.0 + dot(&truth, &features));
            assert!((told / wanted - 1.0).abs() < tolerance, "{told} instead of {wanted} at {features:?}");
        }
    }

    #[test]
    fn a_wrong_prior_is_corrected_and_a_change_is_followed() {
        let mut random = Pcg64Mcg::seed_from_u64(1);
        let mut model = model();
        feed(&mut model, [10.0, 0.1, 0.05], 400, &mut random);
        near(&model, [10.0, 0.1, 0.05], 0.1);
        feed(&mut model, [15.0, 0.2, 0.02], 1_200, &mut random);
        near(&model, [15.0, 0.2, 0.02], 0.1);
    }

    #[test]
    fn doubt_makes_it_follow_at_once() {
        let mut random = Pcg64Mcg::seed_from_u64(2);
        let mut steady = model();
        feed(&mut steady, [5.0, 0.4, 0.02], 2_000, &mut random);
        let mut doubting = steady.clone();
        doubting.doubt();
        for model in [&mut steady, &mut doubting] {
            feed(model, [10.0, 0.8, 0.04], 20, &mut random);
        }
        let off = |model: &Regression<3>| (model.predict(&[1.0, 20.0, 30.0], 3.0) - 30.2).abs();
        assert!(off(&doubting) < 0.15 * 30.2, "{}", off(&doubting));
        assert!(off(&doubting) < off(&steady) / 2.0, "{} and {}", off(&doubting), off(&steady));
    }

    #[test]
    fn one_odd_observation_moves_little() {
        let mut random = Pcg64Mcg::seed_from_u64(3);
        let mut model = model();
        feed(&mut model, [5.0, 0.4, 0.02], 500, &mut random);
        let before = model.predict(&[1.0, 20.0, 30.0], 3.0);
        model.learn(&[1.0, 20.0, 30.0], 3.0, 1e9, 1.0);
        let moved = model.predict(&[1.0, 20.0, 30.0], 3.0) / before;
        assert!(moved < 1.1, "{moved}");
    }

    #[test]
    fn hostile_observations_never_lead_out_of_the_trust_region() {
        let mut random = Pcg64Mcg::seed_from_u64(4);
        let mut model = model();
        let odd = [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e-300, 1e300, 5.0];
        for _ in 0..20_000 {
            let mut pick = || odd[random.random_range(0..odd.len())];
            model.learn(&[pick(), pick(), pick()], pick(), pick(), 1.0);
            let values = model.values();
            assert!(values.iter().all(|value| value.is_finite() && *value >= 0.0), "{values:?}");
            assert!((5.0 / TRUST..=5.0 * TRUST).contains(&values[0]), "{values:?}");
            assert!((0.4 / TRUST..=0.4 * TRUST).contains(&values[1]), "{values:?}");
            assert!(values[2] <= 0.2, "{values:?}");
        }
        assert!(model.covariance.iter().flatten().all(|cell| cell.is_finite()));
    }

    #[test]
    fn what_is_never_seen_keeps_its_value_and_does_not_grow_uncertain_without_end() {
        let mut model = model();
        for _ in 0..100_000 {
            model.learn(&[1.0, 0.0, 0.0], 0.0, 8.0, 1.0);
        }
        let values = model.values();
        assert!((values[0] - 8.0).abs() < 0.1 && (values[1] - 0.4).abs() < 1e-9, "{values:?}");
        assert!(model.doubtfulness(&[0.0, 1.0, 0.0], 0.0) <= PRIOR_SIGMA + 1e-9);
    }

    #[test]
    fn saved_and_restored_it_goes_on_as_before() {
        let mut random = Pcg64Mcg::seed_from_u64(5);
        let mut first = model();
        feed(&mut first, [10.0, 0.1, 0.05], 200, &mut random);
        let text = serde_json::to_string(&first.save()).unwrap();
        let mut second = model();
        second.restore(&serde_json::from_str(&text).unwrap());
        let (mut left, mut right) = (random.clone(), random);
        feed(&mut first, [5.0, 0.4, 0.05], 50, &mut left);
        feed(&mut second, [5.0, 0.4, 0.05], 50, &mut right);
        near(&second, first.values(), 1e-6);
        let mut refused = model();
        refused.restore(&Saved { values: vec![f64::NAN; 3], covariance: vec![vec![f64::NAN; 3]; 3], observations: 1 });
        near(&refused, model().values(), 1e-9);
    }
}
