//! Baselines that balance by counting: round robin, random, least outstanding, two choices, vLLM's own balancer.

use fastrand::Rng;
use pointsman_policies::units::Micros;

use super::at_once::{Choice, Choose};
use super::column::Column;

/// One after the other.
#[derive(Debug, Default)]
pub struct RoundRobin {
    last: Option<usize>,
}

impl Choose for RoundRobin {
    fn choose(&mut self, choice: &Choice<'_>) -> Option<usize> {
        let next = choice.open.iter().find(|endpoint| Some(**endpoint) > self.last);
        self.last = next.or_else(|| choice.open.first()).copied();
        self.last
    }
}

/// By lot.
#[derive(Debug)]
pub struct Random {
    /// The lots.
    pub lots: Rng,
}

impl Choose for Random {
    fn choose(&mut self, choice: &Choice<'_>) -> Option<usize> {
        choice.least(&mut self.lots, |_| 0.0)
    }
}

/// The fewest requests in flight.
#[derive(Debug)]
pub struct LeastOutstanding {
    /// The lots among equals.
    pub lots: Rng,
}

impl Choose for LeastOutstanding {
    fn choose(&mut self, choice: &Choice<'_>) -> Option<usize> {
        choice.least(&mut self.lots, |endpoint| f64::from(choice.in_flight(endpoint)))
    }
}

/// Of two by lot, the one with fewer requests in flight.
#[derive(Debug)]
pub struct TwoChoices {
    /// The lots.
    pub lots: Rng,
}

impl Choose for TwoChoices {
    fn choose(&mut self, choice: &Choice<'_>) -> Option<usize> {
        let (one, other) = choice.two(&mut self.lots)?;
        Some(if choice.in_flight(other) < choice.in_flight(one) { other } else { one })
    }
}

/// `4 * waiting + running` of what engines last reported; what was sent since then counts as waiting.
#[derive(Debug)]
pub struct VllmInternal {
    lots: Rng,
    waiting_weight: f64,
    since: Column<Since>,
}

/// What was sent since a report.
#[derive(Clone, Copy, Debug, Default)]
struct Since {
    report: Micros,
    sent: u32,
}

impl VllmInternal {
    /// With its weight of waiting requests.
    pub fn new(lots: Rng, waiting_weight: f64) -> VllmInternal {
        VllmInternal { lots, waiting_weight, since: Column::default() }
    }
}

impl Choose for VllmInternal {
    fn choose(&mut self, choice: &Choice<'_>) -> Option<usize> {
        let (weight, since) = (self.waiting_weight, &mut self.since);
        choice.least(&mut self.lots, |endpoint| {
            let reported = choice.seen.endpoints.get(endpoint).and_then(|seen| seen.reported).unwrap_or_default();
            let since = since.of(endpoint);
            if since.report != reported.at {
                *since = Since { report: reported.at, sent: 0 };
            }
            weight * f64::from(reported.waiting + since.sent) + f64::from(reported.running)
        })
    }

    fn sent(&mut self, _: &Choice<'_>, endpoint: usize) {
        self.since.of(endpoint).sent += 1;
    }
}
