//! What prices count as and what they come from, as of the last second.

use std::sync::atomic::AtomicU64;

use pointsman_backends::accounts::Statement;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::register::Register;
use crate::telemetry::names::metric;

/// One gauge for each value of a label.
type By<L> = Family<L, Gauge<f64, AtomicU64>>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPool {
    pool: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InUnit {
    pool: String,
    unit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPeriod {
    period: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSite {
    site: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVendor {
    vendor: String,
}

/// Gauges, set when they are read.
#[derive(Debug, Default)]
pub(super) struct Prices {
    factor: By<OfPool>,
    usd_per_joule: By<OfPool>,
    credit: By<OfPool>,
    owed: By<InUnit>,
    consumed: By<InUnit>,
    budget: By<OfPeriod>,
    spent: By<OfPeriod>,
    lambda: By<OfPeriod>,
    power: By<OfSite>,
    power_cap: By<OfSite>,
    scarcity: By<OfSite>,
    share: By<OfVendor>,
    share_allowed: By<OfVendor>,
}

impl Prices {
    /// As a statement has them; what it does not name is gone.
    pub(super) fn set(&self, statement: &Statement) {
        self.clear();
        for line in &statement.pools {
            let pool = OfPool { pool: line.pool.clone() };
            self.factor.get_or_create(&pool).set(line.usd_factor);
            self.usd_per_joule.get_or_create(&pool).set(line.usd_per_joule);
            if let Some(commitment) = &line.commitment {
                let in_unit = InUnit { pool: line.pool.clone(), unit: commitment.unit };
                self.credit.get_or_create(&pool).set(commitment.credit);
                self.owed.get_or_create(&in_unit).set(commitment.owed_by_now);
                self.consumed.get_or_create(&in_unit).set(commitment.used);
            }
        }
        for line in &statement.budgets {
            let period = OfPeriod { period: line.period.as_str() };
            self.budget.get_or_create(&period).set(line.usd);
            self.spent.get_or_create(&period).set(line.spent_usd);
            self.lambda.get_or_create(&period).set(line.lambda);
        }
        for line in &statement.sites {
            let site = OfSite { site: line.site.clone() };
            self.power.get_or_create(&site).set(line.kw);
            self.scarcity.get_or_create(&site).set(line.usd_per_joule);
            if let Some(cap_kw) = line.cap_kw {
                self.power_cap.get_or_create(&site).set(cap_kw);
            }
        }
        for line in &statement.vendors {
            let vendor = OfVendor { vendor: line.vendor.clone() };
            self.share.get_or_create(&vendor).set(line.share);
            self.share_allowed.get_or_create(&vendor).set(line.allowed);
        }
    }

    fn clear(&self) {
        [&self.factor, &self.usd_per_joule, &self.credit].into_iter().for_each(By::clear);
        [&self.owed, &self.consumed].into_iter().for_each(By::clear);
        [&self.budget, &self.spent, &self.lambda].into_iter().for_each(By::clear);
        [&self.power, &self.power_cap, &self.scarcity].into_iter().for_each(By::clear);
        [&self.share, &self.share_allowed].into_iter().for_each(By::clear);
    }

    pub(super) fn register(&self, r: &mut Register) {
        r.register(metric::PRICE_FACTOR, "What one dollar of a pool's price counts as", self.factor.clone());
        r.register(metric::USD_PER_JOULE, "What one joule counts as, US dollars", self.usd_per_joule.clone());
        r.register(metric::CREDIT, "The part of a committed pool's price that is owed anyway", self.credit.clone());
        r.register(metric::OWED, "Owed for a committed pool this month by now", self.owed.clone());
        r.register(metric::CONSUMED, "Consumed of what is owed for a pool this month", self.consumed.clone());
        r.register(metric::BUDGET, "Budget of the period, US dollars", self.budget.clone());
        r.register(metric::SPENT, "Spent in the period, without what is owed anyway", self.spent.clone());
        let help = "How many classes give way to the budget, sheddable ones first";
        r.register(metric::BUDGET_LAMBDA, help, self.lambda.clone());
        r.register(metric::SITE_POWER, "What a site's machines draw with PUE, modelled", self.power.clone());
        r.register(metric::SITE_CAP, "What a site may draw", self.power_cap.clone());
        let help = "What scarce power adds to the price of a joule";
        r.register(metric::SITE_USD_PER_JOULE, help, self.scarcity.clone());
        r.register(metric::VENDOR_SHARE, "A vendor's part of the tokens of the last hour or so", self.share.clone());
        r.register(metric::VENDOR_SHARE_ALLOWED, "The part that a vendor may serve", self.share_allowed.clone());
    }
}
