//! What is known of the machines: what the portfolio says of each pool, and what each endpoint is doing now.

use std::collections::BTreeMap;

use crate::facts::Facts;
use crate::learned::Learned;
use crate::power::{endpoint_kw, idle_kw};

/// The kind of machine behind a pool: how it behaves under load follows from this.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum HardwareKind {
    /// Batches: load shows as slower tokens and later first tokens.
    Gpu,
    /// Wafer-scale: flat, fast decode until the slots are full; load shows as queue time and 429.
    Wafer,
    /// Language processing unit: flat decode, small memory.
    Lpu,
    /// A host processor.
    Cpu,
    /// A rented API with neighbours nobody can see.
    Cloud,
}

impl HardwareKind {
    /// Every kind, in the order of the declaration.
    pub const ALL: [HardwareKind; 5] =
        [HardwareKind::Gpu, HardwareKind::Wafer, HardwareKind::Lpu, HardwareKind::Cpu, HardwareKind::Cloud];

    /// The name used in files, expressions, traces and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            HardwareKind::Gpu => "gpu",
            HardwareKind::Wafer => "wafer",
            HardwareKind::Lpu => "lpu",
            HardwareKind::Cpu => "cpu",
            HardwareKind::Cloud => "cloud",
        }
    }
}

/// How one machine serves, as one set of numbers for every kind:
///
/// ```text
/// step = max(step_base + step_per_sequence * batch + step_per_kv_token * kv_tokens, prefill_chunk / prefill rate)
/// TTFT = round trip + queue + fixed + uncached prompt / prefill rate + step
/// ```
///
/// The source of every number is in the hardware catalog of the `backends` crate.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ServiceModel {
    /// One decode step with an empty batch, milliseconds.
    pub step_base_ms: f64,
    /// What each running sequence adds to a step, milliseconds.
    pub step_per_sequence_ms: f64,
    /// What each token held in KV memory adds to a step, nanoseconds.
    pub step_per_kv_token_ns: f64,
    /// Prefill rate, tokens per second.
    pub prefill_tokens_per_s: f64,
    /// Time to first token of an empty prompt on an idle machine, milliseconds.
    pub fixed_ttft_ms: f64,
    /// Sequences that run at once.
    pub slots: u32,
    /// KV memory, tokens; `None` where something else bounds it.
    pub kv_tokens: Option<u64>,
    /// Lognormal sigma of times; where something is learned, of the time to first token around what was predicted.
    pub jitter_sigma: f64,
    /// Tokens carried by one event of a stream, on average.
    pub tokens_per_event: f64,
    /// Energy per output token, joules, where known.
    pub joules_per_output_token: Option<f64>,
    /// All-in power of one unit, kilowatts, where published.
    pub power_kw: Option<f64>,
    /// What prompts of others cost a stream beside them on a machine that batches, in time of their prefill: 1 where all
    /// decoding stands still meanwhile, 0 where nothing is felt.
    #[serde(default = "neutral")]
    pub prefill_weight: f64,
}

impl ServiceModel {
    /// The least time per output token, that of a request which has the machine to itself, milliseconds.
    pub fn alone_itl_ms(&self) -> f64 {
        self.step_base_ms + self.step_per_sequence_ms
    }
}

/// Price of tokens, US dollars per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Price {
    /// Per million prompt tokens.
    pub usd_per_m_input: f64,
    /// Per million generated tokens.
    pub usd_per_m_output: f64,
}

impl Price {
    /// Of one request, US dollars.
    pub fn usd(&self, input_tokens: u64, output_tokens: u64) -> f64 {
        (input_tokens as f64 * self.usd_per_m_input + output_tokens as f64 * self.usd_per_m_output) / 1e6
    }
}

/// A model as one pool serves it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ModelFacts {
    /// The name clients use.
    pub name: String,
    /// Prompt and answer together may be this long, tokens; `None` where unknown.
    pub context: Option<u64>,
    /// What it costs here.
    pub price: Price,
}

