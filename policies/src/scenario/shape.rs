//! `NAME.scenarios.toml` as it is written. What stands here as a comment is the description in its JSON Schema and the
//! help of its diagnostics.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::choice::Choice;
use crate::facts::Api;
use crate::language::{Located, TimeSpan};

/// Scenarios of one file.
pub const MAX_SCENARIOS: usize = 1_000;
/// Fleets described in one file.
pub const MAX_FLEETS: usize = 100;
/// Largest count of tokens, bytes or requests: keeps sums of them far from overflowing.
const MAX_COUNT: u64 = 1_000_000_000;

/// What a policy is to do, by examples. `pointsman check` runs the file beside its policy: `balanced.scenarios.toml`
/// beside `balanced.toml`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScenarioFile {
    /// The portfolio, relative to this file; the one given to `check`, else `portfolio.toml` beside this file.
    #[schemars(example = &"portfolio.toml")]
    pub portfolio: Option<Located<String>>,
    /// What every request has unless its scenario says otherwise.
    #[serde(default)]
    pub request: RequestTable,
    /// `[fleet.NAME]`: a state of the machines, by pool or endpoint. What it does not name is idle and ready.
    #[serde(default)]
    #[schemars(extend("maxProperties" = MAX_FLEETS))]
    pub fleet: BTreeMap<Located<String>, BTreeMap<Located<String>, StateTable>>,
    /// `[[scenario]]`: a request and what is expected of it.
    #[serde(default)]
    #[schemars(extend("maxItems" = MAX_SCENARIOS))]
    pub scenario: Vec<ScenarioTable>,
}

/// A request and what is expected of it, for every draw of lots among near-ties.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScenarioTable {
    /// A sentence that says what the policy promises here.
    #[schemars(length(min = 1), example = &"a voice agent gets the wafer")]
    pub name: Located<String>,
    /// The state of the machines, by its name under `fleet`; all idle and ready where not given.
    #[schemars(example = &"gpus-full")]
    pub fleet: Option<Located<String>>,
    /// The request.
    #[serde(default)]
    pub request: RequestTable,
    /// What is expected.
    pub expect: Located<ExpectTable>,
}

/// A request as its class and route may see it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestTable {
    /// The client API; that of `path`, else `chat`, where not given.
    #[schemars(example = &"chat")]
    pub api: Option<Api>,
    /// The path; that of `api` where not given.
    #[schemars(example = &"/v1/chat/completions")]
    pub path: Option<String>,
    /// The model; the only one of the portfolio where not given.
    #[schemars(example = &"gpt-oss-120b")]
    pub model: Option<Located<String>>,
    /// Whether a stream is asked for; false where not given.
    #[schemars(example = true)]
    pub stream: Option<bool>,
    /// Headers by name, in any case. Those that the gateway reads, such as `x-pointsman-class`, do here what they do there.
    #[serde(default)]
    #[schemars(example = serde_json::json!({ "x-agent": "voice" }))]
    pub headers: BTreeMap<Located<String>, Located<String>>,
    /// Who asks.
    #[schemars(example = &"acme")]
    pub tenant: Option<String>,
    /// The conversation it belongs to.
    #[schemars(example = &"conversation-7")]
    pub session: Option<String>,
    /// `service_tier` of the body.
    #[schemars(example = &"flex")]
    pub service_tier: Option<String>,
    /// The class the caller declares.
    #[schemars(example = &"batch")]
    pub declared_class: Option<String>,
    /// Length of the prompt, tokens; 500 where neither this nor `input_bytes` is given.
    #[schemars(extend("maximum" = MAX_COUNT), example = 60_000)]
    pub input_tokens: Option<Located<u64>>,
    /// Length of the prompt, bytes, four to a token.
    #[schemars(extend("maximum" = MAX_COUNT))]
    #[schemars(example = 240_000)]
    pub input_bytes: Option<Located<u64>>,
    /// Expected length of the answer, tokens; 200 where not given, never more than `max_tokens`.
    #[schemars(extend("maximum" = MAX_COUNT))]
    #[schemars(example = 200)]
    pub output_tokens: Option<u64>,
    /// The caller's bound on the answer, tokens.
    #[schemars(extend("maximum" = MAX_COUNT))]
    #[schemars(example = 64)]
    pub max_tokens: Option<u64>,
    /// How many tools the body offers.
    #[schemars(extend("maximum" = MAX_COUNT))]
    #[schemars(example = 3)]
    pub tools: Option<u64>,
    /// How many images the body carries.
    #[schemars(extend("maximum" = MAX_COUNT))]
    #[schemars(example = 1)]
    pub images: Option<u64>,
    /// The first token is wanted within this time, milliseconds, or a string with its unit.
    #[schemars(example = 300)]
    pub slo_ttft_ms: Option<Located<TimeSpan>>,
    /// Each further token is wanted within this time, milliseconds, or a string with its unit.
    #[schemars(example = 20)]
    pub slo_itl_ms: Option<Located<TimeSpan>>,
    /// The whole answer is wanted within this time, milliseconds, or a string with its unit.
    #[schemars(example = &"2s")]
    pub deadline_ms: Option<Located<TimeSpan>>,
    /// When it comes: `HH:MM` by the policy's clock, with a day before it such as `sat 09:30`, or a moment such as
    /// `2026-09-15T09:30:00Z`. Monday noon where not given.
    #[schemars(example = &"sat 09:30")]
    pub at: Option<Located<String>>,
}

