//! Baselines that predict latency: llm-d's predicted-latency scorer and the plain rule of most headroom, both granted a
//! perfect predictor; PolyServe's packing by tiers.

use fastrand::Rng;
use pointsman::simulation::router::Ended;
use pointsman_policies::fleet::ServiceModel;
use pointsman_policies::units::Micros;

use super::at_once::{Choice, Choose, Kept};
use super::mirror::Mirror;

/// The most headroom: the endpoint where the scarcest part of the promise would have most of it left over.
#[derive(Debug)]
pub struct MostHeadroom {
    /// The lots among equals.
    pub lots: Rng,
    /// The predictor.
    pub mirror: Mirror,
}

impl Choose for MostHeadroom {
    fn choose(&mut self, choice: &Choice<'_>) -> Option<usize> {
        let mirror = &mut self.mirror;
        choice.least(&mut self.lots, |endpoint| -mirror.predict(choice, endpoint).headroom(choice.request))
    }

    fn sent(&mut self, choice: &Choice<'_>, endpoint: usize) {
        self.mirror.submit(choice, endpoint);
    }

    fn ended(&mut self, now: Micros, _: &Kept, ended: &Ended) {
        self.mirror.remove(now, ended.request, ended.endpoint);
    }

    fn turned_away(&mut self, request: &Kept, endpoint: usize) {
        self.mirror.remove(request.sent, request.id, endpoint);
    }
}

/// Which of the endpoints that would keep the promise is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The one with the least headroom: packs.
    Least,
    /// The one with the most: spreads.
    Most,
}

/// llm-d's predicted-latency scorer: among endpoints that would keep the promise, the least (or most) headroom; else the
/// least deficit. Headrooms of first token and pace are scaled to 0..1 over the candidates and weighed.
#[derive(Debug)]
pub struct LlmdPredicted {
    lots: Rng,
    mirror: Mirror,
    strategy: Strategy,
    ttft_weight: f64,
    /// Of each promise, the share that is aimed at.
    slo_share: f64,
}

impl LlmdPredicted {
    /// With its strategy, the weight of the first token against 1 in all, and the share of each promise aimed at.
    pub fn new(lots: Rng, strategy: Strategy, ttft_weight: f64, slo_share: f64) -> LlmdPredicted {
        LlmdPredicted { lots, mirror: Mirror::default(), strategy, ttft_weight, slo_share }
    }
}

impl Choose for LlmdPredicted {
    fn choose(&mut self, choice: &Choice<'_>) -> Option<usize> {
        let mut aimed = choice.request.clone();
        for bound in [&mut aimed.slo.ttft_ms, &mut aimed.slo.itl_ms, &mut aimed.slo.deadline_ms] {
            *bound = bound.map(|ms| ms * self.slo_share);
        }
        let predict = |&endpoint: &usize| (endpoint, self.mirror.predict(choice, endpoint).headrooms(&aimed));
        let predicted: Vec<(usize, (f64, f64))> = choice.open.iter().map(predict).collect();
        let kept = |headrooms: &(f64, f64)| headrooms.0 >= 0.0 && headrooms.1 >= 0.0;
        let keeping: Vec<_> = predicted.iter().copied().filter(|(_, headrooms)| kept(headrooms)).collect();
        let packs = !keeping.is_empty() && self.strategy == Strategy::Least;
        let candidates = if keeping.is_empty() { predicted } else { keeping };
        let scores = weighed(&candidates, self.ttft_weight);
        let endpoints: Vec<usize> = candidates.iter().map(|(endpoint, _)| *endpoint).collect();
        let mut scores = scores.into_iter();
        let narrowed = Choice { open: &endpoints, ..*choice };
        narrowed.least(&mut self.lots, |_| {
            let score = scores.next().unwrap_or(0.0);
            if packs { score } else { -score }
        })
    }

    fn sent(&mut self, choice: &Choice<'_>, endpoint: usize) {
        self.mirror.submit(choice, endpoint);
    }

    fn ended(&mut self, now: Micros, _: &Kept, ended: &Ended) {
        self.mirror.remove(now, ended.request, ended.endpoint);
    }

    fn turned_away(&mut self, request: &Kept, endpoint: usize) {
        self.mirror.remove(request.sent, request.id, endpoint);
    }
}

/// Both headrooms scaled to 0..1 over the candidates and weighed; higher is more headroom.
fn weighed(candidates: &[(usize, (f64, f64))], ttft_weight: f64) -> Vec<f64> {
    // Infinitely late is later than anything, but has no place on a scale.
    const LATEST: f64 = -1e6;
    let scaled = |of: fn(&(f64, f64)) -> f64| -> Vec<f64> {
        let values: Vec<f64> = candidates.iter().map(|(_, headrooms)| of(headrooms).max(LATEST)).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        values.into_iter().map(|value| if most > least { (value - least) / (most - least) } else { 1.0 }).collect()
    };
    let (ttft, pace) = (scaled(|headrooms| headrooms.0), scaled(|headrooms| headrooms.1));
    ttft.into_iter().zip(pace).map(|(ttft, pace)| ttft_weight * ttft + (1.0 - ttft_weight) * pace).collect()
}

/// PolyServe: each tier of pace has a pool; a request goes to the fullest endpoint of its pool where, by the profile, it
/// and the tightest of those already there would keep their promise; where there is none, to a pool of a tighter tier
/// (lazy promotion); where there is none at all, to the emptiest of its own pool.
#[derive(Debug)]
pub struct PolyServe {
    lots: Rng,
    pools: Vec<usize>,
    paces: Vec<f64>,
    slo_share: f64,
    under_way: Vec<Vec<Held>>,
}

