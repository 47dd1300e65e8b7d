//! What happens to a fleet while it is simulated: how old its metrics are, what fails, who else uses it.

use pointsman_policies::units::Micros;

/// Conditions of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Conditions {
    /// Decides jitter of machines and what neighbours do.
    pub seed: u64,
    /// How metrics of engines reach the gateways.
    pub metrics: Metrics,
    /// What happens when.
    pub disturbances: Vec<Disturbance>,
    /// How long requests in flight may go on after the last has come; what is not done then is missed.
    pub patience: Micros,
}

impl Default for Conditions {
    fn default() -> Conditions {
        Conditions { seed: 1, metrics: Metrics::default(), disturbances: Vec::new(), patience: Micros::from_secs(900) }
    }
}

/// How metrics of engines reach the gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Every so often they are read; never where this is zero.
    pub every: Micros,
    /// So old they are when they come.
    pub delay: Micros,
}

impl Metrics {
    /// None ever come.
    pub const LOST: Metrics = Metrics { every: Micros(0), delay: Micros(0) };
}

/// Fresh ones, as from a scraper beside the machines.
impl Default for Metrics {
    fn default() -> Metrics {
        Metrics { every: Micros(50_000), delay: Micros(0) }
    }
}

/// Something that happens to machines.
#[derive(Clone, Debug, PartialEq)]
pub struct Disturbance {
    /// When.
    pub at: Micros,
    /// To which endpoints, by index in the fleet.
    pub endpoints: Vec<usize>,
    /// What.
    pub what: Happening,
}

/// What happens to a machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Happening {
    /// It is gone: what runs there breaks, what is sent there is refused by the network.
    Down,
    /// It is back, empty.
    Up,
    /// It works at this multiple of its speed.
    Speed(f64),
    /// Somebody else begins to use it.
    Neighbour(Neighbour),
    /// Nobody else uses it any more.
    Alone,
}

/// Load on a machine that does not come through the gateway.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// Requests per second and endpoint; they come as a Poisson process.
    pub rps: f64,
    /// Length of each prompt, tokens.
    pub input_tokens: u64,
    /// Length of each answer, tokens.
    pub output_tokens: u64,
}
