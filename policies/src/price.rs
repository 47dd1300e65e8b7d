//! What work on a pool costs beside its price: what is owed anyway is cheaper, what is scarce is dearer.

use crate::estimate::Estimate;

/// The corrections of one pool.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PoolPrice {
    /// What one dollar of its price counts as: below 1 while a commitment is not used up, above 1 while a budget is used
    /// up too fast.
    pub usd_factor: f64,
    /// What one joule counts as, US dollars: above 0 while a site's power is scarce.
    pub usd_per_joule: f64,
}

impl Default for PoolPrice {
    fn default() -> PoolPrice {
        PoolPrice { usd_factor: 1.0, usd_per_joule: 0.0 }
    }
}

impl PoolPrice {
    /// What an estimate's price and energy count as, US dollars.
    pub fn effective_usd(&self, estimate: &Estimate) -> f64 {
        estimate.usd * self.usd_factor + estimate.joules.unwrap_or(0.0) * self.usd_per_joule
    }
}
