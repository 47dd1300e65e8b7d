//! The whole decision: a gpu pool that is cheap, a wafer that is quick, and who goes where.

use pointsman_policies::decide::{Request, decide, slo};
use pointsman_policies::facts::Facts;
use pointsman_policies::filter::Rejection;
use pointsman_policies::fleet::{Availability, EndpointState, Fleet, HardwareKind};
use pointsman_policies::learned::{Learned, Margin};
use pointsman_policies::policy::{ClassId, Objective, Policy, PoolSelector, Slo};

use crate::world::{
    BATCH, GPU, INTERACTIVE, NO_PROMISE, REALTIME, STANDARD, WAFER, busy, decided, facts, order, policy, pools, route,
    when, with,
};

const SLO_FIRST: Objective = Objective::CheapestThatMeetsSlo;

/// The order of the attempts for a streamed request, one endpoint in each pool.
#[track_caller]
fn check(class: ClassId, gpu: EndpointState, wafer: EndpointState, expected: [usize; 2]) {
    let decision = decided(&policy(SLO_FIRST), class, &facts(), &[gpu, wafer], 7);
    assert_eq!(order(&decision), expected, "{:#?}", decision.candidates);
}

#[test]
fn each_class_goes_to_the_cheapest_machine_that_keeps_its_promise() {
    let (gpu, wafer) = (EndpointState::idle(GPU), EndpointState::idle(WAFER));
    // 11 ms per token is too slow for realtime even on an idle gpu.
    check(REALTIME, gpu, wafer, [1, 0]);
    check(INTERACTIVE, gpu, wafer, [0, 1]);
    check(STANDARD, gpu, wafer, [0, 1]);
    check(BATCH, gpu, wafer, [0, 1]);
}

#[test]
fn a_busy_gpu_sends_the_impatient_to_the_wafer_and_keeps_the_patient() {
    let (gpu, wafer) = (busy(GPU, 20), EndpointState::idle(WAFER));
    check(INTERACTIVE, gpu, wafer, [1, 0]);
    check(STANDARD, gpu, wafer, [1, 0]);
    check(BATCH, gpu, wafer, [0, 1]);
}

#[test]
fn where_nobody_can_keep_the_promise_the_least_violation_wins() {
    let decision = decided(&policy(SLO_FIRST), REALTIME, &facts(), &[busy(GPU, 60), busy(WAFER, 60)], 7);
    let strains: Vec<f64> = decision.candidates.iter().filter_map(|one| Some(one.verdict.ok()?.strain)).collect();
    assert!(strains.iter().all(|&strain| strain > 1.0), "{strains:?}");
    assert_eq!(order(&decision), [1, 0], "{strains:?}");
    // The same the other way round: a wafer with a long queue and an idle gpu.
    check(REALTIME, EndpointState::idle(GPU), busy(WAFER, 60), [0, 1]);
}

#[test]
fn a_deadline_of_the_caller_tightens_the_promise() {
    let slos = |promised, asked| {
        let policy = policy(SLO_FIRST);
        let class = policy.classes.first().cloned();
        let class = class.map(|class| pointsman_policies::policy::Class {
            slo: Slo { deadline_ms: promised, ..NO_PROMISE },
            ..class
        });
        slo(class.as_ref(), &Facts { deadline_ms: asked, ..facts() }).deadline_ms
    };
    assert_eq!(slos(Some(600.0), Some(500.0)), Some(500.0));
    assert_eq!(slos(Some(600.0), Some(700.0)), Some(600.0));
    assert_eq!(slos(None, Some(500.0)), Some(500.0));
    assert_eq!(slos(Some(600.0), None), Some(600.0));
    assert_eq!(slo(None, &facts()), NO_PROMISE);
    // The answer takes 1.2 s on an idle gpu, a part of that on the wafer.
    let endpoints = [EndpointState::idle(GPU), EndpointState::idle(WAFER)];
    let asked = |deadline_ms| Facts { deadline_ms, ..facts() };
    assert_eq!(order(&decided(&policy(SLO_FIRST), BATCH, &asked(Some(3_000.0)), &endpoints, 7)), [0, 1]);
    assert_eq!(order(&decided(&policy(SLO_FIRST), BATCH, &asked(Some(1_000.0)), &endpoints, 7)), [1, 0]);
}

#[test]
fn the_objective_of_the_route_is_kept() {
    let check = |objective, expected: [usize; 2]| {
        let endpoints = [busy(GPU, 20), EndpointState::idle(WAFER)];
        assert_eq!(order(&decided(&policy(objective), STANDARD, &facts(), &endpoints, 7)), expected, "{objective:?}");
    };
    check(Objective::Cheapest, [0, 1]);
    check(Objective::Fastest, [1, 0]);
    // 505 J on the wafer against 5.7 kJ for a quarter of the gpu.
    check(Objective::Greenest, [1, 0]);
}

#[test]
fn the_first_route_that_holds_decides_pools_and_objective() {
    let policy = Policy {
        routes: vec![
            route("long", Some(when(|env| env.facts.input_tokens > 5_000)), fixed([true, false]), SLO_FIRST),
            route("voice", Some(when(|env| env.class == "realtime")), fixed([false, true]), SLO_FIRST),
            route("default", None, PoolSelector::All, Objective::Cheapest),
        ],
        ..policy(SLO_FIRST)
    };
    let endpoints = [EndpointState::idle(GPU), EndpointState::idle(WAFER)];
    let check = |class, input_tokens, index, expected: &[usize]| {
        let decision = decided(&policy, class, &Facts { input_tokens, ..facts() }, &endpoints, 7);
        assert_eq!((decision.route, order(&decision).as_slice()), (index, expected));
        let refused = decision.candidates.iter().filter_map(|candidate| candidate.verdict.err());
        assert!(refused.into_iter().all(|reason| reason == Rejection::Route));
    };
    check(REALTIME, 9_000, 0, &[0]);
    check(REALTIME, 1_000, 1, &[1]);
    check(STANDARD, 1_000, 2, &[0, 1]);
}

