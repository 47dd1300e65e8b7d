//! Two machines, one policy, plain requests: round figures, so that what is expected can be worked out by hand.

use std::collections::BTreeMap;

use pointsman_policies::decide::{Candidate, Decision, Request, Scored, decide};
use pointsman_policies::estimate::Estimate;
use pointsman_policies::facts::{Api, Facts};
use pointsman_policies::filter::Rejection;
use pointsman_policies::fleet::{
    Availability, EndpointState, Fleet, HardwareKind, LeaseState, ModelFacts, PoolFacts, Price, ServiceModel,
};
use pointsman_policies::policy::{
    BuiltinClasses, Class, ClassId, ClassifyRule, Condition, Env, Limits, Objective, Policy, PoolSelector, Route, Slo,
};

pub(crate) const MODEL: &str = "llama";

pub(crate) const REALTIME: ClassId = ClassId(0);
pub(crate) const INTERACTIVE: ClassId = ClassId(1);
pub(crate) const STANDARD: ClassId = ClassId(2);
pub(crate) const BATCH: ClassId = ClassId(3);

pub(crate) const NO_PROMISE: Slo = Slo { ttft_ms: None, itl_ms: None, deadline_ms: None };

/// Index of the pool that [`gpu`] makes in [`pools`].
pub(crate) const GPU: usize = 0;
/// Index of the pool that [`wafer`] makes in [`pools`].
pub(crate) const WAFER: usize = 1;

/// Batches; an idle step takes 11 ms, a prompt token 0.1 ms; cheap.
pub(crate) fn gpu() -> PoolFacts {
    PoolFacts {
        name: "gpu".to_owned(),
        site: String::new(),
        vendor: String::new(),
        endpoints: Vec::new(),
        hardware: "h100".to_owned(),
        kind: HardwareKind::Gpu,
        labels: BTreeMap::new(),
        models: vec![model(100_000, 0.1, 0.2)],
        service: ServiceModel {
            step_base_ms: 10.0,
            step_per_sequence_ms: 1.0,
            step_per_kv_token_ns: 100.0,
            prefill_tokens_per_s: 10_000.0,
            fixed_ttft_ms: 20.0,
            slots: 4,
            kv_tokens: Some(50_000),
            jitter_sigma: 0.0,
            tokens_per_event: 1.0,
            joules_per_output_token: None,
            power_kw: Some(10.0),
            prefill_weight: 1.0,
        },
        round_trip_ms: 5.0,
        carbon_g_per_kwh: None,
        pue: 1.5,
        usd_per_kwh: None,
        power_cap_kw: None,
    }
}

/// Flat: 1 ms per token whoever else runs, two slots; dear.
pub(crate) fn wafer() -> PoolFacts {
    let service = ServiceModel {
        step_base_ms: 1.0,
        step_per_sequence_ms: 0.0,
        step_per_kv_token_ns: 0.0,
        prefill_tokens_per_s: 100_000.0,
        fixed_ttft_ms: 50.0,
        slots: 2,
        kv_tokens: None,
        joules_per_output_token: Some(4.0),
        power_kw: None,
        ..gpu().service
    };
    PoolFacts {
        name: "wafer".to_owned(),
        hardware: "cs3".to_owned(),
        kind: HardwareKind::Wafer,
        models: vec![model(100_000, 1.0, 2.0)],
        service,
        pue: 1.25,
        usd_per_kwh: None,
        power_cap_kw: None,
        ..gpu()
    }
}

pub(crate) fn pools() -> [PoolFacts; 2] {
    [gpu(), wafer()]
}

fn model(context: u64, usd_per_m_input: f64, usd_per_m_output: f64) -> ModelFacts {
    let price = Price { usd_per_m_input, usd_per_m_output };
    ModelFacts { name: MODEL.to_owned(), context: Some(context), price }
}

/// An endpoint of a pool that holds so many requests of 1,000 prompt and 100 answer tokens, all of them decoding.
pub(crate) fn busy(pool: usize, in_flight: u32) -> EndpointState {
    EndpointState {
        in_flight,
        context_tokens: u64::from(in_flight) * 1_100,
        output_tokens_ahead: u64::from(in_flight) * 100,
        ..EndpointState::idle(pool)
    }
}

