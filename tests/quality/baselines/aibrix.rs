//! AIBrix's SLO router: requests wait in sub-queues of alike requests until a machine has room by its offline profile;
//! the one whose promise is nearest to broken goes first.

use std::collections::{BTreeMap, HashMap, VecDeque};

use pointsman::simulation::router::{Act, Arrival, Ended, Router, Seen, TurnedAway};
use pointsman_policies::fleet::PoolFacts;
use pointsman_policies::units::Micros;

use super::at_once::{ATTEMPTS, Kept, open};

/// While requests wait, it looks again at least this often: machines come back without a word.
const LOOK_AGAIN: Micros = Micros::from_secs(1);
/// What a refused caller is told, milliseconds.
const RETRY_AFTER_MS: f64 = 1_000.0;

/// What is alike: class, and the rounded logarithms of prompt and answer.
type Features = (usize, u32, u32);
/// Ranks of a request in pools, the most relaxed first.
type Ranks = Vec<(f64, usize)>;

/// The router.
pub struct AibrixSlo {
    /// An endpoint has room while the shares of its capacity that requests take add up to no more.
    cap: f64,
    /// Of the promised pace, the share that profiles are taken at.
    slo_share: f64,
    queues: BTreeMap<Features, VecDeque<Kept>>,
    running: HashMap<u32, (Kept, f64)>,
    taken: Vec<f64>,
    look_at: Option<Micros>,
}

/// What the profile of a pool says of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profiled {
    /// How many such requests one machine serves at once within the promise.
    pub capacity: f64,
    /// Time to the whole answer at that load, milliseconds.
    pub expected_ms: f64,
}

impl AibrixSlo {
    /// With its cap on utilisation and the share of the promised pace that profiles are taken at.
    pub fn new(cap: f64, slo_share: f64) -> AibrixSlo {
        let (queues, running) = (BTreeMap::new(), HashMap::new());
        AibrixSlo { cap, slo_share, queues, running, taken: Vec::new(), look_at: None }
    }

    /// `elapsed + expected - (TPOT * tokens + TTFT)`, milliseconds: above zero the promise is expected to break.
    pub fn rank(&self, now: Micros, request: &Kept, pool: &PoolFacts) -> f64 {
        let tokens = request.predicted_output_tokens as f64;
        let slo = &request.slo;
        let promised =
            slo.ttft_ms.or(slo.itl_ms).map(|_| slo.itl_ms.unwrap_or(0.0) * tokens + slo.ttft_ms.unwrap_or(0.0));
        let target_ms = promised.unwrap_or(f64::INFINITY).min(slo.deadline_ms.unwrap_or(f64::INFINITY));
        (now - request.arrived).as_ms() + profiled(request, pool, self.slo_share).expected_ms - target_ms
    }

    fn enqueue(&mut self, request: Kept) {
        let log = |tokens: u64| (tokens.max(1) as f64).log2().round() as u32;
        let features = (request.class, log(request.input_tokens), log(request.predicted_output_tokens));
        self.queues.entry(features).or_default().push_back(request);
    }

    /// Sends what there is room for.
    fn pump(&mut self, now: Micros, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        self.taken.resize(seen.endpoints.len().max(self.taken.len()), 0.0);
        while let Some((features, endpoint, share)) = self.next(now, seen) {
            let Some(mut request) = self.queues.get_mut(&features).and_then(VecDeque::pop_front) else { return };
            acts.push(Act::Send { request: request.id, endpoint });
            request.tried.push(endpoint);
            request.sent = now;
            self.taken[endpoint] += share;
            self.running.insert(request.id, (request, share));
        }
        self.queues.retain(|_, queue| !queue.is_empty());
        self.look_at = (!self.queues.is_empty()).then(|| now + LOOK_AGAIN);
    }

    /// The head of a sub-queue that goes next, and where it finds room.
    fn next(&self, now: Micros, seen: &Seen<'_>) -> Option<(Features, usize, f64)> {
        let mut heads: Vec<(f64, Features, Ranks)> = Vec::new();
        for (features, queue) in &self.queues {
            let Some(head) = queue.front() else { continue };
            let mut ranks: Ranks =
                seen.pools.iter().enumerate().map(|(at, pool)| (self.rank(now, head, pool), at)).collect();
            ranks.sort_by(|(one, _), (other, _)| one.total_cmp(other));
            let Some((least, _)) = ranks.first() else { continue };
            heads.push((*least, *features, ranks));
        }
        heads.sort_by(|(one, ..), (other, ..)| other.total_cmp(one));
        heads.into_iter().find_map(|(_, features, ranks)| {
            let head = self.queues.get(&features)?.front()?;
            // The most relaxed pool first; another only while it, too, would keep the promise.
            let allowed = ranks.into_iter().enumerate().take_while(|(at, (rank, _))| *at == 0 || *rank <= 0.0);
            let mut rooms = allowed.filter_map(|(_, (_, pool))| self.room(head, pool, seen));
            rooms.next().map(|(endpoint, share)| (features, endpoint, share))
        })
    }

