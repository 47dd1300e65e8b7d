//! Which machine shall do it: the pure decision on a fresh view of the fleet.

use std::sync::Arc;
use std::time::Duration;

use pointsman_policies::decide::{Candidate, Decision, Request, decide as choose};
use pointsman_policies::facts::OwnedFacts;
use pointsman_policies::filter::Rejection;
use pointsman_policies::fleet::Fleet;
use pointsman_policies::plan::Plan;
use pointsman_policies::policy::Policy;

use super::classify::Work;
use crate::gateway::Gateway;
use crate::record::{DecisionRecord, Record};
use crate::refusal::Refusal;
use crate::snapshot::Snapshot;

/// Asked to wait where nothing better is known.
const DEFAULT_RETRY: Duration = Duration::from_secs(1);

/// Nobody is asked to stay away longer than this.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Decides, and remembers every reason.
pub(super) fn decide(
    gateway: &Gateway,
    snapshot: &Arc<Snapshot>,
    work: &Work<'_>,
    record: &mut Record,
) -> Result<Plan, Refusal> {
    let facts = work.facts();
    let endpoints = snapshot.endpoint_states(gateway.fleet());
    let policy = snapshot.deciding(work.arm).policy;
    let request = Request { policy, facts: &facts, class: work.class };
    let fleet = Fleet { pools: &snapshot.portfolio.facts, endpoints: &endpoints };
    let draw = fastrand::u64(..);
    let decision = choose(&request, fleet, draw);
    record.decided_at = record.elapsed();
    let refusal = if decision.plan.is_none() { Some(refuse(snapshot, policy, &decision)) } else { None };
    let Decision { route, candidates, plan } = decision;
    record.decision = Some(Arc::new(DecisionRecord {
        snapshot: Arc::clone(snapshot),
        arm: work.arm,
        facts: OwnedFacts::of(&facts, headers_kept(snapshot)),
        class: work.class,
        endpoints,
        draw,
        route,
        candidates,
        plan: plan.clone(),
    }));
    plan.ok_or_else(|| refusal.unwrap_or(Refusal::Internal))
}

/// What the policies read, and what a candidate may want to read.
fn headers_kept(snapshot: &Snapshot) -> impl Iterator<Item = &str> {
    let read = &snapshot.headers_read;
    let besides = snapshot.process.record.headers.iter().filter(|name| !read.contains(name));
    read.iter().chain(besides).map(String::as_str)
}

/// Every endpoint was rejected: the reason nearest to a solution is the one to tell.
fn refuse(snapshot: &Snapshot, policy: &Policy, decision: &Decision) -> Refusal {
    let wait = decision.retry_in_ms().map_or(DEFAULT_RETRY, |ms| Duration::from_millis(ms as u64).min(LONGEST_RETRY));
    let reasons = || decision.candidates.iter().filter_map(|candidate| candidate.verdict.err());
    let saturated = |reason: Rejection| {
        matches!(reason, Rejection::BackPressure { .. } | Rejection::RequestLease { .. } | Rejection::TokenLease { .. })
    };
    let unavailable = |reason: Rejection| matches!(reason, Rejection::BreakerOpen { .. } | Rejection::Draining);
    if reasons().any(saturated) {
        return Refusal::Saturated { retry_after: wait };
    }
    if reasons().any(unavailable) {
        let tried = decision.candidates.iter().filter_map(|candidate| unavailable_reason(snapshot, candidate));
        return Refusal::Unavailable { retry_after: wait, tried: tried.collect::<Vec<_>>().join("; ") };
    }
    let contexts = reasons().filter_map(|reason| match reason {
        Rejection::Context { needed, allowed } | Rejection::BeyondLease { needed, allowed } => Some((needed, allowed)),
        _ => None,
    });
    if let Some((needed, allowed)) = contexts.max_by_key(|(_, allowed)| *allowed) {
        return Refusal::ContextTooLong { needed, allowed };
    }
    let route = policy.routes.get(decision.route).map_or_else(String::new, |route| route.name.clone());
    Refusal::NoPoolAllowed(route)
}

fn unavailable_reason(snapshot: &Snapshot, candidate: &Candidate) -> Option<String> {
    let reason = candidate.verdict.err()?;
    let target = snapshot.target(candidate.endpoint)?;
    matches!(reason, Rejection::BreakerOpen { .. } | Rejection::Draining)
        .then(|| format!("{}: {reason}", target.endpoint.id))
}
