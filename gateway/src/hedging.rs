//! What second attempts may spend: a share of each route's tokens, earned by its requests; kept by the route's name,
//! so that a reload forgets nothing.

use std::collections::HashMap;

use parking_lot::Mutex;
use pointsman_policies::policy::Route;

use crate::gateway::Gateway;
use crate::record::Record;

/// What a quiet route can save up, tokens.
const MOST_SAVED: f64 = 100_000.0;
/// Routes whose budgets are kept; names come from operators, so this is never reached.
const MOST_ROUTES: usize = 1_024;

/// Tokens that second attempts may spend, by route.
#[derive(Debug, Default)]
pub struct HedgeBudgets(Mutex<HashMap<String, f64>>);

impl HedgeBudgets {
    /// A request of so many tokens was sent on a route of which this share may be spent.
    pub fn earn(&self, route: &str, tokens: u64, share: f64) {
        let mut saved = self.0.lock();
        if let Some(saved) = saved.get_mut(route) {
            *saved = (*saved + tokens as f64 * share).min(MOST_SAVED);
        } else if saved.len() < MOST_ROUTES {
            saved.insert(route.to_owned(), tokens as f64 * share);
        }
    }

    /// Takes what a second attempt of so many tokens costs; `false` where it is not there.
    pub fn spend(&self, route: &str, tokens: u64) -> bool {
        let mut saved = self.0.lock();
        let enough = saved.get_mut(route).filter(|saved| **saved >= tokens as f64);
        enough.map(|saved| *saved -= tokens as f64).is_some()
    }
}

/// A request is sent on its route, which may be one that hedges.
pub fn earn(gateway: &Gateway, record: &Record) {
    if let Some((route, tokens)) = route(record)
        && let Some(hedge) = route.hedge
    {
        gateway.hedges().earn(&route.name, tokens, hedge.budget);
    }
}

/// Takes what a second attempt at a request costs from its route's budget; `false` where it is not there.
pub fn spend(gateway: &Gateway, record: &Record) -> bool {
    route(record).is_some_and(|(route, tokens)| gateway.hedges().spend(&route.name, tokens))
}

fn route(record: &Record) -> Option<(&Route, u64)> {
    let made = record.decision.as_ref()?;
    let route = made.deciding().policy.routes.get(made.route)?;
    Some((route, made.facts.input_tokens + made.facts.output_tokens))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_spent_than_the_share_of_what_was_sent() {
        let budgets = HedgeBudgets::default();
        let spent = (0..1_000).filter(|_| {
            budgets.earn("voice", 100, 0.02);
            budgets.spend("voice", 100)
        });
        assert_eq!(spent.count(), 20);
        assert!(!budgets.spend("other", 1));
        budgets.earn("voice", u64::MAX, 1.0);
        assert!(!budgets.spend("voice", 100_001) && budgets.spend("voice", 100_000));
    }
}
