//! Loads, seeds and slices change what they should and nothing else.

use super::described::{Described, Lengths};
use super::*;

fn trace() -> Trace {
    let lengths = Lengths { median_tokens: 800.0, p90_tokens: 3000.0 };
    let answers = Lengths { median_tokens: 120.0, p90_tokens: 400.0 };
    Described { rps: 20.0, duration_s: 200.0, burstiness: 1.0, input: lengths, output: answers }.trace(3)
}

#[test]
fn a_described_load_has_the_rate_and_lengths_it_was_given() {
    let trace = trace();
    let (count, mut inputs) = (trace.rows.len(), trace.rows.iter().map(|row| row.input_tokens).collect::<Vec<_>>());
    inputs.sort_unstable();
    assert!((3800..4200).contains(&count), "{count}");
    assert!((740..860).contains(&inputs[count / 2]), "{}", inputs[count / 2]);
    assert!((2700..3300).contains(&inputs[count * 9 / 10]), "{}", inputs[count * 9 / 10]);
}

#[test]
fn a_load_moves_arrivals_and_nothing_else() {
    let traces = [trace()];
    let at = |load| Workload::build(&traces, &Shape { load, ..Shape::default() });
    let (calm, busy) = (at(1.0), at(2.0));
    assert_eq!(calm.requests.len(), busy.requests.len());
    for (calm, busy) in calm.requests.iter().zip(&busy.requests) {
        assert!(calm.at.0.abs_diff(busy.at.0 * 2) <= 2);
        assert_eq!(Request { at: calm.at, ..*busy }, *calm);
    }
}

#[test]
fn classes_come_in_their_shares_and_make_no_promise_that_cannot_be_kept() {
    let workload = Workload::build(&[trace()], &Shape::default());
    let share = |class: u8| {
        let of_class = workload.requests.iter().filter(|request| request.class == class).count();
        of_class as f64 / workload.requests.len() as f64
    };
    assert_eq!(workload.classes, ["realtime", "interactive", "standard", "batch"]);
    assert!((0.21..0.26).contains(&share(0)), "{}", share(0));
    assert!((0.42..0.49).contains(&share(1)), "{}", share(1));
    for request in workload.requests.iter().filter(|request| request.class == 0) {
        assert!(request.stream && request.input_tokens <= 4096 && request.output_tokens <= 250);
        assert_eq!(request.max_output_tokens, 250);
    }
}

#[test]
fn the_same_seed_gives_the_same_requests_and_another_gives_others() {
    let traces = [trace()];
    let with = |seed| Workload::build(&traces, &Shape { seed, ..Shape::default() });
    assert_eq!(with(1), with(1));
    assert_ne!(with(1), with(2));
}

#[test]
fn a_slice_begins_at_its_offset_and_ends_in_time() {
    let shape = Shape { from_s: 50.0, for_s: 20.0, load: 2.0, ..Shape::default() };
    let slice = Workload::build(&[trace()], &shape);
    assert!((300..500).contains(&slice.requests.len()), "{}", slice.requests.len());
    assert!(slice.span <= Micros::from_secs(10));
}

#[test]
fn bursts_crowd_requests_without_losing_any_or_changing_their_order() {
    let bursts = Bursts { period_s: 100.0, part: 0.5, factor: 5.0 };
    for (at_s, expected_s) in [(0.0, 0.0), (25.0, 5.0), (50.0, 10.0), (75.0, 55.0), (100.0, 100.0), (125.0, 105.0)] {
        assert!((bursts.warp(at_s) - expected_s).abs() < 1e-9, "{at_s}: {}", bursts.warp(at_s));
    }
}

#[test]
fn ingress_and_lies_have_their_shares() {
    let shape = Shape { ingress: vec![8.0, 1.0, 1.0], misdeclared: 0.3, ..Shape::default() };
    let workload = Workload::build(&[trace()], &shape);
    let all = workload.requests.len() as f64;
    let part = |holds: fn(&Request) -> bool| workload.requests.iter().filter(|one| holds(one)).count() as f64 / all;
    assert!((0.77..0.83).contains(&part(|one| one.gateway == 0)));
    assert!((0.19..0.27).contains(&part(|one| one.declared != one.class)), "the lies of those not realtime already");
}