/// What the portfolio says of one pool; fixed for a generation.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PoolFacts {
    /// The pool's name in the portfolio.
    pub name: String,
    /// The site's name; empty where none is given.
    pub site: String,
    /// Who sells or owns it; empty where not given.
    pub vendor: String,
    /// The names of its endpoints, `POOL/HOST:PORT`, in the order in which they follow one another in
    /// [`Fleet::endpoints`].
    pub endpoints: Vec<String>,
    /// Name of the catalog entry.
    pub hardware: String,
    /// Kind of machine.
    pub kind: HardwareKind,
    /// Free labels of the operator.
    pub labels: BTreeMap<String, String>,
    /// What it serves.
    pub models: Vec<ModelFacts>,
    /// How it serves, until something better has been learned.
    pub service: ServiceModel,
    /// Network round trip to it, milliseconds.
    pub round_trip_ms: f64,
    /// Carbon intensity of its site's power, grams of CO2 per kilowatt-hour, where known.
    pub carbon_g_per_kwh: Option<f64>,
    /// Power usage effectiveness of its site; 1 where unknown.
    pub pue: f64,
    /// Price of its electricity, US dollars per kilowatt-hour, where its prices do not include it.
    #[serde(default)]
    pub usd_per_kwh: Option<f64>,
    /// The most that its site may draw, kilowatts, where given.
    #[serde(default)]
    pub power_cap_kw: Option<f64>,
}

impl PoolFacts {
    /// The model by the name clients use.
    pub fn model(&self, name: &str) -> Option<&ModelFacts> {
        self.models.iter().find(|model| model.name == name)
    }
}

/// Whether an endpoint may be asked at all.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Availability {
    /// Yes.
    Ready,
    /// Its circuit breaker is open; the next trial is this many milliseconds away.
    BreakerOpen {
        /// Milliseconds until a trial request is let through.
        retry_in_ms: f64,
    },
    /// It said it has too much work and when to come back.
    BackPressure {
        /// Milliseconds until it may be asked again.
        retry_in_ms: f64,
    },
    /// It takes no new work.
    Draining,
}

impl Availability {
    /// The name in files and explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Availability::Ready => "ready",
            Availability::BreakerOpen { .. } => "breaker-open",
            Availability::BackPressure { .. } => "back-pressure",
            Availability::Draining => "draining",
        }
    }

    /// Milliseconds until it may be asked again, where that is known.
    pub fn retry_in_ms(self) -> Option<f64> {
        match self {
            Availability::BreakerOpen { retry_in_ms } | Availability::BackPressure { retry_in_ms } => Some(retry_in_ms),
            Availability::Ready | Availability::Draining => None,
        }
    }
}

/// What is left of a provider's rate limit, as the gateway accounts for it.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LeaseState {
    /// Requests that may be sent now; `f64::INFINITY` where unlimited.
    pub requests: f64,
    /// Tokens that may be spent now; `f64::INFINITY` where unlimited.
    pub tokens: f64,
    /// The most tokens that can ever be there at once; `f64::INFINITY` where unlimited.
    pub tokens_capacity: f64,
    /// Requests regained per second; tells when a refused request may come back.
    pub requests_per_s: f64,
    /// Tokens regained per second.
    pub tokens_per_s: f64,
    /// Whether the provider takes the caller's `max_tokens` off the lease up front.
    pub reserves_output: bool,
}

impl LeaseState {
    /// Tokens the provider takes off its limit when a request arrives: the prompt and, where it reserves that too, the
    /// caller's bound on the answer (what we expect, where there is none).
    pub fn needed_tokens(&self, facts: &Facts<'_>) -> u64 {
        let output_tokens = facts.max_output_tokens.unwrap_or(facts.output_tokens);
        facts.input_tokens.saturating_add(if self.reserves_output { output_tokens } else { 0 })
    }

    /// How long until a request may be sent, milliseconds; 0 where it may be now. So many seconds' worth of tokens are
    /// left to others.
    pub fn ready_in_ms(&self, facts: &Facts<'_>, reserve_s: f64) -> f64 {
        let spared = if self.tokens.is_finite() { self.tokens_per_s * reserve_s } else { 0.0 };
        let wanted = (self.needed_tokens(facts) as f64 + spared).min(self.tokens_capacity);
        self.request_in_ms().max(self.until_ms(wanted))
    }

