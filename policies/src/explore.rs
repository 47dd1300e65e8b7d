//! Exploration: what is believed of machines that nobody uses is never corrected by itself, so work that has time goes
//! and sees. One request at a time to a pool, and only where it keeps its promise even if the machine is far slower than
//! is believed.

use crate::decide::{Candidate, Request};
use crate::estimate::Estimate;
use crate::fleet::Fleet;
use crate::learned::{Known, Margin};
use crate::policy::Slo;
use crate::score::{Promise, strain};

/// A machine of which little is known may take so many times as long as is believed.
const AT_WORST: f64 = 4.0;

/// A first attempt that is made to learn how a machine serves.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Explored {
    /// Index of the endpoint in the fleet view.
    pub endpoint: usize,
    /// What is known of its pool.
    pub known: Known,
}

/// Puts a machine first in a ranking that is worth a look, where the request's class may be used for that.
pub fn explore(
    (request, slo): (&Request<'_>, &Slo),
    ranking: Vec<usize>,
    candidates: &[Candidate],
    fleet: Fleet<'_>,
) -> (Vec<usize>, Option<Explored>) {
    match to_learn_of((request, slo), &ranking, candidates, fleet) {
        Some(explored) => {
            let others = ranking.into_iter().filter(|index| *index != explored.endpoint);
            (std::iter::once(explored.endpoint).chain(others).collect(), Some(explored))
        }
        None => (ranking, None),
    }
}

fn to_learn_of(
    (request, slo): (&Request<'_>, &Slo),
    ranking: &[usize],
    candidates: &[Candidate],
    fleet: Fleet<'_>,
) -> Option<Explored> {
    let known = &fleet.learned.known;
    let explores = request.policy.classes.get(request.class.0).is_some_and(|class| class.explores);
    if known.is_empty() || !explores || !request.mechanisms.exploration || *slo == Slo::default() {
        return None;
    }
    let pool = |candidate: &Candidate| fleet.endpoints.get(candidate.endpoint).map(|endpoint| endpoint.pool);
    let first = candidates.get(*ranking.first()?)?;
    let promise = Promise { slo: *slo, margin: Margin { ttft: 1.0, itl: 1.0 } };
    let worth = |candidate: &&Candidate| {
        let kept_at_worst = |estimate| strain(&promise, &at_worst(estimate), request.facts) <= 1.0;
        let able = candidate.verdict.is_ok_and(|scored| scored.room && kept_at_worst(scored.estimate));
        able && candidate.tier == first.tier && pool(candidate) != pool(first)
    };
    let unused = |pool: usize| fleet.endpoints.iter().all(|other| other.pool != pool || other.in_flight == 0);
    let explored = |candidate: &Candidate| {
        let pool = pool(candidate)?;
        let known = known.get(pool).copied().filter(|known| *known != Known::Well)?;
        unused(pool).then_some(Explored { endpoint: candidate.endpoint, known })
    };
    candidates.iter().filter(worth).filter_map(explored).min_by_key(|explored| explored.known)
}

fn at_worst(estimate: Estimate) -> Estimate {
    let Estimate { wait_ms, ttft_ms, itl_ms, total_ms, .. } = estimate;
    let worst = |figure_ms: f64| figure_ms * AT_WORST;
    let (ttft_ms, itl_ms, total_ms) = (worst(ttft_ms), worst(itl_ms), worst(total_ms));
    Estimate { wait_ms: worst(wait_ms), ttft_ms, itl_ms, total_ms, ..estimate }
}
