//! Blocks by hash under one lock, and who holds them. Nothing in it is freed one by one: forgetting the older half takes
//! as long as wiping a table.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use pointsman_policies::prefix::Mark;

/// A table that was used so little, as a part of its size, gives its memory back.
const LITTLE_USED_PART: usize = 8;
/// Endpoints known to hold one block. What everybody begins with is soon held by all, and to follow it through a thousand
/// takes longer than to decide: of more, who came first is forgotten.
pub(super) const HOLDERS_PER_BLOCK: usize = 64;
/// No other holder.
const NONE: u32 = u32::MAX;

/// Once the young are as many as there may be, they are the old ones, and the old are forgotten.
#[derive(Debug, Default)]
pub(super) struct Shard {
    young: Blocks,
    old: Blocks,
}

/// Blocks, and those of their holders that are not the first.
#[derive(Debug, Default)]
struct Blocks {
    by_hash: HashMap<u64, Block, BuildHasherDefault<Hashed>>,
    others: Vec<Block>,
    /// Places among those that are used again.
    free: Vec<u32>,
}

/// Who holds a block, and where the next holder stands. Most blocks are held by one endpoint.
#[derive(Clone, Copy, Debug)]
struct Block {
    holder: Holder,
    next: u32,
}

/// An endpoint that holds a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder {
    pub(super) number: u32,
    /// What its endpoint had read when it last used it.
    pub(super) at: u64,
}

/// How far into a prompt an endpoint has it.
pub(super) struct Reach {
    pub(super) number: u32,
    pub(super) oldest: u64,
    pub(super) bytes: u64,
}

impl Shard {
    /// How much is known of the blocks that were used since the older ones were forgotten last.
    pub(super) fn young(&self) -> usize {
        self.young.len()
    }

    /// How much is known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Follows a prompt as far as anybody holds it. Whoever holds a block holds all before it; `oldest` tells how far back
    /// an endpoint's memory reaches.
    pub(super) fn follow(&self, marks: &[Mark], oldest: impl Fn(u32) -> Option<u64>) -> Vec<Reach> {
        let holders = |mark: &Mark| {
            let blocks = if self.young.by_hash.contains_key(&mark.hash) { &self.young } else { &self.old };
            blocks.holders(mark.hash)
        };
        let reach = |holder: Holder| Some(Reach { number: holder.number, oldest: oldest(holder.number)?, bytes: 0 });
        let mut reaches: Vec<Reach> = marks.first().into_iter().flat_map(holders).filter_map(reach).collect();
        reaches.sort_unstable_by_key(|reach| reach.number);
        // Those who have it as far as the first mark of a stretch, and not as far as its end: each stretch is halved.
        let mut stretches = vec![(0..marks.len(), (0..reaches.len()).collect::<Vec<usize>>())];
        while let Some((stretch, group)) = stretches.pop().filter(|(stretch, _)| !stretch.is_empty()) {
            let half = stretch.start + stretch.len() / 2;
            let Some(mark) = marks.get(half) else { break };
            let mut further = Vec::new();
            for holder in holders(mark) {
                let Ok(at) = reaches.binary_search_by_key(&holder.number, |reach| reach.number) else { continue };
                let reach = reaches.get_mut(at).filter(|reach| holder.at >= reach.oldest);
                if let Some(reach) = reach.filter(|_| group.binary_search(&at).is_ok()) {
                    reach.bytes = mark.bytes;
                    further.push(at);
                }
            }
            further.sort_unstable();
            let others: Vec<usize> = group.into_iter().filter(|at| further.binary_search(at).is_err()).collect();
            let stretch = [(stretch.start..half, others), (half + 1..stretch.end, further)];
            stretches.extend(stretch.into_iter().filter(|(stretch, group)| !stretch.is_empty() && !group.is_empty()));
        }
        reaches
    }

    /// Puts a holder to every block of a prompt that it has not. How far it had them already, bytes.
    pub(super) fn add(&mut self, marks: &[Mark], now: Holder, oldest: u64) -> u64 {
        let (mut bytes, mut all) = (0, true);
        for mark in marks {
            self.rejuvenate(mark.hash);
            let known = self.young.holder(mark.hash, now.number).filter(|known| known.at >= oldest);
            all &= known.is_some();
            match known {
                Some(_) if all => bytes = mark.bytes,
                Some(_) => {}
                None => self.young.hold(mark.hash, now),
            }
        }
        bytes
    }

