//! How much of a pool was in use, by looks at its machines at even intervals.

use pointsman_backends::simulators::engine::Engine;
use pointsman_policies::fleet::LeaseState;
use pointsman_policies::units::Micros;

/// Sums over looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    machines: u64,
    running: u64,
    slots: u64,
    waiting: u64,
    kv_tokens: u64,
    kv_room_tokens: u64,
    limits: u64,
    limit_used: f64,
    joules: f64,
    looked_at: Micros,
}

impl Usage {
    pub(super) fn machine(&mut self, engine: &Engine) {
        let service = &engine.profile().service;
        self.machines += 1;
        self.running += engine.running() as u64;
        self.slots += u64::from(service.slots.max(1));
        self.waiting += engine.waiting() as u64;
        self.kv_tokens += engine.kv_tokens();
        self.kv_room_tokens += service.kv_tokens.unwrap_or(0);
    }

    /// Used since the beginning, joules with the site's PUE.
    pub(super) fn energy(&mut self, now: Micros, joules: f64) {
        if self.looked_at != now {
            (self.looked_at, self.joules) = (now, 0.0);
        }
        self.joules += joules;
    }

    pub(super) fn limit(&mut self, state: Option<LeaseState>) {
        let Some(state) = state else { return };
        let left =
            |now: f64, most: f64| if most.is_finite() && most > 0.0 { (now / most).clamp(0.0, 1.0) } else { 1.0 };
        // A minute's worth is what can ever be there of either.
        let left = left(state.requests, state.requests_per_s * 60.0).min(left(state.tokens, state.tokens_capacity));
        self.limits += 1;
        self.limit_used += 1.0 - left;
    }

    /// The part of the slots that was taken, 0 to 1.
    pub fn slots(&self) -> f64 {
        part(self.running as f64, self.slots as f64)
    }

    /// The part of KV memory that was taken, 0 to 1; `None` where none is known.
    pub fn memory(&self) -> Option<f64> {
        (self.kv_room_tokens > 0).then(|| part(self.kv_tokens as f64, self.kv_room_tokens as f64))
    }

    /// The part of what the provider's limits allow at once that was used up, 0 to 1; `None` where there is no limit.
    pub fn limits(&self) -> Option<f64> {
        (self.limits > 0).then(|| part(self.limit_used, self.limits as f64))
    }

    /// Mean power while requests came, kilowatts.
    pub fn kw(&self) -> f64 {
        part(self.joules, self.looked_at.as_secs()) / 1e3
    }

    /// Requests that waited inside of one machine.
    pub fn waiting(&self) -> f64 {
        part(self.waiting as f64, self.machines as f64)
    }
}

fn part(of: f64, all: f64) -> f64 {
    if all > 0.0 { of / all } else { 0.0 }
}
