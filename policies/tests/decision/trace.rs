//! The reasons in words, as they stand in logs and traces.

use pointsman_policies::decide::Scored;
use pointsman_policies::estimate::Estimate;
use pointsman_policies::filter::Rejection;

#[track_caller]
fn check(reason: impl std::fmt::Display, expected: &str) {
    assert_eq!(reason.to_string(), expected);
}

#[test]
fn rejections_say_what_decided() {
    check(Rejection::Model, "does not serve the model");
    check(Rejection::Route, "not a pool of the route");
    check(Rejection::Context { needed: 120, allowed: 100 }, "needs 120 tokens of context, has 100");
    check(Rejection::BreakerOpen { retry_in_ms: 1_499.6 }, "breaker open, next trial in 1500 ms");
    check(Rejection::BackPressure { retry_in_ms: 20.0 }, "asked us to wait, 20 ms left");
    check(Rejection::Draining, "draining");
    check(Rejection::RequestLease { ready_in_ms: 1_000.0 }, "request limit used up, next in 1000 ms");
    let short = Rejection::TokenLease { needed: 1_500, left: 1_000, ready_in_ms: 5_000.0 };
    check(short, "token limit: needs 1500, 1000 left, ready in 5000 ms");
}

#[test]
fn scores_say_what_is_expected() {
    let estimate = Estimate {
        ttft_ms: 136.105,
        itl_ms: 11.105,
        total_ms: 1_246.6,
        usd: 0.000_120_2,
        joules: Some(1_812.4),
        ..Estimate::default()
    };
    let scored = Scored {
        estimate,
        strain: 0.307,
        effective_usd: estimate.usd,
        lost: false,
        room: true,
        score: 0.000_120_2,
        home: false,
    };
    check(
        scored,
        "meets the slo (strain 0.31): ttft 136.1 ms, itl 11.11 ms, total 1247 ms, $0.000120, 1812 J, score 0.000120",
    );
    let unmeasured = Scored { estimate: Estimate { joules: None, ..estimate }, strain: 1.25, score: 1.25, ..scored };
    check(
        unmeasured,
        "misses the slo (strain 1.25): ttft 136.1 ms, itl 11.11 ms, total 1247 ms, $0.000120, score 1.250000",
    );
}
