//! What machines draw, by what the gateway has in flight there: an idle share of their all-in power always, the rest by
//! what they do; and what of it an answer takes. Machines whose power is not published draw nothing that is counted.

use crate::estimate::batches;
use crate::fleet::{EndpointState, HardwareKind, PoolFacts};

/// What a step that only decodes draws, as a part of what a step with prefill draws. Measured on A100 that serve
/// Llama-2-70B: 0.74-0.79 of the rated power at batches of 1-16 on two, 0.43 on eight, and 1.0 in prefill; source D.
pub const DECODE_SHARE: f64 = 0.75;

/// Sequences that share a machine at work; whoever comes first to an idle one is not charged for all that will follow.
/// An H100's published 1.1 J per token and a share of what it draws meet here.
pub(crate) const TYPICAL_BATCH: u32 = 20;

/// What a machine of a kind draws while idle, as a part of its all-in power: all assumed. Weights that stay in SRAM are
/// paid for all the time.
pub fn idle_share(kind: HardwareKind) -> f64 {
    match kind {
        HardwareKind::Gpu => 0.3,
        HardwareKind::Wafer | HardwareKind::Lpu => 0.6,
        HardwareKind::Cpu => 0.4,
        HardwareKind::Cloud => 0.0,
    }
}

/// What an endpoint draws, kilowatts, with its site's PUE.
pub fn endpoint_kw(pool: &PoolFacts, endpoint: &EndpointState) -> f64 {
    kw(pool, endpoint.in_flight, endpoint.prefilling)
}

/// The same once another request has been sent there.
pub fn endpoint_kw_with_one_more(pool: &PoolFacts, endpoint: &EndpointState) -> f64 {
    kw(pool, endpoint.in_flight.saturating_add(1), endpoint.prefilling.saturating_add(1))
}

/// What an endpoint draws while it does nothing, kilowatts, with its site's PUE.
pub fn idle_kw(pool: &PoolFacts) -> f64 {
    kw(pool, 0, 0)
}

/// Energy of an answer, joules with its site's PUE; `None` where nothing is published. `prompt_tokens` are those that have
/// to be computed.
///
/// It is a share of what the machine draws: a machine that batches gives all of itself to a prompt, and each step to all
/// who decode; on others each has a slot's share throughout. Energy published by the token says what an answer's tokens
/// take, and nothing of its prompt. What one more sequence adds to a busy machine would be less, but books kept so would
/// not add up to what is drawn, and who comes to an idle machine would pay for everybody.
pub fn joules(pool: &PoolFacts, prompt_tokens: u64, output_tokens: u64, neighbours: u32) -> Option<f64> {
    let service = &pool.service;
    let batch = neighbours.saturating_add(1).max(TYPICAL_BATCH).min(service.slots.max(1));
    let step_s = (service.step_base_ms + service.step_per_sequence_ms * f64::from(batch)) / 1e3;
    let whole = |prefilling| service.power_kw.map(|_| kw(pool, batch, prefilling) * 1e3);
    let published = service.joules_per_output_token.map(|joules| joules * pool.pue / step_s);
    let decode_watts = published.or(whole(0).map(|watts| watts / f64::from(batch)))?;
    let prefill_watts = match (batches(pool.kind), whole(1)) {
        (true, Some(watts)) => watts,
        (true, None) => decode_watts * f64::from(batch) / DECODE_SHARE,
        (false, _) => decode_watts,
    };
    let prefill_s = prompt_tokens as f64 / service.prefill_tokens_per_s;
    Some(prefill_watts * prefill_s + decode_watts * step_s * output_tokens as f64)
}

fn kw(pool: &PoolFacts, in_flight: u32, prefilling: u32) -> f64 {
    let idle = idle_share(pool.kind);
    let part = match (in_flight, prefilling) {
        (0, _) => idle,
        // One step serves everybody: how many there are hardly matters.
        (_, 0) if batches(pool.kind) => DECODE_SHARE.max(idle),
        _ if batches(pool.kind) => 1.0,
        _ => idle + (1.0 - idle) * (f64::from(in_flight) / f64::from(pool.service.slots.max(1))).min(1.0),
    };
    pool.service.power_kw.unwrap_or(0.0) * part * pool.pue
}
