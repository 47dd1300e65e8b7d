//! What will be attempted, in what order, and how long each attempt may take.

use crate::decide::Candidate;
use crate::estimate::{Demand, Estimate};
use crate::explore::Explored;
use crate::facts::Facts;
use crate::fleet::Fleet;
use crate::hedge::Hedge;
use crate::policy::{Budgets, Slo};

/// The first attempt and at most two more, where the route does not say.
pub const DEFAULT_ATTEMPTS: usize = 3;
/// The most attempts a route may ask for: beyond this, retries are load and no remedy.
pub const MAX_ATTEMPTS: usize = 8;

/// What has come of a request's attempts so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// All of them.
    pub attempts: usize,
    /// Those that failed, but for machines that only asked for patience.
    pub failed: usize,
}

impl Tried {
    /// Whether there may be another. A machine that asks for patience has done nothing yet, so that is no failure; but
    /// nobody asks for ever.
    pub fn may_go_on(self, budgets: &Budgets) -> bool {
        self.attempts < MAX_ATTEMPTS && self.failed < budgets.attempts
    }
}

/// The least time an attempt gets for its first byte, milliseconds.
const FIRST_BYTE_FLOOR_MS: f64 = 5_000.0;
/// How many times the promised first token an attempt may take before it is given up.
const FIRST_BYTE_PER_SLO: f64 = 10.0;
/// How many times the predicted duration an answer that comes whole may take.
const WHOLE_ANSWER_PER_ESTIMATE: f64 = 4.0;
/// The least time an answer that comes whole gets, milliseconds.
const WHOLE_ANSWER_FLOOR_MS: f64 = 60_000.0;
/// How long an answer may become whose caller set no bound, tokens: a long chain of reasoning.
const LONGEST_ANSWER_TOKENS: u64 = 32_768;

/// One attempt.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Attempt {
    /// Index of the endpoint in the fleet view.
    pub endpoint: usize,
    /// Give up and try the next when nothing has come within this many milliseconds.
    pub first_byte_ms: f64,
}

/// The attempts in order; never empty.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Plan {
    /// At most [`MAX_ATTEMPTS`].
    pub attempts: Vec<Attempt>,
    /// Cut the answer this long after its first byte, milliseconds; by the process's limit where `None`.
    pub total_ms: Option<f64>,
    /// How it is held until the first endpoint has room; it is sent at once where `None`.
    pub hold: Option<Hold>,
    /// The attempt that is made beside the first where that is slow.
    #[serde(default)]
    pub hedge: Option<Hedge>,
    /// The first attempt is made to learn how its machine serves; `None` where it is made because it is best.
    #[serde(default)]
    pub explored: Option<Explored>,
}

impl Plan {
    /// The endpoints that it names, the hedge's last.
    pub fn named(&self) -> impl Iterator<Item = usize> {
        self.attempts.iter().map(|attempt| attempt.endpoint).chain(self.hedge.map(|hedge| hedge.endpoint))
    }
}

/// A request that is held by the gateway before its first attempt.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Hold {
    /// Index of the pool that it waits for.
    pub pool: usize,
    /// How much later it may be sent with its promise still likely to be kept, milliseconds; negative where it is late.
    pub slack_ms: f64,
}

/// Slack of a request that nothing is promised, milliseconds.
const UNPROMISED_SLACK_MS: f64 = 60_000.0;

/// Plans the best of a ranking. `None` if it is empty.
pub fn plan(
    candidates: &[Candidate],
    ranking: &[usize],
    slo: &Slo,
    facts: &Facts<'_>,
    budgets: &Budgets,
) -> Option<Plan> {
    let first_byte_ms =
        |candidate: &Candidate| budgets.first_byte_ms.unwrap_or_else(|| first_byte_ms(candidate, slo, facts));
    let attempts: Vec<Attempt> = ranking
        .iter()
        .filter_map(|&index| candidates.get(index))
        .take(budgets.attempts.min(MAX_ATTEMPTS))
        .map(|candidate| Attempt { endpoint: candidate.endpoint, first_byte_ms: first_byte_ms(candidate) })
        .collect();
    if attempts.is_empty() {
        None
    } else {
        Some(Plan { attempts, total_ms: budgets.total_ms, hold: None, hedge: None, explored: None })
    }
}

