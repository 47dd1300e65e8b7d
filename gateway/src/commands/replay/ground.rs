//! What decides again: a policy on pools, for each recorded set.

use std::collections::HashMap;
use std::sync::Arc;

use pointsman_policies::classify::classify;
use pointsman_policies::decide::{self, Request, Scored};
use pointsman_policies::facts::Facts;
use pointsman_policies::fleet::{EndpointState, Fleet, PoolFacts};
use pointsman_policies::language::{Report, Source, compile};
use pointsman_policies::policy::{ClassId, Policy};

use super::Question;
use crate::decision_log::{Decision as Recorded, Set};

/// The place of requests that no machine gets.
pub(super) const REFUSED: &str = "refused";

/// The sets of one file, by number, ready to decide.
pub(super) type Grounds = HashMap<u32, Arc<Ground>>;

/// A recorded set with everything that decides on it.
#[derive(Debug)]
pub(super) struct Ground {
    /// As it was recorded.
    pub(super) set: Set,
    /// What was in force then, or why this version cannot use it.
    pub(super) in_force: Result<Side, String>,
    /// What is compared, where something is: the incumbent (`None`: what was in force) and the candidate.
    pub(super) compared: Option<(Option<Side>, Side)>,
}

/// A policy on pools.
#[derive(Debug)]
pub(super) struct Side {
    policy: Policy,
    pools: Vec<PoolFacts>,
    /// Its endpoints in order.
    endpoints: Vec<Known>,
    /// Whether its endpoints are the recorded ones.
    as_recorded: bool,
}

/// An endpoint of a side.
#[derive(Debug)]
struct Known {
    name: String,
    /// Its pool, by its index.
    pool: usize,
    /// Its index in the recorded view; `None` where it was not there then.
    recorded: Option<usize>,
}

/// A first choice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen<'m> {
    /// Its pool.
    pub(super) pool: &'m PoolFacts,
    /// Its name.
    pub(super) endpoint: &'m str,
    /// What was predicted.
    pub(super) scored: &'m Scored,
}

/// A decision made again.
#[derive(Debug)]
pub(super) struct Made {
    /// `None` where the caller declared a class that the policy does not define.
    pub(super) class: Option<ClassId>,
    /// The rest; empty where there is no class.
    pub(super) decision: decide::Decision,
}

impl Ground {
    /// Makes a set ready. The reports of the candidate and the incumbent come along; with errors, there is no ground.
    pub(super) fn new(set: Set, question: &Question) -> (Option<Ground>, Vec<Report>) {
        let in_force = in_force(&set);
        let mut reports = Vec::new();
        let mut side = |source: &Source, pools: &[PoolFacts]| {
            let (policy, report) = compile(source.clone(), pools);
            reports.push(report);
            policy.map(|policy| Side::new(policy, pools.to_vec(), &set))
        };
        let incumbent = question.against.as_ref().map(|source| side(source, &set.pools));
        let recorded = Source::new(format!("policy.toml of {}, as recorded", set.version), set.policy.as_str());
        let candidate = question.compares().then(|| {
            side(question.candidate.as_ref().unwrap_or(&recorded), question.pools.as_ref().unwrap_or(&set.pools))
        });
        let compared = match (incumbent, candidate) {
            (Some(None), _) | (_, Some(None)) => return (None, reports),
            (incumbent, Some(Some(candidate))) => Some((incumbent.flatten(), candidate)),
            (_, None) => None,
        };
        (Some(Ground { set, in_force, compared }), reports)
    }
}

impl Ground {
    /// Classes of the same name that the two sides promise different things, in words.
    pub(super) fn promises(&self) -> Vec<String> {
        let Some((against, candidate)) = &self.compared else { return Vec::new() };
        let Some(incumbent) = against.as_ref().or(self.in_force.as_ref().ok()) else { return Vec::new() };
        let since = if against.is_none() { format!(" (from {})", self.set.version) } else { String::new() };
        let both = incumbent.policy.classes.iter().filter_map(|class| {
            let other = candidate.policy.classes.get(candidate.policy.class_by_name(&class.name)?.0)?;
            Some((class, other))
        });
        both.filter_map(|(class, other)| {
            let parts = [
                ("ttft", class.slo.ttft_ms, other.slo.ttft_ms),
                ("itl", class.slo.itl_ms, other.slo.itl_ms),
                ("deadline", class.slo.deadline_ms, other.slo.deadline_ms),
            ];
            let bound = |ms: Option<f64>| ms.map_or("none".to_owned(), |ms| format!("{ms} ms"));
            let changed = parts.into_iter().filter(|(_, before, after)| before != after);
            let changed: Vec<String> =
                changed.map(|(part, before, after)| format!("{part} {} → {}", bound(before), bound(after))).collect();
            (!changed.is_empty()).then(|| format!("{} {}{since}", class.name, changed.join(", ")))
        })
        .collect()
    }
}

