//! What a machine draws: an idle share of its all-in power always, the rest by what it does.

use pointsman_policies::fleet::HardwareKind;
use pointsman_policies::units::Micros;

/// What a step that only decodes draws, as a part of what a step with prefill draws. Measured on A100 that serve
/// Llama-2-70B: 0.74-0.79 of the rated power at batches of 1-16 on two, 0.43 on eight, and 1.0 in prefill; source D.
pub(super) const DECODE_POWER_SHARE: f64 = 0.75;

/// What a machine of a kind draws while idle, as a part of its all-in power: all assumed. Weights that stay in SRAM
/// are paid for all the time.
pub(super) fn idle_share(kind: HardwareKind) -> f64 {
    match kind {
        HardwareKind::Gpu => 0.3,
        HardwareKind::Wafer | HardwareKind::Lpu => 0.6,
        HardwareKind::Cpu => 0.4,
        HardwareKind::Cloud => 0.0,
    }
}

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
