//! The OpenAI dialect as a server speaks it: requests read as far as a simulation needs, answers in full.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::{Value, json};

use super::engine::Job;
use super::failure::Failure;
use super::words::{self, Reading};

/// The longest answer to a caller who names no limit, tokens; assumed.
const DEFAULT_LONGEST_ANSWER: u64 = 2048;
/// Length of an embedding to a caller who names none.
const DEFAULT_DIMENSIONS: usize = 256;
/// The longest embedding.
const MOST_DIMENSIONS: usize = 4096;
/// Texts in one request for embeddings: OpenAI's limit.
const MOST_INPUTS: usize = 2048;

/// Which of the two generation endpoints was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Chat,
    Text,
}

/// A request for an answer.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) shape: Shape,
    pub(super) model: String,
    pub(super) prompt_tokens: u64,
    prefix: Arc<[u64]>,
    /// Decides what is said and how long.
    pub(super) seed: u64,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    longest: Option<u64>,
    /// Where its answer ends by itself, tokens.
    end: u64,
    /// Tokens of its own answer that it was given to go on from.
    said: u64,
}

impl Ask {
    /// Reads a body. `machine` is the seed of the machine that answers.
    pub(super) fn read(shape: Shape, body: &[u8], machine: u64) -> Result<Ask, Failure> {
        let raw: RawAsk = serde_json::from_slice(body).map_err(Failure::unreadable)?;
        let mut reading = Reading::default();
        let mut said = None;
        match (shape, raw.messages, raw.prompt) {
            (Shape::Chat, Some(mut messages), _) => {
                if raw.continue_final_message == Some(true) {
                    let partial = partial(&mut messages, raw.add_generation_prompt)?;
                    said = Some(partial);
                }
                messages
                    .into_iter()
                    .filter_map(|message| message.content)
                    .for_each(|content| content.read(&mut reading));
            }
            (Shape::Text, _, Some(prompt)) => prompt.read(&mut reading),
            (Shape::Chat, None, _) => return Err(Failure::invalid("`messages` is required", "messages")),
            (Shape::Text, _, None) => return Err(Failure::invalid("`prompt` is required", "prompt")),
        }
        let longest = raw.max_completion_tokens.or(raw.max_tokens);
        if longest == Some(0) {
            return Err(Failure::invalid("`max_tokens` must be at least 1", "max_tokens"));
        }
        if raw.n.is_some_and(|n| n != 1) {
            return Err(Failure::invalid("only one choice is simulated", "n"));
        }
        let seed = reading.seed(machine);
        let drawn = || if raw.ignore_eos == Some(true) { u64::MAX } else { words::answer_length(seed) };
        Ok(Ask {
            shape,
            model: raw.model,
            prompt_tokens: raw.simulated_prompt_tokens.unwrap_or_else(|| reading.prompt_tokens()) + said.unwrap_or(0),
            prefix: reading.blocks().into(),
            seed,
            stream: raw.stream.unwrap_or(false),
            include_usage: raw.stream_options.and_then(|options| options.include_usage).unwrap_or(false),
            longest,
            end: raw.simulated_answer_tokens.map_or_else(drawn, |tokens| tokens.max(1)),
            said: said.unwrap_or(0),
        })
    }

    /// The work, and why the answer will end: `stop`, or `length` when cut. `room` is what prompt and answer together
    /// may be.
    pub(super) fn job(&self, room: u64) -> (Job, &'static str) {
        let left = room.saturating_sub(self.prompt_tokens).max(1);
        let longest = self.longest.unwrap_or(DEFAULT_LONGEST_ANSWER.min(left));
        let natural = self.end.saturating_sub(self.said);
        let job = Job {
            id: 0,
            prompt_tokens: self.prompt_tokens,
            prefix: Arc::clone(&self.prefix),
            // Where all was said, it takes a step to see that.
            output_tokens: natural.min(longest).max(1),
            reserved_output_tokens: longest,
            ..Job::default()
        };
        (job, if natural > longest { "length" } else { "stop" })
    }

    /// How many of so many tokens from one on are words: none behind the end.
    fn words(&self, from: u64, tokens: u64) -> u64 {
        self.end.saturating_sub(from).min(tokens)
    }
}

#[derive(Deserialize)]
struct RawAsk {
    model: String,
    messages: Option<Vec<Message>>,
    prompt: Option<Input>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    ignore_eos: Option<bool>,
    continue_final_message: Option<bool>,
    add_generation_prompt: Option<bool>,
    /// Known to simulated machines alone: how many tokens the prompt has. A gateway reads its length alone.
    simulated_prompt_tokens: Option<u64>,
    /// Known to simulated machines alone: where the answer ends by itself. A gateway cannot tell it from the bound.
    simulated_answer_tokens: Option<u64>,
    n: Option<u64>,
}

