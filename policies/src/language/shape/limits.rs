//! `[limits]` as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::located::Located;
use super::MAX_BOUND;
use crate::policy::OverBudget;

/// Bounds on all requests together.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsTable {
    /// Requests in flight in a pool, by its name.
    #[serde(default)]
    #[schemars(example = serde_json::json!({ "wafer": 64 }))]
    pub pool_concurrency: BTreeMap<Located<String>, Located<u32>>,
    /// The most of all tokens of the last hour or so that a vendor may serve, between 0 and 1, by its name.
    #[serde(default)]
    #[schemars(example = serde_json::json!({ "cerebras": 0.6 }))]
    pub vendor_share: BTreeMap<Located<String>, Located<f64>>,
    /// Power of the machines of a site with its PUE, kilowatts, by its name. Where the portfolio has a cap, too, the lower
    /// of the two counts.
    #[serde(default)]
    #[schemars(example = serde_json::json!({ "valley": 900 }))]
    pub site_power_kw: BTreeMap<Located<String>, Located<f64>>,
    /// Spend, US dollars an hour, by the portfolio's prices and the clock of `utc_offset`; used up evenly. As it gets ahead
    /// of its pace, sheddable classes are refused one by one in their `shed_order`; then the rest goes to the pool that
    /// costs least.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = MAX_BOUND))]
    #[schemars(example = 40)]
    pub usd_per_hour: Option<Located<f64>>,
    /// Spend, US dollars a day from midnight to midnight; as `usd_per_hour`.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = MAX_BOUND))]
    #[schemars(example = 500)]
    pub usd_per_day: Option<Located<f64>>,
    /// Spend, US dollars a calendar month; as `usd_per_hour`.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = MAX_BOUND))]
    #[schemars(example = 12_000)]
    pub usd_per_month: Option<Located<f64>>,
    /// What becomes of classes that are not sheddable once a budget is used up: `cheapest` where not given, or `refuse`.
    #[schemars(example = &"refuse")]
    pub over_budget: Option<Located<OverBudget>>,
    /// What a tonne of carbon dioxide counts as beside the price, US dollars; nothing where not given.
    #[schemars(extend("minimum" = 0, "maximum" = MAX_BOUND))]
    #[schemars(example = 80)]
    pub usd_per_tonne_co2: Option<Located<f64>>,
}
