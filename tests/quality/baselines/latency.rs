//! Baselines that balance by latencies they have seen: peak-EWMA, Prequal, LiteLLM by latency.

use std::collections::{HashMap, VecDeque};

use fastrand::Rng;
use pointsman::simulation::router::Ended;
use pointsman_policies::units::Micros;

use super::at_once::{Choice, Choose, Kept};
use super::column::Column;

/// What linkerd takes a machine's latency for before it has seen any, milliseconds.
const DEFAULT_RTT_MS: f64 = 30.0;

/// Of two by lot, the one with less `peak EWMA of latency * (pending + 1)`. Latency runs to the first token, as linkerd
/// counts it for streams, else to the end.
#[derive(Debug)]
pub struct PeakEwma {
    lots: Rng,
    decay_s: f64,
    rtts: Column<Option<Rtt>>,
}

#[derive(Clone, Copy, Debug)]
struct Rtt {
    ms: f64,
    at: Micros,
}

impl PeakEwma {
    /// Latencies fade over this many seconds.
    pub fn new(lots: Rng, decay_s: f64) -> PeakEwma {
        PeakEwma { lots, decay_s, rtts: Column::default() }
    }

    /// What the load of an endpoint is taken for.
    pub fn cost(&mut self, now: Micros, endpoint: usize, pending: u32) -> f64 {
        let decay_s = self.decay_s;
        let rtt_ms = self.rtts.of(endpoint).map_or(DEFAULT_RTT_MS, |rtt| rtt.ms * rtt.kept(now, decay_s));
        rtt_ms * f64::from(pending + 1)
    }

    /// A latency seen: a peak counts at once, relief only by and by.
    pub fn observe(&mut self, now: Micros, endpoint: usize, ms: f64) {
        let decay_s = self.decay_s;
        let slot = self.rtts.of(endpoint);
        let before = slot.unwrap_or(Rtt { ms: DEFAULT_RTT_MS, at: now });
        let weight = before.kept(now, decay_s);
        let ms = if ms > before.ms { ms } else { before.ms * weight + ms * (1.0 - weight) };
        *slot = Some(Rtt { ms, at: now });
    }
}

impl Rtt {
    fn kept(&self, now: Micros, decay_s: f64) -> f64 {
        (-(now - self.at).as_secs() / decay_s).exp()
    }
}

impl Choose for PeakEwma {
    fn choose(&mut self, choice: &Choice<'_>) -> Option<usize> {
        let (one, other) = choice.two(&mut self.lots)?;
        let cost_one = self.cost(choice.now, one, choice.in_flight(one));
        let cost_other = self.cost(choice.now, other, choice.in_flight(other));
        Some(if cost_other < cost_one { other } else { one })
    }

    fn first_token(&mut self, now: Micros, _: &Kept, endpoint: usize, ttft_ms: f64) {
        self.observe(now, endpoint, ttft_ms);
    }

    fn ended(&mut self, now: Micros, request: &Kept, ended: &Ended) {
        if !request.streamed && !ended.broken {
            self.observe(now, ended.endpoint, ended.total_ms);
        }
    }
}

/// Probes kept at once.
const PROBES: usize = 16;
/// A probe older than this says nothing.
const PROBE_LASTS: Micros = Micros::from_secs(1);
/// Probes of which the distribution of requests in flight is made.
const RECENT: usize = 64;
/// Latencies a machine remembers to answer probes with.
const REMEMBERED: usize = 64;

/// Hot-cold lexicographic choice from a pool of probes: endpoints with more requests in flight than this quantile of
/// what probes told are hot; among the cold, the least latency wins; where all are hot, the fewest in flight.
#[derive(Debug)]
pub struct Prequal {
    lots: Rng,
    quantile: f64,
    probes_per_request: usize,
    pool: VecDeque<Probe>,
    /// Requests in flight as the last probes told them, whether or not they are still in the pool.
    recent: VecDeque<u32>,
    served: Column<VecDeque<Served>>,
    /// By request: how many were in flight where it was sent.
    under_way: HashMap<u32, u32>,
    /// Whether the next to go is the oldest or the worst.
    drop_oldest: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Probe {
    endpoint: usize,
    at: Micros,
    in_flight: u32,
    latency_ms: f64,
}

/// One answer a machine remembers: how many were in flight there when it was sent, and how long it took.
#[derive(Clone, Copy, Debug)]
struct Served {
    in_flight: u32,
    latency_ms: f64,
}

impl Prequal {
    /// With its quantile and how many probes follow each request.
    pub fn new(lots: Rng, quantile: f64, probes_per_request: usize) -> Prequal {
        let (pool, recent, served, under_way) = Default::default();
        Prequal { lots, quantile, probes_per_request, pool, recent, served, under_way, drop_oldest: true }
    }

    /// A machine's answer to a probe: requests in flight there, and the median latency of those it served at about that
    /// many.
    fn probe(&mut self, choice: &Choice<'_>, endpoint: usize) {
        let in_flight = choice.in_flight(endpoint);
        let mut near: Vec<f64> = Vec::new();
        let served = self.served.of(endpoint);
        for width in [1, 4, 16, u32::MAX] {
            near.clear();
            near.extend(served.iter().filter(|s| s.in_flight.abs_diff(in_flight) <= width).map(|s| s.latency_ms));
            if near.len() >= 3 {
                break;
            }
        }
        near.sort_by(f64::total_cmp);
        let latency_ms = near.get(near.len() / 2).copied().unwrap_or(0.0);
        if self.pool.len() >= PROBES {
            self.pool.pop_front();
        }
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(in_flight);
        self.pool.push_back(Probe { endpoint, at: choice.now, in_flight, latency_ms });
    }