fn fixed(allowed: [bool; 2]) -> PoolSelector {
    PoolSelector::Fixed(allowed.to_vec())
}

#[test]
fn a_selector_may_read_request_and_pool_together() {
    let by_tenant = |policy: &Policy, tenant| {
        let endpoints = [EndpointState::idle(GPU), EndpointState::idle(WAFER)];
        order(&decided(policy, STANDARD, &Facts { tenant, ..facts() }, &endpoints, 7))
    };
    let selector = when(|env| env.pool.is_some_and(|pool| pool.name == env.facts.tenant));
    let routes = vec![route("own", None, PoolSelector::PerRequest(selector), SLO_FIRST)];
    let policy = Policy { routes, ..policy(SLO_FIRST) };
    assert_eq!(by_tenant(&policy, "gpu"), [0]);
    assert_eq!(by_tenant(&policy, "wafer"), [1]);
    assert!(by_tenant(&policy, "nobody").is_empty());
}

#[test]
fn where_all_are_rejected_there_is_no_plan_but_a_time_to_come_back() {
    let decide = |availabilities: [Availability; 2]| {
        let endpoints = availabilities.map(|availability| with(availability, EndpointState::idle(GPU)));
        decided(&policy(SLO_FIRST), STANDARD, &facts(), &endpoints, 7)
    };
    let decision =
        decide([Availability::BreakerOpen { retry_in_ms: 900.0 }, Availability::BackPressure { retry_in_ms: 400.0 }]);
    assert_eq!(decision.plan, None);
    assert_eq!(decision.retry_in_ms(), Some(400.0));
    let unserved = Facts { model: "other", ..facts() };
    let decision = decided(&policy(SLO_FIRST), STANDARD, &unserved, &[EndpointState::idle(GPU)], 7);
    assert_eq!((decision.plan, decision.candidates.len()), (None, 1));
    let nothing = decided(&policy(SLO_FIRST), STANDARD, &facts(), &[], 7);
    assert_eq!((nothing.retry_in_ms(), nothing.plan), (None, None));
}

#[test]
fn waiting_does_not_help_who_does_not_fit() {
    let unserved = Facts { model: "other", ..facts() };
    let decision = decided(&policy(SLO_FIRST), STANDARD, &unserved, &[EndpointState::idle(GPU)], 7);
    assert_eq!(decision.retry_in_ms(), None);
}

#[test]
fn every_endpoint_has_a_reason_in_fleet_order() {
    let endpoints = [with(Availability::Draining, EndpointState::idle(GPU)), EndpointState::idle(9), busy(WAFER, 3)];
    let decision = decided(&policy(SLO_FIRST), STANDARD, &facts(), &endpoints, 7);
    let seen: Vec<_> = decision
        .candidates
        .iter()
        .map(|candidate| (candidate.endpoint, candidate.in_flight, candidate.verdict.err()))
        .collect();
    assert_eq!(seen, [(0, 0, Some(Rejection::Draining)), (1, 0, Some(Rejection::Route)), (2, 3, None)]);
}

#[test]
fn the_same_arguments_give_the_same_decision() {
    let policy = policy(SLO_FIRST);
    let endpoints = [busy(GPU, 1), busy(GPU, 1), busy(WAFER, 1), EndpointState::idle(GPU)];
    let once = |draw| format!("{:?}", decided(&policy, STANDARD, &facts(), &endpoints, draw));
    for draw in (0..64).map(|index: u64| index.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
        assert_eq!(once(draw), once(draw), "draw {draw}");
    }
}

#[test]
fn the_draw_changes_the_order_of_near_ties_and_nothing_else() {
    let endpoints = [busy(GPU, 1), busy(GPU, 1), EndpointState::idle(WAFER)];
    let run = |draw| decided(&policy(SLO_FIRST), STANDARD, &facts(), &endpoints, draw);
    let mut orders: Vec<_> = (0..16).map(|draw| order(&run(draw))).collect();
    orders.sort();
    orders.dedup();
    assert_eq!(orders, [[0, 1, 2], [1, 0, 2]]);
    let reasons = |draw| format!("{:?}", run(draw).candidates);
    assert_eq!(reasons(0), reasons(1));
}

#[test]
fn how_far_predictions_are_trusted_goes_by_the_name_of_the_class_not_by_its_place() {
    let kinds = HardwareKind::ALL.map(Margin::prior).map(|prior| Margin { ttft: 0.25, ..prior });
    let learned = Learned { margins: [("interactive".to_owned(), kinds)].into(), ..Learned::default() };
    let strains = |policy: &Policy, class: ClassId| {
        let (pools, endpoints, facts) = (pools(), [EndpointState::idle(GPU), EndpointState::idle(WAFER)], facts());
        let fleet = Fleet { learned: &learned, ..Fleet::new(&pools, &endpoints) };
        let decision = decide(&Request::new(policy, &facts, class), fleet, 7);
        decision.candidates.iter().map(|one| one.verdict.map(|scored| scored.strain)).collect::<Vec<_>>()
    };
    let mut other = policy(SLO_FIRST);
    other.classes.reverse();
    let place = |class: ClassId| ClassId(BATCH.0 - class.0);
    for class in [REALTIME, INTERACTIVE, STANDARD, BATCH] {
        assert_eq!(strains(&other, place(class)), strains(&policy(SLO_FIRST), class), "class {}", class.0);
    }
}
