//! What endpoints have in their prefix caches, as far as this gateway knows: the prompts that it sent them, the one unused
//! for longest forgotten first, and how true that has turned out.
//!
//! ```text
//! sent ──► first token: it is held from now on, and used last
//!   └────► no answer began: taken back
//! ```
//!
//! Engines keep what they have read until its memory is wanted for something else. So a block is taken for held as long
//! as its endpoint has read no more since it was last used than fits into its memory. What engines say of cached tokens
//! in their answers, or of hits in their metrics, tells how true that is: where they keep less, less is believed.

/// Blocks by hash, and who holds them.
mod shard;
/// How much of what is claimed there is.
mod truth;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use pointsman_policies::fleet::{Cached, PoolFacts};
use pointsman_policies::prefix::Prefix;

use shard::{Holder, Reach, Shard};
use truth::Truth;

/// Locks, by the first block of a prompt: whoever looks one up takes one of them, once.
const SHARDS: usize = 16;
/// Blocks that are known of each endpoint: two mebibytes of short prompts, more of long ones.
const BLOCKS_PER_ENDPOINT: usize = 1 << 13;
/// Blocks known together, with as many of before, which are forgotten when there are more. About 50 bytes each: 13 MB.
const LEAST_BLOCKS: usize = 1 << 17;
/// However many endpoints there are: 105 MB. From a hundred and thirty endpoints on each has a part of these.
const MOST_BLOCKS: usize = 1 << 20;
/// Taken for the memory of a machine that does not tell, tokens.
const UNKNOWN_MEMORY_TOKENS: u64 = 500_000;
/// Further than any memory reaches: who has read so much more holds nothing of what was known of it before.
const FAR_TOKENS: u64 = 1 << 40;

/// Which endpoint holds which blocks.
#[derive(Debug)]
pub struct Prefixes {
    shards: Vec<Mutex<Shard>>,
    /// Blocks that were added since the older ones were forgotten last.
    young: AtomicUsize,
    numbers: Arc<Numbers>,
}

/// The prefix cache of one endpoint.
#[derive(Debug)]
pub struct Cache {
    number: u32,
    numbers: Arc<Numbers>,
    /// Tokens that it has read and written.
    read: AtomicU64,
    memory_tokens: AtomicU64,
    truth: Mutex<Truth>,
    /// Sent since its engine reported its hits last, tokens; and of these, what was claimed to be held.
    asked: AtomicU64,
    claimed: AtomicU64,
}

/// A prompt that was sent to an endpoint, which has not answered yet.
#[derive(Clone, Copy, Debug)]
pub struct Booked {
    /// Of its tokens, what was claimed to be held before.
    pub claimed_tokens: u64,
    claimed_bytes: u64,
    new_tokens: u64,
    at: u64,
}

/// Small numbers of caches, used again once an endpoint is gone.
#[derive(Debug, Default)]
struct Numbers {
    used: AtomicUsize,
    list: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    next: u32,
    /// With what the one before had read.
    free: Vec<(u32, u64)>,
}

impl Default for Prefixes {
    fn default() -> Prefixes {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Prefixes { shards, young: AtomicUsize::new(0), numbers: Arc::default() }
    }
}

impl Prefixes {
    /// The cache of a new endpoint: nothing is known of it.
    pub fn cache(&self) -> Cache {
        let (number, read) = self.numbers.take();
        Cache {
            number,
            numbers: Arc::clone(&self.numbers),
            read: AtomicU64::new(read),
            memory_tokens: AtomicU64::new(UNKNOWN_MEMORY_TOKENS),
            truth: Mutex::default(),
            asked: AtomicU64::new(0),
            claimed: AtomicU64::new(0),
        }
    }

    /// Who is believed to hold some of a prompt of so many tokens, with how many of them, in order. `known` finds the
    /// cache of a number and the index of its endpoint.
    pub fn held<'c>(
        &self,
        prefix: &Prefix,
        input_tokens: u64,
        known: impl Fn(u32) -> Option<(usize, &'c Cache)>,
    ) -> Vec<Cached> {
        let Some(shard) = self.shard(prefix) else { return Vec::new() };
        let reaches = shard.lock().follow(prefix.marks(), |number| Some(known(number)?.1.oldest()));
        let cached = |reach: &Reach| {
            let (endpoint, cache) = known(reach.number)?;
            let tokens = cache.believed(prefix.tokens(reach.bytes, input_tokens));
            (tokens > 0).then_some(Cached { endpoint, tokens })
        };
        let mut held: Vec<Cached> = reaches.iter().filter_map(cached).collect();
        held.sort_unstable_by_key(|cached| cached.endpoint);
        held
    }

