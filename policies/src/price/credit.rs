//! The price of what is owed anyway: take-or-pay capacity is nearly free while its consumption lags the owed path, and
//! costs its price again as it catches up and beyond.

use serde::{Deserialize, Serialize};

use super::Pace;

/// So far behind the path, what is owed costs nothing any more, seconds.
const BAND_S: f64 = 600.0;
/// Being behind by that much adds all of the price to the credit in this time, seconds.
const TIME_S: f64 = 1_800.0;

/// The part of a committed pool's price that is owed anyway, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Credit(Pace);

impl Credit {
    /// Goes on by `step_s` seconds with so much owed by now and so much used, where `per_s` more is owed each second.
    /// Returns the credit.
    pub fn step(&mut self, owed: f64, used: f64, per_s: f64, step_s: f64) -> f64 {
        let lag_s = (owed - used) / per_s;
        self.0.step(lag_s / BAND_S, step_s, TIME_S, 1.0)
    }

    /// As it stands.
    pub fn credit(&self) -> f64 {
        self.0.lambda().min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_price_falls_while_consumption_lags_and_returns_as_it_catches_up() {
        let mut credit = Credit::default();
        let behind: Vec<f64> = (1..=600).map(|s| credit.step(f64::from(s), 0.0, 1.0, 1.0)).collect();
        assert!(behind.windows(2).all(|pair| pair[0] <= pair[1]), "{behind:?}");
        assert!(behind[60] < 0.2 && behind[599] == 1.0, "{} {}", behind[60], behind[599]);
        let ahead: Vec<f64> = (0..2_000).map(|_| credit.step(600.0, 700.0, 1.0, 1.0)).collect();
        assert!(ahead.windows(2).all(|pair| pair[0] >= pair[1]), "{ahead:?}");
        assert!(ahead[1] < 0.5 && credit.credit() == 0.0, "{} {credit:?}", ahead[1]);
    }

    proptest! {
        #[test]
        fn it_is_a_part_whatever_it_is_told(owed: f64, used: f64, per_s: f64, step_s: f64) {
            let mut credit = Credit::default();
            prop_assert!((0.0..=1.0).contains(&credit.step(owed, used, per_s, step_s)));
        }

        #[test]
        fn who_has_used_more_gets_no_more_credit(owed in 0.0..1e6, used in 0.0..1e6, more in 0.0..1e6) {
            let (mut less_used, mut more_used) = (Credit::default(), Credit::default());
            prop_assert!(more_used.step(owed, used + more, 1.0, 1.0) <= less_used.step(owed, used, 1.0, 1.0));
        }
    }
}
