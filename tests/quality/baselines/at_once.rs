//! What baselines have in common that send each request as soon as it comes: who may be asked, and what is done when a
//! machine says no.

use std::collections::HashMap;

use fastrand::Rng;
use pointsman::simulation::router::{Act, Arrival, Ended, Router, Seen, TurnedAway};
use pointsman_policies::fleet::{PoolFacts, ServiceModel};
use pointsman_policies::policy::Slo;
use pointsman_policies::units::Micros;

/// A request is sent at most this often: once, and twice more where it was turned away.
pub const ATTEMPTS: usize = 3;
/// What a refused caller is told where no machine said anything, milliseconds.
const RETRY_AFTER_MS: f64 = 1_000.0;

/// What a baseline needs of a request, kept until it ends.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its number.
    pub id: u32,
    /// Index of its class.
    pub class: usize,
    /// Its promise.
    pub slo: Slo,
    /// Whether the answer is streamed.
    pub streamed: bool,
    /// Prompt as the gateway reckons it, tokens.
    pub input_tokens: u64,
    /// The answer as a granted predictor foretells it, tokens.
    pub predicted_output_tokens: u64,
    /// The most the caller allows, tokens: machines and limits reckon with it.
    pub max_output_tokens: u64,
    /// The prompt as a chain of hashes.
    pub prefix: Vec<u64>,
    /// When it came.
    pub arrived: Micros,
    /// When it was last sent.
    pub sent: Micros,
    /// Where it was sent so far.
    pub tried: Vec<usize>,
}

impl Kept {
    /// Keeps what matters of an arrival.
    pub fn of(now: Micros, arrival: &Arrival<'_>) -> Kept {
        Kept {
            id: arrival.id,
            class: arrival.class.0,
            slo: arrival.slo,
            streamed: arrival.facts.stream,
            input_tokens: arrival.facts.input_tokens,
            predicted_output_tokens: arrival.predicted_output_tokens.max(1),
            max_output_tokens: arrival.facts.max_output_tokens.unwrap_or(0),
            prefix: arrival.prefix.to_vec(),
            arrived: now,
            sent: now,
            tried: Vec::new(),
        }
    }

    /// Whether prompt and answer fit a machine of this pool.
    pub fn fits(&self, pool: &PoolFacts) -> bool {
        let context = pool.models.first().and_then(|model| model.context).unwrap_or(u64::MAX);
        let longest = context.min(pool.service.kv_tokens.unwrap_or(u64::MAX));
        self.input_tokens + self.predicted_output_tokens.max(self.max_output_tokens) <= longest
    }
}

/// One choice to make.
#[derive(Clone, Copy)]
pub struct Choice<'a> {
    /// Now.
    pub now: Micros,
    /// For whom.
    pub request: &'a Kept,
    /// The fleet.
    pub seen: &'a Seen<'a>,
    /// Endpoints that may be asked; never empty.
    pub open: &'a [usize],
}

impl Choice<'_> {
    /// How an endpoint serves.
    pub fn service(&self, endpoint: usize) -> Option<&ServiceModel> {
        self.seen.pool(endpoint).map(|pool| &pool.service)
    }

    /// Requests in flight at an endpoint.
    pub fn in_flight(&self, endpoint: usize) -> u32 {
        self.seen.endpoints.get(endpoint).map_or(0, |endpoint| endpoint.in_flight)
    }

    /// The open endpoint with the least score, by lot among equals.
    pub fn least(&self, lots: &mut Rng, mut score: impl FnMut(usize) -> f64) -> Option<usize> {
        let mut best: Option<(f64, usize)> = None;
        let mut equals = 1;
        for &endpoint in self.open {
            let score = score(endpoint);
            match best {
                Some((least, _)) if score > least => {}
                // The n-th equal replaces the one held with a chance of one in n, so that all are alike.
                Some((least, _)) if score == least => {
                    equals += 1;
                    if lots.usize(..equals) == 0 {
                        best = Some((score, endpoint));
                    }
                }
                _ => (best, equals) = (Some((score, endpoint)), 1),
            }
        }
        best.map(|(_, endpoint)| endpoint)
    }

    /// Two different open endpoints by lot; twice the same where there is only one.
    pub fn two(&self, lots: &mut Rng) -> Option<(usize, usize)> {
        let first = lots.usize(..self.open.len().max(1));
        let step = if self.open.len() > 1 { 1 + lots.usize(..self.open.len() - 1) } else { 0 };
        let second = (first + step) % self.open.len().max(1);
        Some((*self.open.get(first)?, *self.open.get(second)?))
    }
}

