//! Requests and fleets to decide with: an accepted policy must decide whatever comes, the same each time.

use std::path::Path;
use std::sync::OnceLock;

use pointsman_backends::portfolio::{self, Secrets};
use pointsman_policies::classify::classify;
use pointsman_policies::decide::{Decision, Request, decide};
use pointsman_policies::facts::{Api, Facts};
use pointsman_policies::fleet::{Availability, EndpointState, Fleet, LeaseState, PoolFacts};
use pointsman_policies::language::Source;
use pointsman_policies::plan::MAX_ATTEMPTS;
use pointsman_policies::policy::Policy;

use crate::Chance;

const PORTFOLIO: &str = include_str!("../../deploy/config/portfolio.toml");

/// The pools of the shipped portfolio; the last takes prompts of any length.
pub fn pools() -> &'static [PoolFacts] {
    static POOLS: OnceLock<Vec<PoolFacts>> = OnceLock::new();
    POOLS.get_or_init(|| {
        let (portfolio, report) = portfolio::load(Source::new("p", PORTFOLIO), Path::new(""), Secrets::Optional);
        let mut pools = portfolio.unwrap_or_else(|| panic!("{report}")).facts;
        let models = pools.last_mut().map(|pool| pool.models.as_mut_slice()).unwrap_or_default();
        models.iter_mut().for_each(|model| model.context = None);
        pools
    })
}

/// Decides a few requests under a policy, from plain to absurd.
pub fn decides(policy: &Policy, pools: &[PoolFacts], chance: &mut Chance) {
    let headers = headers(chance);
    for extreme in [false, true] {
        let facts = facts(&headers, pools, extreme, chance);
        let endpoints = endpoints(pools, chance);
        let classified = classify(policy, &facts);
        assert_eq!(classified, classify(policy, &facts), "the class is the same each time");
        let Some(classified) = classified else {
            assert!(!facts.declared_class.is_empty(), "whoever declares no class gets one");
            continue;
        };
        let request = Request::new(policy, &facts, classified.class);
        assert!(policy.classes.get(classified.class.0).is_some(), "the class is one of the policy's");
        let draw = chance.number();
        let fleet = Fleet::new(pools, &endpoints);
        let decision = decide(&request, fleet, draw);
        sound(&decision, policy, &endpoints);
        let again = decide(&request, fleet, draw);
        assert_eq!(format!("{decision:?}"), format!("{again:?}"), "the same arguments give the same decision");
    }
}

fn sound(decision: &Decision, policy: &Policy, endpoints: &[EndpointState]) {
    assert!(decision.route < policy.routes.len(), "the route is one of the policy's");
    let places = decision.candidates.windows(2).all(|two| two[0].endpoint < two[1].endpoint);
    assert!(places && decision.candidates.len() <= endpoints.len(), "nobody is weighed twice");
    for candidate in &decision.candidates {
        if let Ok(scored) = candidate.verdict {
            assert!(!scored.score.is_nan() && !scored.strain.is_nan(), "a score is a number: {scored:?}");
        }
    }
    let Some(plan) = &decision.plan else { return };
    assert!((1..=MAX_ATTEMPTS).contains(&plan.attempts.len()));
    let mut asked: Vec<usize> = plan.attempts.iter().map(|attempt| attempt.endpoint).collect();
    assert!(asked.iter().all(|endpoint| decision.candidate(*endpoint).is_some_and(|one| one.verdict.is_ok())), "only who passed is asked");
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), plan.attempts.len(), "nobody is asked twice");
}

fn headers(chance: &mut Chance) -> Vec<(String, String)> {
    let names = ["x-agent", "x-user", "x-pointsman-class", "host", "x"];
    let values = ["voice", "", "gold", "é", "batch"];
    let mut pick = || (chance.one_of(&names).to_owned(), chance.one_of(&values).to_owned());
    vec![pick(), pick()]
}

fn facts<'a>(
    headers: &'a Vec<(String, String)>,
    pools: &'a [PoolFacts],
    extreme: bool,
    chance: &mut Chance,
) -> Facts<'a> {
    let models: Vec<&str> = pools.iter().flat_map(|pool| &pool.models).map(|model| model.name.as_str()).collect();
    let model = if models.is_empty() { "" } else { chance.one_of(&models) };
    let counts: &[u64] = if extreme { &[0, 1, u64::MAX, i64::MAX as u64, 1 << 40] } else { &[0, 7, 900, 70_000] };
    let spans: &[Option<f64>] = if extreme {
        &[None, Some(0.0), Some(f64::MAX), Some(f64::MIN_POSITIVE), Some(-1.0)]
    } else {
        &[None, Some(200.0), Some(60_000.0)]
    };
    Facts {
        headers,
        path: chance.one_of(&["/v1/chat/completions", "/v1/batches", "", "/é"]),
        tenant: chance.one_of(&["", "acme", "umbrella"]),
        stream: chance.below(2) == 0,
        service_tier: chance.one_of(&["", "flex", "batch", "priority"]),
        declared_class: chance.one_of(&["", "", "", "", "", "realtime", "batch", "nonsense"]),
        input_tokens: chance.one_of(counts),
        output_tokens: chance.one_of(counts),
        max_output_tokens: chance.one_of(&[None, Some(1), Some(u64::MAX)]),
        tools: chance.one_of(counts),
        images: chance.one_of(counts),
        deadline_ms: chance.one_of(spans),
        slo_ttft_ms: chance.one_of(spans),
        slo_itl_ms: chance.one_of(spans),
        session: chance.one_of(&["", "s-1", "s-2"]),
        unix_s: chance.one_of(&[0, 1_790_000_000, u64::MAX]),
        ..Facts::plain(chance.one_of(&Api::ALL), model)
    }
}

fn endpoints(pools: &[PoolFacts], chance: &mut Chance) -> Vec<EndpointState> {
    let owners = pools.iter().enumerate().flat_map(|(index, pool)| pool.endpoints.iter().map(move |_| index));
    owners.map(|pool| endpoint(pool, chance)).collect()
}

fn endpoint(pool: usize, chance: &mut Chance) -> EndpointState {
    let counts = [0, 3, 70_000, u64::MAX];
    let lease = LeaseState {
        requests: chance.one_of(&[0.0, 5.0, f64::INFINITY]),
        tokens: chance.one_of(&[-1.0, 5e5, f64::INFINITY]),
        tokens_capacity: 1e6,
        requests_per_s: chance.one_of(&[0.0, 10.0]),
        tokens_per_s: chance.one_of(&[0.0, 100.0]),
        reserves_output: chance.below(2) == 0,
    };
    EndpointState {
        availability: chance.one_of(&[
            Availability::Ready,
            Availability::Ready,
            Availability::Draining,
            Availability::BreakerOpen { retry_in_ms: 5.0 },
            Availability::BackPressure { retry_in_ms: 0.0 },
        ]),
        in_flight: chance.one_of(&[0, 1, 63, u32::MAX]),
        prefill_tokens: chance.one_of(&counts[..3]),
        context_tokens: chance.one_of(&counts),
        output_tokens_ahead: chance.one_of(&counts),
        lease: (chance.below(3) == 0).then_some(lease),
        ..EndpointState::idle(pool)
    }
}
