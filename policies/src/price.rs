//! What work on a pool costs beside its price: what is owed anyway is cheaper, what is scarce is dearer. Controllers that
//! turn use into such prices, and what of the budgets is used up; all with the clock as an argument.

use crate::estimate::Estimate;
use crate::fleet::PoolFacts;

/// A price that rises while use is ahead of its pace.
mod pace;
/// The price of what is owed anyway.
mod credit;
/// Hours, days and months of a clock.
mod period;

pub use credit::Credit;
pub use pace::Pace;
pub use period::{Period, Span};

/// Joules of a kilowatt-hour.
pub const JOULES_PER_KWH: f64 = 3.6e6;

/// Shares of vendors are judged as if at least so many tokens had been served: the first request of all would else be the
/// whole.
pub const LEAST_SHARED_TOKENS: f64 = 100_000.0;

/// The corrections of one pool, with what they come from.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PoolPrice {
    /// What one dollar of its price counts as: below 1 while a commitment is not used up, above 1 while a budget is used
    /// up too fast. The product of what follows.
    pub usd_factor: f64,
    /// What one joule counts as while its site's power is scarce, US dollars. What it costs by the portfolio comes on top.
    pub usd_per_joule: f64,
    /// The part of its price that is owed anyway, 0 to 1.
    #[serde(default)]
    pub credit: f64,
    /// How far its commitment lags the owed path, as a part of what is owed by now; negative where it is ahead.
    #[serde(default)]
    pub behind: f64,
    /// By how much its dollars are dearer because a budget is used up too fast.
    #[serde(default)]
    pub budget_lambda: f64,
    /// By how much its dollars are dearer because its vendor is near its share.
    #[serde(default)]
    pub vendor_lambda: f64,
}

impl Default for PoolPrice {
    fn default() -> PoolPrice {
        PoolPrice {
            usd_factor: 1.0,
            usd_per_joule: 0.0,
            credit: 0.0,
            behind: 0.0,
            budget_lambda: 0.0,
            vendor_lambda: 0.0,
        }
    }
}

/// A second of waiting counts as so many times the price: an idle machine that is dearer is worth it, to the request and
/// to those behind it. Merged Azure traces, without and with it: 0.963 and 0.989 of promises kept at load 1.
const WAITING_PER_S: f64 = 4.0;
/// Waiting counts as at most so many times the price.
const WAITING_MOST: f64 = 8.0;
/// The last token of a provider's limit counts as so many times the price more.
const SCARCITY: f64 = 8.0;
/// How late that begins: half a limit used up costs next to nothing. Merged Azure traces, without and with it: 0.911 and
/// 0.935 kept at load 1.6.
const SCARCITY_EXPONENT: i32 = 8;

impl PoolPrice {
    /// Of these parts.
    pub fn of(credit: f64, behind: f64, [budget_lambda, vendor_lambda]: [f64; 2], usd_per_joule: f64) -> PoolPrice {
        let usd_factor = (1.0 - credit) * (1.0 + budget_lambda) * (1.0 + vendor_lambda);
        PoolPrice { usd_factor, usd_per_joule, credit, behind, budget_lambda, vendor_lambda }
    }

    /// With what energy and carbon of its site cost.
    pub fn with_energy(self, pool: &PoolFacts, usd_per_tonne_co2: Option<f64>) -> PoolPrice {
        PoolPrice { usd_per_joule: self.usd_per_joule + energy_usd_per_joule(pool, usd_per_tonne_co2), ..self }
    }

    /// What an estimate's price and energy count as, US dollars; `scarcity` is the part of the provider's limit that is
    /// used up, 0 to 1.
    pub fn effective_usd(&self, estimate: &Estimate, scarcity: f64) -> f64 {
        let counted =
            (estimate.usd - estimate.saved_usd) * self.usd_factor + estimate.joules.unwrap_or(0.0) * self.usd_per_joule;
        let waiting = 1.0 + (WAITING_PER_S * estimate.wait_ms / 1e3).min(WAITING_MOST);
        counted * waiting * (1.0 + SCARCITY * scarcity.powi(SCARCITY_EXPONENT))
    }
}

/// What a joule costs a pool: its electricity, and its carbon at a price per tonne.
pub fn energy_usd_per_joule(pool: &PoolFacts, usd_per_tonne_co2: Option<f64>) -> f64 {
    let usd_per_gram = usd_per_tonne_co2.unwrap_or(0.0) / 1e6;
    (pool.usd_per_kwh.unwrap_or(0.0) + pool.carbon_g_per_kwh.unwrap_or(0.0) * usd_per_gram) / JOULES_PER_KWH
}

/// What has been used of what `[limits]` allow.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Used {
    /// The budget that presses most; `None` where there is none.
    pub budget: Option<BudgetUse>,
    /// Tokens served of late, by pool, without those in flight.
    pub tokens: Vec<f64>,
}

/// How far a budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BudgetUse {
    /// What it is for.
    pub period: Period,
    /// The budget, US dollars.
    pub usd: f64,
    /// Spent in this period, with what is under way, US dollars.
    pub spent_usd: f64,
    /// How many classes give way: the part after the whole is the share of the next one's requests that does. Sheddable
    /// classes give way in their order, then the others, the least urgent first.
    pub lambda: f64,
    /// When the next period begins, milliseconds.
    pub ends_in_ms: f64,
}

impl BudgetUse {
    /// Whether nothing is left.
    pub fn is_used_up(&self) -> bool {
        self.spent_usd >= self.usd
    }

    /// The share of requests that gives way of those before which `rank` others do.
    pub fn share(&self, rank: usize) -> f64 {
        if self.is_used_up() { 1.0 } else { (self.lambda - rank as f64).clamp(0.0, 1.0) }
    }
}
