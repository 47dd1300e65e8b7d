//! `policy.toml` as it is written. What stands here as a comment is the description in its JSON Schema and the help of
//! its diagnostics.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::located::Located;
use crate::policy;

/// Largest promise and largest weight: keeps sums of them finite, and no longer wait is meant.
const MAX_BOUND: u64 = 1_000_000_000;

/// The rules: classes of requests, which request is of which class, and where each may go. An empty file is a sound
/// policy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    /// Name of the policy, as in the response header `x-pointsman-policy`.
    #[serde(default = "default_name")]
    pub name: Located<String>,
    /// Latency classes, the most urgent first. Without any, there are `realtime`, `interactive`, `standard` and `batch`.
    #[serde(default)]
    pub class: BTreeMap<Located<String>, ClassTable>,
    /// Class of the requests that no `[[classify]]` rule names, where the file has no class named `interactive` (for
    /// streams), `batch` (for flex and batch tiers, and embeddings) or `standard` (for the rest).
    pub default_class: Option<Located<String>>,
    /// Rules that give a request its class; the first that applies decides.
    #[serde(default)]
    pub classify: Vec<Located<ClassifyTable>>,
    /// Rules that say where a request may go; the first that applies decides. What none covers may go anywhere.
    #[serde(default)]
    pub route: Vec<Located<RouteTable>>,
}

/// What a class of requests is promised; every bound that is given must hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassTable {
    /// Time to first token, milliseconds.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = MAX_BOUND))]
    pub ttft_ms: Option<f64>,
    /// Time per output token after the first, milliseconds.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = MAX_BOUND))]
    pub itl_ms: Option<f64>,
    /// Time to the whole answer, seconds.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = MAX_BOUND))]
    pub deadline_s: Option<f64>,
    /// Share of requests that shall meet the promise, between 0 and 1.
    #[serde(default = "default_target")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub target: f64,
    /// Higher is served first. Without it, a class is served before those below it in the file.
    pub priority: Option<i32>,
    /// Whether requests of this class may be refused so that others keep their promise.
    #[serde(default)]
    pub sheddable: bool,
}

/// A rule that gives requests their class.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassifyTable {
    /// Name of the rule, for its reader.
    pub name: Option<Located<String>>,
    /// Expression on `request`; the rule always applies without it.
    pub when: Option<Located<String>>,
    /// Name of the class.
    pub class: Located<String>,
}

/// A rule that says where requests may go, and what to look for there.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteTable {
    /// Name of the route, as in traces.
    pub name: Option<Located<String>>,
    /// Expression on `request`; the route always applies without it.
    pub when: Option<Located<String>>,
    /// Expression on `pool` and `request` that is true of the pools allowed; without it all are.
    pub pools: Option<Located<String>>,
    /// What to look for among the endpoints allowed.
    pub objective: Option<Located<ObjectiveName>>,
    /// What counts how much; exactly with the objective `weights`.
    pub weights: Option<Located<WeightsTable>>,
}

/// What a route looks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectiveName {
    /// Least price among those likely to meet the class's promise; the least violation where none is.
    #[default]
    CheapestThatMeetsSlo,
    /// Least expected time to the whole answer.
    Fastest,
    /// Least price.
    Cheapest,
    /// Least carbon.
    Greenest,
    /// Least weighted sum, see the key `weights`.
    Weights,
}

/// Weights of the terms of a sum; each term is relative to the best candidate. At least one is above 0.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightsTable {
    /// Weight of the price, at least 0.
    #[serde(default)]
    #[schemars(extend("minimum" = 0, "maximum" = MAX_BOUND))]
    pub cost: f64,
    /// Weight of the time to first token, at least 0.
    #[serde(default)]
    #[schemars(extend("minimum" = 0, "maximum" = MAX_BOUND))]
    pub ttft: f64,
    /// Weight of the time per output token, at least 0.
    #[serde(default)]
    #[schemars(extend("minimum" = 0, "maximum" = MAX_BOUND))]
    pub itl: f64,
    /// Weight of the energy, at least 0.
    #[serde(default)]
    #[schemars(extend("minimum" = 0, "maximum" = MAX_BOUND))]
    pub energy: f64,
}

impl WeightsTable {
    /// The same, as the decision reads it.
    pub fn weights(&self) -> policy::Weights {
        policy::Weights { cost: self.cost, ttft: self.ttft, itl: self.itl, energy: self.energy }
    }
}

/// Name of a policy that gives none.
fn default_name() -> Located<String> {
    Located { value: "default".to_owned(), span: 0..0 }
}

/// Share of requests that shall meet their promise where the file does not say.
pub(super) fn default_target() -> f64 {
    0.99
}
