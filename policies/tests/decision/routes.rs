//! What routes say in the file and what comes of it: fallbacks, pins, exclusions, ceilings, limits, affinity, live load.

use pointsman_policies::classify::classify;
use pointsman_policies::decide::{Decision, Request, decide};
use pointsman_policies::facts::Facts;
use pointsman_policies::filter::Rejection;
use pointsman_policies::fleet::{Availability, EndpointState, Fleet, PoolFacts};
use pointsman_policies::language::{Source, compile};
use pointsman_policies::policy::Policy;

use crate::world::{GPU, WAFER, busy, facts, gpu, order, wafer, with};

/// Three endpoints of the GPU pool, then two of the wafer's.
const WAFER_FIRST: usize = 3;

fn named(pool: PoolFacts, count: usize) -> PoolFacts {
    let endpoints = (0..count).map(|index| format!("{}/10.0.0.{index}:80", pool.name)).collect();
    PoolFacts { endpoints, ..pool }
}

fn pools() -> Vec<PoolFacts> {
    vec![named(gpu(), 3), named(wafer(), 2)]
}

fn idle() -> Vec<EndpointState> {
    let of = |pool, count| std::iter::repeat_n(EndpointState::idle(pool), count);
    of(GPU, 3).chain(of(WAFER, 2)).collect()
}

#[track_caller]
fn policy(text: &str) -> Policy {
    let (policy, report) = compile(Source::new("policy.toml", text), &pools());
    policy.unwrap_or_else(|| panic!("{report}"))
}

#[track_caller]
fn decided(text: &str, facts: &Facts<'_>, endpoints: &[EndpointState]) -> Decision {
    let policy = policy(text);
    let class = classify(&policy, facts).expect("a class").class;
    decide(&Request::new(&policy, facts, class), Fleet::new(&pools(), endpoints), 7)
}

fn pools_of(decision: &Decision) -> Vec<&'static str> {
    let mut pools: Vec<_> =
        order(decision).into_iter().map(|index| if index < WAFER_FIRST { "gpu" } else { "wafer" }).collect();
    pools.dedup();
    pools
}

fn reasons(decision: &Decision) -> Vec<&'static str> {
    let word =
        |candidate: &pointsman_policies::decide::Candidate| candidate.verdict.err().map_or("-", Rejection::as_str);
    decision.candidates.iter().map(word).collect()
}

#[test]
fn a_fallback_serves_when_the_own_pools_cannot() {
    let text = r#"
[[route]]
pools = 'pool.name == "wafer"'
objective = "cheapest"
fallback = [{ pools = 'pool.name == "gpu"' }]
"#;
    assert_eq!(pools_of(&decided(text, &facts(), &idle())), ["wafer", "gpu"], "retries go on to the fallback");
    let mut endpoints = idle();
    for endpoint in &mut endpoints[WAFER_FIRST..] {
        *endpoint = with(Availability::Draining, *endpoint);
    }
    assert_eq!(pools_of(&decided(text, &facts(), &endpoints)), ["gpu"]);
}

#[test]
fn a_route_spills_over_only_where_it_says_so() {
    let text = |spill: &str| {
        format!(
            "[class.interactive]\nttft_ms = 1000\nitl_ms = 30\n[[route]]\npools = 'pool.name == \"gpu\"'\nfallback = [{{ pools = 'pool.name == \"wafer\"' }}]\n{spill}"
        )
    };
    // Four requests each fill a GPU's slots: whoever comes next waits.
    let full: Vec<_> = idle().into_iter().map(|one| if one.pool == GPU { busy(GPU, 40) } else { one }).collect();
    assert_eq!(pools_of(&decided(&text(""), &facts(), &full)).first(), Some(&"gpu"));
    assert_eq!(pools_of(&decided(&text("spill = 'slo-at-risk'"), &facts(), &full)).first(), Some(&"wafer"));
    assert_eq!(pools_of(&decided(&text("spill = 'slo-at-risk'"), &facts(), &idle())).first(), Some(&"gpu"));
}

