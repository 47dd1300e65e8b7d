//! Wire formats of machines. To add one: its file here, a `mod` line and a row in `DIALECTS`.

/// OpenAI's, which most engines speak.
pub mod openai;

use http::HeaderMap;
use secrecy::SecretString;

use pointsman_policies::facts::Api;

/// Tokens that a machine says it has read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// Of the prompt, tokens that were found in a prefix cache; `None` where the machine does not tell.
    pub cached_tokens: Option<u64>,
}

/// What one event of a stream means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Part of the answer.
    Content,
    /// A comment or keep-alive.
    Comment,
    /// The machine reports an error within the stream.
    Error,
    /// The stream is complete.
    Done,
}

/// What of an answer has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// All of it.
    pub all: bool,
    /// These choices (`n`), a bit for each by its index.
    pub choices: u128,
}

/// A wire format with its quirks.
pub trait Dialect: Sync {
    /// Its name in portfolio files.
    fn name(&self) -> &'static str;
    /// The path that serves an API, behind the endpoint's base path.
    fn path(&self, api: Api) -> &'static str;
    /// Puts the key where this format wants it.
    fn authorize(&self, headers: &mut HeaderMap, key: &SecretString);
    /// What one whole event of a stream means; called for every event, so it looks at a few bytes only.
    fn event_kind(&self, event: &[u8]) -> EventKind;
    /// Whether an error event says that the caller is wrong, not the machine.
    fn blames_caller(&self, event: &[u8]) -> bool;
    /// What of an answer ends with this event.
    fn ended(&self, event: &[u8]) -> Ended;
    /// Whether a stream of one choice that ended after this event was complete, for machines that send no last event.
    fn completes(&self, event: &[u8]) -> bool {
        let ended = self.ended(event);
        ended.all || ended.choices != 0
    }
    /// The usage report in an event or a whole answer.
    fn usage(&self, json: &[u8]) -> Option<Usage>;
    /// The message of an error answer, for logs and traces.
    fn error_message(&self, body: &[u8]) -> Option<String>;
}

/// Every dialect there is.
pub static DIALECTS: &[&dyn Dialect] = &[&openai::OpenAi];

/// A dialect by name.
pub fn find(name: &str) -> Option<&'static dyn Dialect> {
    DIALECTS.iter().copied().find(|dialect| dialect.name() == name)
}
