//! Which machine shall do it, and when: the pure decision on a fresh view of the fleet, made again while the request is
//! held because no machine has room.

use std::sync::Arc;

use pointsman_backends::fleet::Dispatched;
use pointsman_policies::decide::Decision;
use pointsman_policies::plan::Plan;
use pointsman_policies::refusal::Refusal as Unserved;

use super::classify::Work;
use crate::flow::Ask;
use crate::gateway::Gateway;
use crate::record::{DecisionRecord, Record};
use crate::refusal::Refusal;
use crate::snapshot::Snapshot;

/// What is to be attempted, and the place on the first endpoint where one was given already.
pub(super) struct Decided {
    /// The attempts.
    pub(super) plan: Plan,
    /// The first of them, begun; after having been held.
    pub(super) begun: Option<Dispatched>,
}

/// Decides, waits where there is no room, and remembers every reason.
pub(super) async fn decide(
    gateway: &Gateway,
    snapshot: &Arc<Snapshot>,
    work: &Work<'_>,
    record: &mut Record,
) -> Result<Decided, Refusal> {
    let facts = work.facts();
    let ask = Ask { snapshot, arm: work.arm, facts: &facts, class: work.class, draw: fastrand::u64(..) };
    let flow = gateway.queue().flow();
    let now = gateway.fleet().now();
    let made = Arc::new(flow.decide(&ask, now));
    record.decided_at = record.elapsed();
    record.decision = Some(Arc::clone(&made));
    let Some(plan) = made.plan.clone() else { return Err(refused(&made)) };
    let Some(hold) = plan.hold else {
        flow.sent(&made, now);
        return Ok(Decided { plan, begun: None });
    };
    let (made, outcome) = gateway.queue().wait(made, hold, now).await;
    record.released_at = Some(record.elapsed());
    record.decision = Some(Arc::clone(&made));
    let begun = outcome.map_err(Refusal::Unserved)?;
    let plan = made.plan.clone().ok_or(Refusal::Internal)?;
    Ok(Decided { plan, begun: Some(begun) })
}

fn refused(made: &DecisionRecord) -> Refusal {
    let DecisionRecord { route, candidates, plan, .. } = made;
    let decision = Decision { route: *route, candidates: candidates.clone(), plan: plan.clone() };
    let refusal = Unserved::of(&decision, made.deciding().policy, &made.snapshot.portfolio.facts);
    refusal.map_or(Refusal::Internal, Refusal::Unserved)
}
