//! Which machine shall do it: the pure decision on a fresh view of the fleet.

use std::sync::Arc;

use pointsman_policies::decide::{Decision, Request, decide as choose};
use pointsman_policies::facts::OwnedFacts;
use pointsman_policies::fleet::Fleet;
use pointsman_policies::plan::Plan;
use pointsman_policies::refusal::Refusal as Unserved;

use super::classify::Work;
use crate::gateway::Gateway;
use crate::record::{DecisionRecord, Record};
use crate::refusal::Refusal;
use crate::snapshot::Snapshot;

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
    let refusal = Unserved::of(&decision, policy, &snapshot.portfolio.facts);
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
    plan.ok_or_else(|| refusal.map_or(Refusal::Internal, Refusal::Unserved))
}

/// What the policies read, and what a candidate may want to read.
fn headers_kept(snapshot: &Snapshot) -> impl Iterator<Item = &str> {
    let read = &snapshot.headers_read;
    let besides = snapshot.process.record.headers.iter().filter(|name| !read.contains(name));
    read.iter().chain(besides).map(String::as_str)
}
