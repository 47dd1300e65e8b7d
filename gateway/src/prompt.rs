//! What the gateway needs to know of a request body, read in one typed pass that skips everything else.

/// The quick reader.
mod quick;
/// What it reads with.
mod scan;
/// What carries text.
mod content;

use std::ops::Range;
use std::sync::Arc;

use pointsman_backends::learn::bytes_per_token::Content as TextKind;
pub use pointsman_policies::facts::BYTES_PER_TOKEN;
use pointsman_policies::facts::{Api, PRIOR_OUTPUT_TOKENS};
use pointsman_policies::prefix::Prefix;
use serde::Deserialize;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use content::{Content, Tools};

/// Answers (`n` to each prompt) that are counted; machines refuse more than about this many, and what a caller writes
/// must not outweigh everybody else's work in the load of an endpoint.
pub(crate) const MAX_CHOICES: u64 = 128;
/// An image is taken for this many prompt tokens.
const TOKENS_PER_IMAGE: u64 = 800;
/// JSON nested deeper than this is refused before it reaches a machine's parser.
const DEEPEST: usize = 128;

/// What the gateway knows of a body.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The model's name.
    pub model: String,
    /// Where the name stands in the body, quotes included.
    pub model_span: Range<usize>,
    /// Whether a stream is wanted.
    pub stream: bool,
    /// `service_tier`; empty where absent.
    pub service_tier: String,
    /// The caller's bound on the answer, tokens.
    pub max_output_tokens: Option<u64>,
    /// Estimated prompt, tokens; at first by the prior of bytes per token.
    pub input_tokens: u64,
    /// What its tokens are estimated from.
    pub text: Text,
    /// Expected answer, tokens.
    pub output_tokens: u64,
    /// Tools offered.
    pub tools: u64,
    /// Images carried.
    pub images: u64,
    /// How the prompt begins; nothing of an embedding, of which no machine keeps anything.
    pub prefix: Arc<Prefix>,
}

/// What the tokens of a prompt and its answers are estimated from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// Text in the prompt and its tools, bytes.
    pub bytes: u64,
    /// What it looks like.
    pub content: TextKind,
    /// Tokens that are no text: given as numbers, or taken for an image.
    pub other_tokens: u64,
    /// How many answers are wanted, to all prompts together; none of an embedding.
    pub choices: u64,
}

/// Why a body cannot be used.
#[derive(Debug)]
pub enum ParseError {
    /// Nothing came.
    Empty,
    /// Not UTF-8 from this byte on.
    NotUtf8(usize),
    /// Nested deeper than this.
    TooDeep(usize),
    /// Not an object.
    NotAnObject,
    /// One field is missing or wrong.
    Field(&'static str, String),
    /// Not JSON, or a field of the wrong type or given twice; with line and column.
    Json(serde_json::Error),
}

/// Parses a body of an API.
pub fn parse(api: Api, body: &[u8]) -> Result<Parsed, ParseError> {
    if body.is_empty() {
        return Err(ParseError::Empty);
    }
    let text = simdutf8::compat::from_utf8(body).map_err(|error| ParseError::NotUtf8(error.valid_up_to()))?;
    let fields = quick::fields(text).map_or_else(|| thorough(text), Ok)?;
    parsed(api, text, fields)
}

/// Reads everything that is JSON, and says what is wrong with the rest.
fn thorough(text: &str) -> Result<Fields<'_>, ParseError> {
    if !text.trim_start().starts_with('{') {
        return Err(ParseError::NotAnObject); // serde would take a list for the fields in order
    }
    refuse_deep(text.as_bytes())?;
    serde_json::from_str(text).map_err(ParseError::Json)
}

