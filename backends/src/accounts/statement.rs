//! The accounts as people and programs read them: what is owed, spent, served and drawn, and what it made of prices.

use pointsman_policies::price::{BudgetUse, Period, PoolPrice, energy_usd_per_joule};
use serde::Serialize;

use super::Terms;

/// All of it at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Statement {
    /// Every pool, in the order of the portfolio.
    pub pools: Vec<PoolLine>,
    /// The budgets of the policy, the shortest period first.
    pub budgets: Vec<BudgetLine>,
    /// Sites that have a name.
    pub sites: Vec<SiteLine>,
    /// Vendors whose share is bounded.
    pub vendors: Vec<VendorLine>,
}

/// One pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PoolLine {
    /// Its name.
    pub pool: String,
    /// What one dollar of its price counts as.
    pub usd_factor: f64,
    /// What one joule counts as, US dollars: electricity, carbon, and what scarce power adds.
    pub usd_per_joule: f64,
    /// Price of what it served this month, US dollars.
    pub usd_this_month: f64,
    /// Tokens it served this month.
    pub tokens_this_month: f64,
    /// Energy that took, joules, as modelled.
    pub joules_this_month: f64,
    /// Tokens it served of late, half of them forgotten in an hour.
    pub recent_tokens: f64,
    /// What is owed for it; `null` where nothing is.
    pub commitment: Option<CommitmentLine>,
}

/// What is owed for a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CommitmentLine {
    /// `usd` or `tokens`, whichever lags more.
    pub unit: &'static str,
    /// Owed for this month, or for what was left of it when counting began.
    pub owed: f64,
    /// Of that, by now.
    pub owed_by_now: f64,
    /// Consumed.
    pub used: f64,
    /// The part of its price that is owed anyway, 0 to 1.
    pub credit: f64,
    /// Whether any of it is left.
    pub is_left: bool,
}

impl CommitmentLine {
    /// How far consumption lags, as a part of what is owed by now; negative where it is ahead.
    pub fn behind(&self) -> f64 {
        ((self.owed_by_now - self.used) / self.owed_by_now.max(1e-9)).clamp(-1.0, 1.0)
    }
}

/// One budget.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BudgetLine {
    /// What it is for.
    pub period: Period,
    /// The budget, or what of it falls to the time since counting began, US dollars.
    pub usd: f64,
    /// Spent, US dollars; without what is owed anyway.
    pub spent_usd: f64,
    /// Under way, as estimated, US dollars.
    pub in_flight_usd: f64,
    /// What would be spent by now if it were spent evenly, US dollars.
    pub even_usd: f64,
    /// How many classes give way; the part after the whole is the share of the next one's requests.
    pub lambda: f64,
    /// When the next period begins, seconds.
    pub ends_in_s: f64,
}

/// One site.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SiteLine {
    /// Its name.
    pub site: String,
    /// What its machines draw with PUE, kilowatts, as modelled from what is in flight.
    pub kw: f64,
    /// What they may draw, kilowatts; `null` where nothing bounds it.
    pub cap_kw: Option<f64>,
    /// What scarce power adds to the price of a joule, US dollars.
    pub usd_per_joule: f64,
}

/// One vendor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VendorLine {
    /// Its name.
    pub vendor: String,
    /// Its part of the tokens of late, those in flight included, 0 to 1.
    pub share: f64,
    /// The part that is allowed.
    pub allowed: f64,
    /// By how much its prices are raised.
    pub lambda: f64,
}

impl Statement {
    /// The budget that presses most.
    pub(super) fn pressing(&self) -> Option<BudgetUse> {
        let most = self.budgets.iter().max_by(|a, b| {
            let left = |line: &BudgetLine| line.usd - line.spent_usd - line.in_flight_usd;
            a.lambda.total_cmp(&b.lambda).then(left(b).total_cmp(&left(a)))
        })?;
        Some(BudgetUse {
            period: most.period,
            usd: most.usd,
            spent_usd: most.spent_usd + most.in_flight_usd,
            lambda: most.lambda,
            ends_in_ms: most.ends_in_s * 1e3,
        })
    }

    /// The price of every pool, noted in its line.
    pub(super) fn price(&mut self, terms: &Terms<'_>) -> Vec<PoolPrice> {
        let budget_lambda = self.budgets.iter().map(|line| line.lambda).fold(0.0, f64::max);
        let vendor_share = &terms.policy.limits.vendor_share;
        let mut prices = Vec::with_capacity(self.pools.len());
        for (index, (pool, line)) in terms.pools().iter().zip(&mut self.pools).enumerate() {
            let capped = vendor_share.iter().zip(&self.vendors).filter(|(cap, _)| cap.pools.contains(&index));
            let vendor_lambda = capped.map(|(_, line)| line.lambda).fold(0.0, f64::max);
            let scarce = self.sites.iter().find(|site| site.site == pool.site).map_or(0.0, |site| site.usd_per_joule);
            let (credit, behind) = line.commitment.map_or((0.0, 0.0), |line| (line.credit, line.behind()));
            let price = PoolPrice::of(credit, behind, [budget_lambda, vendor_lambda], scarce);
            line.usd_factor = price.usd_factor;
            line.usd_per_joule = scarce + energy_usd_per_joule(pool, terms.policy.limits.usd_per_tonne_co2);
            prices.push(price);
        }
        prices
    }
}
