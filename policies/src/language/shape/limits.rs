//! `[limits]` as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::located::Located;
use super::MAX_BOUND;

/// Bounds on all requests together.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsTable {
    /// Requests in flight in a pool, by its name.
    #[serde(default)]
    #[schemars(example = serde_json::json!({ "wafer": 64 }))]
    pub pool_concurrency: BTreeMap<Located<String>, Located<u32>>,
    /// The most of all tokens that a vendor may serve, between 0 and 1, by its name.
    #[serde(default)]
    #[schemars(example = serde_json::json!({ "cerebras": 0.6 }))]
    pub vendor_share: BTreeMap<Located<String>, Located<f64>>,
    /// Power of the machines of a site with its PUE, kilowatts, by its name.
    #[serde(default)]
    #[schemars(example = serde_json::json!({ "valley": 900 }))]
    pub site_power_kw: BTreeMap<Located<String>, Located<f64>>,
    /// Spend, US dollars an hour.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = MAX_BOUND))]
    #[schemars(example = 40)]
    pub usd_per_hour: Option<Located<f64>>,
    /// Spend, US dollars a day.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = MAX_BOUND))]
    #[schemars(example = 500)]
    pub usd_per_day: Option<Located<f64>>,
    /// Spend, US dollars a month.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = MAX_BOUND))]
    #[schemars(example = 12_000)]
    pub usd_per_month: Option<Located<f64>>,
}