/// What a pool's endpoints, or one endpoint, are doing.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StateTable {
    /// Whether it may be asked; `ready` where not given.
    #[schemars(example = &"breaker-open")]
    pub availability: Option<AvailabilityName>,
    /// When it may be asked again, milliseconds, or a string with its unit; 10 s where not given. With `breaker-open` and
    /// `back-pressure`.
    #[schemars(example = &"8s")]
    pub retry_in_ms: Option<Located<TimeSpan>>,
    /// Requests that each endpoint has in flight. They are taken to be half way through 200 tokens each after a prompt of
    /// 1,000, unless the keys below say otherwise.
    #[schemars(extend("maximum" = 1_000_000))]
    #[schemars(example = 24)]
    pub in_flight: Option<u32>,
    /// Prompt tokens of requests in flight whose first token has not come; 0 where not given.
    #[schemars(extend("maximum" = MAX_COUNT))]
    #[schemars(example = 4_000)]
    pub prefill_tokens: Option<u64>,
    /// Prompt and expected answer tokens of all requests in flight.
    #[schemars(extend("maximum" = MAX_COUNT))]
    #[schemars(example = 60_000)]
    pub context_tokens: Option<u64>,
    /// Answer tokens still expected of all requests in flight.
    #[schemars(extend("maximum" = MAX_COUNT))]
    #[schemars(example = 5_000)]
    pub output_tokens_ahead: Option<u64>,
    /// Requests left of the pool's limit; all where not given.
    #[schemars(extend("minimum" = 0, "maximum" = MAX_COUNT))]
    #[schemars(example = 0)]
    pub requests_left: Option<Located<f64>>,
    /// Tokens left of the pool's limit; all where not given.
    #[schemars(extend("minimum" = 0, "maximum" = MAX_COUNT))]
    #[schemars(example = 100)]
    pub tokens_left: Option<Located<f64>>,
}

/// Whether an endpoint may be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AvailabilityName {
    /// Yes.
    #[default]
    Ready,
    /// It failed too often just now.
    BreakerOpen,
    /// It said that it has too much work.
    BackPressure,
    /// It takes no new work.
    Draining,
}

/// What is expected; everything given must hold. A list means "one of these".
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectTable {
    /// The class.
    #[schemars(example = &"realtime")]
    pub class: Option<Located<Choice>>,
    /// What named the class: a rule by its name (`rule-1` is the first where it has none), or `declared`, `declared-slo`,
    /// `patient-tier`, `stream`, `whole-answer`.
    #[schemars(example = &"voice")]
    pub rule: Option<Located<Choice>>,
    /// The route.
    #[schemars(example = serde_json::json!(["default", "conversations"]))]
    pub route: Option<Located<Choice>>,
    /// The pool that is asked first.
    #[schemars(example = &"wafer")]
    pub pool: Option<Located<Choice>>,
    /// The endpoint that is asked first, `POOL/HOST:PORT`.
    #[schemars(example = &"gpu-a/gpu-a2.internal:8000")]
    pub endpoint: Option<Located<Choice>>,
    /// Pools or endpoints in the order in which they are asked; the plan may go on after them.
    #[schemars(length(min = 1))]
    #[schemars(example = serde_json::json!(["wafer", "gpu-a"]))]
    pub plan: Option<Vec<Located<String>>>,
    /// Pools or endpoints that are not asked at all.
    #[schemars(length(min = 1))]
    #[schemars(example = serde_json::json!(["wafer"]))]
    pub avoids: Option<Vec<Located<String>>>,
    /// Pools or endpoints with the reason why they are rejected, such as `context` or `breaker-open`.
    #[serde(default)]
    #[schemars(example = serde_json::json!({ "wafer": "breaker-open" }))]
    pub rejected: BTreeMap<Located<String>, Located<Choice>>,
    /// Whether the endpoint that is asked first is likely to keep the class's promise.
    #[schemars(example = true)]
    pub meets_slo: Option<Located<bool>>,
    /// The code of the refusal, such as `saturated` or `context_length_exceeded`.
    #[schemars(example = &"saturated")]
    pub refusal: Option<Located<Choice>>,
    /// What must not come.
    pub not: Option<NotTable>,
}

/// What must not come; a list means "none of these".
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotTable {
    /// The class.
    #[schemars(example = &"realtime")]
    pub class: Option<Located<Choice>>,
    /// What named the class.
    #[schemars(example = &"voice")]
    pub rule: Option<Located<Choice>>,
    /// The route.
    #[schemars(example = serde_json::json!(["default", "conversations"]))]
    pub route: Option<Located<Choice>>,
    /// The pool that is asked first.
    #[schemars(example = &"wafer")]
    pub pool: Option<Located<Choice>>,
    /// The endpoint that is asked first.
    #[schemars(example = &"gpu-a/gpu-a2.internal:8000")]
    pub endpoint: Option<Located<Choice>>,
    /// The code of the refusal.
    #[schemars(example = &"saturated")]
    pub refusal: Option<Located<Choice>>,
}