    fn best(&self) -> Option<usize> {
        let threshold = hot_above(&self.recent, self.quantile);
        let cold = self.pool.iter().enumerate().filter(|(_, probe)| f64::from(probe.in_flight) <= threshold);
        let coldest = cold.min_by(|(_, one), (_, other)| one.latency_ms.total_cmp(&other.latency_ms));
        let fewest = || self.pool.iter().enumerate().min_by_key(|(_, probe)| probe.in_flight);
        coldest.or_else(fewest).map(|(index, _)| index)
    }

    fn worst(&self) -> Option<usize> {
        let threshold = hot_above(&self.recent, self.quantile);
        let hot = self.pool.iter().enumerate().filter(|(_, probe)| f64::from(probe.in_flight) > threshold);
        let hottest = hot.max_by_key(|(_, probe)| probe.in_flight);
        let slowest = || {
            let all = self.pool.iter().enumerate();
            all.max_by(|(_, one), (_, other)| one.latency_ms.total_cmp(&other.latency_ms))
        };
        hottest.or_else(slowest).map(|(index, _)| index)
    }
}

/// The quantile of requests in flight above which an endpoint is hot.
fn hot_above(in_flight: &VecDeque<u32>, quantile: f64) -> f64 {
    if quantile >= 1.0 {
        return f64::INFINITY;
    }
    let mut counts: Vec<u32> = in_flight.iter().copied().collect();
    counts.sort_unstable();
    let at = (quantile * counts.len() as f64).ceil() as usize;
    counts.get(at.saturating_sub(1)).map_or(0.0, |count| f64::from(*count))
}

impl Choose for Prequal {
    fn choose(&mut self, choice: &Choice<'_>) -> Option<usize> {
        self.pool.retain(|probe| choice.now - probe.at <= PROBE_LASTS && choice.open.contains(&probe.endpoint));
        // With fewer than two probes the paper falls back to chance.
        let chosen = if self.pool.len() < 2 {
            choice.least(&mut self.lots, |_| 0.0)
        } else {
            self.best().and_then(|index| self.pool.remove(index)).map(|probe| probe.endpoint)
        };
        let leaving = if self.drop_oldest { self.pool.front().map(|_| 0) } else { self.worst() };
        self.drop_oldest = !self.drop_oldest;
        if let Some(index) = leaving {
            self.pool.remove(index);
        }
        for _ in 0..self.probes_per_request {
            let asked = *choice.open.get(self.lots.usize(..choice.open.len()))?;
            self.probe(choice, asked);
        }
        // What was just sent is not in the probes yet.
        for probe in self.pool.iter_mut().filter(|probe| Some(probe.endpoint) == chosen) {
            probe.in_flight += 1;
        }
        chosen
    }

    fn sent(&mut self, choice: &Choice<'_>, endpoint: usize) {
        self.under_way.insert(choice.request.id, choice.in_flight(endpoint));
    }

    fn first_token(&mut self, _: Micros, request: &Kept, endpoint: usize, ttft_ms: f64) {
        self.remember(request, endpoint, ttft_ms);
    }

    fn ended(&mut self, _: Micros, request: &Kept, ended: &Ended) {
        if !request.streamed && !ended.broken {
            self.remember(request, ended.endpoint, ended.total_ms);
        }
        self.under_way.remove(&request.id);
    }
}

impl Prequal {
    fn remember(&mut self, request: &Kept, endpoint: usize, latency_ms: f64) {
        let Some(in_flight) = self.under_way.remove(&request.id) else { return };
        let served = self.served.of(endpoint);
        if served.len() >= REMEMBERED {
            served.pop_front();
        }
        served.push_back(Served { in_flight, latency_ms });
    }
}

/// The least mean over a window of latencies per answer token (to the first token for streams); one by lot of all within
/// a buffer above it. Who has not been seen counts as zero and is tried first.
#[derive(Debug)]
pub struct LitellmLatency {
    lots: Rng,
    buffer: f64,
    window: usize,
    seen: Column<VecDeque<f64>>,
}

impl LitellmLatency {
    /// With its buffer as a share of the least, and how many latencies are remembered.
    pub fn new(lots: Rng, buffer: f64, window: usize) -> LitellmLatency {
        LitellmLatency { lots, buffer, window, seen: Column::default() }
    }

    fn mean(&mut self, endpoint: usize) -> f64 {
        let seen = self.seen.of(endpoint);
        if seen.is_empty() { 0.0 } else { seen.iter().sum::<f64>() / seen.len() as f64 }
    }
}

impl Choose for LitellmLatency {
    fn choose(&mut self, choice: &Choice<'_>) -> Option<usize> {
        let means: Vec<(usize, f64)> = choice.open.iter().map(|&endpoint| (endpoint, self.mean(endpoint))).collect();
        let least = means.iter().map(|(_, mean)| *mean).fold(f64::INFINITY, f64::min);
        let most = least * (1.0 + self.buffer);
        let near: Vec<usize> = means.into_iter().filter(|(_, mean)| *mean <= most).map(|(at, _)| at).collect();
        near.get(self.lots.usize(..near.len().max(1))).copied()
    }

    fn ended(&mut self, _: Micros, _: &Kept, ended: &Ended) {
        if ended.broken {
            return;
        }
        let window = self.window;
        let seen = self.seen.of(ended.endpoint);
        // A list that is full loses its oldest. (The released code overwrites its newest instead and so keeps the first
        // latencies for an hour; here it does what it is meant to.)
        if seen.len() >= window {
            seen.pop_front();
        }
        seen.push_back(ended.ttft_ms.unwrap_or(ended.total_ms) / ended.output_tokens.max(1) as f64);
    }
}
