//! Whether machines have changed under us: a two-sided CUSUM test on the logarithm of observed over predicted.

use std::collections::VecDeque;

use pointsman_policies::units::Micros;

/// A mean shift below this is no drift, natural logarithm: the models follow that by themselves.
const SLACK: f64 = 0.15;
/// The sum of shifts that makes a drift. At 0.3 noise a false alarm comes once in many thousand observations.
const ALARM: f64 = 4.0;
/// The sum of shifts that makes one look again: one observation that is far off.
const SUSPICION: f64 = 0.8;
/// No single observation adds more than this.
const FARTHEST: f64 = 1.0;
/// Drifts kept for operators.
const MOST_KEPT: usize = 64;

/// Sums up shifts to one side.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    sum: f64,
    observations: u32,
}

impl Side {
    /// One more shift to this side; the mean shift, if that makes a drift.
    fn add(&mut self, shift: f64) -> Option<f64> {
        self.sum += shift - SLACK;
        self.observations = self.observations.saturating_add(1);
        if self.sum <= 0.0 {
            *self = Side::default();
        }
        (self.sum > ALARM).then(|| self.sum / f64::from(self.observations) + SLACK)
    }
}

/// The test for one of the two times of a pool.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DriftTest {
    slower: Side,
    faster: Side,
}

impl DriftTest {
    /// Whether an observation like the last ones would soon make a drift.
    pub(super) fn suspects(&self) -> bool {
        self.slower.sum.max(self.faster.sum) > SUSPICION
    }

    /// One observation; by what factor things have changed, if they have. The test then starts afresh.
    pub(super) fn learn(&mut self, log_residual: f64) -> Option<f64> {
        if !log_residual.is_finite() {
            return None;
        }
        let shift = log_residual.clamp(-FARTHEST, FARTHEST);
        let slower = self.slower.add(shift);
        let faster = self.faster.add(-shift).map(|shift| -shift);
        let shift = slower.or(faster)?;
        *self = DriftTest::default();
        Some(shift.exp())
    }
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Time {
    /// Time to first token.
    Ttft,
    /// Time per output token.
    Itl,
}

impl Time {
    /// The name in metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Time::Ttft => "ttft",
            Time::Itl => "itl",
        }
    }
}

/// A change that was noticed.
#[derive(Clone, Debug, PartialEq)]
pub struct Drift {
    /// The pool.
    pub pool: String,
    /// Which of its times.
    pub time: Time,
    /// Observed over predicted, about; the change is at least this when it is noticed early.
    pub factor: f64,
    /// When it was noticed.
    pub at: Micros,
}

/// The last changes, the oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Drifts {
    kept: VecDeque<Drift>,
    noticed: u64,
}

impl Drifts {
    pub(super) fn add(&mut self, drift: Drift) {
        self.noticed += 1;
        self.kept.push_back(drift);
        if self.kept.len() > MOST_KEPT {
            self.kept.pop_front();
        }
    }

    pub(super) fn kept(&self) -> impl Iterator<Item = &Drift> {
        self.kept.iter()
    }

    /// How many there were since the start.
    pub(super) fn noticed(&self) -> u64 {
        self.noticed
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    use super::*;

    #[test]
    fn noise_alone_raises_no_alarm() {
        let mut random = Pcg64Mcg::seed_from_u64(1);
        let mut test = DriftTest::default();
        let alarms = (0..20_000).filter_map(|_| test.learn(random.random_range(-0.5..0.5))).count();
        assert!(alarms <= 1, "{alarms} alarms");
    }

    #[test]
    fn a_doubling_and_a_halving_are_noticed_within_a_few_observations() {
        for (shift, expected) in [(2.0_f64, 1.6..2.4), (0.5, 0.4..0.65)] {
            let mut random = Pcg64Mcg::seed_from_u64(2);
            let mut test = DriftTest::default();
            assert!((0..200).all(|_| test.learn(random.random_range(-0.3..0.3)).is_none()));
            let alarm = (0..20).find_map(|_| test.learn(shift.ln() + random.random_range(-0.3..0.3)));
            assert!(alarm.is_some_and(|factor| expected.contains(&factor)), "{alarm:?}");
        }
    }

    #[test]
    fn the_list_is_bounded_and_the_count_is_not() {
        let mut drifts = Drifts::default();
        for at in 0..1_000 {
            drifts.add(Drift { pool: "p".to_owned(), time: Time::Itl, factor: 2.0, at: Micros(at) });
        }
        assert_eq!((drifts.kept().count(), drifts.noticed()), (MOST_KEPT, 1_000));
        assert_eq!(drifts.kept().last().map(|drift| drift.at), Some(Micros(999)));
        assert_eq!(DriftTest::default().learn(f64::NAN), None);
    }
}
