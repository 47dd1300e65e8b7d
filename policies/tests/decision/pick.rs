//! The order of the candidates: by score, the promise first where that is the objective, chance among near-ties.

use pointsman_policies::decide::{Candidate, Scored};
use pointsman_policies::estimate::Estimate;
use pointsman_policies::filter::Rejection;
use pointsman_policies::pick::rank;
use pointsman_policies::plan::MAX_ATTEMPTS;
use pointsman_policies::policy::{Objective, Route, Spill};

use crate::world::{passed, rejected};

/// Tokens of the prompt.
const PROMPT: u64 = 1_000;

/// Draws of two independent halves, as the random numbers of the gateway have them.
fn seeking(objective: Objective) -> Route {
    Route { objective, ..Route::everything("any") }
}

fn draws() -> impl Iterator<Item = u64> {
    (0..12_u64).flat_map(|high| (0..12_u64).map(move |low| high << 32 | low))
}

#[track_caller]
fn check(objective: Objective, candidates: &[Candidate], expected: &[usize]) {
    for draw in draws() {
        assert_eq!(rank(candidates, &seeking(objective), PROMPT, draw), expected, "draw {draw}");
    }
}

/// How often each candidate came first, over all draws.
fn firsts(objective: Objective, candidates: &[Candidate]) -> Vec<usize> {
    let ranked: Vec<_> =
        draws().filter_map(|draw| rank(candidates, &seeking(objective), PROMPT, draw).first().copied()).collect();
    (0..candidates.len()).map(|index| ranked.iter().filter(|&&first| first == index).count()).collect()
}

#[test]
fn lower_scores_come_first_and_the_rejected_never() {
    let rejected = rejected(9, Rejection::Draining);
    check(Objective::Cheapest, &[passed(0, 3.0, 0.5, 0), rejected, passed(2, 1.0, 0.5, 0)], &[2, 0]);
    check(Objective::Cheapest, &[rejected, rejected], &[]);
    check(Objective::Cheapest, &[], &[]);
}

#[test]
fn the_promise_comes_first_only_where_it_is_the_objective() {
    // The first would miss the promise; its score is the lower.
    let candidates = [passed(0, 1.1, 1.1, 0), passed(1, 2.0, 0.9, 0)];
    check(Objective::CheapestThatMeetsSlo, &candidates, &[1, 0]);
    check(Objective::Cheapest, &candidates, &[0, 1]);
    check(Objective::Fastest, &candidates, &[0, 1]);
    check(Objective::Greenest, &candidates, &[0, 1]);
    check(Objective::Weights(Default::default()), &candidates, &[0, 1]);
}

#[test]
fn exactly_at_the_promise_still_meets_it() {
    check(Objective::CheapestThatMeetsSlo, &[passed(0, 1.0001, 1.0001, 0), passed(1, 5.0, 1.0, 0)], &[1, 0]);
}

#[test]
fn where_all_miss_the_least_violation_comes_first() {
    let candidates = [passed(0, 9.0, 9.0, 0), passed(1, 1.5, 1.5, 0), passed(2, 3.0, 3.0, 0)];
    check(Objective::CheapestThatMeetsSlo, &candidates, &[1, 2, 0]);
}

#[test]
fn draws_spread_over_near_ties() {
    // 2 % is a tie, more is not.
    let candidates =
        [passed(0, 1.0, 0.5, 3), passed(1, 1.02, 0.5, 3), passed(2, 1.01, 0.5, 3), passed(3, 1.03, 0.5, 0)];
    assert_eq!(firsts(Objective::Cheapest, &candidates), [48, 48, 48, 0]);
}

#[test]
fn of_two_drawn_the_less_busy_goes_first() {
    // With two in the tie both are always drawn.
    check(Objective::Cheapest, &[passed(0, 1.0, 0.5, 7), passed(1, 1.01, 0.5, 2)], &[1, 0]);
    check(Objective::Cheapest, &[passed(0, 1.0, 0.5, 2), passed(1, 1.01, 0.5, 7)], &[0, 1]);
    // With three, the busiest never wins and the idlest wins whenever it is drawn: in two of three pairs.
    let three = [passed(0, 1.0, 0.5, 9), passed(1, 1.0, 0.5, 5), passed(2, 1.0, 0.5, 1)];
    assert_eq!(firsts(Objective::Cheapest, &three), [0, 48, 96]);
}

