//! Request by request: what became of it on one side, and what the decision that sent it knew.

use std::cell::RefCell;
use std::rc::Rc;

use pointsman::record::{DecisionRecord, Record};
use pointsman::simulation::pointsman::Pointsman;
use pointsman::simulation::router::{Act, Arrival, Ended, Predicted, Router, Seen, TurnedAway};
use pointsman_policies::attain::Observed;
use pointsman_policies::units::Micros;

/// One request on one side.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// When it came, milliseconds after the beginning.
    pub at_ms: f64,
    /// How late it was asked, because a timer fired late; milliseconds, zero in a simulation.
    pub late_ms: f64,
    /// The endpoint it was sent to last, by its place in the portfolio.
    pub endpoint: Option<usize>,
    /// How often it was sent.
    pub attempts: u32,
    /// From its coming to when it was first sent, milliseconds.
    pub held_ms: f64,
    /// What the decision that sent it knew.
    pub known: Known,
    /// As its caller saw it; `None` where no whole answer came.
    pub observed: Option<Observed>,
}

/// What a decision knew of the endpoint it chose, and what it expected of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// Prompt, tokens.
    pub input_tokens: u64,
    /// Answer, tokens.
    pub output_tokens: u64,
    /// Requests in flight there.
    pub in_flight: u32,
    /// Their prompt tokens not yet computed.
    pub prefill_tokens: u64,
    /// Tokens left of the provider's limit.
    pub lease_tokens: f64,
    /// Time to first token expected, milliseconds.
    pub ttft_ms: f64,
    /// Time per output token expected, milliseconds.
    pub itl_ms: f64,
    /// What multiplies expectations for load that nobody tells of: TTFT, ITL.
    pub factors: (f64, f64),
}

impl Known {
    /// From the record of a decision.
    pub fn of(made: &DecisionRecord, endpoint: usize) -> Known {
        let planned = made.planned(endpoint);
        let estimate = planned.and_then(|planned| Some(planned.candidate.verdict.as_ref().ok()?.estimate));
        let state = planned.map(|planned| &planned.state);
        Known {
            input_tokens: made.facts.input_tokens,
            output_tokens: made.facts.output_tokens,
            in_flight: state.map_or(0, |state| state.in_flight),
            prefill_tokens: state.map_or(0, |state| state.prefill_tokens),
            lease_tokens: state.and_then(|state| state.lease).map_or(f64::INFINITY, |lease| lease.tokens),
            ttft_ms: estimate.map_or(f64::NAN, |estimate| estimate.ttft_ms),
            itl_ms: estimate.map_or(f64::NAN, |estimate| estimate.itl_ms),
            factors: state.map_or((1.0, 1.0), |state| (state.ttft_factor, state.itl_factor)),
        }
    }
}

impl Told {
    /// What the gateway remembers of a request.
    pub fn of_record(record: &Record) -> Told {
        let Some(made) = &record.decision else { return Told::default() };
        let endpoint = record.attempts.last().map(|attempt| attempt.index);
        Told {
            endpoint,
            attempts: record.attempts.len() as u32,
            held_ms: record.attempts.first().map_or(0.0, |attempt| attempt.began.as_secs_f64() * 1e3),
            known: endpoint.map_or_else(Known::default, |endpoint| Known::of(made, endpoint)),
            ..Told::default()
        }
    }
}

/// Pointsman's router, watched.
pub struct Watched {
    /// The router.
    pub router: Pointsman,
    /// What it did, by the number of the request.
    pub told: Rc<RefCell<Vec<Told>>>,
}

impl Watched {
    fn saw(&self, now: Micros, acts: &[Act]) {
        for act in acts {
            let Act::Send { request, endpoint } = act else { continue };
            let mut told = self.told.borrow_mut();
            let told = &mut told[*request as usize];
            if told.attempts == 0 {
                told.held_ms = now.as_ms() - told.at_ms;
            }
            told.attempts += 1;
            told.endpoint = Some(*endpoint);
            if let Some(made) = self.router.made(*request) {
                told.known = Known::of(made, *endpoint);
            }
        }
    }
}

impl Router for Watched {
    fn name(&self) -> &str {
        self.router.name()
    }

    fn arrive(&mut self, now: Micros, arrival: &Arrival<'_>, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        self.told.borrow_mut()[arrival.id as usize].at_ms = now.as_ms();
        self.router.arrive(now, arrival, seen, acts);
        self.saw(now, acts);
    }

    fn first_token(&mut self, now: Micros, request: u32, endpoint: usize, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        self.router.first_token(now, request, endpoint, seen, acts);
        self.saw(now, acts);
    }

    fn ended(&mut self, now: Micros, ended: &Ended, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        if !ended.broken {
            let told = &mut self.told.borrow_mut()[ended.request as usize];
            let before_ms = ended.sent.as_ms() - told.at_ms;
            told.observed = Some(Observed {
                streamed: ended.ttft_ms.is_some(),
                ttft_ms: ended.ttft_ms.map(|ttft_ms| before_ms + ttft_ms),
                itl_ms: ended.itl_ms,
                total_ms: now.as_ms() - told.at_ms,
                output_tokens: ended.output_tokens,
            });
        }
        self.router.ended(now, ended, seen, acts);
        self.saw(now, acts);
    }

    fn turned_away(&mut self, now: Micros, away: &TurnedAway, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        self.router.turned_away(now, away, seen, acts);
        self.saw(now, acts);
    }

    fn predicted(&self, request: u32, endpoint: usize) -> Option<Predicted> {
        self.router.predicted(request, endpoint)
    }

    fn next_wake(&self) -> Option<Micros> {
        self.router.next_wake()
    }

    fn wake(&mut self, now: Micros, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        self.router.wake(now, seen, acts);
        self.saw(now, acts);
    }
}
