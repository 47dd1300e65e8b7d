//! The order in which candidates are tried: better score first, and chance among near-ties so that many gateways that
//! see the same do not all choose the same.

use std::cmp::Ordering;

use crate::decide::Candidate;
use crate::home::counts;
use crate::plan::MAX_ATTEMPTS;
use crate::policy::{Objective, Route, Spill};

/// Scores within this part of the best count as a tie.
pub const NEAR_TIE: f64 = 0.02;

/// A candidate that passed, by what ranks it.
#[derive(Clone, Copy)]
struct Entry {
    /// What counts before the score: smaller comes first.
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
    let mut entries = entries(candidates, route, input_tokens);
    let Some(first) = first(&entries, draw) else { return Vec::new() };
    let first = entries.swap_remove(first);
    // Nobody asks what comes after the last attempt, so the rest of a large fleet is not sorted.
    if entries.len() >= MAX_ATTEMPTS {
        entries.select_nth_unstable_by(MAX_ATTEMPTS - 1, order);
        entries.truncate(MAX_ATTEMPTS - 1);
    }
    entries.sort_unstable_by(order);
    std::iter::once(first).chain(entries).map(|entry| entry.index).collect()
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
        Some(Entry {
            precedence,
            score: scored.score,
            held: !scored.room,
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

fn order(a: &Entry, b: &Entry) -> Ordering {
    a.precedence
        .cmp(&b.precedence)
        .then(a.score.total_cmp(&b.score))
        .then(a.held.cmp(&b.held))
        .then(a.in_flight.cmp(&b.in_flight))
        .then(a.index.cmp(&b.index))
}

/// What of the most cached is as good as the most, in tenths.
const AS_GOOD_CACHED: u64 = 9;

/// Which entry goes first: the best, or of those tied with it those that have most of the prompt in their caches, or are
/// its homes, the less busy of two that are drawn.
fn first(entries: &[Entry], draw: u64) -> Option<usize> {
    let (at, best) = entries.iter().enumerate().min_by(|a, b| order(a.1, b.1))?;
    let limit = best.score + best.score.abs() * NEAR_TIE;
    let is_tied =
        |entry: &Entry| entry.precedence == best.precedence && entry.score <= limit && entry.held == best.held;
    let tied = || (0..).zip(entries).filter(|(_, entry)| is_tied(entry));
    let most_cached = tied().map(|(_, entry)| entry.cached_tokens).max().unwrap_or(0);
    let homes = tied().any(|(_, entry)| entry.home);
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
