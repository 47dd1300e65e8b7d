//! How the machines of one pool serve, learned from streams: a regression for the time to first token, one for the time
//! per output token, and the knee of machines that do not batch.
//!
//! ```text
//! TTFT = round trip + step + fixed + (own uncached prompt + prompts ahead) / mu
//! ITL  = t0 + t1 * batch + t2 * kv + c * (prompt tokens of others read meanwhile / own tokens)
//! ```
//!
//! The last term is what others' prefill takes from a stream. In the steady state `1 / (1 - kappa * duty)` says the same
//! with `c = kappa / mu`, but this form is linear in what is observed. Estimates read `kappa` as the model's
//! `prefill_weight`.

use pointsman_policies::estimate::batches;
use pointsman_policies::fleet::{HardwareKind, PoolFacts, ServiceModel};
use pointsman_policies::units::three_digits;
use serde::{Deserialize, Serialize};

use super::knee::Knee;
use super::observation::Observation;
use super::regression::{self, Prior, Regression};

/// Where the catalog says that sequences or memory cost nothing, they may be learned to cost up to this part of an empty
/// step, each sequence and each thousand tokens.
const UNFORESEEN_PART: f64 = 0.05;
/// Where the catalog has no fixed time, up to this is learned, milliseconds.
const UNFORESEEN_FIXED_MS: f64 = 100.0;
/// A stream of at least this many tokens tells its time per token as well as any.
const CLEAN_TOKENS: f64 = 16.0;
/// A whole answer tells the time per token if at least this part of it was decoding.
const MOSTLY_DECODING: f64 = 0.8;
/// And then counts this much, beside a stream.
const WHOLE_ANSWER_WEIGHT: f64 = 0.3;

/// What has been learned of one pool.
#[derive(Clone, Debug)]
pub(super) struct Service {
    prior: ServiceModel,
    kind: HardwareKind,
    round_trip_ms: f64,
    ttft: Regression<2>,
    itl: Regression<4>,
    knee: Knee,
}

/// Logarithm of observed over predicted without factors, and how much it says, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Residual {
    pub(super) log: f64,
    pub(super) weight: f64,
}

/// How sure a learned model is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Confidence {
    /// First tokens it has seen.
    pub first_tokens: u64,
    /// Streams it has seen.
    pub streams: u64,
    /// Relative standard deviation of a predicted time to first token, from what is not known of the parameters.
    pub ttft_sigma: f64,
    /// The same of a predicted time per output token.
    pub itl_sigma: f64,
}

impl Service {
    /// Knows what the portfolio and the catalog say.
    pub(super) fn new(pool: &PoolFacts) -> Service {
        let model = &pool.service;
        let ms_per_token = 1e3 / model.prefill_tokens_per_s.max(1e-3);
        let per_sequence = UNFORESEEN_PART * model.step_base_ms;
        let per_kv_token = per_sequence / 1e3;
        let itl = if batches(pool.kind) {
            [
                Prior::learned(model.step_base_ms, 1.0),
                Prior::learned(model.step_per_sequence_ms, per_sequence),
                Prior::learned(model.step_per_kv_token_ns / 1e6, per_kv_token),
                Prior::learned(ms_per_token, 1.0),
            ]
        } else {
            [
                Prior::learned(model.step_base_ms, 1.0),
                Prior::fixed(model.step_per_sequence_ms),
                Prior::fixed(model.step_per_kv_token_ns / 1e6),
                Prior::fixed(0.0),
            ]
        };
        let ttft = [Prior::learned(model.fixed_ttft_ms, UNFORESEEN_FIXED_MS), Prior::learned(ms_per_token, 1.0)];
        Service {
            prior: model.clone(),
            kind: pool.kind,
            round_trip_ms: pool.round_trip_ms.max(0.0),
            ttft: Regression::new(ttft),
            itl: Regression::new(itl),
            knee: Knee::new(model.slots),
        }
    }

    /// What the portfolio and the catalog say.
    pub(super) fn prior(&self) -> &ServiceModel {
        &self.prior
    }

    /// The prior with what was learned in its place.
    pub(super) fn model(&self) -> ServiceModel {
        let [fixed_ttft_ms, ms_per_token] = self.ttft.values();
        let [step_base_ms, step_per_sequence_ms, step_per_kv_token_ms, read_ms_per_token] = self.itl.values();
        let prefill_weight = read_ms_per_token / ms_per_token.max(1e-9);
        ServiceModel {
            step_base_ms: three_digits(step_base_ms),
            step_per_sequence_ms: three_digits(step_per_sequence_ms),
            step_per_kv_token_ns: three_digits(step_per_kv_token_ms * 1e6),
            prefill_tokens_per_s: three_digits(1e3 / ms_per_token.max(1e-9)),
            fixed_ttft_ms: three_digits(fixed_ttft_ms),
            prefill_weight: if batches(self.kind) { three_digits(prefill_weight) } else { self.prior.prefill_weight },
            slots: if batches(self.kind) { self.prior.slots } else { self.knee.slots() },
            ..self.prior.clone()
        }
    }