#[test]
fn pins_and_exclusions_keep_their_reason() {
    let pinned = decided("[[route]]\npin = ['gpu/10.0.0.1:80', 'wafer']\n", &facts(), &idle());
    assert_eq!(reasons(&pinned), ["pinned", "-", "pinned", "-", "-"]);
    let excluded = decided("[[route]]\nexclude = 'pool.hardware.kind == \"gpu\"'\n", &facts(), &idle());
    assert_eq!(reasons(&excluded), ["excluded", "excluded", "excluded", "-", "-"]);
}

#[test]
fn a_price_ceiling_is_told_with_both_prices() {
    // 1,000 tokens in and 101 out are $0.0001202 on a GPU, ten times that on the wafer.
    let text = "[class.interactive]\nttft_ms = 1000\nmax_usd = 0.001\n";
    let decision = decided(text, &facts(), &idle());
    assert_eq!(reasons(&decision), ["-", "-", "-", "price", "price"]);
    let Some(Err(Rejection::Price { usd, ceiling })) = decision.candidates.last().map(|one| one.verdict) else {
        panic!()
    };
    assert_eq!((format!("{usd:.6}"), ceiling), ("0.001202".to_owned(), 0.001));
}

#[test]
fn a_pool_takes_no_more_than_its_limit() {
    let text = "[limits]\npool_concurrency = { gpu = 5 }\n";
    let holding = |counts: [u32; 3]| -> Vec<_> {
        let gpus = counts.into_iter().map(|count| busy(GPU, count));
        gpus.chain(idle().into_iter().skip(WAFER_FIRST)).collect()
    };
    assert_eq!(reasons(&decided(text, &facts(), &holding([2, 2, 0]))), ["-"; 5]);
    let full = decided(text, &facts(), &holding([2, 2, 1]));
    assert_eq!(reasons(&full), ["concurrency", "concurrency", "concurrency", "-", "-"]);
    assert_eq!(full.candidates[0].verdict, Err(Rejection::Concurrency { in_flight: 5, allowed: 5 }));
}

#[test]
fn selectors_read_the_live_load() {
    let text = "[[route]]\npools = 'pool.name == \"wafer\" || pool.busy < 0.5 && pool.ready >= 2'\n";
    // Three GPUs have four slots each.
    let with_gpus = |count, availability| -> Vec<_> {
        let gpus = [busy(GPU, count), EndpointState::idle(GPU), with(availability, EndpointState::idle(GPU))];
        gpus.into_iter().chain(idle().into_iter().skip(WAFER_FIRST)).collect()
    };
    let gpu = |endpoints: &[EndpointState]| reasons(&decided(text, &facts(), endpoints))[0];
    assert_eq!(gpu(&with_gpus(5, Availability::Ready)), "-");
    assert_eq!(gpu(&with_gpus(6, Availability::Ready)), "route");
    let mut short = with_gpus(0, Availability::Draining);
    assert_eq!(gpu(&short), "-");
    short[1] = with(Availability::Draining, short[1]);
    assert_eq!(gpu(&short), "route");
}

#[test]
fn what_belongs_together_finds_the_same_home() {
    let text =
        "[[route]]\nobjective = 'cheapest'\npools = 'pool.name == \"gpu\"'\naffinity = { by = 'session', homes = 1 }\n";
    let first = |session: &str, endpoints: &[EndpointState]| {
        let facts = Facts { session, ..facts() };
        order(&decided(text, &facts, endpoints)).first().copied().expect("an endpoint")
    };
    let sessions: Vec<String> = (0..60).map(|index| format!("session-{index}")).collect();
    let homes: Vec<usize> = sessions.iter().map(|session| first(session, &idle())).collect();
    for endpoint in 0..WAFER_FIRST {
        let share = homes.iter().filter(|home| **home == endpoint).count();
        assert!((8..=32).contains(&share), "{endpoint} is home to {share} of 60");
    }
    // An endpoint that goes takes only its own sessions along.
    let mut without = idle();
    without[0] = with(Availability::Draining, without[0]);
    for (session, home) in sessions.iter().zip(&homes) {
        let now = first(session, &without);
        assert!(if *home == 0 { now != 0 } else { now == *home }, "{session}: {home} → {now}");
    }
}

