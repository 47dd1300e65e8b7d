//! What machines draw, by what the gateway has in flight there: an idle share of their all-in power always, the rest by
//! what they do. Machines whose power is not published count as nothing.

use crate::estimate::batches;
use crate::fleet::{EndpointState, HardwareKind, PoolFacts};

/// What a step that only decodes draws, as a part of what a step with prefill draws. Measured on A100 that serve
/// Llama-2-70B: 0.74-0.79 of the rated power at batches of 1-16 on two, 0.43 on eight, and 1.0 in prefill; source D.
pub const DECODE_SHARE: f64 = 0.75;

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
