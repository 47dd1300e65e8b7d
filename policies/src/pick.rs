//! The order in which candidates are tried: better score first, and chance among near-ties so that many gateways that
//! see the same do not all choose the same.

use crate::decide::Candidate;
use crate::policy::{Objective, Route, Spill};

/// Scores within this part of the best count as a tie.
const NEAR_TIE: f64 = 0.02;

/// What counts before the score: smaller comes first.
type Precedence = (u8, u8);

/// Ranks candidates by score and returns their indices. A route's own pools come before its fallbacks; where the
/// objective is to meet the SLO, those likely to meet it come first within a tier, and before the tier where the route
/// spills over to keep the promise. Among those tied with the best, two are drawn and the less busy goes first.
pub fn rank(candidates: &[Candidate], route: &Route, draw: u64) -> Vec<usize> {
    let slo_first = route.objective == Objective::CheapestThatMeetsSlo;
    let mut ranking: Vec<(Precedence, f64, u32, usize)> = candidates
        .iter()
        .enumerate()
        .filter_map(|(index, candidate)| {
            let scored = candidate.verdict.as_ref().ok()?;
            let strained = u8::from(!scored.feasible());
            let precedence = match route.spill {
                Spill::SloAtRisk => (strained, candidate.tier),
                Spill::Unavailable if slo_first => (candidate.tier, strained),
                Spill::Unavailable => (candidate.tier, 0),
            };
            Some((precedence, scored.score, candidate.in_flight, index))
        })
        .collect();
    ranking.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
    let ties = ranking.first().map_or(0, |&(precedence, best, ..)| {
        let limit = best + best.abs() * NEAR_TIE;
        ranking.iter().take_while(|entry| entry.0 == precedence && entry.1 <= limit).count()
    });
    if let Some(first) = less_busy_of_two(&ranking, ties, draw) {
        ranking.get_mut(..=first).unwrap_or_default().rotate_right(1);
    }
    ranking.into_iter().map(|entry| entry.3).collect()
}

fn less_busy_of_two(ranking: &[(Precedence, f64, u32, usize)], ties: usize, draw: u64) -> Option<usize> {
    if ties < 2 {
        return None;
    }
    let ties = ties as u64;
    let one = (draw % ties) as usize;
    let other = (one + 1 + ((draw >> 32) % (ties - 1)) as usize) % ties as usize;
    let busy = |index: usize| ranking.get(index).map(|entry| entry.2);
    Some(if busy(other) < busy(one) { other } else { one })
}
