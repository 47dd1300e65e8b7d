//! Work that has time looks at machines of which little is known.

use pointsman_policies::decide::{Decision, Request, decide};
use pointsman_policies::explore::Explored;
use pointsman_policies::facts::Facts;
use pointsman_policies::fleet::{EndpointState, Fleet};
use pointsman_policies::learned::{Known, Learned};
use pointsman_policies::mechanisms::Mechanisms;
use pointsman_policies::policy::{ClassId, Objective};

use super::world::*;

/// Decides where so much is known of the two pools; batch goes and sees.
fn decided_knowing(known: [Known; 2], class: ClassId, facts: &Facts<'_>, endpoints: &[EndpointState]) -> Decision {
    let mut policy = policy(Objective::Fastest);
    policy.classes.iter_mut().for_each(|class| class.explores = class.name == "batch");
    let learned = Learned { known: known.to_vec(), ..Learned::default() };
    let pools = pools();
    let fleet = Fleet { learned: &learned, ..Fleet::new(&pools, endpoints) };
    let explored = decide(&Request::new(&policy, facts, class), fleet, 0);
    let mechanisms = Mechanisms { exploration: false, ..Mechanisms::default() };
    let never = decide(&Request { mechanisms, ..Request::new(&policy, facts, class) }, fleet, 0);
    assert!(never.plan.is_some_and(|plan| plan.explored.is_none()), "switched off");
    explored
}

fn both() -> [EndpointState; 2] {
    [EndpointState::idle(GPU), EndpointState::idle(WAFER)]
}

/// What is looked at, and the order of attempts.
fn looks(decision: &Decision) -> (Option<Explored>, Vec<usize>) {
    let plan = decision.plan.as_ref().expect("a plan");
    (plan.explored, plan.attempts.iter().map(|attempt| attempt.endpoint).collect())
}

#[test]
fn a_machine_of_which_little_is_known_is_tried_first_and_the_best_next() {
    for known in [Known::Little, Known::LongAgo] {
        let looked = looks(&decided_knowing([known, Known::Well], BATCH, &facts(), &both()));
        assert_eq!(looked, (Some(Explored { endpoint: 0, known }), vec![0, 1]));
    }
    let looked = looks(&decided_knowing([Known::Well; 2], BATCH, &facts(), &both()));
    assert_eq!(looked, (None, vec![1, 0]), "all is known");
    let looked = looks(&decided_knowing([Known::Well, Known::Little], BATCH, &facts(), &both()));
    assert_eq!(looked, (None, vec![1, 0]), "it goes there anyway");
}

#[test]
fn only_work_that_has_time_goes_and_sees_one_at_a_time() {
    let known = [Known::Little, Known::Well];
    let looked = looks(&decided_knowing(known, INTERACTIVE, &facts(), &both()));
    assert_eq!(looked.0, None, "somebody waits for it");
    let looked = looks(&decided_knowing(known, BATCH, &facts(), &[busy(GPU, 1), EndpointState::idle(WAFER)]));
    assert_eq!(looked.0, None, "somebody is there already, and will tell");
}

/// On the idle GPU it takes 1.25 s as far as is known, so 5 s at worst.
#[test]
fn a_look_never_costs_a_deadline() {
    let within = |deadline_ms| {
        let facts = Facts { deadline_ms: Some(deadline_ms), ..facts() };
        looks(&decided_knowing([Known::Little, Known::Well], BATCH, &facts, &both())).0
    };
    assert!(within(4_500.0).is_none() && within(5_500.0).is_some());
}