#[test]
fn homes_count_until_one_that_may_be_asked_has_a_tenth_of_the_prompt() {
    let text = "[[route]]\nobjective = 'cheapest'\npools = 'pool.name == \"gpu\"'\n";
    let facts = Facts { prefix: 77, ..facts() };
    let homes = |endpoints: &[EndpointState]| {
        let candidates = decided(text, &facts, endpoints).candidates;
        candidates.iter().filter(|one| one.verdict.is_ok_and(|scored| scored.home)).count()
    };
    let holding = |endpoint: usize, cached_tokens: u64| {
        let mut endpoints = idle();
        endpoints[endpoint].cached_tokens = cached_tokens;
        endpoints
    };
    assert_eq!((WAFER_FIRST > 2, homes(&idle())), (true, 2));
    assert_eq!(homes(&holding(0, facts.input_tokens / 10 - 1)), 2, "a greeting");
    assert_eq!(homes(&holding(0, facts.input_tokens / 10)), 0);
    assert_eq!(homes(&holding(WAFER_FIRST, facts.input_tokens)), 2, "the route does not allow it");
    let mut away = holding(0, facts.input_tokens);
    away[0] = with(Availability::Draining, away[0]);
    assert!(homes(&away) > 0, "it may not be asked");
}

#[test]
fn affinity_gives_way_where_it_costs_too_much() {
    let text = |weight: f64| {
        format!(
            "[[route]]\nobjective = 'fastest'\npools = 'pool.name == \"gpu\"'\naffinity = {{ by = 'tenant', homes = 1, weight = {weight} }}\n"
        )
    };
    let facts = Facts { tenant: "acme", ..facts() };
    let home = order(&decided(&text(0.2), &facts, &idle()))[0];
    let mut loaded = idle();
    loaded[home] = busy(GPU, 30);
    assert_ne!(order(&decided(&text(0.2), &facts, &loaded))[0], home);
    assert_eq!(order(&decided(&text(0.99), &facts, &loaded))[0], home);
    assert!(
        decided(&text(0.2), &Facts { tenant: "", ..facts }, &idle())
            .candidates
            .iter()
            .all(|one| { one.verdict.is_ok_and(|scored| !scored.home) || one.verdict.is_err() })
    );
}

#[test]
fn the_clock_of_the_policy_decides_what_hour_it_is() {
    // 2026-11-25 was a Wednesday; 23:30 UTC is Thursday, half past one, in UTC+2.
    let facts = Facts { unix_s: 1_795_649_400, ..facts() };
    let check = |offset: &str, when: &str, expected: bool| {
        let text = format!(
            "utc_offset = '{offset}'\n[class.a]\nttft_ms = 1\n[class.b]\nttft_ms = 2\n[[classify]]\nwhen = '{when}'\nclass = 'b'\n[[classify]]\nclass = 'a'\n"
        );
        let policy = policy(&text);
        let class = classify(&policy, &facts).expect("a class").class;
        assert_eq!(class.0 == 1, expected, "{when} at {offset}");
    };
    check("+00:00", "request.hour == 23 && request.minute == 30 && request.weekday == 3", true);
    check("+02:00", "request.hour == 1 && request.minute == 30 && request.weekday == 4", true);
    check("-05:30", "request.hour == 18 && request.minute == 0 && request.weekday == 3", true);
    check("+02:00", "request.hour >= 8 && request.hour < 18", false);
}

#[test]
fn who_says_how_fast_gets_the_least_urgent_class_that_is() {
    let check = |ttft: Option<f64>, itl: Option<f64>, expected: &str| {
        let facts = Facts { slo_ttft_ms: ttft, slo_itl_ms: itl, ..facts() };
        let policy = policy("");
        let classified = classify(&policy, &facts).expect("a class");
        assert_eq!(policy.classes[classified.class.0].name, expected, "{ttft:?} {itl:?}");
        assert_eq!(classified.because.as_str(), "declared-slo");
    };
    check(Some(5_000.0), None, "standard");
    check(Some(4_000.0), Some(100.0), "standard");
    check(Some(2_000.0), None, "interactive");
    check(None, Some(60.0), "interactive");
    check(Some(300.0), None, "realtime");
    check(Some(1.0), None, "realtime");
}
