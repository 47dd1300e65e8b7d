//! What a machine draws: an idle share of its all-in power always, the rest by what it does.

use pointsman_policies::units::Micros;

/// Energy, and how it was reckoned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Energy {
    /// Joules.
    pub joules: f64,
    /// From which numbers.
    pub basis: EnergyBasis,
}

/// How energy is reckoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnergyBasis {
    /// Energy per output token times tokens.
    PerToken,
    /// All-in power: an idle share always, the rest by what the machine does.
    Power,
    /// Nothing is published; the joules are zero.
    Unknown,
}

impl EnergyBasis {
    /// The name used in statistics.
    pub fn as_str(self) -> &'static str {
        match self {
            EnergyBasis::PerToken => "per-token",
            EnergyBasis::Power => "power",
            EnergyBasis::Unknown => "unknown",
        }
    }
}

/// Adds up what is drawn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter {
    since: Micros,
    watts: f64,
    joules: f64,
}

impl Meter {
    /// From a moment on, this is drawn.
    pub(super) fn set(&mut self, at: Micros, watts: f64) {
        if at > self.since {
            self.joules = self.joules(at);
            self.since = at;
        }
        self.watts = watts;
    }

    pub(super) fn watts(&self) -> f64 {
        self.watts
    }

    pub(super) fn joules(&self, now: Micros) -> f64 {
        self.joules + self.watts * (now - self.since).as_secs()
    }
}
