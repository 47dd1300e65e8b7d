//! What a shadow would have done otherwise: its decisions beside those of the policy in force, counted by class.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::classify::classify;
use crate::decide::{Candidate, Decision, Request, decide};
use crate::facts::Facts;
use crate::fleet::Fleet;
use crate::plan::Plan;
use crate::policy::{ClassId, Policy};

/// Pairs of pools that are told apart in one class; what moves between others is counted together.
const MAX_MOVES: usize = 256;
/// Stands for a pool or a class where a policy refuses.
pub const REFUSED: &str = "(refused)";
/// Stands for the pairs of pools that are not told apart.
pub const OTHERS: &str = "(others)";

/// What a policy would do with one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice<'a> {
    /// The class's name.
    pub class: &'a str,
    /// The route's name.
    pub route: &'a str,
    /// Where it goes first; `None` where it is refused.
    pub first: Option<First<'a>>,
}

/// The first attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct First<'a> {
    /// The pool's name.
    pub pool: &'a str,
    /// Index of the endpoint in the fleet view.
    pub endpoint: usize,
    /// Whether the class's promise is likely to be kept.
    pub likely_kept: bool,
    /// Predicted time to first token, milliseconds.
    pub ttft_ms: f64,
    /// Predicted price, US dollars.
    pub usd: f64,
    /// Predicted energy, joules, where the hardware's figures allow one.
    pub joules: Option<f64>,
}

impl<'a> Choice<'a> {
    /// What a policy does with a request on a view of the fleet; the same arguments give the same choice.
    pub fn make(policy: &'a Policy, facts: &Facts<'_>, fleet: Fleet<'a>, draw: u64) -> Choice<'a> {
        let Some(classified) = classify(policy, facts) else {
            return Choice { class: REFUSED, route: "", first: None }; // the caller names a class it does not have
        };
        let Decision { route, candidates, plan } = decide(&Request::new(policy, facts, classified.class), fleet, draw);
        Choice::told(policy, fleet, classified.class, route, &candidates, plan.as_ref())
    }

    /// What was decided, by name.
    pub fn told(
        policy: &'a Policy,
        fleet: Fleet<'a>,
        class: ClassId,
        route: usize,
        candidates: &[Candidate],
        plan: Option<&Plan>,
    ) -> Choice<'a> {
        let attempt = plan.and_then(|plan| plan.attempts.first());
        Choice {
            class: policy.classes.get(class.0).map_or("", |class| class.name.as_str()),
            route: policy.routes.get(route).map_or("", |route| route.name.as_str()),
            first: attempt.and_then(|attempt| first(fleet, candidates, attempt.endpoint)),
        }
    }

    fn pool(&self) -> &'a str {
        self.first.map_or(REFUSED, |first| first.pool)
    }
}

fn first<'a>(fleet: Fleet<'a>, candidates: &[Candidate], endpoint: usize) -> Option<First<'a>> {
    let scored = candidates.get(endpoint)?.verdict.as_ref().ok()?;
    let pool = fleet.pools.get(fleet.endpoints.get(endpoint)?.pool)?;
    let estimate = &scored.estimate;
    Some(First {
        pool: &pool.name,
        endpoint,
        likely_kept: scored.feasible(),
        ttft_ms: estimate.ttft_ms,
        usd: estimate.usd,
        joules: estimate.joules,
    })
}

/// What one policy's choices come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outlook {
    /// Requests it refuses.
    pub refused: u64,
    /// Requests whose promise is likely to be kept.
    pub likely_kept: u64,
    /// Sum of predicted times to first token, milliseconds.
    pub ttft_ms: f64,
    /// Sum of predicted prices, US dollars.
    pub usd: f64,
    /// Sum of predicted energies, joules, where there is one.
    pub joules: f64,
}

impl Outlook {
    fn count(&mut self, choice: &Choice<'_>) {
        let Some(first) = &choice.first else {
            self.refused += 1;
            return;
        };
        self.likely_kept += u64::from(first.likely_kept);
        self.ttft_ms += first.ttft_ms;
        self.usd += first.usd;
        self.joules += first.joules.unwrap_or(0.0);
    }
}

