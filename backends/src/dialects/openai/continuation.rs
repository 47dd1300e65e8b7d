//! Answers that another machine goes on with: what a client has of a stream, how a machine is asked to go on from there,
//! and how its events are made to read as if one machine had said it all.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::frames::sse;

/// What was said, counted in tokens.
mod count;

use count::{Count, Told};

/// The longest answer of which the text is kept, bytes: about 60,000 tokens.
pub const LONGEST_SAID: usize = 256 << 10;

/// Keys of a request that make an answer one which cannot be cut and joined, unless they ask for nothing.
const NOT_JOINED: [&str; 19] = [
    "audio",
    "best_of",
    "continue_final_message",
    "echo",
    "functions",
    "guided_choice",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "logprobs",
    "modalities",
    "prompt_logprobs",
    "response_format",
    "return_token_ids",
    "structured_outputs",
    "suffix",
    "tools",
    "top_logprobs",
    "use_beam_search",
];
/// Values that ask for nothing.
const NOTHING: [&str; 6] = ["null", "false", "0", "[]", "{}", r#"{"type":"text"}"#];

/// As it stands in JSON.
const NO_TEXT: &[u8] = b"\"\"";

/// Why an answer cannot go on elsewhere.
pub type Unable = &'static str;

/// What a client has of a streamed answer.
#[derive(Debug, Default)]
pub struct Said {
    identity: Option<Identity>,
    pattern: Option<Pattern>,
    text: String,
    count: Count,
    /// Whether its last event with a choice has come.
    ended: bool,
    unable: Option<Unable>,
    /// Text that was let go when it could not go on any more, bytes.
    let_go: usize,
}

/// What all events of one answer share, as it stands in JSON.
#[derive(Clone, Debug, Default)]
struct Identity {
    id: Option<String>,
    created: Option<String>,
    model: Option<String>,
}

/// What stands around the text in the events of one answer: nearly all of them differ in nothing else.
#[derive(Debug)]
struct Pattern {
    before: Box<[u8]>,
    behind: Box<[u8]>,
}

impl Pattern {
    /// The text of an event, in its quotes.
    fn text<'e>(&self, event: &'e [u8]) -> Option<&'e [u8]> {
        let text = event.strip_prefix(&*self.before)?.strip_suffix(&*self.behind)?;
        let from = self.before.len().checked_sub(1).filter(|_| ends_where_it_seems(text))?;
        event.get(from..from + text.len() + 2)
    }
}

/// Whether what stands between two quotes is one JSON string.
fn ends_where_it_seems(mut text: &[u8]) -> bool {
    while let Some(at) = memchr::memchr2(b'"', b'\\', text) {
        if text.get(at) == Some(&b'"') || text.len() < at + 2 {
            return false;
        }
        text = text.get(at + 2..).unwrap_or_default();
    }
    true
}

/// How an answer goes on.
#[derive(Debug)]
pub enum Next {
    /// Another machine is asked this.
    Ask {
        /// The body.
        body: Vec<u8>,
        /// What joins its events to those before.
        seam: Seam,
    },
    /// It had come to the caller's bound, so that only its last events are missing.
    Bound {
        /// These.
        events: Vec<Bytes>,
        /// Tokens that were said.
        tokens: u64,
    },
}

impl Said {
    /// The client gets an event with part of the answer.
    pub fn note(&mut self, event: &[u8]) {
        if self.unable.is_some() {
            return;
        }
        let noted = match self.pattern.as_ref().and_then(|pattern| pattern.text(event)) {
            Some(text) => self.add(text, None),
            None => self.read(event),
        };
        if let Err(unable) = noted {
            self.give_up(unable);
        }
    }

    /// It cannot go on elsewhere any more, and what is kept of it is of no use.
    pub fn give_up(&mut self, unable: Unable) {
        let let_go = self.let_go + self.text.len();
        *self = Said { unable: Some(unable), count: self.count, let_go, ..Said::default() };
    }

    /// Why it cannot go on elsewhere, if so.
    pub fn unable(&self) -> Option<Unable> {
        self.unable
    }

    /// Tokens of what was said: the machine's own count, or a guess. Of what cannot go on elsewhere, as much as had been said
    /// when that was found.
    pub fn tokens(&self) -> u64 {
        self.count.guess(self.let_go + self.text.len())
    }

    /// Whether the machine itself has told of all tokens that were said.
    pub fn is_told(&self) -> bool {
        self.count.is_told()
    }

    /// Memory that its text takes, bytes.
    pub fn bytes(&self) -> usize {
        self.text.capacity()
    }

