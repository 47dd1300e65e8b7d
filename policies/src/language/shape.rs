//! `policy.toml` as it is written. What stands here as a comment is the description in its JSON Schema and the help of
//! its diagnostics.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::located::Located;
use super::quantity::TimeSpan;

/// Where requests may go.
mod route;
/// Bounds on all requests together.
mod limits;
/// Candidates on probation.
mod trial;

pub(super) use limits::LimitsTable;
pub(super) use route::{
    AffinityTable, HedgeTable, ObjectiveName, RetryTable, RouteTable, SpillName, TimeoutsTable, WeightsTable,
};
pub(super) use trial::{CanaryKeyName, CanaryTable, ShadowTable};

/// Largest promise and largest weight: keeps sums of them finite, and no longer wait is meant.
pub(super) const MAX_BOUND: u64 = 1_000_000_000;

/// The rules: classes of requests, which request is of which class, and where each may go. An empty file is a sound
/// policy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    /// Name of the policy, as in the response header `x-pointsman-policy`.
    #[serde(default = "default_name")]
    #[schemars(example = &"balanced")]
    pub name: Located<String>,
    /// Latency classes, the most urgent first. Without any, there are `realtime`, `interactive`, `standard` and `batch`.
    #[serde(default)]
    pub class: BTreeMap<Located<String>, ClassTable>,
    /// Class of the requests that no `[[classify]]` rule names, where the file has no class named `interactive` (for
    /// streams), `batch` (for flex and batch tiers, and embeddings) or `standard` (for the rest).
    #[schemars(example = &"standard")]
    pub default_class: Option<Located<String>>,
    /// Rules that give a request its class; the first that applies decides.
    #[serde(default)]
    pub classify: Vec<Located<ClassifyTable>>,
    /// Rules that say where a request may go; the first that applies decides. What none covers may go anywhere.
    #[serde(default)]
    pub route: Vec<Located<RouteTable>>,
    /// Bounds on all requests together.
    pub limits: Option<Located<LimitsTable>>,
    /// A candidate that decides beside this policy, without consequence.
    pub shadow: Option<Located<ShadowTable>>,
    /// A candidate that decides for a share of the requests.
    pub canary: Option<Located<CanaryTable>>,
    /// What the clock of `request.hour`, `.minute` and `.weekday` is ahead of UTC, `+HH:MM` or `-HH:MM`. Summer time is
    /// not followed.
    #[schemars(example = &"+02:00")]
    pub utc_offset: Option<Located<String>>,
}

/// What a class of requests is promised; every bound that is given must hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassTable {
    /// Time to first token, milliseconds, or a string with its unit such as `"0.3s"`.
    #[schemars(example = 300)]
    pub ttft_ms: Option<Located<TimeSpan>>,
    /// Time per output token after the first, milliseconds, or a string with its unit.
    #[schemars(example = 50)]
    pub itl_ms: Option<Located<TimeSpan>>,
    /// Time to the whole answer, seconds, or a string with its unit such as `"10min"`.
    #[schemars(example = 600)]
    pub deadline_s: Option<Located<TimeSpan>>,
    /// Share of requests that shall meet the promise, between 0 and 1.
    #[serde(default = "default_target")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    #[schemars(example = 0.99)]
    pub target: f64,
    /// Higher is served first. Without it, a class is served before those below it in the file.
    #[schemars(example = 10)]
    pub priority: Option<i32>,
    /// Whether requests of this class may be refused so that others keep their promise.
    #[serde(default)]
    #[schemars(example = true)]
    pub sheddable: bool,
    /// Among sheddable classes, the one with the lowest number is refused first. Without it, those of lower priority are.
    #[schemars(example = 1)]
    pub shed_order: Option<Located<i32>>,
    /// No endpoint is asked where one request of this class would cost more, US dollars.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = MAX_BOUND), example = 0.02)]
    pub max_usd: Option<f64>,
    /// Whether requests of this class may be sent, one at a time, to a pool that nobody uses, to learn how it serves
    /// by now: where the promise is kept even if it takes four times as long as is believed. Without it, classes do that
    /// have a `deadline_s` and no other bound.
    #[schemars(example = false)]
    pub explores: Option<bool>,
}

/// A rule that gives requests their class.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassifyTable {
    /// Name of the rule, for its reader.
    #[schemars(example = &"voice")]
    pub name: Option<Located<String>>,
    /// Expression on `request`; the rule always applies without it.
    #[schemars(example = &"request.stream && request.headers[\"x-agent\"] == \"voice\"")]
    pub when: Option<Located<String>>,
    /// Name of the class.
    #[schemars(example = &"realtime")]
    pub class: Located<String>,
}

/// Name of a policy that gives none.
fn default_name() -> Located<String> {
    Located { value: "default".to_owned(), span: 0..0 }
}

/// Share of requests that shall meet their promise where the file does not say.
pub(super) fn default_target() -> f64 {
    0.99
}
