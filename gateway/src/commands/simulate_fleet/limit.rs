//! How high the load may rise until a class misses its target: by search over loads, each simulated.

/// Loads are told apart to this part of them, 0 to 1.
pub(super) const RESOLUTION: f64 = 0.02;
/// No load above this is tried.
pub(super) const HIGHEST: f64 = 64.0;
/// No load below this is tried.
pub(super) const LOWEST: f64 = 1.0 / 64.0;
/// The first step from a load that is a guess.
pub(super) const FAR: f64 = 2.0;
/// The first step from a load that is known to be near.
pub(super) const NEAR: f64 = 1.15;

/// Between which loads the first target is missed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bounds {
    /// Every target is kept there; `None` where not even at [`LOWEST`].
    pub(super) keeps: Option<f64>,
    /// Some target is missed there; `None` where not even at [`HIGHEST`].
    pub(super) fails: Option<f64>,
}

/// Searches from a load in steps that grow, then by halves.
pub(super) fn search((from, first_step): (f64, f64), mut keeps: impl FnMut(f64) -> bool) -> Bounds {
    let (mut below, mut above) = (None, None);
    let (mut load, mut step) = (from.clamp(LOWEST, HIGHEST), first_step);
    while below.is_none() || above.is_none() {
        if keeps(load) {
            below = Some(load);
            if load >= HIGHEST {
                return Bounds { keeps: below, fails: None };
            }
            load = (load * step).min(HIGHEST);
        } else {
            above = Some(load);
            if load <= LOWEST {
                return Bounds { keeps: None, fails: above };
            }
            load = (load / step).max(LOWEST);
        }
        step *= step.sqrt();
    }
    while let (Some(low), Some(high)) = (below, above) {
        if high / low <= 1.0 + RESOLUTION {
            break;
        }
        let middle = (low * high).sqrt();
        if keeps(middle) { below = Some(middle) } else { above = Some(middle) }
    }
    Bounds { keeps: below, fails: above }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_found_from_either_side() {
        #[track_caller]
        fn check(from: (f64, f64), limit: f64) {
            let mut tried = 0;
            let found = search(from, |load| {
                tried += 1;
                load <= limit
            });
            let (low, high) = (found.keeps.unwrap_or(0.0), found.fails.unwrap_or(f64::INFINITY));
            assert!(low <= limit && limit < high, "{found:?} for {limit}");
            assert!(high / low <= 1.0 + RESOLUTION, "{found:?}");
            assert!(tried <= 16, "{tried} runs from {from:?} to {limit}");
        }
        check((1.0, FAR), 1.42);
        check((1.0, FAR), 0.31);
        check((1.0, FAR), 17.0);
        check((1.4, NEAR), 1.41);
        check((1.4, NEAR), 0.02);
    }

    #[test]
    fn what_is_beyond_all_loads_is_told() {
        assert_eq!(search((1.0, FAR), |_| true), Bounds { keeps: Some(HIGHEST), fails: None });
        assert_eq!(search((1.0, FAR), |_| false), Bounds { keeps: None, fails: Some(LOWEST) });
    }
}
