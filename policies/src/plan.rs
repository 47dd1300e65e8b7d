//! What will be attempted, in what order, and how long each attempt may take.

use crate::decide::Candidate;
use crate::policy::Slo;

/// The first attempt and at most two more.
pub const MAX_ATTEMPTS: usize = 3;

/// The least time an attempt gets for its first byte, milliseconds.
const FIRST_BYTE_FLOOR_MS: f64 = 5_000.0;
/// How many times the promised first token an attempt may take before it is given up.
const FIRST_BYTE_PER_SLO: f64 = 10.0;
/// How many times the predicted duration an answer that comes whole may take.
const WHOLE_ANSWER_PER_ESTIMATE: f64 = 4.0;
/// The least time an answer that comes whole gets, milliseconds.
const WHOLE_ANSWER_FLOOR_MS: f64 = 60_000.0;

/// One attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attempt {
    /// Index of the endpoint in the fleet view.
    pub endpoint: usize,
    /// Give up and try the next when nothing has come within this many milliseconds.
    pub first_byte_ms: f64,
}

/// The attempts in order; never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// At most [`MAX_ATTEMPTS`].
    pub attempts: Vec<Attempt>,
}

/// Plans the best of a ranking. `None` if it is empty.
pub fn plan(candidates: &[Candidate], ranking: &[usize], slo: &Slo, stream: bool) -> Option<Plan> {
    let attempts: Vec<Attempt> = ranking
        .iter()
        .filter_map(|&index| candidates.get(index))
        .take(MAX_ATTEMPTS)
        .map(|candidate| Attempt { endpoint: candidate.endpoint, first_byte_ms: first_byte_ms(candidate, slo, stream) })
        .collect();
    if attempts.is_empty() { None } else { Some(Plan { attempts }) }
}

fn first_byte_ms(candidate: &Candidate, slo: &Slo, stream: bool) -> f64 {
    let estimate = candidate.verdict.as_ref().map(|scored| scored.estimate).unwrap_or_default();
    let promised = slo.ttft_ms.map_or(slo.deadline_ms.unwrap_or(0.0), |ttft_ms| ttft_ms * FIRST_BYTE_PER_SLO);
    let streamed = FIRST_BYTE_FLOOR_MS.max(promised).max(estimate.ttft_ms * 2.0);
    if stream {
        streamed
    } else {
        streamed.max(WHOLE_ANSWER_FLOOR_MS).max(estimate.total_ms * WHOLE_ANSWER_PER_ESTIMATE)
    }
}
