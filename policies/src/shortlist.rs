//! Which endpoints of a large pool are weighed: those with the least to do, those with the prompt in their caches, and its
//! homes. What a machine would do for a request follows from what it has to do already, so the best of a pool are among
//! them; to weigh all of ten thousand would take a thousand times as long as to send the request.

use std::ops::Range;

use crate::fleet::{Availability, Cached, EndpointState, Fleet, ServiceModel};

/// So many endpoints of a pool are weighed for a request: those with the least to do. Of smaller pools all are. 200 GPUs
/// and wafers in three pools at 400 requests a second, more than they can serve, three seeds: 0.994 kept at $0.237 per 1,000
/// with these and those below, 0.994 at $0.227 with twice as many, which take twice as long, 0.991 at $0.235 with all; at
/// 300 a second no difference.
pub const WEIGHED_PER_POOL: usize = 8;
/// Besides, so many of those that have the least to do beside the pace that is promised to whom they serve: machines full of
/// the patient take more of them.
pub const PATIENT_PER_POOL: usize = 4;
/// Besides, so many of those that are believed to have most of the prompt in their caches.
pub const CACHED_PER_POOL: usize = 4;
/// What of the most cached counts as most, in tenths.
const MOST_CACHED: u64 = 9;

/// How much a second of prompts that are still to be read counts, in machines whose places are all taken: a first token
/// is promised within about that, and who waits for it waits for all of them.
const FULL_PER_UNREAD_S: f32 = 4.0;
/// Taken for the pace that is promised where none is, milliseconds a token.
const UNPROMISED_MS: f32 = 1_000.0;
/// More than any machine has to do that may be asked; milliseconds are told apart beside it.
const AWAY: f32 = 1e6;

/// The endpoints that are weighed, by index, in order; `None` where all are. `homes` are those of the request, `used` tells
/// which pools may be; among endpoints with equally much to do, `draw` chooses.
pub(crate) fn shortlist(
    fleet: Fleet<'_>,
    homes: &[usize],
    used: impl Fn(usize) -> bool,
    draw: u64,
) -> Option<Vec<usize>> {
    let sizes = || fleet.pools.iter().map(|pool| pool.endpoints.len());
    if sizes().all(|size| size <= WEIGHED_PER_POOL) || sizes().sum::<usize>() != fleet.endpoints.len() {
        return None;
    }
    let (mut listed, mut survey, mut first) = (Vec::new(), Survey::default(), 0);
    for (pool, size) in sizes().enumerate() {
        let members = first..first + size;
        first = members.end;
        if size <= WEIGHED_PER_POOL {
            listed.extend(members);
        } else if !used(pool) {
            // One reason holds for all of them.
            listed.extend(members.take(WEIGHED_PER_POOL));
        } else if let Some(service) = fleet.service(pool) {
            let (begun, work) = (listed.len(), Work::of(service));
            survey.see(&work, fleet, members.clone(), draw);
            survey.tell(members.start, size, &mut listed);
            most_cached(&work, fleet, &survey.cached, &mut listed);
            listed.extend(homes.iter().filter(|home| members.contains(home)));
            if let Some(own) = listed.get_mut(begun..) {
                own.sort_unstable();
            }
        }
    }
    listed.dedup();
    Some(listed)
}

/// What is found of a pool in one pass over its endpoints: that is what takes the time where there are thousands.
#[derive(Default)]
struct Survey {
    /// What each has to do, then its place behind a drawn one.
    ahead: Vec<u64>,
    /// The same beside the pace that is promised to whom it serves.
    beside: Vec<u64>,
    /// Who has some of the prompt in its cache.
    cached: Vec<Cached>,
    drawn: u64,
}

impl Survey {
    fn see(&mut self, work: &Work, fleet: Fleet<'_>, members: Range<usize>, draw: u64) {
        let states = fleet.endpoints.get(members.clone()).unwrap_or_default();
        let size = states.len() as u64;
        let drawn = draw.rotate_left(29) % size.max(1); // other bits than those that choose among near-ties
        let behind = |place: u64| if place < drawn { place + size - drawn } else { place - drawn };
        let key = |figure: f32, place| u64::from(figure.to_bits()) << 32 | behind(place);
        self.ahead.clear();
        self.beside.clear();
        self.cached.clear();
        self.drawn = drawn;
        for (place, state) in (0..).zip(states) {
            let ahead = work.ahead(state);
            let promised_ms = state.strictest_itl_ms.map_or(UNPROMISED_MS, |ms| ms as f32);
            self.ahead.push(key(ahead, place));
            self.beside.push(key(ahead / promised_ms, place));
            if state.cached_tokens > 0 {
                self.cached.push(Cached { endpoint: members.start + place as usize, tokens: state.cached_tokens });
            }
        }
        if !fleet.cached.is_empty() {
            let told = fleet.cached.iter().filter(|cached| members.contains(&cached.endpoint));
            self.cached = told.copied().collect();
        }
    }

    /// Those with the least.
    fn tell(&mut self, first: usize, size: usize, listed: &mut Vec<usize>) {
        let drawn = self.drawn;
        let place = |key: &u64| first + ((*key & u64::from(u32::MAX)) + drawn) as usize % size.max(1);
        for (keys, few) in [(&mut self.ahead, WEIGHED_PER_POOL), (&mut self.beside, PATIENT_PER_POOL)] {
            if keys.len() > few {
                keys.select_nth_unstable(few - 1);
                keys.truncate(few);
            }
            listed.extend(keys.iter().map(place));
        }
    }
}

/// Those that have about the most of the prompt in their caches; of these, those with the least to do.
fn most_cached(work: &Work, fleet: Fleet<'_>, cached: &[Cached], listed: &mut Vec<usize>) {
    let most = cached.iter().map(|cached| cached.tokens).max().unwrap_or(0);
    let as_good = cached.iter().filter(|cached| cached.tokens >= most / 10 * MOST_CACHED);
    let key = |endpoint| fleet.endpoints.get(endpoint).map_or(f32::MAX, |state| work.ahead(state));
    let mut keys: Vec<(f32, usize)> = as_good.map(|cached| (key(cached.endpoint), cached.endpoint)).collect();
    keys.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    listed.extend(keys.iter().take(CACHED_PER_POOL).map(|(_, endpoint)| *endpoint));
}

/// What a machine of a pool has to do, as one number that costs next to nothing to find.
struct Work {
    slots: u32,
    per_context_token: f32,
    per_prefill_token: f32,
}

impl Work {
    fn of(service: &ServiceModel) -> Work {
        Work {
            slots: service.slots.max(1),
            per_context_token: service.kv_tokens.map_or(0.0, |tokens| 1.0 / tokens.max(1) as f32),
            per_prefill_token: FULL_PER_UNREAD_S / service.prefill_tokens_per_s as f32,
        }
    }

    /// In machines whose places are all taken; never negative.
    fn ahead(&self, state: &EndpointState) -> f32 {
        let places = state.window.map_or(self.slots, |window| window.requests.clamp(1, self.slots));
        let taken = state.in_flight as f32 / places as f32 + state.context_tokens as f32 * self.per_context_token;
        let unread = state.prefill_tokens as f32 * self.per_prefill_token;
        let ahead = (taken * state.itl_factor as f32 + unread * state.ttft_factor as f32) * state.widening as f32;
        match state.availability {
            Availability::Ready => ahead.max(0.0),
            away => AWAY + away.retry_in_ms().map_or(AWAY, |ms| (ms as f32).clamp(0.0, AWAY)),
        }
    }
}
