//! Pools as the portfolio file writes them: endpoints that can stand in for each other.

use std::collections::BTreeMap;

use pointsman_policies::fleet::{ModelFacts, Price};
use pointsman_policies::language::Located;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::hardware::ServiceOverrides;
use crate::health::metrics_text::Engine;
use crate::lease::RateLimits;
use crate::secret::SecretRef;

/// `[pool.NAME]`: endpoints with the same hardware, vendor, dialect, site and models.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolShape {
    /// Name of a `[site.NAME]` of this file.
    #[schemars(example = &"valley")]
    pub site: Option<Located<String>>,
    /// Who sells or owns the machines; the hardware's maker where not given.
    #[schemars(example = &"cerebras")]
    pub vendor: Option<String>,
    /// Name of an entry of the hardware catalog (`pointsman hardware` lists them).
    #[schemars(example = &"h100")]
    pub hardware: Located<String>,
    /// Wire format of the machines; `openai` where not given.
    #[schemars(example = &"openai")]
    pub dialect: Option<Located<String>>,
    /// Base URLs, `http://HOST:PORT` or `https://...`, without `/v1`.
    #[schemars(length(min = 1))]
    #[schemars(example = serde_json::json!(["http://10.0.0.7:8000"]))]
    pub endpoints: Vec<Located<String>>,
    /// Key sent as the dialect wants it, by reference: `{ env = "NAME" }` or `{ file = "PATH" }`.
    #[schemars(example = serde_json::json!({ "env": "CEREBRAS_API_KEY" }))]
    pub api_key: Option<Located<SecretRef>>,
    /// Pass the caller's own `authorization` header on; `false` where not given.
    #[serde(default)]
    #[schemars(example = true)]
    pub forward_authorization: bool,
    /// Takes no new work, while what runs finishes; `false` where not given.
    #[serde(default)]
    #[schemars(example = true)]
    pub drain: bool,
    /// Whether its engines go on with an answer of which they are given the beginning (`continue_final_message`, as vLLM and
    /// SGLang do), so that a stream which breaks elsewhere can go on here; `false` where not given, since an engine that
    /// does not know the key answers anew.
    #[serde(default)]
    #[schemars(example = true)]
    pub continues_answers: bool,
    /// HTTP version; `auto` where not given: by ALPN over TLS, HTTP/1.1 without TLS.
    #[schemars(example = &"h2")]
    pub http: Option<HttpVersion>,
    /// PEM file with the certificates to trust instead of the system's.
    #[schemars(example = &"tls/ca.pem")]
    pub ca_file: Option<Located<String>>,
    /// PEM file with the certificate chain to show to the machines, relative to this file; with `client_key_file`. Files of
    /// certificates are followed: new ones are shown without a restart.
    #[schemars(example = &"tls/gateway.pem")]
    pub client_cert_file: Option<Located<String>>,
    /// PEM file with the private key of `client_cert_file`.
    #[schemars(example = &"tls/gateway.key")]
    pub client_key_file: Option<Located<String>>,
    /// The host that the machines' certificates must be for; that of the URL where not given.
    #[schemars(example = &"machines.internal")]
    pub server_name: Option<Located<String>>,
    /// SPIFFE ids, one of which the machines' certificates must have, instead of a host; `/*` at the end stands for every
    /// path below. Needs `ca_file`.
    #[serde(default)]
    #[schemars(example = serde_json::json!(["spiffe://example.org/ns/inference/*"]))]
    pub spiffe_ids: Vec<Located<String>>,
    /// The engine whose Prometheus metrics tell the load of each machine, so that what others send it is seen too:
    /// `vllm`, `sglang` (started with `--enable-metrics`), `llamacpp` (`--metrics`) or `tensorrt-llm`. Not asked where not
    /// given.
    #[schemars(example = &"vllm")]
    pub metrics: Option<Engine>,
    /// Where the metrics are, below the base URL; the engine's usual path where not given.
    #[schemars(example = &"/metrics")]
    pub metrics_path: Option<Located<String>>,
    /// How often each machine is asked for its metrics, milliseconds; 1000 where not given.
    #[schemars(range(min = 50, max = 60_000))]
    #[schemars(example = 500)]
    pub metrics_interval_ms: Option<u64>,
    /// Path below the base URL at which each machine is asked whether it is well: one that twice in a row does not answer
    /// with a status of 2xx gets no work until it does. Where the answer lists models, as `/v1/models` does, no machine is
    /// asked for a model that it does not list. Machines are not asked where not given; what becomes of their work tells, too.
    #[schemars(example = &"/v1/models")]
    pub health: Option<Located<String>>,
    /// How often each machine is asked whether it is well, and how long it may take to say so, milliseconds; 5000 where not
    /// given.
    #[schemars(range(min = 50, max = 60_000))]
    #[schemars(example = 2000)]
    pub health_interval_ms: Option<u64>,
    /// What the provider allows.
    pub limits: Option<LimitsShape>,
    /// Whether the gateway holds what an endpoint would only queue, and so can still let something more urgent go first;
    /// `true` where not given. Where `false`, everything is sent at once.
    #[serde(default = "held")]
    #[schemars(example = false)]
    pub flow_control: bool,
    /// How much of its work one endpoint is sent at once; about what it can have in progress where not given.
    pub window: Option<WindowShape>,
    /// Price of its electricity, US dollars per kilowatt-hour; its site's where not given. It is added to the prices of
    /// its models: leave it out where they include it.
    #[schemars(range(min = 0.0))]
    #[schemars(example = 0.11)]
    pub usd_per_kwh: Option<f64>,
    /// `[pool.NAME.commitment]`: what is owed for it each calendar month, used or not.
    pub commitment: Option<Located<CommitmentShape>>,
    /// Free labels for `pool.labels["..."]` in policies.
    #[serde(default)]
    #[schemars(example = serde_json::json!({ "tier": "owned" }))]
    pub labels: BTreeMap<String, String>,
    /// `[pool.NAME.model."MODEL"]`: what it serves, by the name clients use.
    #[serde(default)]
    pub model: BTreeMap<String, ModelShape>,
    /// `[pool.NAME.service]`: figures that differ from the catalog's.
    pub service: Option<ServiceOverrides>,
}

