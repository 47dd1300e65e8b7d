//! The order in which candidates are tried: better score first, and chance among near-ties so that many gateways that
//! see the same do not all choose the same.

use crate::decide::{Candidate, Scored};
use crate::home::counts;
use crate::plan::MAX_ATTEMPTS;
use crate::policy::{Objective, Route, Spill};

/// Scores within this part of the best count as a tie.
pub const NEAR_TIE: f64 = 0.02;

/// A candidate that passed.
#[derive(Clone, Copy)]
struct Entry {
    /// Smaller comes first: what counts before the score, the score, whether it has no room, how busy it is. In one number,
    /// since most of the time of ranking goes into comparing. Among equals the first comes first.
    rank: u128,
    /// Its place among the candidates.
    index: usize,
}

/// Ranks candidates by score and returns the indices of the first [`MAX_ATTEMPTS`]. A route's own pools come before its
/// fallbacks; where the objective is to meet the SLO, those likely to meet it come first within a tier, and before the
/// tier where the route spills over to keep the promise. Among those tied with the best, those with most of the
/// prompt in their caches or its homes, two are drawn and the less busy goes first.
pub fn rank(candidates: &[Candidate], route: &Route, input_tokens: u64, draw: u64) -> Vec<usize> {
    let entries = entries(candidates, route);
    let Some(first) = first(&entries, candidates, input_tokens, draw) else { return Vec::new() };
    let mut ranking: Vec<Entry> = Vec::with_capacity(entries.len().min(MAX_ATTEMPTS));
    ranking.push(first);
    for entry in entries.iter().filter(|entry| entry.index != first.index) {
        // Nobody asks what comes after the last attempt, so the rest of a large fleet is not sorted.
        if ranking.len() == MAX_ATTEMPTS {
            if ranking.last().is_some_and(|last| last.rank <= entry.rank) {
                continue;
            }
            ranking.pop();
        }
        let behind_first = ranking.get(1..).unwrap_or_default();
        let place = behind_first.partition_point(|ranked| ranked.rank <= entry.rank);
        ranking.insert(1 + place, *entry);
    }
    ranking.into_iter().map(|entry| entry.index).collect()
}

fn entries(candidates: &[Candidate], route: &Route) -> Vec<Entry> {
    let slo_first = route.objective == Objective::CheapestThatMeetsSlo;
    let mut entries = Vec::with_capacity(candidates.len());
    for (index, candidate) in candidates.iter().enumerate() {
        let Ok(scored) = &candidate.verdict else { continue };
        let strained = u8::from(!scored.feasible());
        let precedence = match route.spill {
            Spill::SloAtRisk => (strained, candidate.tier),
            Spill::Unavailable if slo_first => (candidate.tier, strained),
            Spill::Unavailable => (candidate.tier, 0),
        };
        let score = u128::from(in_order(scored.score));
        entries.push(Entry { rank: in_one_number(precedence, score, !scored.room, candidate.in_flight), index });
    }
    entries
}

fn in_one_number((first, second): (u8, u8), score: u128, held: bool, in_flight: u32) -> u128 {
    let precedence = u128::from(u16::from_be_bytes([first, second]));
    precedence << 97 | score << 33 | u128::from(held) << 32 | u128::from(in_flight)
}

/// A number whose order is that of `f64::total_cmp`.
fn in_order(score: f64) -> u64 {
    let bits = score.to_bits();
    if score.is_sign_negative() { !bits } else { bits | 1 << 63 }
}

/// What of the most cached is as good as the most, in tenths.
const AS_GOOD_CACHED: u64 = 9;

/// Which entry goes first: the best, or of those tied with it those that have most of the prompt in their caches, or are
/// its homes, the less busy of two that are drawn.
fn first(entries: &[Entry], candidates: &[Candidate], input_tokens: u64, draw: u64) -> Option<Entry> {
    let best = *entries.iter().min_by_key(|entry| entry.rank)?;
    let scored = |entry: &Entry| candidates.get(entry.index)?.verdict.as_ref().ok();
    let score = scored(&best)?.score;
    // All up to this are tied that have room as the best has or as little; how busy they are does not count.
    let limit = best.rank >> 97 << 64 | u128::from(in_order(score + score.abs() * NEAR_TIE));
    let is_tied = |entry: &&Entry| entry.rank >> 33 <= limit && (entry.rank ^ best.rank) & 1 << 32 == 0;
    let with_scored = |entry: &Entry| Some((*entry, scored(entry)?));
    let mut tied: Vec<(Entry, &Scored)> = entries.iter().filter(is_tied).filter_map(with_scored).collect();
    if tied.len() < 2 {
        return Some(best);
    }
    let cached = |scored: &Scored| Some(scored.estimate.cached_tokens).filter(|tokens| counts(*tokens, input_tokens));
    let most_cached = tied.iter().filter_map(|(_, scored)| cached(scored)).max();
    let homes = tied.iter().any(|(_, scored)| scored.home);
    tied.retain(|(_, scored)| match most_cached {
        None => scored.home || !homes,
        Some(most) => cached(scored).unwrap_or(0) >= most / 10 * AS_GOOD_CACHED,
    });
    let ties = tied.len() as u64;
    let one = draw.checked_rem(ties)?;
    let other = (one + 1 + (draw >> 32).checked_rem(ties - 1).unwrap_or(0)) % ties;
    let drawn = [one, other].map(|drawn| tied.get(drawn as usize));
    drawn.into_iter().flatten().map(|(entry, _)| *entry).min_by_key(|entry| entry.rank as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_orders_as_its_parts_do() {
        let scores = [f64::NEG_INFINITY, -2.5, -0.0, 0.0, 1e-300, 0.1, 7.0, f64::MAX, f64::INFINITY];
        let mut before = None;
        for first in [0, 1, 255] {
            for second in [0, 9] {
                for score in scores {
                    for held in [false, true] {
                        for in_flight in [0, 1, u32::MAX] {
                            let score = u128::from(in_order(score));
                            let rank = Some(in_one_number((first, second), score, held, in_flight));
                            assert!(before < rank, "{first} {second} {score} {held} {in_flight}");
                            before = rank;
                        }
                    }
                }
            }
        }
    }
}