/// How a request is held whose best candidate has no room; `None` where it has.
pub fn hold(first: &Candidate, slo: &Slo, facts: &Facts<'_>, fleet: Fleet<'_>) -> Option<Hold> {
    first.verdict.as_ref().ok().filter(|scored| !scored.room)?;
    let endpoint = fleet.endpoint(first.endpoint)?;
    let (index, pool) = (endpoint.pool, fleet.pools.get(endpoint.pool)?);
    // Without those before it: who comes later must not seem more pressed because of them.
    let alone = Demand::new(facts, pool, fleet.service(index)?, pool.model(facts.model)?).at(facts, &endpoint);
    Some(Hold { pool: index, slack_ms: slack_ms(&alone, slo, facts) })
}

/// How much later a request may be sent than now: what is promised, less what it takes once it is sent. The promise is
/// counted in full here: who has less slack goes first, and nobody is given up before it is broken.
pub(crate) fn slack_ms(estimate: &Estimate, slo: &Slo, facts: &Facts<'_>) -> f64 {
    let (ttft_ms, total_ms) = (estimate.ttft_ms - estimate.wait_ms, estimate.total_ms - estimate.wait_ms);
    let later_tokens = facts.output_tokens.saturating_sub(1) as f64;
    let first = slo.ttft_ms.map(|bound_ms| match facts.stream {
        true => bound_ms - ttft_ms,
        false => bound_ms + slo.itl_ms.unwrap_or(0.0) * later_tokens - total_ms,
    });
    let deadline = slo.deadline_ms.map(|bound_ms| bound_ms - total_ms);
    let least = [first, deadline].into_iter().flatten().min_by(f64::total_cmp);
    least.map_or(UNPROMISED_SLACK_MS, |least| least) - facts.waited_ms
}

/// A machine that does not stream says nothing before the last token, so a whole answer gets the time of the longest
/// answer that the caller allows, not of the expected one.
fn first_byte_ms(candidate: &Candidate, slo: &Slo, facts: &Facts<'_>) -> f64 {
    let estimate = candidate.verdict.as_ref().map(|scored| scored.estimate).unwrap_or_default();
    let promised = slo.ttft_ms.map_or(slo.deadline_ms.unwrap_or(0.0), |ttft_ms| ttft_ms * FIRST_BYTE_PER_SLO);
    let streamed = FIRST_BYTE_FLOOR_MS.max(promised).max(estimate.ttft_ms * 2.0);
    if facts.stream {
        streamed
    } else {
        let tokens = facts.max_output_tokens.unwrap_or(LONGEST_ANSWER_TOKENS).max(facts.output_tokens) as f64;
        let longest_ms = estimate.ttft_ms + estimate.itl_ms * tokens;
        streamed.max(WHOLE_ANSWER_FLOOR_MS).max(longest_ms * WHOLE_ANSWER_PER_ESTIMATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_that_ask_for_patience_are_asked_more_often_than_those_that_fail() {
        let budgets = Budgets::default();
        let asked = |patience, failed| Tried { attempts: patience + failed, failed }.may_go_on(&budgets);
        let most = |asked: &dyn Fn(usize) -> bool| (0..100).find(|tried| !asked(*tried));
        assert_eq!(most(&|failed| asked(0, failed)), Some(DEFAULT_ATTEMPTS));
        assert_eq!(most(&|patience| asked(patience, 0)), Some(MAX_ATTEMPTS));
        assert!(asked(5, 2) && !asked(6, 2) && !asked(1, 3));
    }
}