fn in_force(set: &Set) -> Result<Side, String> {
    let source = Source::new(format!("policy.toml of {}, as recorded", set.version), set.policy.as_str());
    let (policy, report) = compile(source, &set.pools);
    let unusable =
        || format!("the policy of {} cannot be compiled by this version:\n{}", set.version, report.render(false));
    policy.map(|policy| Side::new(policy, set.pools.clone(), set)).ok_or_else(unusable)
}

impl Side {
    fn new(policy: Policy, pools: Vec<PoolFacts>, set: &Set) -> Side {
        let recorded: Vec<&String> = set.pools.iter().flat_map(|pool| &pool.endpoints).collect();
        let names =
            pools.iter().enumerate().flat_map(|(pool, facts)| facts.endpoints.iter().map(move |name| (pool, name)));
        let known = |(pool, name): (usize, &String)| Known {
            name: name.clone(),
            pool,
            recorded: recorded.iter().position(|other| *other == name),
        };
        let endpoints = names.map(known).collect();
        let as_recorded = pools == set.pools;
        Side { policy, pools, endpoints, as_recorded }
    }

    /// Its policy.
    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Decides as the gateway does. `states` are the recorded ones; `own` is room for them in this side's order.
    pub(super) fn decide(
        &self,
        facts: &Facts<'_>,
        (states, decision): (&[EndpointState], &Recorded),
        draw: u64,
        own: &mut Vec<EndpointState>,
    ) -> Made {
        let nothing = || decide::Decision { route: 0, candidates: Vec::new(), plan: None };
        let Some(classified) = classify(&self.policy, facts) else {
            return Made { class: None, decision: nothing() };
        };
        let endpoints = match self.as_recorded {
            true => states,
            false => self.in_own_order(states, own),
        };
        let request = Request::new(&self.policy, facts, classified.class);
        let fleet = match self.as_recorded {
            true => decision.fleet(&self.pools, endpoints),
            false => Fleet::new(&self.pools, endpoints),
        };
        let decision = decide::decide(&request, fleet, draw);
        Made { class: Some(classified.class), decision }
    }

    /// Endpoints that were not there then are idle.
    fn in_own_order<'s>(&self, states: &[EndpointState], own: &'s mut Vec<EndpointState>) -> &'s [EndpointState] {
        own.clear();
        own.extend(self.endpoints.iter().map(|known| {
            let recorded = known.recorded.and_then(|index| states.get(index));
            recorded.map_or(EndpointState::idle(known.pool), |state| EndpointState { pool: known.pool, ..*state })
        }));
        own
    }

    /// The name of a class.
    pub(super) fn class<'s>(&'s self, made: &Made) -> Option<&'s str> {
        Some(self.policy.classes.get(made.class?.0)?.name.as_str())
    }

    /// The first choice; `None` where the request is refused.
    pub(super) fn chosen<'m>(&'m self, made: &'m Made) -> Option<Chosen<'m>> {
        let first = made.decision.plan.as_ref()?.attempts.first()?;
        let candidate = made.decision.candidate(first.endpoint)?;
        let known = self.endpoints.get(first.endpoint)?;
        let (pool, scored) = (self.pools.get(known.pool)?, candidate.verdict.as_ref().ok()?);
        Some(Chosen { pool, endpoint: &known.name, scored })
    }

    /// The name of an endpoint by its index; empty where there is none.
    pub(super) fn endpoint(&self, index: usize) -> &str {
        self.endpoints.get(index).map_or("", |known| known.name.as_str())
    }
}