#[test]
fn the_drawn_goes_to_the_front_and_the_others_keep_their_order() {
    let candidates =
        [passed(0, 1.0, 0.5, 1), passed(1, 1.001, 0.5, 1), passed(2, 1.002, 0.5, 1), passed(3, 9.0, 0.5, 0)];
    for draw in draws() {
        let ranking = rank(&candidates, &seeking(Objective::Cheapest), PROMPT, draw);
        let mut rest = ranking.clone();
        rest.remove(0);
        assert!(rest.is_sorted(), "draw {draw}: {ranking:?}");
        assert_eq!(rest.last(), Some(&3), "draw {draw}: {ranking:?}");
    }
}

#[test]
fn one_that_misses_the_promise_is_no_tie_with_one_that_meets_it() {
    let candidates = [passed(0, 1.01, 0.5, 50), passed(1, 1.01, 1.01, 0)];
    check(Objective::CheapestThatMeetsSlo, &candidates, &[0, 1]);
}

#[test]
fn free_machines_tie_with_each_other_only() {
    let candidates = [passed(0, 0.0, 0.5, 1), passed(1, 0.0, 0.5, 1), passed(2, 1e-9, 0.5, 0)];
    assert_eq!(firsts(Objective::Cheapest, &candidates), [72, 72, 0]);
}

#[test]
fn fallbacks_come_after_the_routes_own_pools_unless_it_spills() {
    let at = |tier, candidate| Candidate { tier, ..candidate };
    // The own endpoint would miss the promise, the first fallback would keep it, the second is the cheapest of all.
    let candidates = [at(2, passed(0, 0.1, 0.5, 0)), at(0, passed(1, 3.0, 1.5, 0)), at(1, passed(2, 2.0, 0.5, 0))];
    check(Objective::CheapestThatMeetsSlo, &candidates, &[1, 2, 0]);
    check(Objective::Cheapest, &candidates, &[1, 2, 0]);
    let spilling = Route { spill: Spill::SloAtRisk, ..seeking(Objective::CheapestThatMeetsSlo) };
    assert_eq!(rank(&candidates, &spilling, PROMPT, 0), [2, 0, 1]);
}

#[test]
fn of_many_the_first_are_those_that_a_whole_sort_puts_first() {
    let objective = Objective::Cheapest;
    for count in 0..40_usize {
        // Scores far apart and in no order, so that nothing ties; every fifth is rejected.
        let score = |index: usize| 1.0 + (index * 17 % 41) as f64;
        let candidate = |index| match index % 5 {
            4 => rejected(index, Rejection::Draining),
            _ => passed(index, score(index), 0.5, 0),
        };
        let candidates: Vec<Candidate> = (0..count).map(candidate).collect();
        let mut sorted: Vec<usize> = (0..count).filter(|index| index % 5 != 4).collect();
        sorted.sort_by(|a, b| score(*a).total_cmp(&score(*b)));
        sorted.truncate(MAX_ATTEMPTS);
        check(objective, &candidates, &sorted);
    }
}

#[test]
fn a_tie_larger_than_the_attempts_is_drawn_from_whole() {
    let candidates: Vec<Candidate> = (0..12).map(|index| passed(index, 1.0, 0.5, 1)).collect();
    assert_eq!(firsts(Objective::Cheapest, &candidates), [12; 12]);
}

#[test]
fn among_ties_those_who_have_most_of_the_prompt_come_first_and_a_greeting_is_nothing() {
    let cached = |index: usize, cached_tokens: u64, in_flight: u32| {
        let candidate = passed(index, 1.0 + index as f64 * 1e-3, 0.5, in_flight);
        let verdict = candidate.verdict.map(|scored| {
            let estimate = Estimate { cached_tokens, ..scored.estimate };
            Scored { estimate, home: index == 0, ..scored }
        });
        Candidate { verdict, ..candidate }
    };
    // 0 is home to the prompt.
    let cases = [
        ([0, 0, 0], [144, 0, 0]),
        ([0, 99, 0], [144, 0, 0]),
        ([0, 100, 0], [0, 144, 0]),
        ([0, 500, 1_000], [0, 0, 144]),
        ([0, 950, 1_000], [0, 144, 0]),
    ];
    for (held, expected) in cases {
        // Of two that have as good as the same, the less busy.
        let candidates: Vec<_> =
            [3, 2, 9].into_iter().enumerate().map(|(index, busy)| cached(index, held[index], busy)).collect();
        assert_eq!(firsts(Objective::Cheapest, &candidates), expected, "{held:?}");
    }
}
