//! What attempts beyond the first may take of a route: hedges a share of its tokens, retries a share of its requests.
//! Whoever makes the attempts keeps one account per route and tells it the time.

use std::collections::VecDeque;
use std::fmt;

use crate::policy::Route;
use crate::units::Micros;

/// What a quiet route can save up for hedges, tokens.
const MOST_SAVED: f64 = 100_000.0;
/// Retries are held against the requests of so many seconds, the one that has begun included.
pub const RETRY_WINDOW_S: u64 = 10;
/// So many retries a window are allowed whatever the share, so that a quiet route may retry at all.
pub const LEAST_RETRIES: u32 = 3;

/// One route's account.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExtraAttempts {
    /// Tokens that hedges may take.
    saved: f64,
    /// Those of the window in which something happened, oldest first.
    seconds: VecDeque<Second>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Second {
    at: u64,
    requests: u32,
    retries: u32,
}

/// Why a request is not tried again: its route has retried as much as it may.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct RetriesSpent {
    /// Retries of the window.
    pub retries: u32,
    /// Requests of the window.
    pub requests: u32,
    /// The share that the route allows, 0 to 1.
    pub share: f64,
}

impl ExtraAttempts {
    /// Whether a route bounds them at all; else nobody need keep an account.
    pub fn bounded(route: &Route) -> bool {
        route.hedge.is_some() || route.budgets.retry_share.is_some()
    }

    /// A request of so many tokens is sent for the first time.
    pub fn sent(&mut self, now: Micros, route: &Route, tokens: u64) {
        let earned = route.hedge.map_or(0.0, |hedge| tokens as f64 * hedge.budget);
        self.saved = (self.saved + earned).min(MOST_SAVED);
        self.count(now, 1, 0);
    }

    /// Takes what a second attempt of so many tokens costs; `false` where it is not there.
    pub fn hedge(&mut self, tokens: u64) -> bool {
        let enough = self.saved >= tokens as f64;
        self.saved -= if enough { tokens as f64 } else { 0.0 };
        enough
    }

    /// Counts a further attempt, or says why there may be none.
    pub fn retry(&mut self, now: Micros, route: &Route) -> Result<(), RetriesSpent> {
        let Some(share) = route.budgets.retry_share else { return Ok(()) };
        self.forget(now);
        let sum = |count: fn(&Second) -> u32| self.seconds.iter().map(count).sum::<u32>();
        let (requests, retries) = (sum(|second| second.requests), sum(|second| second.retries));
        if f64::from(retries) + 1.0 > (f64::from(requests) * share).max(f64::from(LEAST_RETRIES)) {
            return Err(RetriesSpent { retries, requests, share });
        }
        self.count(now, 0, 1);
        Ok(())
    }

    fn count(&mut self, now: Micros, requests: u32, retries: u32) {
        self.forget(now);
        let at = second(now);
        match self.seconds.back_mut().filter(|last| last.at >= at) {
            Some(last) => (last.requests, last.retries) = (last.requests + requests, last.retries + retries),
            None => self.seconds.push_back(Second { at, requests, retries }),
        }
    }

    /// Lets go of what is older than the window.
    fn forget(&mut self, now: Micros) {
        while self.seconds.front().is_some_and(|oldest| oldest.at + RETRY_WINDOW_S <= second(now)) {
            self.seconds.pop_front();
        }
    }
}

fn second(now: Micros) -> u64 {
    now.0 / 1_000_000
}

impl fmt::Display for RetriesSpent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RetriesSpent { retries, requests, share } = self;
        let (retried, asked) =
            (if *retries == 1 { "retry" } else { "retries" }, if *requests == 1 { "request" } else { "requests" });
        let percent = (share * 1e4).round() / 1e2;
        write!(
            f,
            "{retries} {retried} for {requests} {asked} in {RETRY_WINDOW_S} s; the route allows {percent} %, at least {LEAST_RETRIES}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Budgets, Hedge, HedgeAfter};

    fn route(hedge_budget: f64, retry_share: Option<f64>) -> Route {
        let hedge = Hedge { after: HedgeAfter::Quantile(0.95), class: None, budget: hedge_budget };
        let budgets = Budgets { retry_share, ..Budgets::default() };
        Route { hedge: Some(hedge), budgets, ..Route::everything("voice") }
    }

    #[test]
    fn no_more_tokens_go_to_hedges_than_the_share_of_what_was_sent() {
        let (route, mut account) = (route(0.02, None), ExtraAttempts::default());
        assert!(!account.hedge(1), "nothing is lent");
        let hedged = (0..1_000).filter(|_| {
            account.sent(Micros(0), &route, 100);
            account.hedge(100)
        });
        assert_eq!(hedged.count(), 20);
        account.sent(Micros(0), &route, u64::MAX);
        assert!(!account.hedge(MOST_SAVED as u64 + 1) && account.hedge(MOST_SAVED as u64), "no more is saved");
    }

    #[test]
    fn retries_stay_within_their_share_of_the_last_seconds_requests() {
        let (route, mut account) = (route(0.02, Some(0.1)), ExtraAttempts::default());
        let allowed = |account: &mut ExtraAttempts, at_s, requests: u32| {
            let now = Micros::from_secs(at_s);
            (0..requests).for_each(|_| account.sent(now, &route, 1));
            (0..1_000).filter(|_| account.retry(now, &route).is_ok()).count()
        };
        assert_eq!(allowed(&mut account, 100, 1), 3, "a quiet route may retry");
        assert_eq!(allowed(&mut account, 101, 99), 7, "a tenth of a hundred, less the three");
        assert_eq!(allowed(&mut account, 109, 0), 0, "they still count");
        assert_eq!(allowed(&mut account, 110, 0), 2, "the first second has passed: 99 requests, 7 retries");
        assert_eq!(allowed(&mut account, 200, 0), 3);
        let spent = account.retry(Micros::from_secs(200), &route).unwrap_err();
        assert_eq!(spent, RetriesSpent { retries: 3, requests: 0, share: 0.1 });
        assert_eq!(spent.to_string(), "3 retries for 0 requests in 10 s; the route allows 10 %, at least 3");
    }

    #[test]
    fn a_route_without_a_budget_retries_as_often_as_its_attempts_say() {
        let (route, mut account) = (route(0.02, None), ExtraAttempts::default());
        assert!((0..1_000).all(|_| account.retry(Micros(0), &route).is_ok()));
        assert!(ExtraAttempts::bounded(&route) && !ExtraAttempts::bounded(&Route::everything("all")));
    }
}