    /// The report that is missing behind the last event of an answer, where the request asks for one; `prompt_tokens` is a
    /// guess, for a machine that told nothing.
    pub fn report(&self, body: &[u8], prompt_tokens: u64) -> Option<Bytes> {
        let identity = self.identity.as_ref().filter(|_| self.ended)?;
        let fields: Fields = serde_json::from_slice(body).ok()?;
        wants_report(&fields)
            .then(|| identity.report(self.count.prompt_tokens().unwrap_or(prompt_tokens), self.tokens()))
    }

    /// What goes on with the answer to a chat, of which this is the body; or why nothing does. `prompt_tokens` is a guess, for
    /// a machine that told nothing.
    pub fn next(&self, body: &[u8], prompt_tokens: u64) -> Result<Next, Unable> {
        if let Some(unable) = self.unable {
            return Err(unable);
        }
        if self.ended {
            return Err("its answer had ended");
        }
        let identity = self.identity.clone().ok_or("nothing of it was read")?;
        let mut fields: Fields = serde_json::from_slice(body).map_err(|_| "its request cannot be read")?;
        let asks = |key: &&&str| fields.get(**key).is_some_and(|value| !asks_for_nothing(value.get()));
        if let Some(key) = NOT_JOINED.iter().find(asks) {
            return Err(key);
        }
        let kept = self.text.trim_end();
        let owed = self.text.get(kept.len()..).unwrap_or_default().to_owned();
        let said = self.count.at_least();
        for bound in ["max_tokens", "max_completion_tokens"] {
            let Some(most) = fields.get(bound).and_then(|value| value.get().parse::<u64>().ok()) else { continue };
            if most <= said {
                let prompt_tokens = self.count.prompt_tokens().unwrap_or(prompt_tokens);
                let report = wants_report(&fields).then(|| identity.report(prompt_tokens, most));
                let events = [identity.last_event()].into_iter().chain(report).collect();
                return Ok(Next::Bound { events, tokens: most });
            }
            // What it was not given it says again, so it may say it again.
            fields.insert(bound.to_owned(), raw(&json!(most - self.count.kept()))?);
        }
        if let Some(least) = fields.get("min_tokens").and_then(|value| value.get().parse::<u64>().ok()) {
            fields.insert("min_tokens".to_owned(), raw(&json!(least.saturating_sub(self.count.kept())))?);
        }
        if !kept.is_empty() {
            let messages = fields.get("messages").ok_or("it has no messages")?;
            fields.insert("messages".to_owned(), with_partial(messages, kept)?);
            fields.insert("continue_final_message".to_owned(), raw(&json!(true))?);
            fields.insert("add_generation_prompt".to_owned(), raw(&json!(false))?);
        }
        let body = serde_json::to_vec(&fields).map_err(|_| "its request cannot be written")?;
        let tokens = self.count.guess_kept(self.text.len());
        Ok(Next::Ask { body, seam: Seam { identity, tokens, prompt_tokens: self.count.prompt_tokens(), owed } })
    }

    /// An event unlike those before.
    fn read(&mut self, event: &[u8]) -> Result<(), Unable> {
        let chunk: Chunk<'_> = serde_json::from_slice(sse::data(event)).map_err(|_| "an event cannot be read")?;
        self.identity.get_or_insert_with(|| Identity::of(&chunk));
        let told = chunk.usage.and_then(Told::read);
        let choice = match chunk.choices.as_slice() {
            [] => return self.add(NO_TEXT, told),
            [choice] if choice.index == 0 => choice,
            _ => return Err("n"),
        };
        if choice.logprobs.is_some() {
            return Err("logprobs");
        }
        let delta = choice.delta()?;
        if delta.more {
            return Err("its answer holds more than text");
        }
        self.ended |= choice.finish_reason.is_some();
        let text = delta.content.map(RawValue::get).filter(|content| content.starts_with('"'));
        if let Some(text) = text.filter(|_| delta.role.is_none() && told.is_none() && !self.ended) {
            self.pattern = pattern(event, text);
        }
        self.add(text.map_or(NO_TEXT, str::as_bytes), told)
    }

    /// Some text, as it stands in JSON with its quotes.
    fn add(&mut self, raw: &[u8], told: Option<Told>) -> Result<(), Unable> {
        let text = unescaped(raw)?;
        if self.text.len() + text.len() > LONGEST_SAID {
            return Err("its answer is longer than is kept");
        }
        self.text.push_str(&text);
        self.count.add(&text, told);
        Ok(())
    }
}

