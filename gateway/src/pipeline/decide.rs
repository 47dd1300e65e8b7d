//! Which machine shall do it, and when: the pure decision on a fresh view of the fleet, made again while the request is
//! held because no machine has room.

use std::sync::Arc;

use pointsman_backends::fleet::Dispatched;
use pointsman_policies::facts::Facts;
use pointsman_policies::plan::Hold;
use pointsman_policies::refusal::Refusal as Unserved;
use pointsman_policies::units::Micros;

use super::classify::Work;
use super::failure::may_retry;
use crate::flow::{Ask, HeldEnd, Released, refusal};
use crate::gateway::Gateway;
use crate::record::{DecisionRecord, Record, Waited};
use crate::refusal::Refusal;
use crate::snapshot::Snapshot;

/// Who waits when the gateway ends is told to come back after this, milliseconds.
const SHUT_DOWN_RETRY_MS: f64 = 1_000.0;

/// What somebody who stood in line is told.
type Told = (Arc<DecisionRecord>, Result<Dispatched, Unserved>);

/// What is to be attempted, and the place on the first endpoint where one was given already.
pub(super) struct Decided {
    /// The decision, which has a plan.
    pub(super) made: Arc<DecisionRecord>,
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
    let made = made(gateway, snapshot, work, 0.0);
    refuse_route(&made.0, work)?;
    record.decided_at = record.elapsed();
    follow(gateway, made, record).await
}

/// Decides once more where every machine only asked for patience: the request is held while its promise can be kept. Any
/// other refusal stands.
pub(super) async fn again(
    gateway: &Gateway,
    snapshot: &Arc<Snapshot>,
    work: &Work<'_>,
    refusal: Refusal,
    record: &mut Record,
) -> Result<Decided, Refusal> {
    let patience = matches!(refusal, Refusal::Unserved(Unserved::Saturated { .. }));
    if !patience || record.retries_spent.is_some() || !may_retry(gateway, record) {
        return Err(refusal);
    }
    let waited = record.elapsed().saturating_sub(record.decided_at);
    follow(gateway, made(gateway, snapshot, work, waited.as_secs_f64() * 1e3), record).await
}

/// A key may be for some routes only.
fn refuse_route(made: &DecisionRecord, work: &Work<'_>) -> Result<(), Refusal> {
    let Some(caller) = work.prompt.caller.as_ref().filter(|caller| !caller.scope.routes.is_all()) else {
        return Ok(());
    };
    let route = made.deciding().policy.routes.get(made.route).map_or("", |route| route.name.as_str());
    if caller.scope.routes.admits(route) {
        return Ok(());
    }
    Err(Refusal::Forbidden(format!("its key is not for the route `{route}`")))
}

fn made(gateway: &Gateway, snapshot: &Arc<Snapshot>, work: &Work<'_>, waited_ms: f64) -> (DecisionRecord, Micros) {
    let facts = Facts { waited_ms, ..work.facts() };
    let (arm, class, prefix) = (work.arm, work.class, &work.prompt.parsed.prefix);
    let ask = Ask { snapshot, arm, facts: &facts, prefix, class, draw: fastrand::u64(..) };
    let now = gateway.fleet().now();
    (gateway.queue().flow().decide(&ask, now), now)
}

/// Waits where the decision says so.
async fn follow(
    gateway: &Gateway,
    (made, now): (DecisionRecord, Micros),
    record: &mut Record,
) -> Result<Decided, Refusal> {
    let made = Arc::new(made);
    record.decision = Some(Arc::clone(&made));
    let Some(plan) = &made.plan else { return Err(Refusal::Unserved(refusal(&made))) };
    let Some(hold) = plan.hold else {
        // A request that is decided again has been charged to its tenant.
        if record.attempts.is_empty() {
            gateway.queue().flow().sent(&made, now);
        }
        return Ok(Decided { made, begun: None });
    };
    let (made, outcome) = Box::pin(wait(gateway, made, hold, now, record)).await;
    record.decision = Some(Arc::clone(&made));
    let begun = outcome.map_err(Refusal::Unserved)?;
    Ok(Decided { made, begun: Some(begun) })
}

/// Stands in line. Until it is told otherwise, the record says that the client left while it waited.
async fn wait(gateway: &Gateway, made: Arc<DecisionRecord>, hold: Hold, now: Micros, record: &mut Record) -> Told {
    let place = match gateway.queue().enter(Arc::clone(&made), hold, now) {
        Ok(place) => place,
        Err(refusal) => return (made, Err(refusal)),
    };
    let pool = made.snapshot.portfolio.facts.get(hold.pool).map_or("", |pool| pool.name.as_str()).into();
    let (from, ahead, slack_ms) = (record.elapsed(), place.ahead(), hold.slack_ms);
    let waited = Waited { pool, from, until: from, ahead, moved: 0, slack_ms, end: HeldEnd::Left };
    record.waited = Some(waited.clone());
    let Some(Released { made, outcome, end, moved, .. }) = place.released().await else {
        return (made, Err(Unserved::Saturated { retry_in_ms: SHUT_DOWN_RETRY_MS }));
    };
    let last = made.plan.as_ref().and_then(|plan| made.snapshot.target(plan.attempts.first()?.endpoint));
    let pool = last.map_or(waited.pool, |target| target.facts.name.as_str().into());
    record.waited = Some(Waited { pool, until: record.elapsed(), moved, end, ..waited });
    (made, outcome)
}