    /// A prompt is sent to an endpoint. Until something else becomes of it, it is taken for held there: what begins alike
    /// and comes in the same moment is best sent after it.
    pub fn sent(&self, prefix: &Prefix, cache: &Cache, input_tokens: u64, output_tokens: u64) -> Booked {
        let at = cache.read.load(Ordering::Relaxed);
        let now = Holder { number: cache.number, at };
        let claimed_bytes = self.note(prefix, |shard| shard.add(prefix.marks(), now, cache.oldest()));
        let claimed_tokens = prefix.tokens(claimed_bytes, input_tokens);
        let new_tokens = input_tokens.saturating_sub(claimed_tokens).saturating_add(output_tokens);
        cache.read.fetch_add(new_tokens, Ordering::Relaxed);
        cache.asked.fetch_add(input_tokens, Ordering::Relaxed);
        cache.claimed.fetch_add(claimed_tokens, Ordering::Relaxed);
        Booked { claimed_tokens, claimed_bytes, new_tokens, at }
    }

    /// The endpoint has read it: an answer has begun.
    pub fn was_read(&self, prefix: &Prefix, cache: &Cache, booked: Booked) {
        let at = cache.read.load(Ordering::Relaxed).saturating_sub(booked.new_tokens);
        let now = Holder { number: cache.number, at };
        self.note(prefix, |shard| shard.hold(prefix.marks(), now));
    }

    /// The endpoint has not read it: it was refused, or nobody waits for it any more. What it had already, it has.
    pub fn take_back(&self, prefix: &Prefix, cache: &Cache, booked: Booked) {
        if let Some(shard) = self.shard(prefix) {
            let then = Holder { number: cache.number, at: booked.at };
            let new = prefix.marks().iter().filter(|mark| mark.bytes > booked.claimed_bytes);
            let mut shard = shard.lock();
            let before = shard.young();
            shard.remove(new, then);
            let removed = before.saturating_sub(shard.young());
            drop(shard);
            let less = |young: usize| Some(young.saturating_sub(removed));
            let _ = self.young.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        cache.read.fetch_sub(booked.new_tokens, Ordering::Relaxed);
    }

    /// Changes what is known of a prompt's blocks, and forgets the older half where there are too many.
    fn note<T: Default>(&self, prefix: &Prefix, change: impl FnOnce(&mut Shard) -> T) -> T {
        let Some(shard) = self.shard(prefix) else { return T::default() };
        let mut shard = shard.lock();
        let before = shard.young();
        let changed = change(&mut shard);
        let added = shard.young().saturating_sub(before);
        drop(shard);
        let most = self.most_blocks();
        if self.young.fetch_add(added, Ordering::Relaxed) + added >= most
            && self.young.swap(0, Ordering::Relaxed) >= most
        {
            self.shards.iter().for_each(|shard| shard.lock().turn());
        }
        changed
    }

    fn most_blocks(&self) -> usize {
        let endpoints = self.numbers.used.load(Ordering::Relaxed);
        (endpoints * BLOCKS_PER_ENDPOINT).clamp(LEAST_BLOCKS, MOST_BLOCKS)
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
        self.truth.lock().expect_of(pool.kind);
    }

    /// An answer told how much of its prompt was cached, of what was claimed when it was sent; or did not tell.
    pub(crate) fn answered(&self, claimed: u64, found: Option<u64>) {
        if claimed == 0 {
            return;
        }
        match found {
            Some(found) => self.truth.lock().told(claimed as f64, found.min(claimed) as f64),
            None => self.truth.lock().not_told(),
        }
    }

    /// Its engine told which part of the prompts it read lately it had cached. Where answers tell, they know better.
    pub(crate) fn reported(&self, hit_rate: f64) {
        let [asked, claimed] = [&self.asked, &self.claimed].map(|sum| sum.swap(0, Ordering::Relaxed) as f64);
        let mut truth = self.truth.lock();
        if claimed > 0.0 && !truth.answers_tell() {
            truth.learn(claimed, (hit_rate * asked).min(claimed));
        }
    }

    /// Its engine has lost what it had: it was started again.
    pub(crate) fn forget(&self) {
        self.read.fetch_add(FAR_TOKENS, Ordering::Relaxed);
    }

    /// Its number among those of the fleet.
    pub fn number(&self) -> u32 {
        self.number
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
        self.numbers.give_back(self.number, *self.read.get_mut());
    }
}

impl Numbers {
    fn take(&self) -> (u32, u64) {
        self.used.fetch_add(1, Ordering::Relaxed);
        let mut list = self.list.lock();
        if let Some((number, read)) = list.free.pop() {
            return (number, read.saturating_add(FAR_TOKENS));
        }
        list.next += 1;
        (list.next - 1, 0)
    }

    fn give_back(&self, number: u32, read: u64) {
        self.used.fetch_sub(1, Ordering::Relaxed);
        self.list.lock().free.push((number, read));
    }
}