    /// The part of its tokens that is used up, 0 to 1.
    pub fn scarcity(&self) -> f64 {
        if self.tokens_capacity.is_finite() { 1.0 - (self.tokens / self.tokens_capacity).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// How long until a request is allowed, whatever its size, milliseconds.
    pub fn request_in_ms(&self) -> f64 {
        (1.0 - self.requests).max(0.0) / self.requests_per_s.max(1e-9) * 1e3
    }

    /// How long until so many tokens may be spent, milliseconds.
    pub fn tokens_in_ms(&self, tokens: u64) -> f64 {
        self.until_ms(tokens as f64)
    }

    fn until_ms(&self, tokens: f64) -> f64 {
        (tokens - self.tokens).max(0.0) / self.tokens_per_s.max(1e-9) * 1e3
    }
}

/// What one endpoint is doing now, as the gateway knows it: everything it dispatched and has not seen the end of.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct EndpointState {
    /// Index of its pool in [`Fleet::pools`].
    pub pool: usize,
    /// May it be asked?
    pub availability: Availability,
    /// Requests sent and not yet finished.
    pub in_flight: u32,
    /// Of those, prompt tokens whose first token has not been seen.
    pub prefill_tokens: u64,
    /// Prompt and expected answer tokens of everything in flight: the KV memory it is taken to hold.
    pub context_tokens: u64,
    /// Answer tokens still expected of everything in flight.
    pub output_tokens_ahead: u64,
    /// What is left of its pool's rate limit; `None` where it has none.
    pub lease: Option<LeaseState>,
    /// Requests in flight whose first token has not been seen.
    #[serde(default)]
    pub prefilling: u32,
    /// The least time per output token that is planned with for anybody who is served there, milliseconds: the part of
    /// what is promised that predictions may use up. `None` where nobody is promised any.
    #[serde(default)]
    pub strictest_itl_ms: Option<f64>,
    /// How much it is sent at once, the rest being held by the gateway; everything is sent where `None`.
    #[serde(default)]
    pub window: Option<Window>,
    /// How much longer than predicted first tokens take there now: load that nobody can see. 1 where nothing is known.
    #[serde(default = "neutral")]
    pub ttft_factor: f64,
    /// The same of the time per output token.
    #[serde(default = "neutral")]
    pub itl_factor: f64,
    /// By how much predictions are widened there, because what its engine says of its load is old or missing. 1 where it
    /// is fresh, and where the engine is not asked.
    #[serde(default = "neutral")]
    pub widening: f64,
    /// Of this request's prompt, tokens that it is believed to have in its prefix cache.
    #[serde(default)]
    pub cached_tokens: u64,
}

/// What a serialised state has that says nothing of a factor.
fn neutral() -> f64 {
    1.0
}

/// How much of its work an endpoint is sent at once: what it would only queue is better held by the gateway, which can
/// still change its mind about it.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Window {
    /// Requests in flight.
    pub requests: u32,
    /// Prompt tokens of requests whose first token has not been seen; one such request is always sent.
    pub prefill_tokens: u64,
}

impl EndpointState {
    /// An idle endpoint of a pool.
    pub fn idle(pool: usize) -> EndpointState {
        EndpointState {
            pool,
            availability: Availability::Ready,
            in_flight: 0,
            prefill_tokens: 0,
            context_tokens: 0,
            output_tokens_ahead: 0,
            lease: None,
            prefilling: 0,
            strictest_itl_ms: None,
            window: None,
            ttft_factor: 1.0,
            itl_factor: 1.0,
            widening: 1.0,
            cached_tokens: 0,
        }
    }

    /// Whether a prompt of so many uncached tokens is sent at once, by the window.
    pub fn has_room(&self, uncached_tokens: u64) -> bool {
        self.window.is_none_or(|window| {
            let prefill = self.prefill_tokens.saturating_add(uncached_tokens);
            self.in_flight < window.requests && (self.prefilling == 0 || prefill <= window.prefill_tokens)
        })
    }
}

/// The view of the machines that one decision reads.
#[derive(Clone, Copy, Debug)]
pub struct Fleet<'a> {
    /// Pools of the portfolio, in file order.
    pub pools: &'a [PoolFacts],
    /// Endpoints of all pools, pool by pool; a candidate is named by its index here.
    pub endpoints: &'a [EndpointState],
    /// What experience says in place of the portfolio's figures.
    pub learned: &'a Learned,
    /// Requests that the gateway holds and that go before this one, or come after it and would be delayed.
    pub waiting: &'a [Waiting],
    /// Who is believed to have some of the request's prompt in its cache, by index in order, where the states do not say
    /// so themselves.
    pub cached: &'a [Cached],
    /// The endpoints' names as [`crate::home::name_hash`] has them, where they are at hand.
    pub names: &'a [u64],
}

