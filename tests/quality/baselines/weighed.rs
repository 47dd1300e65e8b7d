//! Baselines that weigh what engines report: llm-d's default scorers, SMG's cache_aware and least_load, Dynamo's KV
//! cost.

use std::collections::VecDeque;

use fastrand::Rng;
use pointsman::simulation::router::{BLOCK_TOKENS, Ended};
use pointsman_policies::units::Micros;

use super::at_once::{Choice, Choose, Kept};
use super::column::Column;
use super::prefix::Sent;

/// The share of KV memory in use that an engine last reported; 0 where it reports none.
fn kv_used(choice: &Choice<'_>, endpoint: usize) -> f64 {
    let reported = choice.seen.endpoints.get(endpoint).and_then(|seen| seen.reported);
    let capacity = choice.service(endpoint).and_then(|service| service.kv_tokens);
    match (reported, capacity) {
        (Some(reported), Some(capacity)) => (reported.kv_tokens as f64 / capacity.max(1) as f64).clamp(0.0, 1.0),
        _ => 0.0,
    }
}

fn waiting(choice: &Choice<'_>, endpoint: usize) -> u32 {
    choice.seen.endpoints.get(endpoint).and_then(|seen| seen.reported).map_or(0, |reported| reported.waiting)
}

/// The most of `queue weight * (longest - own) / (longest - shortest) + kv weight * (1 - used) + prefix weight * share
/// held`; equal queues score 1.
#[derive(Debug)]
pub struct LlmdDefault {
    lots: Rng,
    weights: Weights,
    sent: Column<Sent>,
}

/// Weights of the three scorers.
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    /// Of the queue.
    pub queue: f64,
    /// Of free KV memory.
    pub kv: f64,
    /// Of the prefix held.
    pub prefix: f64,
}

impl LlmdDefault {
    /// With these weights.
    pub fn new(lots: Rng, weights: Weights) -> LlmdDefault {
        LlmdDefault { lots, weights, sent: Column::default() }
    }
}

impl Choose for LlmdDefault {
    fn choose(&mut self, choice: &Choice<'_>) -> Option<usize> {
        let queues = choice.open.iter().map(|&endpoint| waiting(choice, endpoint));
        let (shortest, longest) =
            queues.fold((u32::MAX, 0), |(least, most), queue| (least.min(queue), most.max(queue)));
        let Weights { queue, kv, prefix } = self.weights;
        let sent = &mut self.sent;
        choice.least(&mut self.lots, |endpoint| {
            let free = if longest == shortest {
                1.0
            } else {
                f64::from(longest - waiting(choice, endpoint)) / f64::from(longest - shortest)
            };
            let held = sent.of(endpoint).share(&choice.request.prefix);
            -(queue * free + kv * (1.0 - kv_used(choice, endpoint)) + prefix * held)
        })
    }

    fn sent(&mut self, choice: &Choice<'_>, endpoint: usize) {
        self.sent.of(endpoint).insert(&choice.request.prefix, choice.request.input_tokens);
    }
}

/// The endpoint that holds most of the prompt if it holds more than a threshold, else the one to which least was sent;
/// the one with the fewest in flight when loads have drifted apart.
#[derive(Debug)]
pub struct SmgCacheAware {
    lots: Rng,
    threshold: f64,
    apart: f64,
    ratio: f64,
    sent: Column<Sent>,
}

impl SmgCacheAware {
    /// Loads have drifted apart when the most exceeds the least by more than `apart` and by more than `ratio` times.
    pub fn new(lots: Rng, threshold: f64, apart: f64, ratio: f64) -> SmgCacheAware {
        SmgCacheAware { lots, threshold, apart, ratio, sent: Column::default() }
    }
}

impl Choose for SmgCacheAware {
    fn choose(&mut self, choice: &Choice<'_>) -> Option<usize> {
        let loads = choice.open.iter().map(|&endpoint| f64::from(choice.in_flight(endpoint)));
        let (least, most) =
            loads.fold((f64::INFINITY, 0.0_f64), |(least, most), load| (least.min(load), most.max(load)));
        if most - least > self.apart && most > self.ratio * least {
            return choice.least(&mut self.lots, |endpoint| f64::from(choice.in_flight(endpoint)));
        }
        let sent = &mut self.sent;
        let holder = choice.least(&mut self.lots, |endpoint| -sent.of(endpoint).share(&choice.request.prefix))?;
        if sent.of(holder).share(&choice.request.prefix) > self.threshold {
            return Some(holder);
        }
        choice.least(&mut self.lots, |endpoint| sent.of(endpoint).size(BLOCK_TOKENS))
    }

    fn sent(&mut self, choice: &Choice<'_>, endpoint: usize) {
        self.sent.of(endpoint).insert(&choice.request.prefix, choice.request.input_tokens);
    }
}

/// Answers within this time make the throughput an endpoint is taken to have.
const THROUGHPUT_WINDOW: Micros = Micros::from_secs(10);

