//! A fingerprint of a decision: two are equal exactly where every index and every bit of every number is. Recordings
//! keep it, so that a decision can be shown to come out the same when it is made again.

use xxhash_rust::xxh3::Xxh3Default;

use crate::decide::Candidate;
use crate::filter::Rejection;
use crate::plan::Plan;
use crate::policy::ClassId;

/// The fingerprint of a decision, of its parts as [`crate::decide::Decision`] has them.
pub fn digest(class: ClassId, route: usize, candidates: &[Candidate], plan: Option<&Plan>) -> u64 {
    let mut words = Words(Xxh3Default::new());
    words.counts([class.0, route, candidates.len()]);
    for candidate in candidates {
        words.candidate(candidate);
    }
    let attempts = plan.map(|plan| plan.attempts.as_slice()).unwrap_or_default();
    words.counts([attempts.len()]);
    for attempt in attempts {
        words.counts([attempt.endpoint]);
        words.numbers([attempt.first_byte_ms]);
    }
    words.maybe(plan.and_then(|plan| plan.total_ms));
    let hold = plan.and_then(|plan| plan.hold);
    words.maybe(hold.map(|hold| hold.slack_ms));
    words.counts([hold.map_or(0, |hold| hold.pool)]);
    if let Some(hedge) = plan.and_then(|plan| plan.hedge) {
        words.counts([hedge.endpoint]);
        words.numbers([hedge.after_ms]);
    }
    words.0.digest()
}

struct Words(Xxh3Default);

impl Words {
    fn word(&mut self, word: u64) {
        self.0.update(&word.to_le_bytes());
    }

    fn counts<const N: usize>(&mut self, counts: [usize; N]) {
        counts.into_iter().for_each(|count| self.word(count as u64));
    }

    fn numbers<const N: usize>(&mut self, numbers: [f64; N]) {
        numbers.into_iter().for_each(|number| self.word(number.to_bits()));
    }

    fn maybe(&mut self, number: Option<f64>) {
        self.word(u64::from(number.is_some()));
        self.numbers([number.unwrap_or_default()]);
    }

    fn candidate(&mut self, candidate: &Candidate) {
        self.counts([candidate.endpoint, candidate.in_flight as usize, usize::from(candidate.tier)]);
        match &candidate.verdict {
            Ok(scored) => {
                let estimate = &scored.estimate;
                self.counts([0, usize::from(scored.home), usize::from(scored.room), usize::from(scored.lost)]);
                self.numbers([scored.strain, scored.score, scored.effective_usd]);
                self.numbers([estimate.wait_ms, estimate.ttft_ms, estimate.itl_ms, estimate.total_ms, estimate.usd]);
                self.numbers([estimate.saved_usd]);
                self.maybe(estimate.joules);
                self.maybe(estimate.grams_co2);
            }
            Err(rejection) => {
                self.word(1);
                self.rejection(*rejection);
            }
        }
    }

    fn rejection(&mut self, rejection: Rejection) {
        self.0.update(rejection.as_str().as_bytes());
        match rejection {
            Rejection::Model | Rejection::Route | Rejection::Excluded | Rejection::Pinned | Rejection::Draining => {}
            Rejection::Price { usd, ceiling } => self.numbers([usd, ceiling]),
            Rejection::Concurrency { in_flight, allowed } => self.counts([in_flight as usize, allowed as usize]),
            Rejection::Budget { period, spent_usd, usd, retry_in_ms } => {
                self.counts([period as usize]);
                self.numbers([spent_usd, usd, retry_in_ms]);
            }
            Rejection::VendorShare { share, allowed } => self.numbers([share, allowed]),
            Rejection::Power { kw, allowed_kw } => self.numbers([kw, allowed_kw]),
            Rejection::Context { needed, allowed } | Rejection::BeyondLease { needed, allowed } => {
                self.word(needed);
                self.word(allowed);
            }
            Rejection::BreakerOpen { retry_in_ms } | Rejection::BackPressure { retry_in_ms } => {
                self.numbers([retry_in_ms]);
            }
            Rejection::RequestLease { ready_in_ms } => self.numbers([ready_in_ms]),
            Rejection::TokenLease { needed, left, ready_in_ms } => {
                self.word(needed);
                self.word(left);
                self.numbers([ready_in_ms]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::Scored;
    use crate::estimate::Estimate;
    use crate::plan::Attempt;

    fn scored(ttft_ms: f64) -> Candidate {
        let estimate = Estimate { ttft_ms, ..Estimate::default() };
        let verdict =
            Ok(Scored { estimate, strain: 0.5, effective_usd: 1.0, lost: false, room: true, score: 1.0, home: false });
        Candidate { endpoint: 0, in_flight: 3, tier: 0, verdict }
    }

    #[test]
    fn the_last_bit_of_a_number_and_every_choice_count() {
        let plan = Plan {
            attempts: vec![Attempt { endpoint: 0, first_byte_ms: 5.0 }],
            total_ms: None,
            hold: None,
            hedge: None,
            explored: None,
        };
        let of = |candidate: Candidate, plan: Option<&Plan>| digest(ClassId(1), 2, &[candidate], plan);
        let base = of(scored(0.1), Some(&plan));
        assert_eq!(base, of(scored(0.1), Some(&plan.clone())));
        let rejected = Candidate { verdict: Err(Rejection::BreakerOpen { retry_in_ms: 1.0 }), ..scored(0.1) };
        let later = Candidate { verdict: Err(Rejection::BreakerOpen { retry_in_ms: 1.5 }), ..scored(0.1) };
        let others = [
            of(scored(f64::from_bits(0.1f64.to_bits() + 1)), Some(&plan)),
            of(Candidate { in_flight: 4, ..scored(0.1) }, Some(&plan)),
            of(scored(0.1), None),
            of(scored(0.1), Some(&Plan { total_ms: Some(0.0), ..plan.clone() })),
            of(rejected, Some(&plan)),
            of(later, Some(&plan)),
            digest(ClassId(0), 2, &[scored(0.1)], Some(&plan)),
            digest(ClassId(1), 3, &[scored(0.1)], Some(&plan)),
        ];
        for (index, other) in others.iter().enumerate() {
            assert_ne!(*other, base, "{index}");
            assert!(!others[..index].contains(other), "{index} is the same as one before");
        }
    }
}
