//! A perfect predictor, for baselines that are granted one: a machine like each endpoint, without its chance, to which
//! everything is sent that was sent there. What a request would experience is tried out on a clone.

use pointsman_backends::simulators::engine::{Admission, Emission, Engine, Job};
use pointsman_backends::simulators::profile::{Detail, Profile};
use pointsman_policies::fleet::PoolFacts;
use pointsman_policies::units::Micros;

use super::at_once::{Choice, Kept};
use super::column::Column;

/// What a request would experience, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Predicted {
    /// Time to first token.
    pub ttft_ms: f64,
    /// Time per output token after the first.
    pub itl_ms: f64,
    /// Time to the whole answer.
    pub total_ms: f64,
}

impl Predicted {
    /// Never.
    pub const NEVER: Predicted = Predicted { ttft_ms: f64::INFINITY, itl_ms: f64::INFINITY, total_ms: f64::INFINITY };

    /// The share of the scarcest part of the promise that would be left over, 1 at the most; negative where it would be
    /// broken. Infinitely late is the least there is.
    pub fn headroom(&self, request: &Kept) -> f64 {
        let (ttft, pace) = self.headrooms(request);
        ttft.min(pace)
    }

    /// The share left over of the time to first token (or to the whole answer, where that is scarcer) and of the pace.
    pub fn headrooms(&self, request: &Kept) -> (f64, f64) {
        let left = |predicted: f64, bound: Option<f64>| bound.map_or(1.0, |bound| 1.0 - predicted / bound);
        let slo = &request.slo;
        let whole = left(self.total_ms, slo.deadline_ms);
        if request.streamed {
            return (left(self.ttft_ms, slo.ttft_ms).min(whole), left(self.itl_ms, slo.itl_ms));
        }
        let pace_ms = slo.itl_ms.unwrap_or(0.0) * request.predicted_output_tokens.saturating_sub(1) as f64;
        (left(self.total_ms, slo.ttft_ms.map(|ttft_ms| ttft_ms + pace_ms)).min(whole), 1.0)
    }
}

/// A machine like each endpoint.
#[derive(Debug, Default)]
pub struct Mirror {
    machines: Column<Option<Engine>>,
    sent: Vec<Emission>,
}

impl Mirror {
    /// What the request would experience at an endpoint if it were the last to come.
    pub fn predict(&mut self, choice: &Choice<'_>, endpoint: usize) -> Predicted {
        let Some(pool) = choice.seen.pool(endpoint) else { return Predicted::NEVER };
        self.catch_up(choice.now, pool, endpoint);
        let Some(machine) = self.machines.of(endpoint) else { return Predicted::NEVER };
        let mut trial = machine.clone();
        if trial.submit(choice.now, job(choice.request)) != Admission::Accepted {
            return Predicted::NEVER;
        }
        self.sent.clear();
        let mut first = None;
        while let Some(at) = trial.next_event() {
            let before = self.sent.len();
            trial.advance(at.max(choice.now), &mut self.sent);
            for emission in self.sent.iter().skip(before).filter(|sent| sent.id == u64::from(choice.request.id)) {
                let first = *first.get_or_insert(emission.at);
                if emission.last {
                    return predicted(choice, pool, first, emission.at);
                }
            }
        }
        Predicted::NEVER
    }

    /// The request was sent there.
    pub fn submit(&mut self, choice: &Choice<'_>, endpoint: usize) {
        let Some(pool) = choice.seen.pool(endpoint) else { return };
        self.catch_up(choice.now, pool, endpoint);
        if let Some(machine) = self.machines.of(endpoint) {
            machine.submit(choice.now, job(choice.request));
        }
    }

    /// The request is no longer there.
    pub fn remove(&mut self, now: Micros, request: u32, endpoint: usize) {
        if let Some(machine) = self.machines.of(endpoint) {
            self.sent.clear();
            machine.advance(now, &mut self.sent);
            machine.cancel(now, u64::from(request));
        }
    }

    fn catch_up(&mut self, now: Micros, pool: &PoolFacts, endpoint: usize) {
        let machine = self.machines.of(endpoint).get_or_insert_with(|| Engine::new(certain(pool), 0));
        self.sent.clear();
        machine.advance(now, &mut self.sent);
    }
}

/// The pool's machine without chance and without limits: a limit is not latency.
fn certain(pool: &PoolFacts) -> Profile {
    let mut profile = Profile::new(pool.kind, pool.service.clone());
    profile.service.jitter_sigma = 0.0;
    profile.tail = None;
    profile.detail = Detail::Ends;
    profile
}

fn job(request: &Kept) -> Job {
    Job {
        id: u64::from(request.id),
        prompt_tokens: request.input_tokens,
        output_tokens: request.predicted_output_tokens,
        reserved_output_tokens: request.predicted_output_tokens,
        ..Job::default()
    }
}

fn predicted(choice: &Choice<'_>, pool: &PoolFacts, first: Micros, last: Micros) -> Predicted {
    let gaps = choice.request.predicted_output_tokens.saturating_sub(1).max(1) as f64;
    Predicted {
        ttft_ms: (first - choice.now).as_ms() + pool.round_trip_ms,
        itl_ms: (last - first).as_ms() / gaps,
        total_ms: (last - choice.now).as_ms() + pool.round_trip_ms,
    }
}