/// The least of `(queued + in-flight tokens) / throughput + weight * k / (1 - k)`: tokens that wait in the engine's queue,
/// tokens sent since it reported, the share `k` of its KV memory in use.
#[derive(Debug)]
pub struct SmgLeastLoad {
    lots: Rng,
    kv_weight_s: f64,
    default_throughput: f64,
    drains: Column<Drain>,
    /// Mean prompt, tokens: engines of the simulation report how many wait, not their tokens.
    mean_prompt: f64,
}

#[derive(Clone, Debug, Default)]
struct Drain {
    report: Micros,
    sent_tokens: u64,
    answered: VecDeque<(Micros, u64)>,
}

impl SmgLeastLoad {
    /// With the weight of KV memory in seconds, and the throughput of endpoints that have answered nothing lately,
    /// tokens per second.
    pub fn new(lots: Rng, kv_weight_s: f64, default_throughput: f64) -> SmgLeastLoad {
        SmgLeastLoad { lots, kv_weight_s, default_throughput, drains: Column::default(), mean_prompt: 1024.0 }
    }

    /// The score of an endpoint, seconds.
    pub fn score(&mut self, choice: &Choice<'_>, endpoint: usize) -> f64 {
        let reported = choice.seen.endpoints.get(endpoint).and_then(|seen| seen.reported).unwrap_or_default();
        let drain = self.drains.of(endpoint);
        if drain.report != reported.at {
            (drain.report, drain.sent_tokens) = (reported.at, 0);
        }
        while drain.answered.front().is_some_and(|(at, _)| choice.now - *at > THROUGHPUT_WINDOW) {
            drain.answered.pop_front();
        }
        let tokens: u64 = drain.answered.iter().map(|(_, tokens)| tokens).sum();
        let measured = tokens as f64 / THROUGHPUT_WINDOW.as_secs();
        let throughput = if measured > 0.0 { measured } else { self.default_throughput };
        let queued = f64::from(reported.waiting) * self.mean_prompt;
        let used = kv_used(choice, endpoint).min(0.999);
        (queued + drain.sent_tokens as f64) / throughput + self.kv_weight_s * used / (1.0 - used)
    }
}

impl Choose for SmgLeastLoad {
    fn choose(&mut self, choice: &Choice<'_>) -> Option<usize> {
        let scores: Vec<f64> = choice.open.iter().map(|&endpoint| self.score(choice, endpoint)).collect();
        let mut scores = scores.into_iter();
        choice.least(&mut self.lots, |_| scores.next().unwrap_or(f64::INFINITY))
    }

    fn sent(&mut self, choice: &Choice<'_>, endpoint: usize) {
        let tokens = choice.request.input_tokens;
        self.drains.of(endpoint).sent_tokens += tokens;
        self.mean_prompt += (tokens as f64 - self.mean_prompt) / 100.0;
    }

    fn ended(&mut self, now: Micros, _: &Kept, ended: &Ended) {
        self.drains.of(ended.endpoint).answered.push_back((now, ended.output_tokens));
    }
}

/// The least of `overlap weight * prefill blocks + decode blocks`: prompt tokens that wait for their first token with
/// the request's own, less what the endpoint holds of it, and the blocks of everything in flight there.
#[derive(Debug)]
pub struct DynamoKv {
    lots: Rng,
    prefill_weight: f64,
    sent: Column<Sent>,
}

impl DynamoKv {
    /// With the weight of prefill against decode.
    pub fn new(lots: Rng, prefill_weight: f64) -> DynamoKv {
        DynamoKv { lots, prefill_weight, sent: Column::default() }
    }

    /// The cost of an endpoint, blocks.
    pub fn cost(&mut self, choice: &Choice<'_>, endpoint: usize) -> f64 {
        let Some(seen) = choice.seen.endpoints.get(endpoint) else { return f64::INFINITY };
        let held = self.sent.of(endpoint).blocks(&choice.request.prefix) as u64 * BLOCK_TOKENS;
        let prefill = seen.prefill_tokens + choice.request.input_tokens.saturating_sub(held);
        let decode = seen.context_tokens + choice.request.input_tokens;
        (self.prefill_weight * prefill as f64 + decode as f64) / BLOCK_TOKENS as f64
    }
}

impl Choose for DynamoKv {
    fn choose(&mut self, choice: &Choice<'_>) -> Option<usize> {
        let costs: Vec<f64> = choice.open.iter().map(|&endpoint| self.cost(choice, endpoint)).collect();
        let mut costs = costs.into_iter();
        choice.least(&mut self.lots, |_| costs.next().unwrap_or(f64::INFINITY))
    }

    fn sent(&mut self, choice: &Choice<'_>, endpoint: usize) {
        self.sent.of(endpoint).insert(&choice.request.prefix, choice.request.input_tokens);
    }
}
