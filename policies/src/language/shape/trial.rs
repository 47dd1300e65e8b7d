//! `[shadow]` and `[canary]` as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::located::Located;
use super::MAX_BOUND;

/// A candidate that decides beside this policy; its decisions are compared and nothing comes of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShadowTable {
    /// The candidate's file, relative to this one.
    #[schemars(example = &"candidate.toml")]
    pub policy: Located<String>,
    /// Share of requests that it decides, between 0 and 1; all where not given.
    #[serde(default = "default_sample")]
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    #[schemars(example = 0.25)]
    pub sample: f64,
}

/// A candidate that decides for a share of the requests, and is rolled back by itself where it does worse.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CanaryTable {
    /// The candidate's file, relative to this one.
    #[schemars(example = &"candidate.toml")]
    pub policy: Located<String>,
    /// Share of sessions, tenants or requests that it decides, between 0 and 1.
    #[serde(default = "default_share")]
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    #[schemars(example = 0.05)]
    pub share: f64,
    /// What stays together; `session` where not given.
    #[serde(default)]
    #[schemars(example = &"session")]
    pub by: CanaryKeyName,
    /// Tenants that it decides for whole, besides the share.
    #[serde(default)]
    #[schemars(example = serde_json::json!(["acme"]))]
    pub tenants: Vec<String>,
    /// When it is rolled back.
    #[serde(default)]
    pub rollback: RollbackTable,
}

/// What of a request is hashed to tell whether a canary decides it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CanaryKeyName {
    /// The session, or the request itself where it names none.
    #[default]
    Session,
    /// The tenant, or the request itself where it is unknown. Tenants differ: with few of them, the guard compares
    /// tenants more than policies.
    Tenant,
    /// Each request for itself.
    Request,
}

/// A canary is rolled back once a class's attainment is worse under it than under this policy.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackTable {
    /// By more than so many points of attainment, between 0 and 1.
    #[serde(default = "default_margin")]
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    #[schemars(example = 0.02)]
    pub margin: f64,
    /// With this confidence, between 0.5 and 1.
    #[serde(default = "default_confidence")]
    #[schemars(extend("minimum" = 0.5, "exclusiveMaximum" = 1))]
    #[schemars(example = 0.99)]
    pub confidence: f64,
    /// Not before each side has had so many requests of the class.
    #[serde(default = "default_min_requests")]
    #[schemars(extend("minimum" = 1, "maximum" = MAX_BOUND))]
    #[schemars(example = 200)]
    pub min_requests: u64,
}

impl Default for RollbackTable {
    fn default() -> RollbackTable {
        RollbackTable {
            margin: default_margin(),
            confidence: default_confidence(),
            min_requests: default_min_requests(),
        }
    }
}

fn default_sample() -> f64 {
    1.0
}

fn default_share() -> f64 {
    0.05
}

fn default_margin() -> f64 {
    0.02
}

fn default_confidence() -> f64 {
    0.99
}

fn default_min_requests() -> u64 {
    100
}
