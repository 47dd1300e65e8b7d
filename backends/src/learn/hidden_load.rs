//! Load that nobody tells us of, as a factor on what was predicted: neighbours on a rented machine, other gateways, a
//! throttled card. A scalar Kalman filter on the logarithm of observed over predicted; without news it fades to 1.

use pointsman_policies::fleet::HardwareKind;
use pointsman_policies::units::Micros;

use super::observation::Factors;

/// Without news, half of what is believed is forgotten in this time, seconds.
const HALF_LIFE_S: f64 = 5.0;
/// Factors stay between these.
const RANGE: (f64, f64) = (0.25, 16.0);
/// An observation is never taken for further off than this, natural logarithm.
const FARTHEST: f64 = 2.0;
/// Standard deviation of one observation, natural logarithm: jitter and what models leave out.
const NOISE: f64 = 0.4;
/// How much hidden load there is on a rented machine, standard deviation of the natural logarithm.
const SHARED: f64 = 0.8;
/// The same on machines of one's own, where most load is seen.
const OWN: f64 = 0.3;

/// What is believed of one endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Hidden {
    pub(super) ttft: HiddenLoad,
    pub(super) itl: HiddenLoad,
}

impl Hidden {
    /// Nothing is known.
    pub fn new(kind: HardwareKind) -> Hidden {
        Hidden { ttft: HiddenLoad::new(kind), itl: HiddenLoad::new(kind) }
    }

    /// The factors now.
    pub fn factors(&self, now: Micros) -> Factors {
        Factors { ttft: self.ttft.factor(now), itl: self.itl.factor(now) }
    }
}

/// The factor of one of its two times.
#[derive(Clone, Copy, Debug)]
pub(super) struct HiddenLoad {
    log: f64,
    variance: f64,
    /// Variance when nothing is known.
    unseen: f64,
    at: Micros,
}

impl HiddenLoad {
    /// Nothing is known.
    pub(super) fn new(kind: HardwareKind) -> HiddenLoad {
        let sigma = if kind == HardwareKind::Cloud { SHARED } else { OWN };
        HiddenLoad { log: 0.0, variance: sigma * sigma, unseen: sigma * sigma, at: Micros(0) }
    }

    /// The factor now.
    pub(super) fn factor(&self, now: Micros) -> f64 {
        if self.log == 0.0 { 1.0 } else { (self.log * self.kept(now)).exp().clamp(RANGE.0, RANGE.1) }
    }

    /// An observation; `log_residual` is the logarithm of observed over predicted without a factor, `weight` 1 for a
    /// clean one, less for one that says little.
    pub(super) fn learn(&mut self, now: Micros, log_residual: f64, weight: f64) {
        if !(log_residual.is_finite() && weight > 0.0 && weight <= 1.0) {
            return;
        }
        let kept = self.kept(now);
        self.log *= kept;
        self.variance = self.variance * kept * kept + self.unseen * (1.0 - kept * kept);
        self.at = self.at.max(now);
        let gain = self.variance / (self.variance + NOISE * NOISE / weight);
        let surprise = (log_residual - self.log).clamp(-FARTHEST, FARTHEST);
        self.log = (self.log + gain * surprise).clamp(RANGE.0.ln(), RANGE.1.ln());
        self.variance *= 1.0 - gain;
    }

    /// The part of what was believed that is still believed.
    fn kept(&self, now: Micros) -> f64 {
        (-(now - self.at).as_secs() / HALF_LIFE_S).exp2()
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    use super::*;

    #[test]
    fn a_neighbour_is_noticed_within_seconds_and_forgotten_when_nothing_is_heard() {
        let mut load = HiddenLoad::new(HardwareKind::Cloud);
        for second in 0..10 {
            load.learn(Micros::from_secs(second), 4.0_f64.ln(), 1.0);
        }
        let at = |second| load.factor(Micros::from_secs(second));
        assert!((3.0..=4.0).contains(&at(9)), "{}", at(9));
        assert!((at(14) - at(9).sqrt()).abs() < 1e-6, "half of the logarithm after one half-life");
        assert!((at(60) - 1.0).abs() < 0.01, "{}", at(60));
    }

    #[test]
    fn what_is_gone_is_unlearned_by_what_is_seen() {
        let mut load = HiddenLoad::new(HardwareKind::Cloud);
        for at in 0..40_u64 {
            load.learn(Micros(at * 200_000), if at < 20 { 1.4 } else { 0.0 }, 1.0);
        }
        let factor = load.factor(Micros::from_secs(8));
        assert!((0.9..=1.15).contains(&factor), "{factor}");
    }

    #[test]
    fn ones_own_machines_are_doubted_less() {
        let after_one = |kind| {
            let mut load = HiddenLoad::new(kind);
            load.learn(Micros(0), 1.0, 1.0);
            load.factor(Micros(0))
        };
        assert!(after_one(HardwareKind::Gpu) < 1.5 && after_one(HardwareKind::Cloud) > 2.0);
    }

    #[test]
    fn nothing_hostile_leads_out_of_the_range() {
        let mut random = Pcg64Mcg::seed_from_u64(1);
        let mut load = HiddenLoad::new(HardwareKind::Cloud);
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 0.0];
        for _ in 0..10_000 {
            let now = Micros(random.random_range(0..u64::MAX));
            load.learn(now, odd[random.random_range(0..odd.len())], random.random_range(-1.0..2.0));
            let factor = load.factor(Micros(random.random_range(0..u64::MAX)));
            assert!((RANGE.0..=RANGE.1).contains(&factor), "{factor}");
        }
    }
}
