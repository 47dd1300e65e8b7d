//! What endpoints have in their prefix caches, as far as this gateway knows: the prompts that it sent them, the one unused
//! for longest forgotten first, and how true that has turned out.
//!
//! Engines keep what they have read until its memory is wanted for something else. So a block is taken for held as long
//! as its endpoint has read no more since it was last used than fits into its memory. What engines say of cached tokens
//! in their answers tells how true that is: where they keep less, less is believed.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use pointsman_policies::estimate::batches;
use pointsman_policies::fleet::{HardwareKind, PoolFacts};
use pointsman_policies::prefix::{Mark, Prefix};

/// Locks, by the first block of a prompt: whoever looks one up takes one of them, once.
const SHARDS: usize = 16;
/// Blocks known under one lock; with as many of before, which are forgotten when these are full. 48 bytes each.
const SHARD_BLOCKS: usize = 1 << 13;
/// Taken for the memory of a machine that does not tell, tokens.
const UNKNOWN_MEMORY_TOKENS: u64 = 500_000;
/// Until so many tokens have been claimed to be cached, the prior counts as much as what was found.
const PRIOR_TOKENS: f64 = 4_096.0;
/// What was found counts half as much after so many answers.
const HALF_LIFE_ANSWERS: f64 = 32.0;
/// Less than this is not worth believing.
const LEAST_TRUTH: f64 = 0.05;
/// Further than any memory reaches: whoever takes over a number holds nothing of what was known of the one before.
const FAR_TOKENS: u64 = 1 << 40;

/// Which endpoint holds which blocks.
#[derive(Debug)]
pub struct Prefixes {
    shards: Vec<Mutex<Shard>>,
    numbers: Arc<Mutex<Numbers>>,
}

/// The prefix cache of one endpoint.
#[derive(Debug)]
pub struct Cache {
    number: u32,
    numbers: Arc<Mutex<Numbers>>,
    /// Tokens that it has read and written.
    read: AtomicU64,
    memory_tokens: AtomicU64,
    truth: Mutex<Truth>,
}

/// What was claimed to be cached, and how much of that was.
#[derive(Clone, Copy, Debug)]
struct Truth {
    prior: f64,
    claimed: f64,
    found: f64,
}

/// Small numbers of caches, used again once an endpoint is gone.
#[derive(Debug, Default)]
struct Numbers {
    next: u32,
    /// With what the one before had read.
    free: Vec<(u32, u64)>,
}

/// Blocks by hash. Once the young are as many as there may be, they are the old ones, and the old are forgotten.
#[derive(Debug, Default)]
struct Shard {
    young: Blocks,
    old: Blocks,
}

type Blocks = HashMap<u64, Block, BuildHasherDefault<Hashed>>;

/// Who holds a block. Most are held by one endpoint.
#[derive(Clone, Debug)]
struct Block {
    first: Holder,
    others: Vec<Holder>,
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    number: u32,
    /// What its endpoint had read when it last used it.
    at: u64,
}

impl Default for Prefixes {
    fn default() -> Prefixes {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Prefixes { shards, numbers: Arc::default() }
    }
}

impl Prefixes {
    /// The cache of a new endpoint: nothing is known of it.
    pub fn cache(&self) -> Cache {
        let (number, read) = self.numbers.lock().take();
        Cache {
            number,
            numbers: Arc::clone(&self.numbers),
            read: AtomicU64::new(read),
            memory_tokens: AtomicU64::new(UNKNOWN_MEMORY_TOKENS),
            truth: Mutex::new(Truth { prior: 0.0, claimed: 0.0, found: 0.0 }),
        }
    }

    /// Of a prompt of so many tokens, what each of these caches is believed to hold, tokens; nothing where none does.
    pub fn held<'c>(
        &self,
        prefix: &Prefix,
        input_tokens: u64,
        caches: impl Iterator<Item = &'c Cache> + Clone,
    ) -> Vec<u64> {
        let Some(shard) = self.shard(prefix) else { return Vec::new() };
        let numbers = caches.clone().map(|cache| cache.number as usize + 1).max().unwrap_or(0);
        let mut reaches = vec![Reach { oldest: u64::MAX, bytes: 0 }; numbers];
        for cache in caches.clone() {
            if let Some(reach) = reaches.get_mut(cache.number as usize) {
                reach.oldest = cache.oldest();
            }
        }
        if !shard.lock().follow(prefix.marks(), &mut reaches) {
            return Vec::new();
        }
        let held = |cache: &Cache| {
            let bytes = reaches.get(cache.number as usize).map_or(0, |reach| reach.bytes);
            cache.believed(prefix.tokens(bytes, input_tokens))
        };
        caches.map(held).collect()
    }

    /// A prompt is sent to an endpoint, which will then hold it. What was claimed to be held of it before, tokens.
    pub fn sent(&self, prefix: &Prefix, cache: &Cache, input_tokens: u64, output_tokens: u64) -> u64 {
        let mut claimed = 0;
        if let Some(shard) = self.shard(prefix) {
            let now = Holder { number: cache.number, at: cache.read.load(Ordering::Relaxed) };
            let (bytes, forgotten) = shard.lock().insert(prefix.marks(), now, cache.oldest());
            drop(forgotten); // not under the lock: these are many
            claimed = prefix.tokens(bytes, input_tokens);
        }
        let new = input_tokens.saturating_sub(claimed).saturating_add(output_tokens);
        cache.read.fetch_add(new, Ordering::Relaxed);
        claimed
    }

    fn shard(&self, prefix: &Prefix) -> Option<&Mutex<Shard>> {
        let first = prefix.marks().first()?;
        self.shards.get((first.hash >> 32) as usize % SHARDS) // not by the bits that tables go by
    }
}

