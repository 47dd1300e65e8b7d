//! A decision just made, with all that it was made of, and what callers are told where it has no plan.

use std::sync::Arc;

use pointsman_backends::fleet::Seen;
use pointsman_policies::decide::{Decision, Request, decide};
use pointsman_policies::facts::{Facts, OwnedFacts};
use pointsman_policies::fleet::{EndpointState, Fleet as View, Waiting};
use pointsman_policies::learned::Learned;
use pointsman_policies::mechanisms::Mechanisms;
use pointsman_policies::passing::retry_in_ms;
use pointsman_policies::refusal::Refusal;
use pointsman_policies::units::Micros;

use super::Ask;
use crate::record::{DecisionRecord, planned};

/// Told to come back after this where nothing better is known, milliseconds.
const DEFAULT_RETRY_MS: f64 = 1_000.0;

/// What a decision without a plan says to the caller, with the time until there will be room.
pub fn refusal(made: &DecisionRecord) -> Refusal {
    let states = made.endpoints.states();
    let decision = made.again(&states);
    let told = Refusal::of(&decision, made.deciding().policy, &made.snapshot.portfolio.facts);
    with_time(told, || retry_ms_of(&decision, &made.facts.facts(), made.fleet(&states)))
}

/// When somebody who is refused may come back, milliseconds: when the work ahead of it will be done.
pub(super) fn retry_ms(made: &DecisionRecord) -> f64 {
    let states = made.endpoints.states();
    retry_ms_of(&made.again(&states), &made.facts.facts(), made.fleet(&states))
}

fn retry_ms_of(decision: &Decision, facts: &Facts<'_>, fleet: View<'_>) -> f64 {
    retry_in_ms(&decision.candidates, facts, fleet).unwrap_or(DEFAULT_RETRY_MS)
}

/// Whoever is refused because there is too much to do is told when there will be less.
fn with_time(told: Option<Refusal>, retry_ms: impl FnOnce() -> f64) -> Refusal {
    match told {
        Some(Refusal::Saturated { .. }) | None => Refusal::Saturated { retry_in_ms: retry_ms() },
        Some(refusal) => refusal,
    }
}

/// The decision and its arguments.
pub(super) struct Fresh {
    mechanisms: Mechanisms,
    pub(super) endpoints: Vec<EndpointState>,
    seen: Seen,
    pub(super) learned: Arc<Learned>,
    waiting: Vec<Waiting>,
    pub(super) decision: Decision,
}

/// Decides.
pub(super) fn fresh(ask: &Ask<'_>, mechanisms: Mechanisms, waiting: Vec<Waiting>, now: Micros) -> Fresh {
    let Ask { snapshot, arm, class, draw, prefix, .. } = *ask;
    let (mut endpoints, seen) = snapshot.see(now);
    if mechanisms.affinity {
        snapshot.tell_cached(&mut endpoints, prefix, ask.facts.input_tokens);
    }
    let learned = snapshot.learned();
    let policy = snapshot.deciding(arm).policy;
    let request = Request { policy, facts: ask.facts, class, mechanisms };
    let view = View { pools: &snapshot.portfolio.facts, endpoints: &endpoints, learned: &learned, waiting: &waiting };
    let decision = decide(&request, view, draw);
    Fresh { mechanisms, endpoints, seen, learned, waiting, decision }
}

impl Fresh {
    /// What the caller is told where there is no plan.
    pub(super) fn refusal(&self, ask: &Ask<'_>) -> Refusal {
        let policy = ask.snapshot.deciding(ask.arm).policy;
        let told = Refusal::of(&self.decision, policy, &ask.snapshot.portfolio.facts);
        with_time(told, || self.retry_ms(ask))
    }

    /// When somebody who is refused may come back, milliseconds.
    pub(super) fn retry_ms(&self, ask: &Ask<'_>) -> f64 {
        let Fresh { endpoints, learned, waiting, decision, .. } = self;
        let fleet = View { pools: &ask.snapshot.portfolio.facts, endpoints, learned, waiting };
        retry_ms_of(decision, ask.facts, fleet)
    }

    /// Endpoints that would take the request if they were not reading others' prompts.
    pub(super) fn full_of_prompts(&self) -> impl Iterator<Item = usize> {
        let held = self.decision.candidates.iter().filter(|one| one.verdict.is_ok_and(|scored| !scored.room));
        let states = held.filter_map(|one| Some((one.endpoint, self.endpoints.get(one.endpoint)?)));
        states.filter(|(_, state)| state.prefilling > 0).map(|(endpoint, _)| endpoint)
    }

    /// What is kept of it.
    pub(super) fn record(self, ask: &Ask<'_>, facts: OwnedFacts) -> DecisionRecord {
        let Ask { snapshot, arm, class, draw, prefix, .. } = *ask;
        let Fresh { mechanisms, endpoints, seen, learned, waiting, decision } = self;
        let planned = planned(&decision, &endpoints);
        let endpoints = seen.for_prompt(&endpoints);
        let Decision { route, plan, .. } = decision;
        let (snapshot, prefix) = (Arc::clone(snapshot), Arc::clone(prefix));
        DecisionRecord {
            snapshot,
            arm,
            mechanisms,
            facts,
            prefix,
            class,
            endpoints,
            learned,
            waiting,
            draw,
            route,
            planned,
            plan,
        }
    }
}
