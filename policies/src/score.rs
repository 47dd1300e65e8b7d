//! How well an endpoint that passed the filters serves the route's objective: lower is better.

use crate::estimate::{Estimate, batches};
use crate::facts::Facts;
use crate::fleet::HardwareKind;
use crate::policy::{Objective, Slo, Weights};

/// A machine that batches gets slower when others arrive while a request runs, so only this part of its SLO is planned
/// with. 60 s of the demo, 0.6 against 0.5: realtime attained 0.988 and 1.000, interactive 0.952 and 0.965, for 3 % more.
const MARGIN_BATCHING: f64 = 0.5;
/// A machine with flat decode keeps its pace; what remains is jitter.
const MARGIN_FLAT: f64 = 0.85;

/// How far an estimate is from the class's promise, as the worst of its parts: the predicted figure over the part of
/// the bound that is planned with. At most 1 means likely to be kept. 0 where nothing was promised. Parts are those that
/// [`crate::attain`] measures: whoever waits for a whole answer is promised first token and pace together.
pub fn strain(kind: HardwareKind, slo: &Slo, estimate: &Estimate, facts: &Facts<'_>) -> f64 {
    let margin = if batches(kind) { MARGIN_BATCHING } else { MARGIN_FLAT };
    let part = |predicted: f64, bound: Option<f64>| bound.map_or(0.0, |bound| predicted / (margin * bound.max(1e-9)));
    let later_tokens = facts.output_tokens.saturating_sub(1) as f64;
    let answer = if facts.stream {
        let itl = if later_tokens > 0.0 { part(estimate.itl_ms, slo.itl_ms) } else { 0.0 };
        part(estimate.ttft_ms, slo.ttft_ms).max(itl)
    } else {
        let pace_ms = slo.itl_ms.unwrap_or(0.0) * later_tokens;
        part(estimate.total_ms, slo.ttft_ms.map(|ttft_ms| ttft_ms + pace_ms))
    };
    answer.max(part(estimate.total_ms, slo.deadline_ms))
}

/// What is known of all candidates together: the best figure of each term, for objectives that compare terms of unlike
/// units, and whether they can be compared by carbon.
#[derive(Clone, Copy, Debug)]
pub struct Best {
    usd: f64,
    ttft_ms: f64,
    itl_ms: f64,
    joules: f64,
    /// Whether carbon dioxide is known wherever energy is.
    carbon_known: bool,
}

impl Best {
    /// Of these estimates.
    pub fn of<'a>(estimates: impl Iterator<Item = &'a Estimate>) -> Best {
        let start = Best { usd: f64::MAX, ttft_ms: f64::MAX, itl_ms: f64::MAX, joules: f64::MAX, carbon_known: true };
        estimates.fold(start, |best, estimate| Best {
            usd: best.usd.min(estimate.usd),
            ttft_ms: best.ttft_ms.min(estimate.ttft_ms),
            itl_ms: best.itl_ms.min(estimate.itl_ms),
            joules: best.joules.min(estimate.joules.unwrap_or(f64::MAX)),
            carbon_known: best.carbon_known && (estimate.joules.is_none() || estimate.grams_co2.is_some()),
        })
    }
}

/// One term of a score.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Term {
    /// What it measures, with its unit; empty where the objective has no further term.
    pub name: &'static str,
    /// Its share of the score.
    pub value: f64,
}

/// The score of one candidate under an objective: the sum of its terms; lower is better.
pub fn score(objective: Objective, estimate: &Estimate, strain: f64, best: &Best) -> f64 {
    terms(objective, estimate, strain, best).iter().map(|term| term.value).sum()
}

/// What a score consists of. Unknown energy is taken as the worst there is.
pub fn terms(objective: Objective, estimate: &Estimate, strain: f64, best: &Best) -> [Term; 4] {
    let only = |name, value| [Term { name, value }, Term::default(), Term::default(), Term::default()];
    match objective {
        Objective::CheapestThatMeetsSlo if strain > 1.0 => only("strain", strain),
        Objective::CheapestThatMeetsSlo | Objective::Cheapest => only("usd", estimate.usd),
        Objective::Fastest => only("total_ms", estimate.total_ms),
        // Grams and joules do not compare: one silent site, and energy decides for all.
        Objective::Greenest if best.carbon_known => only("grams_co2", estimate.grams_co2.unwrap_or(f64::MAX)),
        Objective::Greenest => only("joules", estimate.joules.unwrap_or(f64::MAX)),
        Objective::Weights(weights) => weighted(weights, estimate, best),
    }
}

fn weighted(weights: Weights, estimate: &Estimate, best: &Best) -> [Term; 4] {
    let relative = |name, weight: f64, figure: f64, best: f64| {
        let value = if weight == 0.0 { 0.0 } else { weight * ratio(figure, best) };
        Term { name, value }
    };
    [
        relative("cost", weights.cost, estimate.usd, best.usd),
        relative("ttft", weights.ttft, estimate.ttft_ms, best.ttft_ms),
        relative("itl", weights.itl, estimate.itl_ms, best.itl_ms),
        relative("energy", weights.energy, estimate.joules.unwrap_or(f64::MAX), best.joules),
    ]
}

fn ratio(figure: f64, best: f64) -> f64 {
    if figure <= best { 1.0 } else { figure / best.max(1e-12) }
}
