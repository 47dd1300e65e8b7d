//! What one request would experience on one endpoint: time, money, energy. O(1), from catalog priors and everything the
//! gateway has in flight there.

use crate::facts::Facts;
use crate::fleet::{EndpointState, HardwareKind, ModelFacts, PoolFacts, Price, ServiceModel};
use crate::power::{TYPICAL_BATCH, joules};

/// Decode slowed by other requests' prefill is capped at this many times the undisturbed step, so that a burst of long
/// prompts cannot make an estimate run away.
const MAX_PREFILL_SLOWDOWN: f64 = 5.0;

/// How many standard deviations of the time per token are planned with. First 1,167 s of the traces, five seeds, loads 0.7,
/// 1.0 and 1.6: merged 0.994, 0.991 and 0.981 kept with 0, 0.995, 0.991 and 0.984 with 1.5 at the same price; code alone
/// 0.993, 0.993 and 0.977, then 0.994, 0.994 and 0.982 at 13, 20 and 8 % more. With 2 code gains another 0.001 for 5 %.
const SPREADS_PLANNED: f64 = 1.5;

/// The prediction for one request on one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Estimate {
    /// Wait for a free slot or for KV memory, milliseconds; part of `ttft_ms`.
    pub wait_ms: f64,
    /// Time to first token, milliseconds.
    pub ttft_ms: f64,
    /// Time per output token after the first, milliseconds.
    pub itl_ms: f64,
    /// By how much that scatters, milliseconds: one standard deviation. Prompts that are read meanwhile stop everybody,
    /// and the shorter an answer, the more it depends on how many come.
    #[serde(default)]
    pub itl_spread_ms: f64,
    /// Time to the whole answer, milliseconds.
    pub total_ms: f64,
    /// Price, US dollars.
    pub usd: f64,
    /// Prompt tokens that are believed to be in its prefix cache.
    #[serde(default)]
    pub cached_tokens: u64,
    /// What it counts as less because some of its prompt is cached, US dollars.
    #[serde(default)]
    pub saved_usd: f64,
    /// Energy including the site's PUE, joules, where the hardware's figures allow one.
    pub joules: Option<f64>,
    /// Carbon dioxide, grams, where energy and the site's carbon intensity are known.
    pub grams_co2: Option<f64>,
}

/// Whether decode speed depends on who else runs: it does on machines that batch, it does not on wafers, LPUs and rented
/// APIs, where load shows as waiting.
pub fn batches(kind: HardwareKind) -> bool {
    matches!(kind, HardwareKind::Gpu | HardwareKind::Cpu)
}

impl Estimate {
    /// The time per output token that is planned with: what is expected, and what it may well come to, milliseconds.
    pub fn itl_planned_ms(&self) -> f64 {
        self.itl_ms + SPREADS_PLANNED * self.itl_spread_ms
    }

    /// The same, begun so much later.
    pub fn put_off(self, ms: f64) -> Estimate {
        let later = |figure_ms: f64| figure_ms + ms;
        Estimate { wait_ms: later(self.wait_ms), ttft_ms: later(self.ttft_ms), total_ms: later(self.total_ms), ..self }
    }
}

/// What the gateway holds for a pool and will send before a request, as one endpoint's share of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Line {
    /// Requests.
    pub requests: f64,
    /// Their prompt tokens.
    pub input_tokens: f64,
}

/// What a request demands of any machine of a pool: what is the same for all of them is found once.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    pool: &'a PoolFacts,
    service: &'a ServiceModel,
    price: Price,
    batches: bool,
    input_tokens: u64,
    output_tokens: u64,
    /// Half of its answer counts as held, on average.
    held_tokens: u64,
    later_tokens: f64,
    usd: f64,
    /// Energy of its whole prompt and its answer among few neighbours, which is what most machines would need.
    joules: Option<f64>,
    line: Line,
    reserve_s: f64,
}