    pub(super) fn confidence(&self) -> Confidence {
        let half_full = [1.0, f64::from(self.prior.slots) / 2.0, self.prior.kv_tokens.unwrap_or(0) as f64 / 2.0, 0.0];
        Confidence {
            first_tokens: self.ttft.observations(),
            streams: self.itl.observations(),
            ttft_sigma: self.ttft.doubtfulness(&[1.0, 1_000.0], self.round_trip_ms),
            itl_sigma: self.itl.doubtfulness(&half_full, 0.0),
        }
    }

    /// The first token of a stream came. Those that may have waited for a place teach nothing here.
    pub(super) fn learn_ttft(&mut self, seen: &Observation) -> Option<Residual> {
        let observed = seen.ttft_ms()?;
        let (features, offset) = self.ttft_features(seen);
        let batch = f64::from(seen.at_dispatch.in_flight) + 1.0;
        if !batches(self.kind) {
            let factor = seen.predicted.factors.ttft.max(1e-3);
            self.knee.learn(batch, self.ttft.predict(&features, offset) * factor, observed);
        }
        if self.may_have_waited(seen) {
            return None;
        }
        let explained = seen.predicted.factors.ttft.max(1e-3).sqrt();
        let log = self.ttft.learn(&features, offset, observed / explained, 1.0)?;
        Some(Residual { log: log + explained.ln(), weight: 1.0 })
    }

    /// A stream, or a whole answer that was mostly decoding, came to its end.
    pub(super) fn learn_itl(&mut self, seen: &Observation) -> Option<Residual> {
        let later = seen.later_tokens();
        if later < 1.0 {
            return None;
        }
        let (observed, weight) = match seen.itl_ms() {
            Some(itl_ms) => (itl_ms, (later / CLEAN_TOKENS).min(1.0)),
            None => (self.itl_of_whole(seen)?, WHOLE_ANSWER_WEIGHT),
        };
        let explained = seen.predicted.factors.itl.max(1e-3).sqrt();
        let log = self.itl.learn(&self.itl_features(seen), 0.0, observed / explained, weight)?;
        Some(Residual { log: log + explained.ln(), weight })
    }

    /// The times to first token, or per output token, have changed.
    pub(super) fn doubt_ttft(&mut self) {
        self.ttft.doubt();
    }

    pub(super) fn doubt_itl(&mut self) {
        self.itl.doubt();
    }

    fn ttft_features(&self, seen: &Observation) -> ([f64; 2], f64) {
        // Slots of flat machines read their prompts side by side.
        let ahead = if batches(self.kind) { seen.at_dispatch.prefill_tokens } else { 0 };
        let [step_base, per_sequence, per_kv_token, _] = self.itl.values();
        let batch = self.batch(f64::from(seen.at_dispatch.in_flight) + 1.0);
        let held = self.held(seen.at_dispatch.context_tokens.saturating_add(seen.input_tokens) as f64);
        let step_ms = step_base + per_sequence * batch + per_kv_token * held;
        ([1.0, seen.uncached_tokens().saturating_add(ahead) as f64], self.round_trip_ms + step_ms)
    }

    fn itl_features(&self, seen: &Observation) -> [f64; 4] {
        let at_dispatch = seen.at_dispatch;
        let own = seen.input_tokens.saturating_add(seen.output_tokens / 2);
        let (batch, held, read) = match seen.during {
            Some(during) => (during.batch, during.context_tokens, during.prefilled_tokens as f64),
            None => {
                (f64::from(at_dispatch.in_flight) + 1.0, at_dispatch.context_tokens.saturating_add(own) as f64, 0.0)
            }
        };
        [1.0, self.batch(batch), self.held(held), read / seen.later_tokens().max(1.0)]
    }

    fn batch(&self, in_flight: f64) -> f64 {
        in_flight.clamp(1.0, f64::from(self.prior.slots.max(1)))
    }

    fn held(&self, tokens: f64) -> f64 {
        self.prior.kv_tokens.map_or(tokens, |limit| tokens.min(limit as f64))
    }

    fn may_have_waited(&self, seen: &Observation) -> bool {
        let slots = if batches(self.kind) { self.prior.slots } else { self.knee.slots() };
        let wanted = seen.at_dispatch.context_tokens.saturating_add(seen.input_tokens);
        seen.at_dispatch.in_flight >= slots || self.prior.kv_tokens.is_some_and(|limit| wanted > limit)
    }

    fn itl_of_whole(&self, seen: &Observation) -> Option<f64> {
        if self.may_have_waited(seen) {
            return None;
        }
        let (features, offset) = self.ttft_features(seen);
        let decoding_ms = seen.total_ms() - self.ttft.predict(&features, offset);
        (decoding_ms > MOSTLY_DECODING * seen.total_ms()).then(|| decoding_ms / seen.later_tokens())
    }

    pub(super) fn save(&self) -> Saved {
        Saved { ttft: self.ttft.save(), itl: self.itl.save(), knee: self.knee.value() }
    }

    pub(super) fn restore(&mut self, saved: &Saved) {
        self.ttft.restore(&saved.ttft);
        self.itl.restore(&saved.itl);
        self.knee.restore(saved.knee);
    }
}

/// What was learned of one pool, as saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    ttft: regression::Saved,
    itl: regression::Saved,
    knee: f64,
}