/// A prompt in an endpoint's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cached {
    /// Index of the endpoint in [`Fleet::endpoints`].
    pub endpoint: usize,
    /// Of the prompt, tokens that it is believed to have.
    pub tokens: u64,
}

/// Requests of one priority that the gateway holds for one pool.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Waiting {
    /// Index of the pool.
    pub pool: usize,
    /// The priority of their classes.
    pub priority: i32,
    /// How many.
    pub requests: u32,
    /// Prompt tokens of all of them.
    pub input_tokens: u64,
    /// Expected answer tokens of all of them.
    pub output_tokens: u64,
    /// How much later the most pressed of those that can still keep their promise may be sent, milliseconds; `None` where
    /// none can.
    pub least_slack_ms: Option<f64>,
}

/// What the endpoints of one pool do together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PoolLoad {
    /// Endpoints it has.
    pub endpoints: u32,
    /// Of those, ready to be asked.
    pub ready: u32,
    /// Requests sent to them and not yet finished.
    pub in_flight: u32,
    /// Requests they serve at once.
    pub slots: u32,
    /// Prompt and expected answer tokens of everything in flight.
    pub context_tokens: u64,
    /// Answer tokens still expected of everything in flight.
    pub output_tokens_ahead: u64,
    /// What they draw, kilowatts.
    pub kw: f64,
    /// What they would draw idle, kilowatts.
    pub idle_kw: f64,
}

impl PoolLoad {
    /// The part of the slots that is taken; above 1 where requests wait.
    pub fn busy(&self) -> f64 {
        f64::from(self.in_flight) / f64::from(self.slots.max(1))
    }
}

impl<'a> Fleet<'a> {
    /// Machines of which nothing has been learned and for which nothing waits.
    pub fn new(pools: &'a [PoolFacts], endpoints: &'a [EndpointState]) -> Fleet<'a> {
        Fleet { pools, endpoints, learned: Learned::nothing(), waiting: &[], cached: &[], names: &[] }
    }

    /// An endpoint as the request finds it.
    pub fn endpoint(&self, index: usize) -> Option<EndpointState> {
        let state = self.endpoints.get(index)?;
        let known = self.cached.binary_search_by_key(&index, |cached| cached.endpoint).ok();
        let cached_tokens = known.and_then(|at| self.cached.get(at)).map_or(state.cached_tokens, |known| known.tokens);
        Some(EndpointState { cached_tokens, ..*state })
    }

    /// How a pool serves: as learned, else as its hardware is said to.
    pub fn service(&self, pool: usize) -> Option<&'a ServiceModel> {
        self.learned.services.get(pool).or_else(|| self.pools.get(pool).map(|pool| &pool.service))
    }

    /// The load of each pool, in the order of `pools`.
    pub fn loads(&self) -> Vec<PoolLoad> {
        let mut loads = self.loads_but_power();
        for endpoint in self.endpoints {
            let Some((load, pool)) = loads.get_mut(endpoint.pool).zip(self.pools.get(endpoint.pool)) else { continue };
            load.kw += endpoint_kw(pool, endpoint);
            load.idle_kw += idle_kw(pool);
        }
        loads
    }

    /// The same without what they draw, which takes longer to find than all the rest.
    pub fn loads_but_power(&self) -> Vec<PoolLoad> {
        let mut loads = vec![PoolLoad::default(); self.pools.len()];
        for endpoint in self.endpoints {
            let Some((load, pool)) = loads.get_mut(endpoint.pool).zip(self.pools.get(endpoint.pool)) else { continue };
            load.endpoints += 1;
            load.ready += u32::from(endpoint.availability == Availability::Ready);
            load.in_flight = load.in_flight.saturating_add(endpoint.in_flight);
            load.slots = load.slots.saturating_add(pool.service.slots);
            load.context_tokens = load.context_tokens.saturating_add(endpoint.context_tokens);
            load.output_tokens_ahead = load.output_tokens_ahead.saturating_add(endpoint.output_tokens_ahead);
        }
        loads
    }
}