/// A request an endpoint has.
#[derive(Clone, Copy, Debug)]
struct Held {
    request: u32,
    pace_ms: f64,
    kv_tokens: f64,
    /// Prompt tokens whose first token has not been seen.
    prefill_tokens: f64,
}

impl PolyServe {
    /// The pool of each class, the pace each is promised, and the share of each promise that is aimed at.
    pub fn new(lots: Rng, pools: Vec<usize>, paces: Vec<f64>, slo_share: f64) -> PolyServe {
        PolyServe { lots, pools, paces, slo_share, under_way: Vec::new() }
    }

    /// How full an endpoint would be with the request, 0 to 1; `None` where somebody's promise would be broken.
    fn attainable(&self, request: &Kept, service: &ServiceModel, endpoint: usize) -> Option<f64> {
        let held = self.under_way.get(endpoint).map_or(&[][..], Vec::as_slice);
        let batch = held.len() as f64 + 1.0;
        let own_kv = (request.input_tokens + request.predicted_output_tokens) as f64;
        let kv_tokens = own_kv + held.iter().map(|held| held.kv_tokens).sum::<f64>();
        let pace = |bound: Option<f64>| bound.unwrap_or(f64::INFINITY);
        let tightest = held.iter().map(|held| held.pace_ms).fold(pace(request.slo.itl_ms), f64::min);
        let step_ms = service.step_base_ms
            + service.step_per_sequence_ms * batch
            + service.step_per_kv_token_ns * kv_tokens / 1e6;
        let queued = request.input_tokens as f64 + held.iter().map(|held| held.prefill_tokens).sum::<f64>();
        let first_ms = service.fixed_ttft_ms + queued / service.prefill_tokens_per_s * 1e3 + step_ms;
        let memory = service.kv_tokens.map_or(0.0, |limit| kv_tokens / limit as f64);
        let fullness = (batch / f64::from(service.slots.max(1))).max(memory);
        let kept = fullness <= 1.0
            && step_ms <= tightest * self.slo_share
            && first_ms <= pace(request.slo.ttft_ms).min(pace(request.slo.deadline_ms)) * self.slo_share;
        kept.then_some(fullness)
    }

    /// Pools in the order in which a class may use them: its own, then those of tighter classes, loosest first.
    fn pools_of(&self, class: usize) -> Vec<usize> {
        let pace = |class: usize| self.paces.get(class).copied().unwrap_or(f64::INFINITY);
        let mut tiers: Vec<usize> = (0..self.pools.len()).filter(|tier| pace(*tier) < pace(class)).collect();
        tiers.sort_by(|one, other| pace(*other).total_cmp(&pace(*one)));
        let mut order = Vec::new();
        for pool in std::iter::once(class).chain(tiers).filter_map(|tier| self.pools.get(tier)) {
            if !order.contains(pool) {
                order.push(*pool);
            }
        }
        order
    }
}

impl Choose for PolyServe {
    fn choose(&mut self, choice: &Choice<'_>) -> Option<usize> {
        let pool_of = |endpoint: usize| choice.seen.endpoints.get(endpoint).map(|seen| seen.pool);
        for pool in self.pools_of(choice.request.class) {
            let attainable = |&endpoint: &usize| {
                let fullness = self.attainable(choice.request, choice.service(endpoint)?, endpoint)?;
                (pool_of(endpoint) == Some(pool)).then_some((fullness, endpoint))
            };
            let fullest = choice.open.iter().filter_map(attainable).max_by(|(one, _), (other, _)| one.total_cmp(other));
            if let Some((_, endpoint)) = fullest {
                return Some(endpoint);
            }
        }
        let own = self.pools.get(choice.request.class).copied();
        choice.least(&mut self.lots, |endpoint| {
            let elsewhere = if pool_of(endpoint) == own { 0.0 } else { 1e6 };
            f64::from(choice.in_flight(endpoint)) + elsewhere
        })
    }

    fn sent(&mut self, choice: &Choice<'_>, endpoint: usize) {
        if self.under_way.len() <= endpoint {
            self.under_way.resize_with(endpoint + 1, Vec::new);
        }
        let request = choice.request;
        self.under_way[endpoint].push(Held {
            request: request.id,
            pace_ms: request.slo.itl_ms.unwrap_or(f64::INFINITY),
            kv_tokens: (request.input_tokens + request.predicted_output_tokens) as f64,
            prefill_tokens: request.input_tokens as f64,
        });
    }

    fn first_token(&mut self, _: Micros, request: &Kept, endpoint: usize, _: f64) {
        let held = self.under_way.get_mut(endpoint).into_iter().flatten();
        held.filter(|held| held.request == request.id).for_each(|held| held.prefill_tokens = 0.0);
    }

    fn ended(&mut self, _: Micros, request: &Kept, ended: &Ended) {
        self.remove(request, ended.endpoint);
    }

    fn turned_away(&mut self, request: &Kept, endpoint: usize) {
        self.remove(request, endpoint);
    }
}

impl PolyServe {
    fn remove(&mut self, request: &Kept, endpoint: usize) {
        if let Some(held) = self.under_way.get_mut(endpoint) {
            held.retain(|held| held.request != request.id);
        }
    }
}
