//! A decision just made, with all that it was made of, and what callers are told where it has no plan.

use std::sync::Arc;

use pointsman_backends::fleet::Seen;
use pointsman_policies::decide::{Decision, Request, decide};
use pointsman_policies::facts::{Facts, OwnedFacts};
use pointsman_policies::fleet::{Cached, EndpointState, Fleet as View, Waiting};
use pointsman_policies::learned::Learned;
use pointsman_policies::mechanisms::Mechanisms;
use pointsman_policies::passing::retry_in_ms;
use pointsman_policies::plan::Plan;
use pointsman_policies::refusal::Refusal;
use pointsman_policies::units::Micros;

use super::Ask;
use crate::record::{DecisionRecord, Planned};

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
    pub(super) endpoints: Arc<Vec<EndpointState>>,
    cached: Vec<Cached>,
    seen: Seen,
    pub(super) learned: Arc<Learned>,
    waiting: Vec<Waiting>,
    pub(super) decision: Decision,
}

/// Decides.
pub(super) fn fresh(ask: &Ask<'_>, mechanisms: Mechanisms, waiting: Vec<Waiting>, now: Micros) -> Fresh {
    let Ask { snapshot, arm, class, draw, prefix, .. } = *ask;
    let (endpoints, seen) = snapshot.see(now);
    let cached = if mechanisms.affinity { snapshot.cached(prefix, ask.facts.input_tokens) } else { Vec::new() };
    let learned = snapshot.learned();
    let policy = snapshot.deciding(arm).policy;
    let request = Request { policy, facts: ask.facts, class, mechanisms };
    let (pools, names) = (&snapshot.portfolio.facts, snapshot.names());
    let view = View { pools, endpoints: &endpoints, learned: &learned, waiting: &waiting, cached: &cached, names };
    let decision = decide(&request, view, draw);
    Fresh { mechanisms, endpoints, cached, seen, learned, waiting, decision }
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
        let Fresh { endpoints, cached, learned, waiting, decision, .. } = self;
        let (pools, names) = (&ask.snapshot.portfolio.facts, ask.snapshot.names());
        let fleet = View { pools, endpoints, learned, waiting, cached, names };
        retry_ms_of(decision, ask.facts, fleet)
    }

    /// Endpoints that would take the request if they were not reading others' prompts.
    pub(super) fn full_of_prompts(&self) -> impl Iterator<Item = usize> {
        let held = self.decision.candidates.iter().filter(|one| one.verdict.is_ok_and(|scored| !scored.room));
        let states = held.filter_map(|one| Some((one.endpoint, self.endpoints.get(one.endpoint)?)));
        states.filter(|(_, state)| state.prefilling > 0).map(|(endpoint, _)| endpoint)
    }

    /// What was found of the endpoints that its plan names.
    fn planned(&self) -> Vec<Planned> {
        let named = self.decision.plan.as_ref().map(Plan::named);
        named.into_iter().flatten().filter_map(|endpoint| self.found(endpoint)).collect()
    }

    /// What was found of an endpoint.
    pub(super) fn found(&self, endpoint: usize) -> Option<Planned> {
        let cached = self.cached.iter().find(|cached| cached.endpoint == endpoint);
        let cached_tokens = cached.map_or(0, |cached| cached.tokens);
        let state = EndpointState { cached_tokens, ..*self.endpoints.get(endpoint)? };
        Some(Planned { candidate: *self.decision.candidate(endpoint)?, state })
    }

    /// What is kept of it.
    pub(super) fn record(self, ask: &Ask<'_>, facts: OwnedFacts) -> DecisionRecord {
        let Ask { snapshot, arm, class, draw, prefix, .. } = *ask;
        let planned = self.planned();
        let Fresh { mechanisms, cached, seen, learned, waiting, decision, .. } = self;
        let endpoints = seen.for_prompt(&cached);
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
