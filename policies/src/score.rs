//! How well an endpoint that passed the filters serves the route's objective: lower is better.

use crate::decide::Scored;
use crate::estimate::Estimate;
use crate::facts::Facts;
use crate::learned::Margin;
use crate::policy::{Objective, Slo, Weights};

/// What a request is promised, and how far predictions of it are trusted.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// The class's, tightened by what the caller asked for.
    pub slo: Slo,
    /// The part of it that predictions may use up.
    pub margin: Margin,
}

/// How far an estimate is from the class's promise, as the worst of its parts: the predicted figure over the part of
/// the bound that is planned with. At most 1 means likely to be kept. 0 where nothing was promised. Parts are those that
/// [`crate::attain`] measures: whoever waits for a whole answer is promised first token and pace together.
pub fn strain(promise: &Promise, estimate: &Estimate, facts: &Facts<'_>) -> f64 {
    let Promise { slo, margin } = promise;
    let part = |predicted: f64, margin: f64, bound: Option<f64>| {
        bound.map_or(0.0, |bound| predicted / (margin * bound.max(1e-9)))
    };
    let later_tokens = facts.output_tokens.saturating_sub(1) as f64;
    let waited_ms = facts.waited_ms;
    let answer = if facts.stream {
        let itl = if later_tokens > 0.0 { part(estimate.itl_planned_ms(), margin.itl, slo.itl_ms) } else { 0.0 };
        part(waited_ms + estimate.ttft_ms, margin.ttft, slo.ttft_ms).max(itl)
    } else {
        let pace_ms = slo.itl_ms.unwrap_or(0.0) * later_tokens;
        part(waited_ms + estimate.total_ms, margin.ttft, slo.ttft_ms.map(|ttft_ms| ttft_ms + pace_ms))
    };
    answer.max(part(waited_ms + estimate.total_ms, margin.ttft, slo.deadline_ms))
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
#[inline]
pub fn score(objective: Objective, scored: &Scored, best: &Best) -> f64 {
    let [first, second, third, fourth] = terms(objective, scored, best).map(|term| term.value);
    first + second + third + fourth
}

/// What a score consists of. Unknown energy is taken as the worst there is.
#[inline]
pub fn terms(objective: Objective, scored: &Scored, best: &Best) -> [Term; 4] {
    let Scored { estimate, strain, .. } = scored;
    let only = |name, value| [Term { name, value }, Term::default(), Term::default(), Term::default()];
    match objective {
        Objective::CheapestThatMeetsSlo if *strain > 1.0 && !scored.lost => only("strain", *strain),
        Objective::CheapestThatMeetsSlo | Objective::Cheapest => only("usd", scored.effective_usd),
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
