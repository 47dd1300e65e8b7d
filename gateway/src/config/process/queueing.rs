//! `[queue]`: how many requests are held until a machine has room, and how long.

use pointsman_policies::units::Micros;
use schemars::JsonSchema;
use serde::Deserialize;

/// Requests that are held where nothing else is said: a bound on memory, far above what any promise outlives.
const DEFAULT_REQUESTS: usize = 20_000;
/// How long a request is held where nothing else is said, seconds.
const DEFAULT_WAIT_S: f64 = 600.0;

/// `[queue]`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueShape {
    /// Requests held at once, all pools together; 20000 where not given. Beyond it the least urgent that may be shed is
    /// refused, or the newcomer.
    #[schemars(range(min = 1))]
    #[schemars(example = 20_000)]
    pub max_requests: Option<usize>,
    /// The longest that a request is held, seconds; 600 where not given. It is refused then, whatever it was promised.
    #[schemars(range(min = 0.001, max = 86400))]
    #[schemars(example = 600)]
    pub max_wait_s: Option<f64>,
}

/// Bounds on requests that are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Requests at once, all pools together.
    pub max_requests: usize,
    /// The longest that one is held.
    pub max_wait: Micros,
}

impl QueueLimits {
    pub(super) fn new(shape: &QueueShape) -> QueueLimits {
        QueueLimits {
            max_requests: shape.max_requests.unwrap_or(DEFAULT_REQUESTS),
            max_wait: Micros::from_ms(shape.max_wait_s.unwrap_or(DEFAULT_WAIT_S) * 1e3),
        }
    }
}
