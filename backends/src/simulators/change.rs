//! What happens to a machine from outside: capacity that comes late or short, a site lost, limits changed.

use pointsman_policies::units::Micros;

use crate::lease::RateLimits;

/// A change at a moment. A machine that comes into being later is down from the origin and up at its date.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// When.
    pub at: Micros,
    /// What.
    pub change: Change,
}

/// What changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// It serves again; its memory is empty.
    Up,
    /// It serves nobody, draws nothing, and everything it held is lost.
    Down,
    /// It has this many slots; whoever is in one keeps it.
    Slots(u32),
    /// The provider's limits are these. What was used up stays used up.
    Limits(RateLimits),
    /// It runs this many times as fast as its profile says; 1 where it is not positive.
    Speed(f64),
}
