//! How much a machine is sent that has just come, or come back: little at first, since its caches are empty and nobody
//! knows yet whether it stays; all of it by and by.

use pointsman_policies::units::Micros;

/// From the first request to a whole window.
const SLOW_START: Micros = Micros::from_secs(30);
/// What is sent at first, as a part of the window.
const LEAST_PART: f64 = 0.1;

/// The part of a window that is used by a machine that came at a moment, 0 to 1; `None` where it is all of it.
pub fn part(came: Micros, now: Micros) -> Option<f64> {
    let passed = (now - came).0 as f64 / SLOW_START.0 as f64;
    (passed < 1.0).then_some(passed.max(LEAST_PART))
}

/// So many requests of a window.
pub fn requests(window: u32, came: Option<Micros>, now: Micros) -> u32 {
    let part = came.and_then(|came| part(came, now)).unwrap_or(1.0);
    ((f64::from(window) * part).ceil() as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_opens_within_half_a_minute() {
        let sent = |second: u64| requests(64, Some(Micros::from_secs(100)), Micros::from_secs(100 + second));
        assert_eq!([0, 3, 15, 29, 30, 1_000].map(sent), [7, 7, 32, 62, 64, 64]);
        assert_eq!(requests(64, None, Micros::from_secs(100)), 64, "who was there at the start is known");
        assert_eq!(requests(1, Some(Micros(0)), Micros(0)), 1);
    }
}
