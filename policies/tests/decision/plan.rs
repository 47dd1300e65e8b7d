//! What will be attempted, and how long each attempt may take.

use pointsman_policies::decide::{Candidate, Scored};
use pointsman_policies::estimate::Estimate;
use pointsman_policies::facts::Facts;
use pointsman_policies::plan::{Attempt, DEFAULT_ATTEMPTS, Plan, plan};
use pointsman_policies::policy::{Budgets, Slo};

use crate::world::{NO_PROMISE, facts, passed};

fn predicted(ttft_ms: f64, total_ms: f64) -> Candidate {
    let estimate = Estimate { ttft_ms, total_ms, ..Estimate::default() };
    Candidate {
        verdict: Ok(Scored {
            estimate,
            strain: 0.5,
            effective_usd: 0.0,
            lost: false,
            room: true,
            score: 1.0,
            home: false,
        }),
        ..passed(7, 1.0, 0.5, 0)
    }
}

/// 10,000 tokens of answer are allowed, 100 expected.
fn asked(stream: bool) -> Facts<'static> {
    Facts { stream, output_tokens: 100, max_output_tokens: Some(10_000), ..facts() }
}

#[track_caller]
fn check(candidate: Candidate, slo: Slo, stream: bool, first_byte_ms: f64) {
    let expected = Plan {
        attempts: vec![Attempt { endpoint: 7, first_byte_ms }],
        total_ms: None,
        hold: None,
        hedge: None,
        explored: None,
    };
    assert_eq!(plan(&[candidate], &[0], &slo, &asked(stream), &Budgets::default()), Some(expected));
}

#[test]
fn the_best_three_are_attempted_in_order() {
    let candidates: Vec<Candidate> = (0..5).map(|index| passed(10 + index, 1.0, 0.5, 0)).collect();
    let made = plan(&candidates, &[3, 1, 4, 0, 2], &NO_PROMISE, &asked(true), &Budgets::default());
    let endpoints: Vec<usize> = made.iter().flat_map(|plan| &plan.attempts).map(|attempt| attempt.endpoint).collect();
    assert_eq!(endpoints, [13, 11, 14]);
    assert_eq!(endpoints.len(), DEFAULT_ATTEMPTS);
}

#[test]
fn nothing_ranked_is_no_plan() {
    assert_eq!(plan(&[passed(0, 1.0, 0.5, 0)], &[], &NO_PROMISE, &asked(true), &Budgets::default()), None);
    assert_eq!(plan(&[], &[4], &NO_PROMISE, &asked(true), &Budgets::default()), None);
}

#[test]
fn a_stream_gets_ten_times_its_promise_and_five_seconds_at_least() {
    let ttft = |ttft_ms| Slo { ttft_ms: Some(ttft_ms), ..NO_PROMISE };
    check(predicted(100.0, 900.0), NO_PROMISE, true, 5_000.0);
    check(predicted(100.0, 900.0), ttft(300.0), true, 5_000.0);
    check(predicted(100.0, 900.0), ttft(4_000.0), true, 40_000.0);
    // Without one, the deadline is as long as anybody waits.
    check(predicted(100.0, 900.0), Slo { deadline_ms: Some(9_000.0), ..NO_PROMISE }, true, 9_000.0);
    // A machine that is expected to be slow is given the time.
    check(predicted(30_000.0, 90_000.0), ttft(300.0), true, 60_000.0);
}

#[test]
fn an_answer_that_comes_whole_gets_four_times_the_longest_that_is_allowed() {
    check(predicted(100.0, 900.0), NO_PROMISE, false, 60_000.0);
    let slow = |itl_ms| {
        let estimate = Estimate { ttft_ms: 100.0, itl_ms, total_ms: 100.0 + 99.0 * itl_ms, ..Estimate::default() };
        Candidate {
            verdict: Ok(Scored {
                estimate,
                strain: 0.5,
                effective_usd: 0.0,
                lost: false,
                room: true,
                score: 1.0,
                home: false,
            }),
            ..passed(7, 1.0, 0.5, 0)
        }
    };
    check(slow(30.0), NO_PROMISE, false, 4.0 * (100.0 + 10_000.0 * 30.0));
    check(predicted(100.0, 900.0), Slo { deadline_ms: Some(600_000.0), ..NO_PROMISE }, false, 600_000.0);
}

#[test]
fn a_route_says_how_often_and_how_long() {
    let candidates: Vec<Candidate> = (0..5).map(|index| passed(10 + index, 1.0, 0.5, 0)).collect();
    let budgets = Budgets { attempts: 1, first_byte_ms: Some(250.0), total_ms: Some(9_000.0), retry_share: None };
    let made = plan(&candidates, &[3, 1, 4], &NO_PROMISE, &asked(true), &budgets);
    let attempts = vec![Attempt { endpoint: 13, first_byte_ms: 250.0 }];
    assert_eq!(made, Some(Plan { attempts, total_ms: Some(9_000.0), hold: None, hedge: None, explored: None }));
}