impl Cache {
    /// What the portfolio says of its endpoint.
    pub(crate) fn belongs_to(&self, pool: &PoolFacts) {
        let memory_tokens = pool.service.kv_tokens.unwrap_or(UNKNOWN_MEMORY_TOKENS);
        self.memory_tokens.store(memory_tokens, Ordering::Relaxed);
        self.truth.lock().prior = prior(pool.kind);
    }

    /// An answer told how much of its prompt was cached, of what was claimed when it was sent.
    pub(crate) fn found(&self, claimed: u64, found: u64) {
        if claimed > 0 {
            self.truth.lock().learn(claimed as f64, found.min(claimed) as f64);
        }
    }

    /// How much of what is claimed to be cached there is, 0 to 1.
    pub fn truth(&self) -> f64 {
        self.truth.lock().part()
    }

    fn believed(&self, claimed: u64) -> u64 {
        if claimed == 0 { 0 } else { (claimed as f64 * self.truth()) as u64 }
    }

    fn oldest(&self) -> u64 {
        self.read.load(Ordering::Relaxed).saturating_sub(self.memory_tokens.load(Ordering::Relaxed))
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.numbers.lock().free.push((self.number, *self.read.get_mut()));
    }
}

/// Engines that batch keep prefixes unless they are told not to. Nothing is expected of the others before they tell.
fn prior(kind: HardwareKind) -> f64 {
    if batches(kind) { 1.0 } else { 0.0 }
}

impl Truth {
    fn learn(&mut self, claimed: f64, found: f64) {
        let kept = (-1.0 / HALF_LIFE_ANSWERS).exp2();
        self.claimed = self.claimed * kept + claimed;
        self.found = self.found * kept + found;
    }

    fn part(&self) -> f64 {
        let part = (self.prior * PRIOR_TOKENS + self.found) / (PRIOR_TOKENS + self.claimed);
        if part < LEAST_TRUTH { 0.0 } else { part.min(1.0) }
    }
}

impl Numbers {
    fn take(&mut self) -> (u32, u64) {
        self.free.pop().map_or_else(
            || {
                self.next += 1;
                (self.next - 1, 0)
            },
            |(number, read)| (number, read.saturating_add(FAR_TOKENS)),
        )
    }
}

/// How far into a prompt an endpoint has it.
#[derive(Clone, Copy)]
struct Reach {
    oldest: u64,
    bytes: u64,
}

impl Shard {
    /// Follows a prompt as far as anybody holds it. Whoever holds a block holds all before it.
    fn follow(&self, marks: &[Mark], reaches: &mut [Reach]) -> bool {
        let mut found = false;
        for mark in marks {
            let Some(block) = self.young.get(&mark.hash).or_else(|| self.old.get(&mark.hash)) else { break };
            let mut held = false;
            for holder in std::iter::once(&block.first).chain(&block.others) {
                let reach = reaches.get_mut(holder.number as usize).filter(|reach| holder.at >= reach.oldest);
                if let Some(reach) = reach {
                    reach.bytes = mark.bytes;
                    held = true;
                }
            }
            if !held {
                break;
            }
            found = true;
        }
        found
    }

    /// Puts a holder to every block of a prompt. How far it had them already, and what there is no more room for.
    fn insert(&mut self, marks: &[Mark], now: Holder, oldest: u64) -> (u64, Blocks) {
        let (mut bytes, mut all) = (0, true);
        for mark in marks {
            let block = self.young.entry(mark.hash).or_insert_with(|| {
                self.old
                    .remove(&mark.hash)
                    .unwrap_or(Block { first: Holder { at: 0, number: u32::MAX }, others: Vec::new() })
            });
            all &= block.hold(now).is_some_and(|at| at >= oldest);
            if all {
                bytes = mark.bytes;
            }
        }
        let full = self.young.len() >= SHARD_BLOCKS;
        let forgotten =
            if full { std::mem::replace(&mut self.old, std::mem::take(&mut self.young)) } else { Blocks::default() };
        (bytes, forgotten)
    }
}