/// Joins the events of a machine that goes on to those of the one that broke.
#[derive(Debug)]
pub struct Seam {
    identity: Identity,
    /// Tokens that the prompt of the machine which goes on holds beyond the caller's, said before: a guess, unless the machine
    /// that broke had told.
    tokens: u64,
    /// Tokens of the caller's prompt, where the machine that broke had told.
    prompt_tokens: Option<u64>,
    /// White space that the client has and the machine was not given, since chat templates cut it off. What it says of it
    /// again is not passed on.
    owed: String,
}

impl Seam {
    /// An event as the client gets it; `None` where the client has all that is in it.
    pub fn join(&mut self, event: Bytes) -> Option<Bytes> {
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(sse::data(&event)) else { return Some(event) };
        let mut edits: Vec<(&RawValue, String)> = Vec::new();
        let own = [(chunk.id, &self.identity.id), (chunk.created, &self.identity.created)];
        for (theirs, ours) in own.into_iter().chain([(chunk.model, &self.identity.model)]) {
            edits.extend(theirs.zip(ours.clone()));
        }
        if let Some(usage) = chunk.usage {
            edits.extend(self.usage(usage).map(|ours| (usage, ours)));
        }
        for choice in &chunk.choices {
            let Ok(delta) = choice.delta() else { continue };
            let text = delta.content.and_then(|content| serde_json::from_str::<String>(content.get()).ok());
            let left = text.as_deref().map(|text| self.not_yet_said(text));
            let empty = left.is_none_or(str::is_empty) && !delta.more && choice.finish_reason.is_none();
            if empty && (delta.role.is_some() || text.as_deref() != left) {
                return None;
            }
            if let (Some(raw), true) = (choice.delta, delta.role.is_some() || text.as_deref() != left) {
                edits.extend(without_role(raw, left).map(|ours| (raw, ours)));
            }
        }
        Some(edited(&event, edits))
    }

    /// The part of a text that the client does not have.
    fn not_yet_said<'t>(&mut self, text: &'t str) -> &'t str {
        let owed = std::mem::take(&mut self.owed);
        if owed.is_empty() || text.is_empty() {
            self.owed = owed;
            return text;
        }
        if let Some(rest) = text.strip_prefix(owed.as_str()) {
            return rest;
        }
        match owed.strip_prefix(text) {
            Some(rest) => {
                self.owed = rest.to_owned();
                ""
            }
            None => text, // it goes on otherwise
        }
    }

    /// What was said before belongs to the answer, not to the prompt.
    fn usage(&self, raw: &RawValue) -> Option<String> {
        let mut usage: Map<String, Value> = serde_json::from_str(raw.get()).ok()?;
        let count = |usage: &Map<String, Value>, key: &str| usage.get(key).and_then(Value::as_u64);
        let (prompt, answer) = (count(&usage, "prompt_tokens")?, count(&usage, "completion_tokens").unwrap_or(0));
        // Two machines that count alike tell what was said by what the prompt of the second has more.
        let said = self.prompt_tokens.and_then(|callers| prompt.checked_sub(callers));
        let said = said.unwrap_or(self.tokens).min(prompt);
        let prompt = prompt - said;
        usage.insert("prompt_tokens".to_owned(), json!(prompt));
        usage.insert("completion_tokens".to_owned(), json!(answer + said));
        if let Some(Value::Object(details)) = usage.get_mut("prompt_tokens_details")
            && let Some(cached) = count(details, "cached_tokens")
        {
            details.insert("cached_tokens".to_owned(), json!(cached.min(prompt)));
        }
        serde_json::to_string(&usage).ok()
    }
}

impl Identity {
    fn of(chunk: &Chunk<'_>) -> Identity {
        let own = |raw: Option<&RawValue>| raw.map(|raw| raw.get().to_owned());
        Identity { id: own(chunk.id), created: own(chunk.created), model: own(chunk.model) }
    }

