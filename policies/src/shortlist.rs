//! Which endpoints of a large pool are weighed: those with the least to do, those with the prompt in their caches, and its
//! homes. What a machine would do for a request follows from what it has to do already, so the best of a pool are among
//! them; to weigh all of ten thousand would take a thousand times as long as to send the request.

use std::ops::Range;

use crate::fleet::{Availability, EndpointState, Fleet, ServiceModel};

/// So many endpoints of a pool are weighed for a request: those with the least to do. Of smaller pools all are.
pub const WEIGHED_PER_POOL: usize = 16;
/// Besides, so many of those that are believed to have most of the prompt in their caches.
pub const CACHED_PER_POOL: usize = 8;
/// What of the most cached counts as most, in tenths.
const MOST_CACHED: u64 = 9;

/// How much a second of prompts that are still to be read counts, in machines whose places are all taken: a first token
/// is promised within about that, and who waits for it waits for all of them.
const FULL_PER_UNREAD_S: f32 = 4.0;
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
    let (mut listed, mut keys, mut first) = (Vec::new(), Vec::new(), 0);
    for (pool, size) in sizes().enumerate() {
        let members = first..first + size;
        first = members.end;
        if size <= WEIGHED_PER_POOL {
            listed.extend(members);
        } else if !used(pool) {
            // One reason holds for all of them.
            listed.extend(members.take(WEIGHED_PER_POOL));
        } else if let Some(service) = fleet.service(pool) {
            let begun = listed.len();
            least_busy(service, fleet, members.clone(), (draw, &mut keys), &mut listed);
            most_cached(service, fleet, members.clone(), &mut listed);
            listed.extend(homes.iter().filter(|home| members.contains(home)));
            if let Some(own) = listed.get_mut(begun..) {
                own.sort_unstable();
            }
        }
    }
    listed.dedup();
    Some(listed)
}

/// Those of a pool with the least to do. A key is what an endpoint has to do, then its place behind a drawn one.
fn least_busy(
    service: &ServiceModel,
    fleet: Fleet<'_>,
    members: Range<usize>,
    (draw, keys): (u64, &mut Vec<u64>),
    listed: &mut Vec<usize>,
) {
    let Some(states) = fleet.endpoints.get(members.clone()) else { return };
    let (work, size) = (Work::of(service), states.len() as u64);
    let drawn = draw.rotate_left(29) % size.max(1); // other bits than those that choose among near-ties
    let behind = |place: u64| if place < drawn { place + size - drawn } else { place - drawn };
    keys.clear();
    keys.extend((0..).zip(states).map(|(place, state)| u64::from(work.ahead(state).to_bits()) << 32 | behind(place)));
    if keys.len() > WEIGHED_PER_POOL {
        keys.select_nth_unstable(WEIGHED_PER_POOL - 1);
        keys.truncate(WEIGHED_PER_POOL);
    }
    let place = |key: &u64| (*key & u64::from(u32::MAX)) + drawn;
    listed.extend(keys.iter().map(|key| members.start + (place(key) % size.max(1)) as usize));
}

/// Those of a pool that have about the most of the prompt in their caches; of these, those with the least to do.
fn most_cached(service: &ServiceModel, fleet: Fleet<'_>, members: Range<usize>, listed: &mut Vec<usize>) {
    let cached = fleet.cached_in(members);
    let most = cached.iter().map(|cached| cached.tokens).max().unwrap_or(0);
    let work = Work::of(service);
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
