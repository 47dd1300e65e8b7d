//! Routes as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::located::Located;
use super::super::quantity::TimeSpan;
use super::MAX_BOUND;
use crate::policy;

/// A rule that says where requests may go, and what to look for there.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteTable {
    /// Name of the route, as in traces.
    #[schemars(example = &"long-prompts-stay-off-the-wafer")]
    pub name: Option<Located<String>>,
    /// Expression on `request`; the route always applies without it.
    #[schemars(example = &"request.input_tokens > 60000")]
    pub when: Option<Located<String>>,
    /// Expression on `pool` and `request` that is true of the pools allowed; without it all are.
    #[schemars(example = &"pool.hardware.kind == \"gpu\" && pool.busy < 0.9")]
    pub pools: Option<Located<String>>,
    /// Expression on `pool` and `request` that is true of pools that this route never uses, its fallbacks included.
    #[schemars(example = &"pool.vendor == \"cerebras\"")]
    pub exclude: Option<Located<String>>,
    /// The only endpoints that this route uses, by name: `POOL/HOST:PORT`, or `POOL` for all of a pool.
    #[schemars(length(min = 1))]
    #[schemars(example = serde_json::json!(["gpu-a", "gpu-b/10.0.0.7:8000"]))]
    pub pin: Option<Vec<Located<String>>>,
    /// Pools to go on to, tier by tier; see `spill`.
    #[schemars(length(min = 1, max = 8))]
    pub fallback: Option<Vec<Located<FallbackTable>>>,
    /// When a request goes on to the next tier of `fallback`; `unavailable` where not given.
    #[schemars(example = &"slo-at-risk")]
    pub spill: Option<Located<SpillName>>,
    /// What to look for among the endpoints allowed.
    #[schemars(example = &"cheapest-that-meets-slo")]
    pub objective: Option<Located<ObjectiveName>>,
    /// What counts how much; exactly with the objective `weights`.
    pub weights: Option<Located<WeightsTable>>,
    /// Requests that belong together go to the same few endpoints, which then have their prompts' beginning in memory.
    /// Without it, what begins alike goes where it was read, as far as that is worth its price; what nobody has read yet
    /// goes to one of two homes in each pool among endpoints that are as good as tied, the same for every gateway, by
    /// the session where the caller names one and else by the prompt's first 1,024 bytes.
    pub affinity: Option<AffinityTable>,
    /// A second attempt beside a slow first one.
    pub hedge: Option<Located<HedgeTable>>,
    /// Whether a stream that breaks goes on on another machine, from what the client has of it, where the machine's pool
    /// can (`continues_answers` in the portfolio): only plain text of one chat answer can be joined. The further attempt
    /// counts as a retry; `true` where not given, since the pool has been said to be able to. Where a machine puts several
    /// tokens into an event and tells no usage, the answer may hold more than `max_tokens` in all, never less than it
    /// would have held.
    #[serde(default = "continued")]
    #[schemars(example = false)]
    pub continue_broken_streams: bool,
    /// Attempts on one request.
    pub retry: Option<Located<RetryTable>>,
    /// How long one request may take.
    pub timeouts: Option<TimeoutsTable>,
}

/// A tier of pools to fall back to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FallbackTable {
    /// Expression on `pool` and `request` that is true of the tier's pools.
    #[schemars(example = &"pool.hardware.kind == \"cloud\"")]
    pub pools: Located<String>,
}

/// When a request goes on to the next tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SpillName {
    /// When no endpoint of the tiers before can be asked.
    #[default]
    Unavailable,
    /// Also when none of them is likely to keep the class's promise and one of the next tier is.
    SloAtRisk,
}

/// What belongs together, and how much that counts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AffinityTable {
    /// `session`, `tenant`, or `header:NAME`.
    #[schemars(example = &"session")]
    pub by: Located<String>,
    /// Endpoints of one pool that are home to one session, tenant or value.
    #[serde(default = "default_homes")]
    #[schemars(extend("minimum" = 1, "maximum" = 64))]
    #[schemars(example = 2)]
    pub homes: u32,
    /// How much better a home's score counts: with 0.2 it wins while it is at most a fifth worse.
    #[serde(default = "default_weight")]
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    #[schemars(example = 0.2)]
    pub weight: f64,
}

/// A second attempt on another endpoint when the first token is late; the first to answer wins.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HedgeTable {
    /// When it starts: a quantile of the predicted time to first token such as `"p95"`, or a time such as `"200ms"`.
    /// The second attempt goes to another pool that has room and keeps the promise; to none while more than four fifths of
    /// all places are taken.
    #[schemars(example = &"p95")]
    pub after: Located<String>,
    /// Only for requests of this class; for all of the route where not given.
    #[schemars(example = &"realtime")]
    pub class: Option<Located<String>>,
    /// The most of the route's tokens that may be spent on second attempts, between 0 and 1.
    #[serde(default = "default_hedge_budget")]
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    #[schemars(example = 0.02)]
    pub budget: f64,
}

/// How often one request may be tried before the first byte, and how much that may be altogether.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryTable {
    /// Attempts on one request, the first included; 3 where not given.
    #[schemars(extend("minimum" = 1, "maximum" = 8))]
    #[schemars(example = 3)]
    pub attempts: Option<usize>,
    /// The most further attempts, as a share of the route's requests of the last 10 s; 3 are always allowed in that time.
    /// As many as `attempts` says where not given. A number between 0 and 1.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    #[schemars(example = 0.1)]
    pub budget: Option<f64>,
}

/// How long one request may take.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeoutsTable {
    /// Wait for the first byte of one attempt, milliseconds, or a string with its unit; ten times the class's promise,
    /// at least 5 s, where not given.
    #[schemars(example = 5000)]
    pub first_byte_ms: Option<Located<TimeSpan>>,
    /// Whole answer after its first byte, seconds, or a string with its unit; the process's limit where not given.
    #[schemars(example = 120)]
    pub total_s: Option<Located<TimeSpan>>,
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
    #[schemars(example = 1)]
    pub cost: f64,
    /// Weight of the time to first token, at least 0.
    #[serde(default)]
    #[schemars(extend("minimum" = 0, "maximum" = MAX_BOUND))]
    #[schemars(example = 2)]
    pub ttft: f64,
    /// Weight of the time per output token, at least 0.
    #[serde(default)]
    #[schemars(extend("minimum" = 0, "maximum" = MAX_BOUND))]
    #[schemars(example = 1)]
    pub itl: f64,
    /// Weight of the energy, at least 0.
    #[serde(default)]
    #[schemars(extend("minimum" = 0, "maximum" = MAX_BOUND))]
    #[schemars(example = 0.5)]
    pub energy: f64,
}

impl WeightsTable {
    /// The same, as the decision reads it.
    pub fn weights(&self) -> policy::Weights {
        policy::Weights { cost: self.cost, ttft: self.ttft, itl: self.itl, energy: self.energy }
    }
}

fn continued() -> bool {
    true
}

fn default_homes() -> u32 {
    2
}

fn default_weight() -> f64 {
    0.2
}

fn default_hedge_budget() -> f64 {
    0.02
}
