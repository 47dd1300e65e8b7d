//! What outlives the process, with a version: everything but hidden load, which is forgotten in seconds anyway.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Learner, bytes_per_token, margins, output_length, service};

/// The shape that is written and read.
pub const VERSION: u32 = 1;

/// Everything learned that is worth keeping; names instead of indices.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    /// [`VERSION`] when it was written.
    pub version: u32,
    pools: BTreeMap<String, service::Saved>,
    margins: margins::Saved,
    bytes_per_token: bytes_per_token::Saved,
    output_lengths: output_length::Saved,
}

/// Why saved state cannot be taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has version {0}, this build reads version {VERSION}")]
pub struct WrongVersion(pub u32);

impl Learner {
    /// What is to be saved.
    pub fn save(&self) -> Saved {
        let mut pools = self.away.clone();
        pools.extend(self.pools.iter().map(|pool| (pool.name.clone(), pool.service.save())));
        Saved {
            version: VERSION,
            pools,
            margins: self.margins.save(),
            bytes_per_token: self.bytes_per_token.save(),
            output_lengths: self.output_lengths.save(),
        }
    }

    /// Takes over what was saved, before or after portfolio and policy are adopted. What is out of reach of today's
    /// priors is pulled back; what is no number is left out.
    pub fn load(&mut self, saved: Saved) -> Result<(), WrongVersion> {
        if saved.version != VERSION {
            return Err(WrongVersion(saved.version));
        }
        self.margins.restore(saved.margins);
        self.bytes_per_token.restore(saved.bytes_per_token);
        self.output_lengths.restore(saved.output_lengths);
        let mut pools = saved.pools;
        for pool in &mut self.pools {
            if let Some(saved) = pools.remove(&pool.name) {
                pool.service.restore(&saved);
            }
        }
        self.away.extend(pools.into_iter().take(super::MOST_AWAY));
        self.services = self.pools.iter().map(|pool| pool.told(self.mechanisms)).collect();
        Ok(())
    }
}
