//! Which prompts an endpoint is believed to hold, as prefix-aware routers keep it: block hashes they sent there, the
//! least recently used forgotten first.

use std::collections::{BTreeMap, HashMap};

/// Blocks remembered for one endpoint: what the peers' indexes hold by default, about 16 million tokens.
const MOST_BLOCKS: usize = 31_250;

/// Blocks sent to one endpoint.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    used: HashMap<u64, u64>,
    by_use: BTreeMap<u64, u64>,
    clock: u64,
    /// Tokens of prompts that came without hashes.
    bare_tokens: u64,
}

impl Sent {
    /// The share of a prompt's blocks that it holds from the start on, 0 to 1; 0 for prompts without hashes.
    pub fn share(&self, prefix: &[u64]) -> f64 {
        if prefix.is_empty() { 0.0 } else { self.blocks(prefix) as f64 / prefix.len() as f64 }
    }

    /// How many blocks of a prompt it holds from the start on.
    pub fn blocks(&self, prefix: &[u64]) -> usize {
        prefix.iter().take_while(|block| self.used.contains_key(block)).count()
    }

    /// A prompt was sent there.
    pub fn insert(&mut self, prefix: &[u64], tokens: u64) {
        if prefix.is_empty() {
            self.bare_tokens += tokens;
        }
        for &block in prefix {
            self.clock += 1;
            if let Some(before) = self.used.insert(block, self.clock) {
                self.by_use.remove(&before);
            }
            self.by_use.insert(self.clock, block);
            if self.used.len() > MOST_BLOCKS
                && let Some((_, oldest)) = self.by_use.pop_first()
            {
                self.used.remove(&oldest);
            }
        }
    }

    /// How much was sent there, blocks; prompts without hashes count as if nobody else had sent the like.
    pub fn size(&self, block_tokens: u64) -> f64 {
        self.used.len() as f64 + self.bare_tokens as f64 / block_tokens as f64
    }
}