/// What a pool does that does not say whether its work is held.
fn held() -> bool {
    true
}

/// `window = { requests = N, prefill_tokens = N }`: what is sent to one endpoint before others have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowShape {
    /// Requests in flight; its slots where not given. Fewer once it answers 429, 503 or 529, by and by more again as it
    /// answers well.
    #[schemars(range(min = 1))]
    #[schemars(example = 64)]
    pub requests: Option<u32>,
    /// Prompt tokens of requests whose first token has not come; what a machine that batches computes in 60 ms and a
    /// round trip where not given. One such request is always sent.
    #[schemars(range(min = 1))]
    #[schemars(example = 16384)]
    pub prefill_tokens: Option<u64>,
}

/// Take or pay: what is owed each calendar month whether it is used or not. Its price falls while consumption lags, and
/// returns as it catches up; with both keys, the one that lags more counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommitmentShape {
    /// US dollars, at the pool's prices.
    #[schemars(extend("exclusiveMinimum" = 0))]
    #[schemars(example = 50_000)]
    pub usd_per_month: Option<f64>,
    /// Tokens, prompts and answers together.
    #[schemars(extend("exclusiveMinimum" = 0))]
    #[schemars(example = 200_000_000_000_u64)]
    pub tokens_per_month: Option<f64>,
}

/// HTTP version spoken to the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HttpVersion {
    /// By ALPN over TLS, HTTP/1.1 without TLS.
    Auto,
    /// HTTP/1.1 only.
    H1,
    /// HTTP/2 only, with prior knowledge where there is no TLS.
    H2,
}

/// Rate limits of the provider, shared by the pool's endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsShape {
    /// Requests per minute.
    #[schemars(range(min = 1))]
    #[schemars(example = 1000)]
    pub requests_per_minute: Option<u64>,
    /// Tokens per minute.
    #[schemars(range(min = 1))]
    #[schemars(example = 1_000_000)]
    pub tokens_per_minute: Option<u64>,
    /// Whether the provider takes the caller's `max_tokens` off the token limit when the request arrives.
    #[serde(default)]
    #[schemars(example = true)]
    pub reserves_output: bool,
    /// Requests that one endpoint serves at once; the catalog's where not given.
    #[schemars(range(min = 1))]
    #[schemars(example = 64)]
    pub slots: Option<u32>,
}

impl LimitsShape {
    /// The limits, where there is one.
    pub fn rate_limits(self) -> Option<RateLimits> {
        let limits = RateLimits {
            requests_per_minute: self.requests_per_minute.map(|requests| requests as f64),
            tokens_per_minute: self.tokens_per_minute.map(|tokens| tokens as f64),
            reserves_output: self.reserves_output,
        };
        (limits.requests_per_minute.is_some() || limits.tokens_per_minute.is_some()).then_some(limits)
    }
}

/// `[pool.NAME.model."MODEL"]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// The name the machines know it by, where it differs.
    #[schemars(example = &"openai/gpt-oss-120b")]
    pub upstream: Option<String>,
    /// Prompt and answer together may be this long, tokens.
    #[schemars(range(min = 1))]
    #[schemars(example = 131_072)]
    pub context: Option<u64>,
    /// Price, US dollars per million tokens.
    pub usd_per_m: Option<PriceShape>,
}

impl ModelShape {
    /// What policies may know of it.
    pub fn facts(&self, name: &str) -> ModelFacts {
        let price = self.usd_per_m.unwrap_or_default();
        ModelFacts {
            name: name.to_owned(),
            context: self.context,
            price: Price { usd_per_m_input: price.input, usd_per_m_output: price.output },
        }
    }
}

/// Price of tokens, US dollars per million.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceShape {
    /// Per million prompt tokens.
    #[schemars(range(min = 0.0))]
    #[schemars(example = 0.35)]
    pub input: f64,
    /// Per million generated tokens.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    #[schemars(example = 0.75)]
    pub output: f64,
}
