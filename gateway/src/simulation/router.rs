//! What a router is told and what it may do: Pointsman's own, and every one it is compared with.

use pointsman_policies::facts::Facts;
use pointsman_policies::fleet::PoolFacts;
use pointsman_policies::policy::{ClassId, Slo};
use pointsman_policies::units::Micros;

/// Decides where requests go. It sees what a gateway can see and nothing else. A request it gave no [`Act`] for stays
/// with it until it sends or refuses it.
pub trait Router {
    /// Its name in tables.
    fn name(&self) -> &str;

    /// A request has come.
    fn arrive(&mut self, now: Micros, arrival: &Arrival<'_>, seen: &Seen<'_>, acts: &mut Vec<Act>);

    /// The first token of an attempt has come; told of streams only.
    fn first_token(&mut self, now: Micros, request: u32, endpoint: usize, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        let _ = (now, request, endpoint, seen, acts);
    }

    /// An attempt has ended. Where it broke before its first token was seen, the request is with the router again, unless
    /// another attempt of it is on its way.
    fn ended(&mut self, now: Micros, ended: &Ended, seen: &Seen<'_>, acts: &mut Vec<Act>);

    /// A machine answered 429 or 503. The request is with the router again, unless another attempt of it is on its way.
    fn turned_away(&mut self, now: Micros, away: &TurnedAway, seen: &Seen<'_>, acts: &mut Vec<Act>);

    /// What it expected of an attempt that it has just sent, where it predicts at all; held against what comes.
    fn predicted(&self, request: u32, endpoint: usize) -> Option<Predicted> {
        let _ = (request, endpoint);
        None
    }

    /// How often a request that it held has moved from one pool's line to another's.
    fn moves(&self) -> u64 {
        0
    }

    /// When it wants to be woken next, though nothing happens.
    fn next_wake(&self) -> Option<Micros> {
        None
    }

    /// The moment it wanted to be woken at.
    fn wake(&mut self, now: Micros, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        let _ = (now, seen, acts);
    }
}

/// What a gateway can know of a request when it comes.
#[derive(Clone, Copy)]
pub struct Arrival<'a> {
    /// Its number; unique in a run.
    pub id: u32,
    /// As the gateway reads it: token counts are estimates.
    pub facts: Facts<'a>,
    /// The class it is taken for.
    pub class: ClassId,
    /// That class's promise.
    pub slo: Slo,
    /// That class's priority; higher is served first.
    pub priority: i32,
    /// Its prompt as a chain of hashes of blocks of [`BLOCK_TOKENS`]; empty where the trace tells none.
    pub prefix: &'a [u64],
    /// What a good predictor of answer lengths would say: the truth, times the scenario's error. For baselines that are
    /// granted one.
    pub predicted_output_tokens: u64,
    /// The truth, for oracles only.
    pub true_output_tokens: u64,
}

/// Where the clock of a simulation begins, seconds since 1970: a Monday morning.
pub const BEGINNING_S: u64 = 1_764_000_000;

/// Tokens in one block of a prompt's chain of hashes.
pub const BLOCK_TOKENS: u64 = 512;

/// What a router does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    /// Sends a request to an endpoint. While another attempt of it is on its way, this one is a hedge.
    Send {
        /// The request.
        request: u32,
        /// Index of the endpoint in [`Seen::endpoints`].
        endpoint: usize,
    },
    /// Gives an attempt up. Nothing more is told of it; what it used until the machine knows is paid.
    Cancel {
        /// The request.
        request: u32,
        /// Where it was sent.
        endpoint: usize,
    },
    /// Refuses a request; it counts as missed.
    Refuse {
        /// The request.
        request: u32,
        /// What the caller is told, milliseconds.
        retry_after_ms: f64,
    },
}

/// What a router expects of an attempt, counted from when it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Predicted {
    /// Time to first token, milliseconds.
    pub ttft_ms: f64,
    /// Time per output token after the first, milliseconds.
    pub itl_ms: f64,
}

/// How an attempt ended. Times count from when it was sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ended {
    /// The request.
    pub request: u32,
    /// Where it ran.
    pub endpoint: usize,
    /// When it was sent.
    pub sent: Micros,
    /// Time to first token, milliseconds; of streams only.
    pub ttft_ms: Option<f64>,
    /// Time per output token after the first, milliseconds; of streams with more than one token.
    pub itl_ms: Option<f64>,
    /// Time to the end, milliseconds.
    pub total_ms: f64,
    /// Prompt as the machine counted it, tokens.
    pub input_tokens: u64,
    /// Of these, tokens that it had in its prefix cache.
    pub cached_tokens: u64,
    /// Answer, tokens.
    pub output_tokens: u64,
    /// Whether the connection broke before the end, or was refused.
    pub broken: bool,
}

/// A machine did not take a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TurnedAway {
    /// The request.
    pub request: u32,
    /// Where it was sent.
    pub endpoint: usize,
    /// How long the machine says to stay away, milliseconds; `None` where the request can never be served there.
    pub retry_after_ms: Option<f64>,
}

/// What one gateway sees of the fleet.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What the portfolio says.
    pub pools: &'a [PoolFacts],
    /// Every endpoint, pool by pool.
    pub endpoints: &'a [SeenEndpoint],
}

impl Seen<'_> {
    /// The pool of an endpoint.
    pub fn pool(&self, endpoint: usize) -> Option<&PoolFacts> {
        self.pools.get(self.endpoints.get(endpoint)?.pool)
    }
}

/// One endpoint as one gateway sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeenEndpoint {
    /// Index of its pool.
    pub pool: usize,
    /// Whether it answered its last health check.
    pub up: bool,
    /// The last metrics of its engine that have come; `None` where none ever did.
    pub reported: Option<Reported>,
    /// Requests this gateway sent and has not seen the end of.
    pub in_flight: u32,
    /// Of those, estimated prompt tokens whose first token has not been seen.
    pub prefill_tokens: u64,
    /// Estimated prompt and expected answer tokens of everything in flight from this gateway.
    pub context_tokens: u64,
}

/// Metrics of an engine, as old as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// When they were true.
    pub at: Micros,
    /// Requests in its batch or slots.
    pub running: u32,
    /// Requests in its queue.
    pub waiting: u32,
    /// KV memory in use, tokens.
    pub kv_tokens: u64,
}