    /// The least used endpoint of a pool with room for the request, and the share of it that the request takes.
    fn room(&self, request: &Kept, pool: usize, seen: &Seen<'_>) -> Option<(usize, f64)> {
        let share = 1.0 / profiled(request, seen.pools.get(pool)?, self.slo_share).capacity;
        let of_pool = open(request, seen).filter(|&at| seen.endpoints.get(at).is_some_and(|seen| seen.pool == pool));
        let taken = |endpoint: usize| self.taken.get(endpoint).copied().unwrap_or(0.0);
        let least = of_pool.min_by(|&one, &other| taken(one).total_cmp(&taken(other)))?;
        (taken(least) <= 0.0 || taken(least) + share <= self.cap).then_some((least, share))
    }

    /// Takes a request back from where it ran.
    fn free(&mut self, request: u32, endpoint: usize) -> Option<Kept> {
        let (kept, share) = self.running.remove(&request)?;
        if let Some(taken) = self.taken.get_mut(endpoint) {
            *taken = (*taken - share).max(0.0);
        }
        Some(kept)
    }

    fn again(&mut self, request: Kept, told_ms: Option<f64>, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        if request.tried.len() >= ATTEMPTS || open(&request, seen).next().is_none() {
            acts.push(Act::Refuse { request: request.id, retry_after_ms: told_ms.unwrap_or(RETRY_AFTER_MS) });
        } else {
            self.enqueue(request);
        }
    }
}

/// What a pool's profile says of a request: its capacity is the largest batch of such requests whose pace is promised,
/// where even one alone is too slow the whole machine.
pub fn profiled(request: &Kept, pool: &PoolFacts, slo_share: f64) -> Profiled {
    let service = &pool.service;
    let tokens = request.predicted_output_tokens as f64;
    let kv_tokens = request.input_tokens as f64 + tokens / 2.0;
    let per_head_ms = service.step_per_sequence_ms + service.step_per_kv_token_ns * kv_tokens / 1e6;
    let slots = f64::from(service.slots.max(1));
    let memory = service.kv_tokens.map_or(slots, |limit| limit as f64 / kv_tokens.max(1.0));
    let paced = request.slo.itl_ms.map_or(slots, |itl_ms| (itl_ms * slo_share - service.step_base_ms) / per_head_ms);
    let most = slots.min(memory).max(1.0);
    let capacity = if paced.is_nan() || paced < 1.0 { most } else { paced.min(most) };
    let step_ms = service.step_base_ms + per_head_ms * capacity;
    let prefill_ms = request.input_tokens as f64 / service.prefill_tokens_per_s * 1e3;
    Profiled { capacity, expected_ms: pool.round_trip_ms + service.fixed_ttft_ms + prefill_ms + step_ms * tokens }
}

impl Router for AibrixSlo {
    fn name(&self) -> &str {
        "aibrix slo"
    }

    fn arrive(&mut self, now: Micros, arrival: &Arrival<'_>, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        self.again(Kept::of(now, arrival), None, seen, acts);
        self.pump(now, seen, acts);
    }

    fn ended(&mut self, now: Micros, ended: &Ended, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        let freed = self.free(ended.request, ended.endpoint);
        if let Some(kept) = freed.filter(|_| ended.broken && ended.ttft_ms.is_none()) {
            self.again(kept, None, seen, acts);
        }
        self.pump(now, seen, acts);
    }

    fn turned_away(&mut self, now: Micros, away: &TurnedAway, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        if let Some(kept) = self.free(away.request, away.endpoint) {
            self.again(kept, away.retry_after_ms, seen, acts);
        }
        self.pump(now, seen, acts);
    }

    fn next_wake(&self) -> Option<Micros> {
        self.look_at
    }

    fn wake(&mut self, now: Micros, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        self.pump(now, seen, acts);
    }
}
