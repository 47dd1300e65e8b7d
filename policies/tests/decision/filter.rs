//! Hard reasons against an endpoint, each with the number that decided.

use pointsman_policies::facts::Facts;
use pointsman_policies::filter::{Rejection, filter, fits};
use pointsman_policies::fleet::{Availability, EndpointState, PoolFacts};

use crate::world::{GPU, close, facts, gpu, leased, with};

fn verdict(facts: &Facts<'_>, pool: &PoolFacts, endpoint: &EndpointState) -> Option<Rejection> {
    let model = pool.models.first()?; // there is one
    filter(facts, fits(facts, model), endpoint).err()
}

#[track_caller]
fn check(facts: Facts<'_>, endpoint: EndpointState, expected: Option<Rejection>) {
    assert_eq!(verdict(&facts, &gpu(), &endpoint), expected);
}

#[test]
fn an_idle_endpoint_passes() {
    check(facts(), EndpointState::idle(GPU), None);
}

#[test]
fn unavailability_keeps_its_wait() {
    let check = |availability, expected| check(facts(), with(availability, EndpointState::idle(GPU)), Some(expected));
    check(Availability::BreakerOpen { retry_in_ms: 70.0 }, Rejection::BreakerOpen { retry_in_ms: 70.0 });
    check(Availability::BackPressure { retry_in_ms: 80.0 }, Rejection::BackPressure { retry_in_ms: 80.0 });
    check(Availability::Draining, Rejection::Draining);
}

#[test]
fn only_what_clearly_does_not_fit_the_context_is_held_back() {
    let asks = |input_tokens, max_output_tokens| Facts { input_tokens, max_output_tokens, ..facts() };
    let idle = EndpointState::idle(GPU);
    // The context is 100,000. Nine tenths of the prompt count, the bound on the answer in full.
    check(asks(111_111, None), idle, None);
    check(asks(111_112, None), idle, Some(Rejection::Context { needed: 100_001, allowed: 100_000 }));
    check(asks(100_000, Some(10_000)), idle, None);
    check(asks(100_000, Some(10_001)), idle, Some(Rejection::Context { needed: 100_001, allowed: 100_000 }));
    let mut pool = gpu();
    pool.models.iter_mut().for_each(|model| model.context = None);
    assert_eq!(verdict(&asks(1_000_000, Some(1_000_000)), &pool, &idle), None);
}

#[test]
fn a_bound_beyond_all_reason_is_too_long_and_nothing_worse() {
    let asks = Facts { max_output_tokens: Some(u64::MAX), ..facts() };
    check(asks, EndpointState::idle(GPU), Some(Rejection::Context { needed: u64::MAX, allowed: 100_000 }));
    let lease = leased(1.0, 1.0, true).lease.expect("it is leased");
    assert_eq!(lease.needed_tokens(&asks), u64::MAX);
}

#[test]
fn a_used_up_request_limit_holds_back() {
    check(facts(), leased(1.0, f64::INFINITY, false), None);
    check(facts(), leased(0.5, f64::INFINITY, false), Some(Rejection::RequestLease { ready_in_ms: 1_000.0 }));
}

#[test]
fn a_token_limit_takes_what_the_provider_would_take() {
    let bounded = Facts { max_output_tokens: Some(500), ..facts() };
    check(bounded, leased(9.0, 1_000.0, false), None);
    check(bounded, leased(9.0, 1_500.0, true), None);
    // 100 tokens come back each second.
    let short = |needed, left, ready_in_ms| Some(Rejection::TokenLease { needed, left, ready_in_ms });
    check(bounded, leased(9.0, 1_000.0, true), short(1_500, 1_000, 5_000.0));
    check(facts(), leased(9.0, 1_000.0, true), short(1_101, 1_000, 1_010.0));
    check(bounded, leased(9.0, -100.0, false), short(1_000, 0, 11_000.0));
}

#[test]
fn who_may_come_back_is_told_when() {
    let check = |reason: Rejection, name: &str, wait: Option<f64>| {
        assert_eq!(reason.as_str(), name);
        match (reason.retry_in_ms(), wait) {
            (Some(told), Some(expected)) => close(told, expected),
            (told, expected) => assert_eq!(told, expected, "{name}"),
        }
    };
    check(Rejection::Model, "model", None);
    check(Rejection::Route, "route", None);
    check(Rejection::Context { needed: 2, allowed: 1 }, "context", None);
    check(Rejection::BreakerOpen { retry_in_ms: 7.0 }, "breaker-open", Some(7.0));
    check(Rejection::BackPressure { retry_in_ms: 8.0 }, "back-pressure", Some(8.0));
    check(Rejection::Draining, "draining", Some(1_000.0));
    check(Rejection::RequestLease { ready_in_ms: 9.0 }, "request-lease", Some(9.0));
    check(Rejection::TokenLease { needed: 2, left: 1, ready_in_ms: 10.0 }, "token-lease", Some(10.0));
}
