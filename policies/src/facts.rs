//! What is known of a request when it arrives, before any machine has seen it.

/// Which client API a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// `/v1/chat/completions`
    ChatCompletions,
    /// `/v1/completions`
    Completions,
    /// `/v1/embeddings`
    Embeddings,
}

impl Api {
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
}

impl<'a> Facts<'a> {
    /// Facts of a plain request: no headers, no stream, nothing declared. A start for tests and dry runs.
    pub fn plain(api: Api, model: &'a str) -> Facts<'a> {
        let path = match api {
            Api::ChatCompletions => "/v1/chat/completions",
            Api::Completions => "/v1/completions",
            Api::Embeddings => "/v1/embeddings",
        };
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
        }
    }
}
