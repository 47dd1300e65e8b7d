//! Why a request is held, for what, and who goes before it.

use super::{Given, HoldReason};
use crate::decide::Decision;
use crate::policy::ClassId;

pub(super) fn held(given: &Given<'_>, class: ClassId, decision: &Decision) -> Option<HoldReason> {
    let plan = decision.plan.as_ref()?;
    let hold = plan.hold?;
    let first = plan.attempts.first().and_then(|first| decision.candidate(first.endpoint))?;
    let wait_ms = match &first.verdict {
        Ok(scored) => scored.estimate.wait_ms,
        Err(rejection) => rejection.retry_in_ms().unwrap_or_default(),
    };
    let priority = given.policy.classes.get(class.0).map_or(0, |class| class.priority);
    let before = given.fleet.waiting.iter().filter(|waiting| waiting.pool == hold.pool);
    let count =
        |than: i32| before.clone().filter(move |waiting| waiting.priority >= than).map(|one| u64::from(one.requests));
    Some(HoldReason {
        pool: given.fleet.pools.get(hold.pool).map_or_else(String::new, |pool| pool.name.clone()),
        wait_ms,
        slack_ms: hold.slack_ms,
        ahead: count(priority).sum(),
        ahead_higher: count(priority.saturating_add(1)).sum(),
    })
}

impl HoldReason {
    /// Who goes before it, in words; empty where nobody does.
    pub fn behind(&self) -> String {
        let requests = |count: u64| if count == 1 { "1 request".to_owned() } else { format!("{count} requests") };
        match (self.ahead, self.ahead_higher) {
            (0, _) => String::new(),
            (all, higher) if higher == all => format!("behind {} of higher class", requests(all)),
            (all, 0) => format!("behind {}", requests(all)),
            (all, higher) => format!("behind {}, {higher} of them of higher class", requests(all)),
        }
    }
}
