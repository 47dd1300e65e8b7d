//! What is known of a request when it arrives, before any machine has seen it.

/// Text bytes per token, as a prior for English prose and chat; learned ratios will replace it.
pub const BYTES_PER_TOKEN: u64 = 4;
/// Expected answer where nothing is known, tokens: about the mean of public chat traces.
pub const PRIOR_OUTPUT_TOKENS: u64 = 200;

/// Which client API a request speaks.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// `/v1/chat/completions`
    #[default]
    #[serde(rename = "chat")]
    ChatCompletions,
    /// `/v1/completions`
    Completions,
    /// `/v1/embeddings`
    Embeddings,
}

impl Api {
    /// Every API, in the order of the declaration.
    pub const ALL: [Api; 3] = [Api::ChatCompletions, Api::Completions, Api::Embeddings];

    /// Its path.
    pub fn path(self) -> &'static str {
        match self {
            Api::ChatCompletions => "/v1/chat/completions",
            Api::Completions => "/v1/completions",
            Api::Embeddings => "/v1/embeddings",
        }
    }

    /// The one served at a path.
    pub fn at(path: &str) -> Option<Api> {
        Api::ALL.into_iter().find(|api| api.path() == path)
    }

    /// The name used in expressions (`request.api`), traces and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Api::ChatCompletions => "chat",
            Api::Completions => "completions",
            Api::Embeddings => "embeddings",
        }
    }
}

/// The request's headers as the decision may read them.
pub trait Headers: Sync {
    /// The first value of a header by its lower-case name; `None` where absent or not visible ASCII.
    fn header(&self, name: &str) -> Option<&str>;
}

/// No headers at all.
impl Headers for () {
    fn header(&self, _name: &str) -> Option<&str> {
        None
    }
}