impl<'a> Demand<'a> {
    /// Of a request on a pool, as it is believed to serve the model, with nobody before the request but those who are at
    /// the machines already.
    pub fn new(facts: &Facts<'_>, pool: &'a PoolFacts, service: &'a ServiceModel, model: &ModelFacts) -> Demand<'a> {
        let Facts { input_tokens, output_tokens, .. } = *facts;
        Demand {
            pool,
            service,
            price: model.price,
            batches: batches(pool.kind),
            input_tokens,
            output_tokens,
            held_tokens: input_tokens.saturating_add(output_tokens / 2),
            later_tokens: (output_tokens as f64 - 1.0).max(0.0),
            usd: model.price.usd(input_tokens, output_tokens),
            joules: joules(pool, input_tokens, output_tokens, 0),
            line: Line::default(),
            reserve_s: 0.0,
        }
    }

    /// The same behind others, with so many seconds' worth of a provider's limit left to more urgent classes.
    pub fn behind(self, line: Line, reserve_s: f64) -> Demand<'a> {
        Demand { line, reserve_s, ..self }
    }

    /// Milliseconds until an endpoint's limits let it be sent.
    pub fn leased_in_ms(&self, facts: &Facts<'_>, endpoint: &EndpointState) -> f64 {
        endpoint.lease.map_or(0.0, |lease| lease.ready_in_ms(facts, self.reserve_s))
    }

    /// Prompt tokens that have to be computed where so many are cached.
    pub fn uncached(&self, cached_tokens: u64) -> u64 {
        self.input_tokens.saturating_sub(cached_tokens)
    }

    /// Predicts it at one endpoint as that is.
    pub fn at(&self, facts: &Facts<'_>, endpoint: &EndpointState) -> Estimate {
        self.estimate(endpoint, endpoint.cached_tokens, self.leased_in_ms(facts, endpoint), false)
    }

    /// Predicts it at one endpoint that is believed to have so many tokens of its prompt and lets it in so much later.
    /// `full` where the endpoint takes nobody until somebody leaves, though it has slots: one more would slow those who are
    /// served beyond what they are promised.
    #[inline]
    pub fn estimate(&self, endpoint: &EndpointState, cached_tokens: u64, leased_in_ms: f64, full: bool) -> Estimate {
        let uncached_tokens = self.uncached(cached_tokens);
        let (itl_ms, itl_spread_ms) = self.pace(endpoint);
        let wait_ms = self.slot_wait_ms(endpoint, itl_ms, full).max(self.memory_wait_ms(endpoint, itl_ms));
        let wait_ms = wait_ms.max(leased_in_ms);
        let first_ms = self.prefill_ms(endpoint, uncached_tokens) + self.service.fixed_ttft_ms + itl_ms;
        let ttft_ms = self.pool.round_trip_ms + wait_ms + first_ms * endpoint.ttft_factor;
        let joules = self.joules(endpoint, uncached_tokens);
        let grams_co2 = joules.zip(self.pool.carbon_g_per_kwh).map(|(joules, carbon)| joules / 3.6e6 * carbon);
        let cached_tokens = self.input_tokens - uncached_tokens;
        let saved_usd = if cached_tokens == 0 { 0.0 } else { self.saved_usd(cached_tokens) };
        Estimate {
            wait_ms,
            ttft_ms,
            itl_ms,
            itl_spread_ms,
            total_ms: ttft_ms + itl_ms * self.later_tokens,
            usd: self.usd,
            cached_tokens,
            saved_usd,
            joules,
            grams_co2,
        }
    }

    /// What a cached prompt token saves, as a part of its price: all of its computing on a machine of one's own; about half
    /// where it is rented by the token.
    fn saved_usd(&self, cached_tokens: u64) -> f64 {
        let worth = if self.batches { 1.0 } else { 0.5 };
        worth * self.price.usd(cached_tokens, 0)
    }

    fn joules(&self, endpoint: &EndpointState, uncached_tokens: u64) -> Option<f64> {
        if uncached_tokens == self.input_tokens && endpoint.in_flight < TYPICAL_BATCH {
            return self.joules;
        }
        joules(self.pool, uncached_tokens, self.output_tokens, endpoint.in_flight)
    }

    /// A machine that batches computes one prompt after the other, those that the gateway holds included; in the slots of
    /// the others each has its own time.
    fn prefill_ms(&self, endpoint: &EndpointState, uncached_tokens: u64) -> f64 {
        let own_tokens = uncached_tokens as f64;
        let tokens = if self.batches {
            endpoint.prefill_tokens as f64 + self.line.input_tokens + own_tokens
        } else {
            own_tokens
        };
        tokens / self.service.prefill_tokens_per_s * 1e3
    }