fn parsed(api: Api, text: &str, fields: Fields<'_>) -> Result<Parsed, ParseError> {
    let raw_model = fields.model.ok_or_else(|| ParseError::Field("model", "`model` is missing".to_owned()))?.get();
    let model: String = serde_json::from_str(raw_model)
        .map_err(|_| ParseError::Field("model", "`model` is not a string".to_owned()))?;
    let content = match api {
        Api::ChatCompletions => required("messages", fields.messages)?,
        Api::Completions => required("prompt", fields.prompt)?,
        Api::Embeddings => required("input", fields.input)?,
    };
    let before = xxh3_64_with_seed(model.as_bytes(), fields.tools.as_ref().map_or(0, |tools| tools.hash));
    let prefix = if api == Api::Embeddings { Prefix::default() } else { content.chain.end(before) };
    let start = (raw_model.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let max_output_tokens = fields.max_completion_tokens.or(fields.max_tokens);
    let content = content.size;
    let prompts = if api == Api::Completions { content.texts.clamp(1, MAX_CHOICES) } else { 1 };
    let each = if api == Api::Embeddings { 0 } else { fields.n.unwrap_or(1).clamp(1, MAX_CHOICES) };
    let choices = (prompts * each).min(MAX_CHOICES);
    let expected = PRIOR_OUTPUT_TOKENS * choices;
    let text_bytes = content.text_bytes + fields.tools.as_ref().map_or(0, |tools| tools.bytes);
    let other_tokens = content.numbers + content.images * TOKENS_PER_IMAGE;
    Ok(Parsed {
        model,
        model_span: start..start + raw_model.len(),
        stream: fields.stream.unwrap_or(false) && api != Api::Embeddings,
        service_tier: fields.service_tier.unwrap_or_default(),
        max_output_tokens,
        input_tokens: text_bytes.div_ceil(BYTES_PER_TOKEN) + other_tokens,
        text: Text { bytes: text_bytes, content: content.look.content(), other_tokens, choices },
        output_tokens: max_output_tokens.map_or(expected, |bound| bound.min(expected)),
        tools: fields.tools.map_or(0, |tools| tools.count),
        images: content.images,
        prefix: Arc::new(prefix),
    })
}

fn required(name: &'static str, content: Option<Content>) -> Result<Content, ParseError> {
    content.ok_or_else(|| ParseError::Field(name, format!("`{name}` is missing")))
}

/// serde skips unknown fields however deep they are; machines that parse into trees do not. Most bytes stand in strings,
/// which are skipped at a stride.
fn refuse_deep(body: &[u8]) -> Result<(), ParseError> {
    let (mut depth, mut rest) = (0_usize, body);
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'"' => rest = behind_string(behind),
            b'[' | b'{' => {
                depth += 1;
                if depth > DEEPEST {
                    return Err(ParseError::TooDeep(DEEPEST));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// What stands behind the quote that ends a string.
fn behind_string(mut text: &[u8]) -> &[u8] {
    while let Some(at) = memchr::memchr2(b'"', b'\\', text) {
        let escape = text.get(at) == Some(&b'\\');
        text = text.get(at + 1 + usize::from(escape)..).unwrap_or_default();
        if !escape {
            return text;
        }
    }
    &[]
}

/// Two parsers that read duplicate keys differently are a way round policy, so serde's refusal of them is kept.
#[derive(Default, Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    stream: Option<bool>,
    service_tier: Option<String>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    n: Option<u64>,
    messages: Option<Content>,
    prompt: Option<Content>,
    input: Option<Content>,
    tools: Option<Tools>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(api: Api, body: &str) -> Parsed {
        parse(api, body.as_bytes()).unwrap()
    }

    #[test]
    fn what_routing_needs_is_read_and_the_rest_is_skipped() {
        let body = r#"{"temperature":0.5,"model":"m\u0031","messages":[{"role":"user","content":"12345678"},
            {"role":"user","content":[{"type":"text","text":"1234"},{"type":"image_url","image_url":{"url":"data:AAAA"}}]}],
            "stream":true,"max_completion_tokens":50,"service_tier":"flex","tools":[{"a":1}],"unknown":{"deep":[1]}}"#;
        let parsed = read(Api::ChatCompletions, body);
        assert_eq!((parsed.model.as_str(), parsed.stream, parsed.max_output_tokens), ("m1", true, Some(50)));
        assert_eq!((parsed.tools, parsed.images, parsed.output_tokens), (1, 1, 50));
        assert_eq!(parsed.input_tokens, 3 + 2 + TOKENS_PER_IMAGE);
        assert_eq!(parsed.service_tier, "flex");
    }

    #[test]
    fn the_span_of_the_model_is_where_it_stands() {
        let body = r#"{ "prompt": "x", "model" :  "gpt-oss-120b" }"#;
        let parsed = read(Api::Completions, body);
        assert_eq!(&body[parsed.model_span], r#""gpt-oss-120b""#);
    }

    #[test]
    fn token_lists_count_as_tokens() {
        let parsed = read(Api::Embeddings, r#"{"model":"m","input":[[1,2,3],[4,5]]}"#);
        assert_eq!((parsed.input_tokens, parsed.output_tokens), (5, 0));
    }

    #[test]
    fn many_answers_count_up_to_a_bound() {
        let expected = |n: u64| {
            let body = format!(r#"{{"model":"m","messages":[],"n":{n}}}"#);
            read(Api::ChatCompletions, &body).output_tokens / PRIOR_OUTPUT_TOKENS
        };
        assert_eq!([0, 1, 3, 128, u64::MAX].map(expected), [1, 1, 3, 128, 128]);
    }

    #[test]
    fn each_prompt_of_a_completion_has_its_answers() {
        let choices = |prompt: &str, n: u64| {
            let body = format!(r#"{{"model":"m","prompt":{prompt},"n":{n}}}"#);
            let thoroughly = parsed(Api::Completions, &body, thorough(&body).unwrap()).unwrap();
            assert_eq!(read(Api::Completions, &body), thoroughly);
            thoroughly.text.choices
        };
        assert_eq!((choices(r#""one""#, 1), choices(r#""one""#, 2), choices("[]", 1)), (1, 2, 1));
        assert_eq!((choices(r#"["one","two","three"]"#, 1), choices(r#"["one","two"]"#, 3)), (3, 6));
        assert_eq!((choices("[1,2,3]", 1), choices("[[1,2,3],[4]]", 2)), (1, 4));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_a_reason() {
        #[track_caller]
        fn check(body: &str, expected: &str) {
            let error = parse(Api::ChatCompletions, body.as_bytes()).unwrap_err();
            let text = format!("{error:?}");
            assert!(text.contains(expected), "{text}");
        }
        check("", "Empty");
        check(r#"{"model":"m""#, "EOF");
        check(r#"["m",false]"#, "NotAnObject");
        check(r#"{"messages":[]}"#, "`model` is missing");
        check(r#"{"model":7,"messages":[]}"#, "`model` is not a string");
        check(r#"{"model":"m"}"#, "`messages` is missing");
        check(r#"{"model":"m","model":"n","messages":[]}"#, "duplicate field `model`");
        check(r#"{"model":"m","messages":[],"max_tokens":-1}"#, "invalid value");
        check(&format!(r#"{{"model":"m","messages":[],"x":{}}}"#, "[".repeat(200)), "TooDeep");
    }

    #[test]
    fn brackets_within_strings_are_not_depth() {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}]}}"#, "[".repeat(500));
        assert_eq!(read(Api::ChatCompletions, &body).input_tokens, 125);
    }
}