#[derive(Deserialize)]
struct Message {
    role: Option<String>,
    content: Option<Content>,
}

/// Takes the answer that is to go on from the messages, and says how many words it has. As vLLM, it refuses what makes no
/// sense.
fn partial(messages: &mut Vec<Message>, generation_prompt: Option<bool>) -> Result<u64, Failure> {
    let both = "`continue_final_message` and `add_generation_prompt` cannot both be true";
    if generation_prompt != Some(false) {
        return Err(Failure::invalid(both, "add_generation_prompt"));
    }
    let last = messages.pop_if(|last| last.role.as_deref() == Some("assistant"));
    let words = last.and_then(|last| last.content).map(|content| content.words());
    words.ok_or_else(|| Failure::invalid("there is no message of an assistant to continue", "continue_final_message"))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    text: Option<String>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

impl Content {
    fn words(&self) -> u64 {
        match self {
            Content::Text(text) => text.split_ascii_whitespace().count() as u64,
            Content::Parts(parts) => {
                let texts = parts.iter().filter_map(|part| part.text.as_ref());
                texts.map(|text| text.split_ascii_whitespace().count() as u64).sum()
            }
        }
    }

    fn read(self, reading: &mut Reading) {
        match self {
            Content::Text(text) => reading.text(&text),
            Content::Parts(parts) => {
                parts.iter().filter_map(|part| part.text.as_ref()).for_each(|text| reading.text(text))
            }
        }
    }
}

/// Text or tokens, one or many.
#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u64>),
    TokenLists(Vec<Vec<u64>>),
}

impl Input {
    fn read(&self, reading: &mut Reading) {
        match self {
            Input::Text(text) => reading.text(text),
            Input::Texts(texts) => texts.iter().for_each(|text| reading.text(text)),
            Input::Tokens(tokens) => reading.tokens(tokens),
            Input::TokenLists(lists) => lists.iter().for_each(|tokens| reading.tokens(tokens)),
        }
    }

    fn each(self) -> Vec<Input> {
        match self {
            Input::Texts(texts) => texts.into_iter().map(Input::Text).collect(),
            Input::TokenLists(lists) => lists.into_iter().map(Input::Tokens).collect(),
            one => vec![one],
        }
    }
}

/// A request for embeddings.
pub(super) struct Embed {
    pub(super) model: String,
    pub(super) prompt_tokens: u64,
    seeds: Vec<u64>,
    dimensions: usize,
    base64: bool,
}

#[derive(Deserialize)]
struct RawEmbed {
    model: String,
    input: Input,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
}

impl Embed {
    /// Reads a body. `machine` is the seed of the machine that answers.
    pub(super) fn read(body: &[u8], machine: u64) -> Result<Embed, Failure> {
        let raw: RawEmbed = serde_json::from_slice(body).map_err(Failure::unreadable)?;
        let dimensions = raw.dimensions.unwrap_or(DEFAULT_DIMENSIONS);
        if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
            return Err(Failure::invalid(&format!("`dimensions` must be 1 to {MOST_DIMENSIONS}"), "dimensions"));
        }
        let base64 = match raw.encoding_format.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) => return Err(Failure::invalid("`encoding_format` must be float or base64", "encoding_format")),
        };
        let inputs = raw.input.each();
        if inputs.is_empty() || inputs.len() > MOST_INPUTS {
            return Err(Failure::invalid(&format!("`input` must hold 1 to {MOST_INPUTS} texts"), "input"));
        }
        let (mut prompt_tokens, mut seeds) = (0, Vec::with_capacity(inputs.len()));
        for input in inputs {
            let mut reading = Reading::default();
            input.read(&mut reading);
            prompt_tokens += reading.prompt_tokens();
            seeds.push(reading.seed(machine));
        }
        Ok(Embed { model: raw.model, prompt_tokens, seeds, dimensions, base64 })
    }

    /// The work: the prompt and one step.
    pub(super) fn job(&self) -> Job {
        Job { prompt_tokens: self.prompt_tokens, output_tokens: 1, ..Job::default() }
    }

    pub(super) fn answer(&self) -> Value {
        let entry = |(index, seed): (usize, &u64)| {
            let vector = words::embedding(*seed, self.dimensions);
            let value = if self.base64 { json!(words::base64_floats(&vector)) } else { json!(vector) };
            json!({"object": "embedding", "index": index, "embedding": value})
        };
        json!({
            "object": "list",
            "data": self.seeds.iter().enumerate().map(entry).collect::<Vec<_>>(),
            "model": self.model,
            "usage": {"prompt_tokens": self.prompt_tokens, "total_tokens": self.prompt_tokens},
        })
    }
}