    /// The end of an answer that came to its caller's bound.
    fn last_event(&self) -> Bytes {
        self.event(r#""choices":[{"index":0,"delta":{},"finish_reason":"length"}]"#)
    }

    fn report(&self, prompt: u64, answer: u64) -> Bytes {
        let all = prompt.saturating_add(answer);
        let usage = json!({"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": all});
        self.event(&format!(r#""choices":[],"usage":{usage}"#))
    }

    fn event(&self, rest: &str) -> Bytes {
        let told = |name: &str, raw: &Option<String>| raw.as_ref().map(|raw| format!("\"{name}\":{raw},"));
        let own = [told("id", &self.id), told("created", &self.created), told("model", &self.model)];
        let own: String = own.into_iter().flatten().collect();
        Bytes::from(format!("data: {{{own}\"object\":\"chat.completion.chunk\",{rest}}}\n\n"))
    }
}

/// The fields of a request.
type Fields = BTreeMap<String, Box<RawValue>>;

/// Whether a request asks for a report of what was used behind its stream.
fn wants_report(fields: &Fields) -> bool {
    #[derive(Deserialize)]
    struct Options {
        include_usage: Option<bool>,
    }
    let options = fields.get("stream_options").map(|options| serde_json::from_str::<Option<Options>>(options.get()));
    matches!(options, Some(Ok(Some(Options { include_usage: Some(true) }))))
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    created: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u64,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    logprobs: Option<&'a RawValue>,
}

#[derive(Default)]
struct Delta<'a> {
    role: Option<&'a RawValue>,
    content: Option<&'a RawValue>,
    /// Whether it carries something else.
    more: bool,
}

impl<'a> Choice<'a> {
    fn delta(&self) -> Result<Delta<'a>, Unable> {
        let Some(raw) = self.delta else { return Ok(Delta::default()) };
        let fields: BTreeMap<String, &'a RawValue> =
            serde_json::from_str(raw.get()).map_err(|_| "an event cannot be read")?;
        let mut delta = Delta::default();
        for (name, value) in fields {
            match name.as_str() {
                "role" => delta.role = Some(value),
                "content" => delta.content = Some(value).filter(|value| value.get() != "null"),
                _ => delta.more |= !asks_for_nothing(value.get()) && value.get() != "\"\"",
            }
        }
        Ok(delta)
    }
}

fn asks_for_nothing(raw: &str) -> bool {
    NOTHING.contains(&raw.split_ascii_whitespace().collect::<String>().as_str())
}

/// The text of a JSON string.
fn unescaped(quoted: &[u8]) -> Result<Cow<'_, str>, Unable> {
    let unable = "its text cannot be read";
    if memchr::memchr(b'\\', quoted).is_some() {
        return serde_json::from_slice(quoted).map(Cow::Owned).map_err(|_| unable);
    }
    let text = quoted.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).ok_or(unable)?;
    str::from_utf8(text).map(Cow::Borrowed).map_err(|_| unable)
}

fn raw(value: &Value) -> Result<Box<RawValue>, Unable> {
    RawValue::from_string(value.to_string()).map_err(|_| "its request cannot be written")
}

/// What stands around a text, which is a slice of its event, quotes included.
fn pattern(event: &[u8], quoted: &str) -> Option<Pattern> {
    let from = (quoted.as_ptr() as usize).checked_sub(event.as_ptr() as usize)?;
    let behind = event.get(from + quoted.len() - 1..)?;
    Some(Pattern { before: event.get(..=from)?.into(), behind: behind.into() })
}

/// The messages and behind them what was said.
fn with_partial(messages: &RawValue, said: &str) -> Result<Box<RawValue>, Unable> {
    #[derive(Deserialize)]
    struct Speaker {
        role: Option<String>,
    }
    let speakers: Vec<Speaker> = serde_json::from_str(messages.get()).map_err(|_| "its messages cannot be read")?;
    match speakers.last() {
        None => return Err("it has no messages"),
        Some(last) if last.role.as_deref() == Some("assistant") => return Err("its answer was begun by the caller"),
        Some(_) => {}
    }
    let before = messages.get().trim_end().strip_suffix(']').ok_or("its messages cannot be read")?;
    let partial = json!({ "role": "assistant", "content": said });
    RawValue::from_string(format!("{before},{partial}]")).map_err(|_| "its request cannot be written")
}

/// A delta with this text and no role: SDKs join what they get twice.
fn without_role(delta: &RawValue, text: Option<&str>) -> Option<String> {
    let mut fields: Map<String, Value> = serde_json::from_str(delta.get()).ok()?;
    fields.remove("role");
    if let Some(text) = text {
        fields.insert("content".to_owned(), json!(text));
    }
    serde_json::to_string(&fields).ok()
}

/// An event with some values replaced, each a slice of it.
fn edited(event: &Bytes, mut edits: Vec<(&RawValue, String)>) -> Bytes {
    let place = |raw: &RawValue| (raw.get().as_ptr() as usize).saturating_sub(event.as_ptr() as usize);
    edits.sort_by_key(|(raw, _)| place(raw));
    let mut out = Vec::with_capacity(event.len() + 64);
    let mut from = 0;
    for (raw, ours) in edits {
        out.extend_from_slice(event.get(from..place(raw)).unwrap_or_default());
        out.extend_from_slice(ours.as_bytes());
        from = place(raw) + raw.get().len();
    }
    out.extend_from_slice(event.get(from..).unwrap_or_default());
    Bytes::from(out)
}

#[cfg(test)]
mod tests;