/// How a baseline chooses, and what it learns from.
pub trait Choose {
    /// The endpoint to send to, one of `choice.open`.
    fn choose(&mut self, choice: &Choice<'_>) -> Option<usize>;

    /// The request was sent.
    fn sent(&mut self, choice: &Choice<'_>, endpoint: usize) {
        let _ = (choice, endpoint);
    }

    /// A stream's first token came this long after it was sent.
    fn first_token(&mut self, now: Micros, request: &Kept, endpoint: usize, ttft_ms: f64) {
        let _ = (now, request, endpoint, ttft_ms);
    }

    /// An attempt ended.
    fn ended(&mut self, now: Micros, request: &Kept, ended: &Ended) {
        let _ = (now, request, ended);
    }

    /// A machine did not take the request.
    fn turned_away(&mut self, request: &Kept, endpoint: usize) {
        let _ = (request, endpoint);
    }
}

/// The router around a [`Choose`].
pub struct AtOnce<C> {
    name: &'static str,
    choose: C,
    kept: HashMap<u32, Kept>,
    open: Vec<usize>,
}

impl<C: Choose + 'static> AtOnce<C> {
    /// A router that sends at once where `choose` says.
    pub fn boxed(name: &'static str, choose: C) -> Box<dyn Router> {
        Box::new(AtOnce { name, choose, kept: HashMap::new(), open: Vec::new() })
    }
}

impl<C: Choose> AtOnce<C> {
    fn send(&mut self, now: Micros, mut request: Kept, told_ms: Option<f64>, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        self.open.clear();
        self.open.extend(open(&request, seen));
        let choice = Choice { now, request: &request, seen, open: &self.open };
        let chosen =
            if self.open.is_empty() || request.tried.len() >= ATTEMPTS { None } else { self.choose.choose(&choice) };
        let Some(endpoint) = chosen else {
            let retry_after_ms = told_ms.unwrap_or(RETRY_AFTER_MS);
            acts.push(Act::Refuse { request: request.id, retry_after_ms });
            return;
        };
        self.choose.sent(&choice, endpoint);
        acts.push(Act::Send { request: request.id, endpoint });
        request.sent = now;
        request.tried.push(endpoint);
        self.kept.insert(request.id, request);
    }
}

impl<C: Choose> Router for AtOnce<C> {
    fn name(&self) -> &str {
        self.name
    }

    fn arrive(&mut self, now: Micros, arrival: &Arrival<'_>, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        self.send(now, Kept::of(now, arrival), None, seen, acts);
    }

    fn first_token(&mut self, now: Micros, request: u32, endpoint: usize, _: &Seen<'_>, _: &mut Vec<Act>) {
        let Some(kept) = self.kept.get(&request) else { return };
        self.choose.first_token(now, kept, endpoint, (now - kept.sent).as_ms());
    }

    fn ended(&mut self, now: Micros, ended: &Ended, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        let Some(kept) = self.kept.remove(&ended.request) else { return };
        self.choose.ended(now, &kept, ended);
        // Broken after the first token, it cannot be sent again: the caller has seen a part.
        if ended.broken && ended.ttft_ms.is_none() {
            self.send(now, kept, None, seen, acts);
        }
    }

    fn turned_away(&mut self, now: Micros, away: &TurnedAway, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        let Some(kept) = self.kept.remove(&away.request) else { return };
        self.choose.turned_away(&kept, away.endpoint);
        self.send(now, kept, away.retry_after_ms, seen, acts);
    }
}

/// Endpoints that are up, that the request fits, and that have not turned it away.
pub fn open<'a>(request: &'a Kept, seen: &'a Seen<'a>) -> impl Iterator<Item = usize> + 'a {
    seen.endpoints.iter().enumerate().filter_map(|(index, endpoint)| {
        let fits = seen.pools.get(endpoint.pool).is_some_and(|pool| request.fits(pool));
        (endpoint.up && fits && !request.tried.contains(&index)).then_some(index)
    })
}
