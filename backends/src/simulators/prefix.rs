//! The prefix cache of a machine that batches: blocks of prompts whose KV is in memory, shared by all who begin alike.
//! Blocks that nobody uses stay until the memory is wanted; the one unused for longest goes first.

use std::collections::{BTreeMap, HashMap};

/// Unused blocks kept where the KV memory is not known.
const MOST_IDLE_BLOCKS: u64 = 1 << 16;

/// Blocks in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Prefixes {
    block_tokens: u64,
    blocks: HashMap<u64, Block>,
    /// Blocks without users, in the order in which they lost the last.
    idle: BTreeMap<u64, u64>,
    releases: u64,
    /// Blocks with users.
    used: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    users: u32,
    /// Its key among the idle, once it has no users.
    idle_since: u64,
}

impl Prefixes {
    /// Without a block size nothing is ever found.
    pub(super) fn new(block_tokens: Option<u64>) -> Prefixes {
        Prefixes { block_tokens: block_tokens.unwrap_or(0), ..Prefixes::default() }
    }

    /// Tokens of so many blocks.
    pub(super) fn tokens(&self, blocks: usize) -> u64 {
        blocks as u64 * self.block_tokens
    }

    /// The blocks of a chain that a prompt fills: a block begun is not shared.
    pub(super) fn filled<'a>(&self, chain: &'a [u64], prompt_tokens: u64) -> &'a [u64] {
        let filled = prompt_tokens.checked_div(self.block_tokens).unwrap_or(0);
        chain.get(..usize::try_from(filled).unwrap_or(usize::MAX)).unwrap_or(chain)
    }

    /// How many blocks at the beginning of a chain are in memory, and how many of these nobody uses.
    pub(super) fn find(&self, chain: &[u64]) -> Found {
        let mut found = Found::default();
        for block in chain.iter().map_while(|hash| self.blocks.get(hash)) {
            found.blocks += 1;
            found.idle += usize::from(block.users == 0);
        }
        found
    }

    /// A user more for each of these blocks; those unknown are in memory from now on.
    pub(super) fn take(&mut self, chain: &[u64]) {
        for hash in chain {
            let block = self.blocks.entry(*hash).or_default();
            if block.users == 0 {
                self.idle.remove(&block.idle_since);
                self.used += 1;
            }
            block.users += 1;
        }
    }

    /// A user less for each of these blocks. The end of a chain is of no use without its beginning, so it goes first.
    pub(super) fn release(&mut self, chain: &[u64]) {
        for hash in chain.iter().rev() {
            let Some(block) = self.blocks.get_mut(hash) else { continue };
            block.users = block.users.saturating_sub(1);
            if block.users == 0 {
                self.releases += 1;
                block.idle_since = self.releases;
                self.idle.insert(self.releases, *hash);
                self.used -= 1;
            }
        }
    }

    /// Memory of blocks with users, tokens.
    pub(super) fn used_tokens(&self) -> u64 {
        self.used * self.block_tokens
    }

    /// Forgets blocks without users until the others fit into so many tokens.
    pub(super) fn fit_into(&mut self, free_tokens: u64) {
        let most = free_tokens.checked_div(self.block_tokens).unwrap_or(0).min(MOST_IDLE_BLOCKS);
        while self.idle.len() as u64 > most {
            let Some((_, hash)) = self.idle.pop_first() else { return };
            self.blocks.remove(&hash);
        }
    }
}

/// What is in memory of the beginning of a chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Blocks.
    pub(super) blocks: usize,
    /// Of these, blocks that nobody uses.
    pub(super) idle: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_beginning_in_memory_counts() {
        let mut prefixes = Prefixes::new(Some(512));
        prefixes.take(&[1, 2, 3]);
        prefixes.release(&[1, 2, 3]);
        prefixes.take(&[1, 7]);
        for (chain, blocks, idle) in
            [(&[1, 2, 3, 4][..], 3, 2), (&[1, 7], 2, 0), (&[1, 9, 3], 1, 0), (&[2], 1, 1), (&[], 0, 0)]
        {
            assert_eq!(prefixes.find(chain), Found { blocks, idle }, "{chain:?}");
        }
        assert_eq!(prefixes.used_tokens(), 1024);
        assert_eq!(prefixes.filled(&[1, 2, 3], 1300), [1, 2]);
    }

    #[test]
    fn the_end_of_the_chain_unused_for_longest_is_forgotten_first() {
        let mut prefixes = Prefixes::new(Some(100));
        for chain in [[1, 2, 3], [1, 2, 4], [5, 6, 7]] {
            prefixes.take(&chain);
            prefixes.release(&chain);
        }
        // In order of their last use: 3, 4, 2, 1, 7, 6, 5.
        let mut kept = |tokens| {
            prefixes.fit_into(tokens);
            (1..8).filter(|hash| prefixes.find(&[*hash]).blocks == 1).collect::<Vec<_>>()
        };
        assert_eq!(kept(699), [1, 2, 4, 5, 6, 7]);
        assert_eq!(kept(400), [1, 5, 6, 7]);
        assert_eq!(kept(99), [0_u64; 0]);
    }

    #[test]
    fn a_block_in_use_is_never_forgotten() {
        let mut prefixes = Prefixes::new(Some(100));
        prefixes.take(&[1, 2]);
        prefixes.take(&[1]);
        prefixes.release(&[1, 2]);
        prefixes.fit_into(0);
        assert_eq!(prefixes.find(&[1, 2]), Found { blocks: 1, idle: 0 });
    }
}