/// Requests of one class of the policy in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassAgreement {
    /// Requests compared.
    pub requests: u64,
    /// Those that get the same class from both.
    pub same_class: u64,
    /// Those that take the same route, by name.
    pub same_route: u64,
    /// Those that go to the same pool first.
    pub same_pool: u64,
    /// Those that go to the same endpoint first.
    pub same_endpoint: u64,
    /// What the policy in force is predicted to come to.
    pub incumbent: Outlook,
    /// What the candidate is predicted to come to.
    pub candidate: Outlook,
    /// The candidate's classes for these requests.
    pub classes: BTreeMap<String, u64>,
    /// From which pool to which pool requests go first under the one and the other.
    pub moves: BTreeMap<String, BTreeMap<String, u64>>,
}

impl ClassAgreement {
    fn count(&mut self, incumbent: &Choice<'_>, candidate: &Choice<'_>) {
        let endpoint = |choice: &Choice<'_>| choice.first.map(|first| first.endpoint);
        self.requests += 1;
        self.same_class += u64::from(incumbent.class == candidate.class);
        self.same_route += u64::from(incumbent.route == candidate.route);
        self.same_pool += u64::from(incumbent.pool() == candidate.pool());
        self.same_endpoint += u64::from(endpoint(incumbent) == endpoint(candidate));
        self.incumbent.count(incumbent);
        self.candidate.count(candidate);
        *self.classes.entry(candidate.class.to_owned()).or_default() += 1;
        let known = self.moves.get(incumbent.pool()).is_some_and(|to| to.contains_key(candidate.pool()));
        let room = known || self.moves.values().map(BTreeMap::len).sum::<usize>() < MAX_MOVES;
        let (from, to) = if room { (incumbent.pool(), candidate.pool()) } else { (OTHERS, OTHERS) };
        *self.moves.entry(from.to_owned()).or_default().entry(to.to_owned()).or_default() += 1;
    }
}

/// All classes of the policy in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// By name.
    pub classes: BTreeMap<String, ClassAgreement>,
}

impl Agreement {
    /// Counts what both would do with one request.
    pub fn count(&mut self, incumbent: &Choice<'_>, candidate: &Choice<'_>) {
        self.classes.entry(incumbent.class.to_owned()).or_default().count(incumbent, candidate);
    }

    /// Requests compared.
    pub fn requests(&self) -> u64 {
        self.classes.values().map(|class| class.requests).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: First<'_> =
        First { pool: "gpu", endpoint: 0, likely_kept: true, ttft_ms: 200.0, usd: 0.25, joules: Some(8.0) };
    const THERE: First<'_> = First { pool: "wafer", endpoint: 3, ttft_ms: 40.0, usd: 0.5, joules: None, ..HERE };

    fn choice<'a>(class: &'a str, first: Option<First<'a>>) -> Choice<'a> {
        Choice { class, route: "all", first }
    }

    #[test]
    fn what_both_do_is_counted_by_the_class_of_the_policy_in_force() {
        let mut agreement = Agreement::default();
        let incumbent = choice("standard", Some(HERE));
        agreement.count(&incumbent, &incumbent);
        agreement.count(&incumbent, &choice("realtime", Some(THERE)));
        agreement.count(&incumbent, &choice(REFUSED, None));
        assert_eq!((agreement.requests(), agreement.classes.len()), (3, 1));
        let standard = &agreement.classes["standard"];
        assert_eq!((standard.same_class, standard.same_route), (1, 3));
        assert_eq!((standard.same_pool, standard.same_endpoint), (1, 1));
        assert_eq!((standard.incumbent.usd, standard.candidate.usd), (0.75, 0.75));
        assert_eq!((standard.incumbent.likely_kept, standard.candidate.likely_kept), (3, 2));
        assert_eq!((standard.incumbent.refused, standard.candidate.refused), (0, 1));
        assert_eq!((standard.incumbent.joules, standard.candidate.joules), (24.0, 8.0));
        assert_eq!(standard.moves["gpu"]["wafer"], 1);
        assert_eq!(standard.moves["gpu"][REFUSED], 1);
        assert_eq!(standard.classes["realtime"], 1);
    }

    #[test]
    fn pairs_of_pools_are_bounded() {
        let mut agreement = Agreement::default();
        for number in 0..1_000 {
            let pool = format!("pool-{number}");
            let first = Some(First { pool: &pool, ..HERE });
            agreement.count(&choice("standard", Some(HERE)), &choice("standard", first));
        }
        let moves = &agreement.classes["standard"].moves;
        let told: usize = moves.values().map(BTreeMap::len).sum();
        assert_eq!((told, moves[OTHERS][OTHERS]), (MAX_MOVES + 1, 1_000 - MAX_MOVES as u64));
    }
}