/// What all parts of one answer share.
pub(super) struct Answer {
    pub(super) ask: Ask,
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) finish: &'static str,
}

impl Answer {
    /// The whole answer at once.
    pub(super) fn whole(&self, tokens: u64, cached_tokens: u64) -> Value {
        let mut text = BytesMut::new();
        words::put_words(&mut text, self.ask.seed, self.ask.said, self.ask.words(self.ask.said, tokens));
        let text = String::from_utf8_lossy(&text);
        let choice = match self.ask.shape {
            Shape::Chat => json!({
                "index": 0, "message": {"role": "assistant", "content": text, "refusal": null}, "logprobs": null,
                "finish_reason": self.finish,
            }),
            Shape::Text => json!({"index": 0, "text": text, "logprobs": null, "finish_reason": self.finish}),
        };
        let object = match self.ask.shape {
            Shape::Chat => "chat.completion",
            Shape::Text => "text_completion",
        };
        json!({
            "id": self.id, "object": object, "created": self.created, "model": self.ask.model, "choices": [choice],
            "usage": self.usage(tokens, cached_tokens),
        })
    }

    /// The step that only sees that all was said makes no token, wherever the answer was begun.
    fn usage(&self, tokens: u64, cached_tokens: u64) -> Value {
        let tokens = self.ask.words(self.ask.said, tokens);
        json!({
            "prompt_tokens": self.ask.prompt_tokens, "completion_tokens": tokens,
            "total_tokens": self.ask.prompt_tokens + tokens, "prompt_tokens_details": {"cached_tokens": cached_tokens},
        })
    }
}

/// Writes the events of one stream. What repeats in every event is rendered once.
pub(super) struct Chunks {
    answer: Answer,
    before_text: Bytes,
    after_text: Bytes,
    head: String,
    tokens: u64,
    /// Of the prompt, tokens that were in the machine's prefix cache.
    pub(super) cached_tokens: u64,
}

impl Chunks {
    pub(super) fn new(answer: Answer) -> Chunks {
        let object = match answer.ask.shape {
            Shape::Chat => "chat.completion.chunk",
            Shape::Text => "text_completion",
        };
        let (id, model) = (json!(answer.id), json!(answer.ask.model));
        let head = format!(
            r#"data: {{"id":{id},"object":"{object}","created":{},"model":{model},"choices":["#,
            answer.created
        );
        let (open, close) = match answer.ask.shape {
            Shape::Chat => (r#"{"index":0,"delta":{"content":""#, r#""},"logprobs":null,"finish_reason":null}]"#),
            Shape::Text => (r#"{"index":0,"text":""#, r#"","logprobs":null,"finish_reason":null}]"#),
        };
        let before_text = Bytes::from(format!("{head}{open}"));
        let after_text = Bytes::from(format!("{close}{}", closing(&answer.ask)));
        Chunks { answer, before_text, after_text, head, tokens: 0, cached_tokens: 0 }
    }

    /// One event with so many more tokens. The first of a chat comes after one that names the role.
    pub(super) fn put_tokens(&mut self, out: &mut BytesMut, tokens: u32) {
        if self.tokens == 0 && self.answer.ask.shape == Shape::Chat {
            self.put(
                out,
                r#"{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]"#,
            );
        }
        out.put_slice(&self.before_text);
        let ask = &self.answer.ask;
        let from = ask.said + self.tokens;
        words::put_words(out, ask.seed, from, ask.words(from, u64::from(tokens)));
        out.put_slice(&self.after_text);
        self.tokens += u64::from(tokens);
    }

    /// The events after the last token.
    pub(super) fn put_end(&mut self, out: &mut BytesMut) {
        let text = match self.answer.ask.shape {
            Shape::Chat => r#""delta":{}"#,
            Shape::Text => r#""text":"""#,
        };
        let finish = self.answer.finish;
        self.put(out, &format!(r#"{{"index":0,{text},"logprobs":null,"finish_reason":"{finish}"}}]"#));
        if self.answer.ask.include_usage {
            out.put_slice(
                format!("{}],\"usage\":{}}}\n\n", self.head, self.answer.usage(self.tokens, self.cached_tokens))
                    .as_bytes(),
            );
        }
        out.put_slice(b"data: [DONE]\n\n");
    }

    fn put(&self, out: &mut BytesMut, choice: &str) {
        out.put_slice(self.head.as_bytes());
        out.put_slice(choice.as_bytes());
        out.put_slice(closing(&self.answer.ask).as_bytes());
    }
}

/// With a final usage chunk, all chunks before it say that they have none.
fn closing(ask: &Ask) -> &'static str {
    if ask.include_usage { ",\"usage\":null}\n\n" } else { "}\n\n" }
}
