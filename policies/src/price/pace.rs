//! A price that rises while use is ahead of its pace: lambda = max(0, over + eta x sum of over). The sum holds it where use
//! and pace agree; the direct term keeps the two from chasing each other.

use serde::{Deserialize, Serialize};

/// Longest span that one step of a controller stands for, seconds: after a pause nothing jumps.
const LONGEST_STEP_S: f64 = 10.0;

/// Lambda, from 0 to a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    sum: f64,
    lambda: f64,
}

impl Pace {
    /// Goes on by `step_s` seconds with use ahead of its pace by `over`, in the unit that makes lambda 1; negative where it
    /// is behind. `time_s` is how long being ahead by 1 takes to add 1; `most` the highest lambda. Returns lambda, which
    /// never falls where `over` rises, all else equal.
    pub fn step(&mut self, over: f64, step_s: f64, time_s: f64, most: f64) -> f64 {
        let over = if over.is_nan() { 0.0 } else { over.clamp(-most, most) };
        let step_s = if step_s.is_nan() { 0.0 } else { step_s.clamp(0.0, LONGEST_STEP_S) };
        self.sum = sound(self.sum + over * step_s / time_s.max(step_s.max(1e-3)), most);
        self.lambda = sound(over + self.sum, most);
        self.lambda
    }

    /// As it stands.
    pub fn lambda(&self) -> f64 {
        sound(self.lambda, f64::MAX)
    }
}

/// A number from 0 to a bound, whatever was read from a file.
fn sound(number: f64, most: f64) -> f64 {
    if number.is_nan() { 0.0 } else { number.clamp(0.0, most) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_rises_while_use_is_ahead_and_falls_back_to_nothing() {
        let mut pace = Pace::default();
        let ahead: Vec<f64> = (0..4).map(|_| pace.step(0.1, 1.0, 10.0, 2.0)).collect();
        assert!(ahead.windows(2).all(|pair| pair[0] < pair[1]), "{ahead:?}");
        assert_eq!(pace.step(0.0, 1.0, 10.0, 2.0), pace.lambda(), "it holds where use and pace agree");
        assert!(pace.lambda() > 0.03, "{pace:?}");
        for _ in 0..100 {
            pace.step(-0.1, 1.0, 10.0, 2.0);
        }
        assert_eq!(pace.lambda(), 0.0);
    }

    fn any_number() -> impl Strategy<Value = f64> {
        prop_oneof![any::<f64>(), -2.0..2.0, Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY)]
    }

    proptest! {
        #[test]
        fn it_is_a_number_within_its_bounds(
            steps in proptest::collection::vec((any_number(), any_number(), any_number()), 0..50),
            most in 0.1..100.0,
        ) {
            let mut pace = Pace { sum: f64::NAN, lambda: f64::INFINITY };
            for (over, step_s, time_s) in steps {
                let lambda = pace.step(over, step_s, time_s, most);
                prop_assert!((0.0..=most).contains(&lambda), "{lambda}");
            }
        }

        #[test]
        fn more_use_never_makes_it_cheaper(
            before in proptest::collection::vec(-1.0..1.0, 0..20), one in -2.0..2.0, other in -2.0..2.0,
        ) {
            let mut pace = Pace::default();
            for over in before {
                pace.step(over, 1.0, 10.0, 3.0);
            }
            let (mut less, mut more) = (pace, pace);
            let (low, high) = if one <= other { (one, other) } else { (other, one) };
            prop_assert!(less.step(low, 1.0, 10.0, 3.0) <= more.step(high, 1.0, 10.0, 3.0));
        }

        #[test]
        fn it_survives_being_saved(over in -2.0..2.0, step_s in 0.0..10.0) {
            let mut pace = Pace::default();
            pace.step(over, step_s, 10.0, 3.0);
            let saved: Pace = serde_json::from_str(&serde_json::to_string(&pace).expect("text")).expect("a pace");
            prop_assert!((saved.lambda - pace.lambda).abs() < 1e-12 && (saved.sum - pace.sum).abs() < 1e-12);
        }
    }
}
