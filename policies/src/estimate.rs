//! What one request would experience on one endpoint: time, money, energy. O(1), from catalog priors and everything the
//! gateway has in flight there.

use crate::facts::Facts;
use crate::fleet::{EndpointState, HardwareKind, ModelFacts, PoolFacts, ServiceModel};
use crate::power::joules;

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

/// Where a request would be served.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The pool.
    pub pool: &'a PoolFacts,
    /// How it serves, as far as is known.
    pub service: &'a ServiceModel,
    /// The model as it is served there.
    pub model: &'a ModelFacts,
    /// The endpoint.
    pub endpoint: &'a EndpointState,
    /// What goes before the request.
    pub line: Line,
    /// Whether the endpoint takes nobody until somebody leaves, though it has slots: one more would slow those who are
    /// served beyond what they are promised.
    pub full: bool,
    /// How many seconds' worth of a provider's limit are left to more urgent classes.
    pub reserve_s: f64,
}

impl<'a> Place<'a> {
    /// With nobody before the request but those who are there already.
    pub fn first_in_line(
        pool: &'a PoolFacts,
        service: &'a ServiceModel,
        model: &'a ModelFacts,
        endpoint: &'a EndpointState,
    ) -> Place<'a> {
        Place { pool, service, model, endpoint, line: Line::default(), full: false, reserve_s: 0.0 }
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

/// Predicts one request at one place.
pub fn estimate(facts: &Facts<'_>, place: &Place<'_>) -> Estimate {
    let Place { pool, service, model, endpoint, .. } = *place;
    let itl_ms = itl_ms(facts, pool.kind, service, endpoint) * endpoint.itl_factor;
    let wait_ms = slot_wait_ms(place, itl_ms).max(memory_wait_ms(facts, service, endpoint, itl_ms));
    let wait_ms = wait_ms.max(endpoint.lease.map_or(0.0, |lease| lease.ready_in_ms(facts, place.reserve_s)));
    let first_ms = prefill_ms(facts, place) + service.fixed_ttft_ms + itl_ms;
    let ttft_ms = pool.round_trip_ms + wait_ms + first_ms * endpoint.ttft_factor;
    let output_tokens = facts.output_tokens as f64;
    let total_ms = ttft_ms + itl_ms * (output_tokens - 1.0).max(0.0);
    let usd = model.price.usd(facts.input_tokens, facts.output_tokens);
    let joules = joules(pool, uncached_tokens(facts, endpoint), facts.output_tokens, endpoint.in_flight);
    let grams_co2 = joules.zip(pool.carbon_g_per_kwh).map(|(joules, carbon)| joules / 3.6e6 * carbon);
    let cached_tokens = facts.input_tokens - uncached_tokens(facts, endpoint);
    let saved_usd = cached_worth(pool.kind) * model.price.usd(cached_tokens, 0);
    let itl_spread_ms = if batches(pool.kind) { itl_spread_ms(facts, service, endpoint) } else { 0.0 };
    Estimate { wait_ms, ttft_ms, itl_ms, itl_spread_ms, total_ms, usd, cached_tokens, saved_usd, joules, grams_co2 }
}

/// What a cached prompt token saves, as a part of its price: all of its computing on a machine of one's own; about half
/// where it is rented by the token.
fn cached_worth(kind: HardwareKind) -> f64 {
    if batches(kind) { 1.0 } else { 0.5 }
}

/// Prompt tokens that have to be computed.
pub fn uncached_tokens(facts: &Facts<'_>, endpoint: &EndpointState) -> u64 {
    facts.input_tokens.saturating_sub(endpoint.cached_tokens)
}

/// A machine that batches computes one prompt after the other, those that the gateway holds included; in the slots of
/// the others each has its own time.
fn prefill_ms(facts: &Facts<'_>, place: &Place<'_>) -> f64 {
    let own_tokens = uncached_tokens(facts, place.endpoint) as f64;
    let tokens = if batches(place.pool.kind) {
        place.endpoint.prefill_tokens as f64 + place.line.input_tokens + own_tokens
    } else {
        own_tokens
    };
    tokens / place.service.prefill_tokens_per_s * 1e3
}

fn itl_ms(facts: &Facts<'_>, kind: HardwareKind, service: &ServiceModel, endpoint: &EndpointState) -> f64 {
    let batch = f64::from(endpoint.in_flight.saturating_add(1).min(service.slots.max(1)));
    let own_tokens = facts.input_tokens.saturating_add(facts.output_tokens / 2);
    let held = endpoint.context_tokens.saturating_add(own_tokens);
    let held = service.kv_tokens.map_or(held, |limit| held.min(limit)) as f64;
    let step_ms =
        service.step_base_ms + service.step_per_sequence_ms * batch + service.step_per_kv_token_ns * held / 1e6;
    if batches(kind) { step_ms * prefill_slowdown(service, endpoint, step_ms) } else { step_ms }
}

/// Each request that runs beside this one is replaced by another in time, whose prefill takes steps from everybody. In
/// a steady state of `batch` requests like those in flight, the share is prefill time over decode time.
fn prefill_slowdown(service: &ServiceModel, endpoint: &EndpointState, step_ms: f64) -> f64 {
    let running = f64::from(endpoint.in_flight);
    if running < 1.0 {
        return 1.0;
    }
    let prompts = endpoint.context_tokens.saturating_sub(endpoint.output_tokens_ahead) as f64;
    let prefill_ms = prompts / service.prefill_tokens_per_s * 1e3;
    let decode_ms = (endpoint.output_tokens_ahead as f64 / running).max(1.0) * step_ms;
    (1.0 + service.prefill_weight * prefill_ms / decode_ms).min(MAX_PREFILL_SLOWDOWN)
}

/// While a request decodes, each of those that run beside it is replaced about once in as many tokens as they have ahead,
/// by chance; each that comes has its prompt read.
fn itl_spread_ms(facts: &Facts<'_>, service: &ServiceModel, endpoint: &EndpointState) -> f64 {
    let running = f64::from(endpoint.in_flight);
    if running < 1.0 {
        return 0.0;
    }
    let prompts = endpoint.context_tokens.saturating_sub(endpoint.output_tokens_ahead) as f64;
    let one_stops_ms = service.prefill_weight * prompts / running / service.prefill_tokens_per_s * 1e3;
    let tokens_ahead = (endpoint.output_tokens_ahead as f64 / running).max(1.0);
    let own_tokens = (facts.output_tokens as f64 - 1.0).max(1.0);
    let come = running * own_tokens / tokens_ahead;
    one_stops_ms * come.sqrt() / own_tokens
}

fn slot_wait_ms(place: &Place<'_>, itl_ms: f64) -> f64 {
    let Place { service, endpoint, line, .. } = *place;
    let most = endpoint.window.map_or(u32::MAX, |window| window.requests);
    let most = if place.full { most.min(endpoint.in_flight) } else { most };
    let slots = f64::from(service.slots.min(most).max(1));
    let ahead = f64::from(endpoint.in_flight) + line.requests - slots + 1.0;
    if ahead < 1.0 {
        return 0.0;
    }
    ahead * mean_remaining_ms(endpoint, itl_ms) / slots
}

fn memory_wait_ms(facts: &Facts<'_>, service: &ServiceModel, endpoint: &EndpointState, itl_ms: f64) -> f64 {
    let Some(limit) = service.kv_tokens else { return 0.0 };
    let wanted = endpoint.context_tokens.saturating_add(facts.input_tokens).saturating_add(facts.output_tokens);
    let overflow = wanted.saturating_sub(limit) as f64;
    overflow / limit.max(1) as f64 * mean_remaining_ms(endpoint, itl_ms)
}

/// How much longer those who are served at an endpoint take on average, milliseconds.
pub(crate) fn mean_remaining_ms(endpoint: &EndpointState, itl_ms: f64) -> f64 {
    endpoint.output_tokens_ahead as f64 / f64::from(endpoint.in_flight.max(1)) * itl_ms
}
