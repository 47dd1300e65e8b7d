//! A simulated endpoint in the fleet: an engine, its prefix cache, and when it is looked at next.

use std::collections::{HashMap, VecDeque};

use pointsman_backends::hardware;
use pointsman_backends::simulators::change::Change;
use pointsman_backends::simulators::engine::Engine;
use pointsman_backends::simulators::profile::Profile;
use pointsman_policies::fleet::PoolFacts;
use pointsman_policies::units::Micros;

use super::conditions::Neighbour;
use super::router::{BLOCK_TOKENS, Reported};

/// The part of KV memory that holds prompts of the past; assumed.
const CACHE_SHARE: f64 = 0.5;

/// What a pool's machines are, without their provider's limits: those are the pool's together.
pub fn profile(pool: &PoolFacts) -> Profile {
    let catalog = hardware::find(&pool.hardware);
    let base = catalog.map_or_else(|| Profile::new(pool.kind, pool.service.clone()), Profile::of);
    let context_tokens = pool.models.iter().filter_map(|model| model.context).max();
    Profile { service: pool.service.clone(), limits: Default::default(), context_tokens, ..base }
}

/// What decides the chance of an endpoint's machine in a run with this seed.
pub fn seed(run: u64, endpoint: usize) -> u64 {
    run.wrapping_mul(10_007).wrapping_add(endpoint as u64)
}

/// One endpoint. A clone goes on as the original would, so that a what-if can run ahead of it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What serves.
    pub engine: Engine,
    /// What it holds of past prompts.
    pub cache: PrefixCache,
    pub(super) pool: usize,
    pub(super) up: bool,
    /// When the heap of events has it next.
    pub(super) due: Micros,
    pub(super) neighbour: Option<Neighbour>,
}

impl Machine {
    /// An idle machine of a pool.
    pub fn new(profile: &Profile, pool: usize, seed: u64) -> Machine {
        let kv_tokens = profile.service.kv_tokens.unwrap_or(0);
        Machine {
            engine: Engine::new(profile.clone(), seed),
            pool,
            up: true,
            due: Micros::NEVER,
            neighbour: None,
            cache: PrefixCache::new((kv_tokens as f64 * CACHE_SHARE) as u64 / BLOCK_TOKENS),
        }
    }

    /// It fails; what it held is lost.
    pub(super) fn fail(&mut self, now: Micros) {
        self.up = false;
        self.due = Micros::NEVER;
        self.cache.clear();
        self.engine.apply(now, Change::Down, &mut Vec::new());
    }

    /// It is back, empty.
    pub(super) fn come_back(&mut self, now: Micros) {
        self.up = true;
        self.engine.apply(now, Change::Up, &mut Vec::new());
    }

    pub(super) fn joules(&self, now: Micros) -> f64 {
        self.engine.energy(now).joules
    }

    pub(super) fn reported(&self, now: Micros) -> Reported {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Reported {
            at: now,
            running: count(self.engine.running()),
            waiting: count(self.engine.waiting()),
            kv_tokens: self.engine.kv_tokens(),
        }
    }
}

/// Blocks of past prompts, the least recently used leave first.
#[derive(Clone, Debug, Default)]
pub struct PrefixCache {
    most_blocks: u64,
    used: HashMap<u64, u64>,
    /// Uses in order; those that are not a block's last are skipped.
    order: VecDeque<(u64, u64)>,
    clock: u64,
}

impl PrefixCache {
    fn new(most_blocks: u64) -> PrefixCache {
        PrefixCache { most_blocks, ..PrefixCache::default() }
    }

    fn clear(&mut self) {
        *self = PrefixCache::new(self.most_blocks);
    }

    /// Tokens of a prompt that are there already; after this all of it is.
    pub fn take(&mut self, prefix: &[u64], input_tokens: u64) -> u64 {
        if self.most_blocks == 0 || prefix.is_empty() {
            return 0;
        }
        let known = prefix.iter().take_while(|block| self.used.contains_key(block)).count() as u64;
        for block in prefix {
            self.clock += 1;
            self.used.insert(*block, self.clock);
            self.order.push_back((*block, self.clock));
        }
        while self.used.len() as u64 > self.most_blocks || self.order.len() as u64 > 8 * self.most_blocks {
            let Some((block, at)) = self.order.pop_front() else { break };
            if self.used.get(&block) == Some(&at) {
                self.used.remove(&block);
            }
        }
        // The last token is always computed: it makes the first of the answer.
        (known * BLOCK_TOKENS).min(input_tokens.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_cached_up_to_the_first_block_that_differs() {
        let mut cache = PrefixCache::new(100);
        assert_eq!(cache.take(&[1, 2, 3], 1500), 0);
        assert_eq!(cache.take(&[1, 2, 9], 1500), 1024);
        assert_eq!(cache.take(&[1, 2, 3], 1500), 1499, "but for the last token");
        assert_eq!(cache.take(&[4, 2, 3], 1500), 0, "a block counts only after those before it");
        assert_eq!(cache.take(&[], 1500), 0);
    }

    #[test]
    fn the_least_recently_used_block_leaves_first() {
        let mut cache = PrefixCache::new(2);
        cache.take(&[1, 2], 1024);
        cache.take(&[1, 3], 1024);
        assert_eq!(cache.take(&[1, 2], 2000), 512);
    }
}