/// Name and value pairs, names in lower case; for tests, scenarios and dry runs.
impl Headers for Vec<(String, String)> {
    fn header(&self, name: &str) -> Option<&str> {
        self.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Everything that classification and routing may know of one request. Token counts are estimates made without a
/// tokenizer.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The client API.
    pub api: Api,
    /// The path as the client sent it, without query.
    pub path: &'a str,
    /// The client's headers.
    pub headers: &'a dyn Headers,
    /// Who asks; empty where the gateway does not know.
    pub tenant: &'a str,
    /// The model the client named, before any alias.
    pub model: &'a str,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// `service_tier` of the body; empty where absent.
    pub service_tier: &'a str,
    /// The class the client declared (`x-pointsman-class`); empty where absent.
    pub declared_class: &'a str,
    /// Estimated prompt length, tokens.
    pub input_tokens: u64,
    /// The caller's bound on the answer, tokens; `None` where it set none.
    pub max_output_tokens: Option<u64>,
    /// Expected length of the answer, tokens, already cut at the bound.
    pub output_tokens: u64,
    /// How many tools the body offers.
    pub tools: u64,
    /// How many images the body carries.
    pub images: u64,
    /// The whole answer is wanted within this many milliseconds, where the caller said so.
    pub deadline_ms: Option<f64>,
    /// The first token is wanted within this many milliseconds, where the caller said so.
    pub slo_ttft_ms: Option<f64>,
    /// Each further token is wanted within this many milliseconds, where the caller said so.
    pub slo_itl_ms: Option<f64>,
    /// What ties requests of one conversation together; empty where the caller sent nothing of the kind.
    pub session: &'a str,
    /// What prompts that begin like its own have in common, [`Prefix::home`](crate::prefix::Prefix::home); 0 where it is
    /// too short to tell.
    pub prefix: u64,
    /// When it arrived, seconds since 1970.
    pub unix_s: u64,
    /// How long the gateway has held it already, milliseconds.
    pub waited_ms: f64,
}

impl<'a> Facts<'a> {
    /// Facts of a plain request: no headers, no stream, nothing declared. A start for tests and dry runs.
    pub fn plain(api: Api, model: &'a str) -> Facts<'a> {
        let path = api.path();
        Facts {
            api,
            path,
            headers: &(),
            tenant: "",
            model,
            stream: false,
            service_tier: "",
            declared_class: "",
            input_tokens: 0,
            max_output_tokens: None,
            output_tokens: 0,
            tools: 0,
            images: 0,
            deadline_ms: None,
            slo_ttft_ms: None,
            slo_itl_ms: None,
            session: "",
            prefix: 0,
            unix_s: 0,
            waited_ms: 0.0,
        }
    }
}

/// [`Facts`] that own what they hold, for whoever decides later: explanations, recordings, scenarios. Headers are those
/// that were kept, names in lower case.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct OwnedFacts {
    /// The client API.
    pub api: Api,
    /// The path as the client sent it, without query.
    pub path: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Who asks.
    pub tenant: String,
    /// The model the client named.
    pub model: String,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// `service_tier` of the body.
    pub service_tier: String,
    /// The class the client declared.
    pub declared_class: String,
    /// Estimated prompt length, tokens.
    pub input_tokens: u64,
    /// The caller's bound on the answer, tokens.
    pub max_output_tokens: Option<u64>,
    /// Expected length of the answer, tokens.
    pub output_tokens: u64,
    /// How many tools the body offers.
    pub tools: u64,
    /// How many images the body carries.
    pub images: u64,
    /// Wanted within, milliseconds.
    pub deadline_ms: Option<f64>,
    /// First token wanted within, milliseconds.
    pub slo_ttft_ms: Option<f64>,
    /// Each further token wanted within, milliseconds.
    pub slo_itl_ms: Option<f64>,
    /// What ties requests of one conversation together.
    pub session: String,
    /// What prompts that begin like its own have in common; 0 for nothing.
    pub prefix: u64,
    /// When it arrived, seconds since 1970.
    pub unix_s: u64,
    /// How long the gateway has held it already, milliseconds.
    pub waited_ms: f64,
}

impl OwnedFacts {
    /// Copies facts, with the headers of these names.
    pub fn of<'n>(facts: &Facts<'_>, header_names: impl IntoIterator<Item = &'n str>) -> OwnedFacts {
        let kept = |name: &'n str| facts.headers.header(name).map(|value| (name.to_owned(), value.to_owned()));
        OwnedFacts {
            api: facts.api,
            path: facts.path.to_owned(),
            headers: header_names.into_iter().filter_map(kept).collect(),
            tenant: facts.tenant.to_owned(),
            model: facts.model.to_owned(),
            stream: facts.stream,
            service_tier: facts.service_tier.to_owned(),
            declared_class: facts.declared_class.to_owned(),
            input_tokens: facts.input_tokens,
            max_output_tokens: facts.max_output_tokens,
            output_tokens: facts.output_tokens,
            tools: facts.tools,
            images: facts.images,
            deadline_ms: facts.deadline_ms,
            slo_ttft_ms: facts.slo_ttft_ms,
            slo_itl_ms: facts.slo_itl_ms,
            session: facts.session.to_owned(),
            prefix: facts.prefix,
            unix_s: facts.unix_s,
            waited_ms: facts.waited_ms,
        }
    }

    /// Facts of a plain request: no headers, no stream, nothing declared.
    pub fn plain(api: Api, model: &str) -> OwnedFacts {
        OwnedFacts::of(&Facts::plain(api, model), [])
    }

    /// The same, borrowed, as the decision reads them.
    pub fn facts(&self) -> Facts<'_> {
        Facts {
            api: self.api,
            path: &self.path,
            headers: &self.headers,
            tenant: &self.tenant,
            model: &self.model,
            stream: self.stream,
            service_tier: &self.service_tier,
            declared_class: &self.declared_class,
            input_tokens: self.input_tokens,
            max_output_tokens: self.max_output_tokens,
            output_tokens: self.output_tokens,
            tools: self.tools,
            images: self.images,
            deadline_ms: self.deadline_ms,
            slo_ttft_ms: self.slo_ttft_ms,
            slo_itl_ms: self.slo_itl_ms,
            session: &self.session,
            prefix: self.prefix,
            unix_s: self.unix_s,
            waited_ms: self.waited_ms,
        }
    }
}
