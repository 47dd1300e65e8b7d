//! Every route's account of the attempts beyond the first, by its name, so that a reload forgets nothing. The pipeline asks
//! it in real time, the simulation in virtual time.

use std::collections::HashMap;

use parking_lot::Mutex;
use pointsman_policies::extra::{ExtraAttempts, RetriesSpent};
use pointsman_policies::policy::Route;
use pointsman_policies::units::Micros;

use crate::record::DecisionRecord;

/// Routes that are remembered; names come from operators, so this is never reached.
const MOST_ROUTES: usize = 1_024;

/// The accounts. Only routes that bound such attempts have one.
#[derive(Debug, Default)]
pub struct RouteAccounts(Mutex<HashMap<String, ExtraAttempts>>);

impl RouteAccounts {
    /// A request is sent for the first time.
    pub fn sent(&self, made: &DecisionRecord, now: Micros) {
        if let Some(route) = route(made).filter(|route| ExtraAttempts::bounded(route)) {
            self.with(route, |account| account.sent(now, route, tokens(made)));
        }
    }

    /// Takes what a second attempt beside the first costs from its route's budget; `false` where it is not there.
    pub fn hedge(&self, made: &DecisionRecord) -> bool {
        route(made).is_some_and(|route| self.with(route, |account| account.hedge(tokens(made))).unwrap_or(false))
    }

    /// Counts a further attempt after one that failed, or says why there may be none.
    pub fn retry(&self, made: &DecisionRecord, now: Micros) -> Result<(), RetriesSpent> {
        let Some(route) = route(made).filter(|route| route.budgets.retry_share.is_some()) else { return Ok(()) };
        self.with(route, |account| account.retry(now, route)).unwrap_or(Ok(()))
    }

    fn with<T>(&self, route: &Route, act: impl FnOnce(&mut ExtraAttempts) -> T) -> Option<T> {
        let mut accounts = self.0.lock();
        if let Some(account) = accounts.get_mut(&route.name) {
            return Some(act(account));
        }
        (accounts.len() < MOST_ROUTES).then(|| act(accounts.entry(route.name.clone()).or_default()))
    }
}

fn route(made: &DecisionRecord) -> Option<&Route> {
    made.deciding().policy.routes.get(made.route)
}

/// What a request is expected to take.
fn tokens(made: &DecisionRecord) -> u64 {
    made.facts.input_tokens.saturating_add(made.facts.output_tokens)
}