pub(crate) fn with(availability: Availability, endpoint: EndpointState) -> EndpointState {
    EndpointState { availability, ..endpoint }
}

/// What a full lease holds, tokens.
pub(crate) const LEASE_CAPACITY: f64 = 1e6;

pub(crate) fn leased(requests: f64, tokens: f64, reserves_output: bool) -> EndpointState {
    let lease = LeaseState {
        requests,
        tokens,
        tokens_capacity: LEASE_CAPACITY,
        requests_per_s: 0.5,
        tokens_per_s: 100.0,
        reserves_output,
    };
    EndpointState { lease: Some(lease), ..EndpointState::idle(GPU) }
}

/// 1,000 prompt tokens, 101 expected of the answer, streamed.
pub(crate) fn facts() -> Facts<'static> {
    Facts { input_tokens: 1_000, output_tokens: 101, stream: true, ..Facts::plain(Api::ChatCompletions, MODEL) }
}

/// Four classes, no rules, one route for everything.
pub(crate) fn policy(objective: Objective) -> Policy {
    let slo = |ttft_ms: f64, itl_ms: f64| Slo { ttft_ms: Some(ttft_ms), itl_ms: Some(itl_ms), deadline_ms: None };
    let class = |name: &str, slo: Slo| Class {
        name: name.to_owned(),
        slo,
        target: 0.99,
        priority: 0,
        sheddable: false,
        shed_order: 0,
        max_usd: None,
        explores: false,
    };
    Policy {
        name: "test".to_owned(),
        classes: vec![
            class("realtime", slo(300.0, 10.0)),
            class("interactive", slo(1_000.0, 50.0)),
            class("standard", slo(4_000.0, 100.0)),
            class("batch", Slo { deadline_ms: Some(600_000.0), ..NO_PROMISE }),
        ],
        classify: Vec::new(),
        builtin: BuiltinClasses { interactive: INTERACTIVE, standard: STANDARD, batch: BATCH },
        routes: vec![route("default", None, PoolSelector::All, objective)],
        limits: Limits::default(),
        trial: None,
        utc_offset_s: 0,
        headers_read: Vec::new(),
        reads_load: false,
    }
}

pub(crate) fn route(name: &str, when: Option<Condition>, pools: PoolSelector, objective: Objective) -> Route {
    Route { when, tiers: vec![pools], objective, ..Route::everything(name) }
}

pub(crate) fn rule(when: Option<Condition>, class: ClassId) -> ClassifyRule {
    ClassifyRule { name: "rule".to_owned(), when, class }
}

pub(crate) fn when(test: impl Fn(&Env<'_>) -> bool + Send + Sync + 'static) -> Condition {
    Condition { text: "a test's".to_owned(), test: Box::new(test) }
}

/// Decides in the world of [`pools`].
pub(crate) fn decided(
    policy: &Policy,
    class: ClassId,
    facts: &Facts<'_>,
    endpoints: &[EndpointState],
    draw: u64,
) -> Decision {
    decide(&Request::new(policy, facts, class), Fleet::new(&pools(), endpoints), draw)
}

/// Endpoints of a plan in the order of its attempts.
pub(crate) fn order(decision: &Decision) -> Vec<usize> {
    let attempts = decision.plan.iter().flat_map(|plan| &plan.attempts);
    attempts.map(|attempt| attempt.endpoint).collect()
}

/// A candidate that passed, with nothing known of it but what ranks it.
pub(crate) fn passed(endpoint: usize, score: f64, strain: f64, in_flight: u32) -> Candidate {
    let verdict = Ok(Scored {
        estimate: Estimate::default(),
        strain,
        effective_usd: 0.0,
        lost: false,
        room: true,
        score,
        home: false,
    });
    Candidate { endpoint, in_flight, tier: 0, verdict }
}

pub(crate) fn rejected(endpoint: usize, reason: Rejection) -> Candidate {
    Candidate { endpoint, in_flight: 0, tier: 0, verdict: Err(reason) }
}

#[track_caller]
pub(crate) fn close(figure: f64, expected: f64) {
    let error = (figure - expected).abs();
    assert!(error <= 1e-9 * expected.abs().max(1.0), "{figure} is not {expected}");
}
