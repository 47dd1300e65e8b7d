//! The order in which candidates are tried: better score first, and chance among near-ties so that many gateways that
//! see the same do not all choose the same.

use crate::decide::Candidate;
use crate::home::counts;
use crate::plan::MAX_ATTEMPTS;
use crate::policy::{Objective, Route, Spill};

/// Scores within this part of the best count as a tie.
pub const NEAR_TIE: f64 = 0.02;

/// A candidate that passed, by what ranks it.
#[derive(Clone, Copy)]
struct Entry {
    /// Smaller comes first: what counts before the score, the score, whether it has no room, how busy it is. In one number,
    /// since most of the time of ranking goes into comparing. Among equals the first comes first.
    rank: u128,
    /// What counts before the score.
    precedence: (u8, u8),
    score: f64,
    /// Among ties, those with room come first.
    held: bool,
    home: bool,
    /// As far as that counts.
    cached_tokens: u64,
    in_flight: u32,
    index: usize,
}

/// Ranks candidates by score and returns the indices of the first [`MAX_ATTEMPTS`]. A route's own pools come before its
/// fallbacks; where the objective is to meet the SLO, those likely to meet it come first within a tier, and before the
/// tier where the route spills over to keep the promise. Among those tied with the best, those with most of the
/// prompt in their caches or its homes, two are drawn and the less busy goes first.
pub fn rank(candidates: &[Candidate], route: &Route, input_tokens: u64, draw: u64) -> Vec<usize> {
    let entries = entries(candidates, route, input_tokens);
    let Some(first) = first(&entries, draw) else { return Vec::new() };
    let mut ranking: Vec<Entry> = Vec::with_capacity(entries.len().min(MAX_ATTEMPTS));
    ranking.extend(entries.get(first));
    for entry in entries.iter().enumerate().filter_map(|(at, entry)| (at != first).then_some(entry)) {
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

fn entries(candidates: &[Candidate], route: &Route, input_tokens: u64) -> Vec<Entry> {
    let slo_first = route.objective == Objective::CheapestThatMeetsSlo;
    let entry = |(index, candidate): (usize, &Candidate)| {
        let scored = candidate.verdict.as_ref().ok()?;
        let strained = u8::from(!scored.feasible());
        let precedence = match route.spill {
            Spill::SloAtRisk => (strained, candidate.tier),
            Spill::Unavailable if slo_first => (candidate.tier, strained),
            Spill::Unavailable => (candidate.tier, 0),
        };
        let cached_tokens = scored.estimate.cached_tokens;
        let held = !scored.room;
        Some(Entry {
            rank: in_one_number(precedence, scored.score, held, candidate.in_flight),
            precedence,
            score: scored.score,
            held,
            home: scored.home,
            cached_tokens: if counts(cached_tokens, input_tokens) { cached_tokens } else { 0 },
            in_flight: candidate.in_flight,
            index,
        })
    };
    let mut entries = Vec::with_capacity(candidates.len());
    entries.extend(candidates.iter().enumerate().filter_map(entry));
    entries
}

fn in_one_number((first, second): (u8, u8), score: f64, held: bool, in_flight: u32) -> u128 {
    let precedence = u128::from(u16::from_be_bytes([first, second]));
    // In the order of `f64::total_cmp`.
    let bits = score.to_bits();
    let score = u128::from(if score.is_sign_negative() { !bits } else { bits | 1 << 63 });
    precedence << 97 | score << 33 | u128::from(held) << 32 | u128::from(in_flight)
}

/// What of the most cached is as good as the most, in tenths.
const AS_GOOD_CACHED: u64 = 9;

/// Which entry goes first: the best, or of those tied with it those that have most of the prompt in their caches, or are
/// its homes, the less busy of two that are drawn.
fn first(entries: &[Entry], draw: u64) -> Option<usize> {
    let (at, best) = entries.iter().enumerate().min_by_key(|(_, entry)| entry.rank)?;
    let limit = best.score + best.score.abs() * NEAR_TIE;
    let is_tied =
        |entry: &Entry| entry.score <= limit && entry.precedence == best.precedence && entry.held == best.held;
    let tied = || (0..).zip(entries).filter(|(_, entry)| is_tied(entry));
    let (all, most_cached, homes) = tied().fold((0, 0, false), |(all, most, homes), (_, entry)| {
        (all + 1, entry.cached_tokens.max(most), homes || entry.home)
    });
    if all < 2 {
        return Some(at);
    }
    let fits = |entry: &Entry| match most_cached {
        0 => entry.home || !homes,
        most => entry.cached_tokens >= most / 10 * AS_GOOD_CACHED,
    };
    let fit = || tied().filter(|(_, entry)| fits(entry)).map(|(at, _)| at);
    let ties = fit().count() as u64;
    if ties < 2 {
        return fit().next().or(Some(at));
    }
    let one = draw % ties;
    let other = (one + 1 + (draw >> 32) % (ties - 1)) % ties;
    let drawn = [one, other].map(|drawn| fit().nth(drawn as usize));
    let busy = |at: &usize| entries.get(*at).map(|entry| entry.in_flight);
    drawn.into_iter().flatten().min_by_key(busy)
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
