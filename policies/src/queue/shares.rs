//! What tenants have used lately, so that they can be given like shares.

use std::collections::BTreeMap;

use crate::units::Micros;

/// Within this time what a tenant has used counts half, seconds.
const USE_HALF_LIFE_S: f64 = 60.0;
/// Tenants told apart; further ones share an account by their hash.
const MAX_TENANTS: u64 = 1024;
/// Uses are kept relative to a moment that moves along, so that they do not outgrow numbers, half-lives.
const REBASE_HALF_LIVES: f64 = 64.0;

/// What tenants have used lately. Instead of letting every account decay, what is new counts for more.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares {
    used: BTreeMap<u64, f64>,
    origin: Micros,
}

impl Shares {
    pub(super) fn of(&self, now: Micros, tenant: u64) -> f64 {
        self.used.get(&(tenant % MAX_TENANTS)).copied().unwrap_or(0.0) / self.weight(now)
    }

    pub(super) fn charge(&mut self, now: Micros, tenant: u64, work: f64) {
        let weight = self.weight(now);
        if weight > REBASE_HALF_LIVES.exp2() {
            self.used.values_mut().for_each(|used| *used /= weight);
            self.used.retain(|_, used| *used >= 1.0);
            self.origin = now;
        }
        *self.used.entry(tenant % MAX_TENANTS).or_default() += work * self.weight(now);
    }

    fn weight(&self, now: Micros) -> f64 {
        ((now - self.origin).as_secs() / USE_HALF_LIFE_S).exp2()
    }

    /// Mean use of these tenants, each counted once.
    pub(super) fn mean(&self, tenants: impl Iterator<Item = u64>, now: Micros) -> f64 {
        let mut tenants: Vec<u64> = tenants.map(|tenant| tenant % MAX_TENANTS).collect();
        tenants.sort_unstable();
        tenants.dedup();
        if tenants.len() < 2 {
            return f64::INFINITY; // nobody to be fair to
        }
        tenants.iter().map(|tenant| self.of(now, *tenant)).sum::<f64>() / tenants.len() as f64
    }
}