    /// Puts a holder to every block of a prompt, which it has used just now.
    pub(super) fn hold(&mut self, marks: &[Mark], now: Holder) {
        for mark in marks {
            self.rejuvenate(mark.hash);
            self.young.hold(mark.hash, now);
        }
    }

    /// Takes a holder off blocks that it has not used since that moment.
    pub(super) fn remove<'m>(&mut self, marks: impl Iterator<Item = &'m Mark>, then: Holder) {
        for mark in marks {
            self.young.remove(mark.hash, then);
            self.old.remove(mark.hash, then);
        }
    }

    /// Forgets what has not been used for longest: the older half.
    pub(super) fn turn(&mut self) {
        std::mem::swap(&mut self.young, &mut self.old);
        self.young.clear();
    }

    fn rejuvenate(&mut self, hash: u64) {
        if self.young.by_hash.contains_key(&hash) {
            return;
        }
        for holder in self.old.holders(hash) {
            self.young.hold(hash, holder);
        }
        self.old.by_hash.remove(&hash);
    }
}

impl Blocks {
    fn len(&self) -> usize {
        self.by_hash.len() + self.others.len() - self.free.len()
    }

    fn holders(&self, hash: u64) -> impl Iterator<Item = Holder> + '_ {
        let first = self.by_hash.get(&hash).copied();
        std::iter::successors(first, |block| self.others.get(block.next as usize).copied()).map(|block| block.holder)
    }

    fn holder(&self, hash: u64, number: u32) -> Option<Holder> {
        self.holders(hash).find(|holder| holder.number == number)
    }

    fn hold(&mut self, hash: u64, now: Holder) {
        let Blocks { by_hash, others, free } = self;
        let first = by_hash.entry(hash).or_insert(Block { holder: now, next: NONE });
        if first.holder.number == now.number {
            first.holder = now;
            return;
        }
        let (mut before, mut at, mut known) = (NONE, first.next, 1);
        while let Some(block) = others.get_mut(at as usize) {
            if block.holder.number == now.number {
                block.holder = now;
                return;
            }
            known += 1;
            if block.next == NONE {
                break;
            }
            (before, at) = (at, block.next);
        }
        if known >= HOLDERS_PER_BLOCK {
            // The last of the others came first.
            match others.get_mut(before as usize) {
                Some(before) => before.next = NONE,
                None => first.next = NONE,
            }
            free.push(at);
        }
        let other = Block { holder: now, next: first.next };
        first.next = match free.pop().and_then(|at| Some((at, others.get_mut(at as usize)?))) {
            Some((at, place)) => {
                *place = other;
                at
            }
            None => {
                others.push(other);
                (others.len() - 1) as u32
            }
        };
    }

    fn remove(&mut self, hash: u64, then: Holder) {
        let Blocks { by_hash, others, free } = self;
        let gone = |holder: &Holder| holder.number == then.number && holder.at == then.at;
        let Some(first) = by_hash.get_mut(&hash) else { return };
        if gone(&first.holder) {
            match others.get(first.next as usize) {
                Some(next) => {
                    free.push(first.next);
                    *first = *next;
                }
                None => drop(by_hash.remove(&hash)),
            }
            return;
        }
        let (mut before, mut at) = (NONE, first.next);
        while let Some(block) = others.get(at as usize).copied() {
            if gone(&block.holder) {
                match others.get_mut(before as usize) {
                    Some(before) => before.next = block.next,
                    None => first.next = block.next,
                }
                free.push(at);
                return;
            }
            (before, at) = (at, block.next);
        }
    }

    fn clear(&mut self) {
        if self.by_hash.len() < self.by_hash.capacity() / LITTLE_USED_PART {
            *self = Blocks::default();
        }
        self.by_hash.clear();
        self.others.clear();
        self.free.clear();
    }
}

/// Hashes are not hashed again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hashed(u64);

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