    /// The time per output token, and by how much it scatters, milliseconds.
    #[inline]
    fn pace(&self, endpoint: &EndpointState) -> (f64, f64) {
        let service = self.service;
        let batch = f64::from(endpoint.in_flight.saturating_add(1).min(service.slots.max(1)));
        let held = endpoint.context_tokens.saturating_add(self.held_tokens);
        let held = service.kv_tokens.map_or(held, |limit| held.min(limit)) as f64;
        let step_ms =
            service.step_base_ms + service.step_per_sequence_ms * batch + service.step_per_kv_token_ns * held / 1e6;
        if !self.batches || endpoint.in_flight == 0 {
            return (step_ms * endpoint.itl_factor, 0.0);
        }
        let crowd = Crowd::of(endpoint);
        let itl_ms = step_ms * crowd.slowdown(service, step_ms);
        (itl_ms * endpoint.itl_factor, crowd.spread_ms(service, self.later_tokens.max(1.0)))
    }

    fn slot_wait_ms(&self, endpoint: &EndpointState, itl_ms: f64, full: bool) -> f64 {
        let most = endpoint.window.map_or(u32::MAX, |window| window.requests);
        let most = if full { most.min(endpoint.in_flight) } else { most };
        let slots = f64::from(self.service.slots.min(most).max(1));
        let ahead = f64::from(endpoint.in_flight) + self.line.requests - slots + 1.0;
        if ahead < 1.0 {
            return 0.0;
        }
        ahead * mean_remaining_ms(endpoint, itl_ms) / slots
    }

    fn memory_wait_ms(&self, endpoint: &EndpointState, itl_ms: f64) -> f64 {
        let Some(limit) = self.service.kv_tokens else { return 0.0 };
        let wanted = endpoint.context_tokens.saturating_add(self.input_tokens).saturating_add(self.output_tokens);
        if wanted <= limit {
            return 0.0;
        }
        (wanted - limit) as f64 / limit.max(1) as f64 * mean_remaining_ms(endpoint, itl_ms)
    }
}

/// Those who run beside a request on a machine that batches. Each of them is replaced by another in time, whose prefill
/// takes steps from everybody.
struct Crowd {
    running: f64,
    prompt_tokens: f64,
    /// Answer tokens that each has ahead, on average.
    ahead_tokens: f64,
}

impl Crowd {
    fn of(endpoint: &EndpointState) -> Crowd {
        let running = f64::from(endpoint.in_flight);
        Crowd {
            running,
            prompt_tokens: endpoint.context_tokens.saturating_sub(endpoint.output_tokens_ahead) as f64,
            ahead_tokens: (endpoint.output_tokens_ahead as f64 / running).max(1.0),
        }
    }

    /// In a steady state of requests like those in flight, the share is prefill time over decode time.
    fn slowdown(&self, service: &ServiceModel, step_ms: f64) -> f64 {
        let prefill_ms = self.prompt_tokens / service.prefill_tokens_per_s * 1e3;
        let decode_ms = self.ahead_tokens * step_ms;
        (1.0 + service.prefill_weight * prefill_ms / decode_ms).min(MAX_PREFILL_SLOWDOWN)
    }

    /// While a request decodes, each is replaced about once in as many tokens as they have ahead, by chance.
    fn spread_ms(&self, service: &ServiceModel, own_tokens: f64) -> f64 {
        let one_stops_ms =
            service.prefill_weight * self.prompt_tokens / self.running / service.prefill_tokens_per_s * 1e3;
        let come = self.running * own_tokens / self.ahead_tokens;
        one_stops_ms * come.sqrt() / own_tokens
    }
}

/// How much longer those who are served at an endpoint take on average, milliseconds.
pub(crate) fn mean_remaining_ms(endpoint: &EndpointState, itl_ms: f64) -> f64 {
    endpoint.output_tokens_ahead as f64 / f64::from(endpoint.in_flight.max(1)) * itl_ms
}