impl Block {
    /// It is held by one more from now on. When that one had used it last.
    fn hold(&mut self, now: Holder) -> Option<u64> {
        if self.first.number == u32::MAX {
            self.first = now;
            return None;
        }
        let known = std::iter::once(&mut self.first).chain(&mut self.others).find(|known| known.number == now.number);
        match known {
            Some(known) => Some(std::mem::replace(known, now).at),
            None => {
                self.others.push(now);
                None
            }
        }
    }
}

/// Hashes are not hashed again.
#[derive(Clone, Copy, Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use pointsman_policies::prefix::of_blocks;

    use super::*;

    fn caches(prefixes: &Prefixes, memory_tokens: &[u64]) -> Vec<Cache> {
        let made = memory_tokens.iter().map(|tokens| {
            let cache = prefixes.cache();
            cache.memory_tokens.store(*tokens, Ordering::Relaxed);
            cache.truth.lock().prior = 1.0;
            cache
        });
        made.collect()
    }

    fn prompt(blocks: &[u64]) -> (Prefix, u64) {
        let tokens = blocks.len() as u64 * 512;
        (of_blocks(blocks, 512, tokens), tokens)
    }

    #[test]
    fn each_endpoint_holds_what_it_was_sent() {
        let prefixes = Prefixes::default();
        let caches = caches(&prefixes, &[10_000, 10_000, 10_000]);
        let held = |blocks: &[u64]| {
            let (prefix, tokens) = prompt(blocks);
            prefixes.held(&prefix, tokens, caches.iter())
        };
        let send = |blocks: &[u64], to: usize| {
            let (prefix, tokens) = prompt(blocks);
            prefixes.sent(&prefix, &caches[to], tokens, 0)
        };
        assert_eq!((held(&[1, 2, 3]), held(&[])), (vec![], vec![]));
        assert_eq!(send(&[1, 2, 3], 0), 0);
        assert_eq!(send(&[1, 2, 3, 4], 0), 3 * 512, "what was claimed before");
        assert_eq!(send(&[1, 7], 1), 0);
        assert_eq!(held(&[1, 2, 3, 9]), [3 * 512, 512, 0]);
        assert_eq!(held(&[2, 3]), [0_u64; 0], "what comes before is in the hash");
    }

    #[test]
    fn what_no_longer_fits_is_forgotten_the_least_recently_used_first() {
        let prefixes = Prefixes::default();
        let caches = caches(&prefixes, &[2_048]);
        let send = |blocks: &[u64]| {
            let (prefix, tokens) = prompt(blocks);
            prefixes.sent(&prefix, &caches[0], tokens, 0);
        };
        let held = |block: u64| {
            let (prefix, tokens) = prompt(&[block]);
            prefixes.held(&prefix, tokens, caches.iter()).first().copied().unwrap_or(0)
        };
        (1..5).for_each(|block| send(&[block]));
        send(&[1]);
        send(&[5]);
        send(&[6]);
        assert_eq!([1, 2, 3, 4, 5, 6].map(held), [512, 0, 512, 512, 512, 512]);
        send(&[7]);
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(held), [512, 0, 0, 512, 512, 512, 512]);
    }

    #[test]
    fn an_engine_that_keeps_less_is_believed_less_and_one_that_keeps_nothing_is_not() {
        let prefixes = Prefixes::default();
        let caches = caches(&prefixes, &[100_000, 100_000]);
        let (prefix, tokens) = prompt(&(0..20).collect::<Vec<_>>());
        let sent: Vec<u64> = caches.iter().map(|cache| prefixes.sent(&prefix, cache, tokens, 0)).collect();
        assert_eq!(sent, [0, 0]);
        for _ in 0..100 {
            caches[0].found(tokens, tokens / 2);
            caches[1].found(tokens, 0);
        }
        let held = prefixes.held(&prefix, tokens, caches.iter());
        assert!((tokens * 45 / 100..tokens * 55 / 100).contains(&held[0]), "{held:?}");
        assert_eq!(held[1], 0);
        (0..200).for_each(|_| caches[1].found(tokens, tokens));
        assert!(prefixes.held(&prefix, tokens, caches.iter())[1] > tokens * 9 / 10, "it was switched on");
    }

    #[test]
    fn the_index_is_bounded_and_a_number_is_used_again_without_what_was_known_of_it() {
        let prefixes = Prefixes::default();
        let mut caches = caches(&prefixes, &[u64::MAX]);
        for at in 0..300_000_u64 {
            let (prefix, tokens) = prompt(&[at]);
            prefixes.sent(&prefix, &caches[0], tokens, 0);
        }
        let blocks = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            shard.young.len() + shard.old.len()
        };
        let kept: usize = prefixes.shards.iter().map(blocks).sum();
        assert!(kept <= 2 * SHARDS * SHARD_BLOCKS, "{kept}");
        let (last, tokens) = prompt(&[299_999]);
        assert_eq!(prefixes.held(&last, tokens, caches.iter()), [512]);
        caches.clear();
        let next = prefixes.cache();
        assert_eq!((next.number, prefixes.held(&last, tokens, std::iter::once(&next)).len()), (0, 0));
    }
}
