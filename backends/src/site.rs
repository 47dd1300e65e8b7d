//! Where machines stand: what their power costs the world.

use pointsman_policies::language::Located;
use schemars::JsonSchema;
use serde::Deserialize;

/// `[site.NAME]`: a place with its own power.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteShape {
    /// Power usage effectiveness: power drawn by the site over power drawn by the machines, at least 1.
    #[schemars(range(min = 1.0))]
    #[schemars(example = 1.2)]
    pub pue: Option<f64>,
    /// Carbon intensity of its power, grams of CO2 per kilowatt-hour.
    #[schemars(range(min = 0.0))]
    #[schemars(example = 210)]
    pub carbon_g_per_kwh: Option<f64>,
    /// Price of its electricity, US dollars per kilowatt-hour. It is added to the prices of its pools: leave it out where
    /// they include it.
    #[schemars(range(min = 0.0))]
    #[schemars(example = 0.11)]
    pub usd_per_kwh: Option<f64>,
    /// The most that its machines may draw, with PUE, kilowatts. Reckoned by what the gateway has in flight and what the
    /// hardware catalog says; machines whose power is not published count as nothing.
    #[schemars(extend("exclusiveMinimum" = 0))]
    #[schemars(example = 900)]
    pub power_cap_kw: Option<f64>,
    /// Network round trip from the gateway, milliseconds.
    #[schemars(range(min = 0.0))]
    #[schemars(example = 0.5)]
    pub round_trip_ms: Option<Located<f64>>,
}
