//! The OpenAI dialect: vLLM, SGLang, llama.cpp, TensorRT-LLM and most providers speak it.

/// Answers that another machine goes on with.
pub mod continuation;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use pointsman_policies::facts::Api;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{Dialect, Ended, EventKind, Usage};
use crate::frames::sse;

/// OpenAI's wire format.
#[derive(Debug)]
pub struct OpenAi;

impl Dialect for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn path(&self, api: Api) -> &'static str {
        match api {
            Api::ChatCompletions => "/v1/chat/completions",
            Api::Completions => "/v1/completions",
            Api::Embeddings => "/v1/embeddings",
        }
    }

    fn authorize(&self, headers: &mut HeaderMap, key: &SecretString) {
        if let Ok(mut value) = HeaderValue::try_from(format!("Bearer {}", key.expose_secret())) {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
    }

    fn event_kind(&self, event: &[u8]) -> EventKind {
        let data = sse::data(event);
        if data.is_empty() {
            EventKind::Comment
        } else if data == b"[DONE]" {
            EventKind::Done
        } else if is_error(event, data) {
            EventKind::Error
        } else {
            EventKind::Content
        }
    }

    fn blames_caller(&self, event: &[u8]) -> bool {
        let told = serde_json::from_slice::<ToldError>(sse::data(event)).ok().and_then(|event| event.error);
        let status = told.and_then(|error| error.code.as_ref().and_then(serde_json::Value::as_u64));
        status.is_some_and(|status| (400..500).contains(&status) && status != 429)
    }

    fn ended(&self, event: &[u8]) -> Ended {
        let Ok(chunk) = serde_json::from_slice::<Chunk>(sse::data(event)) else { return Ended::default() };
        let finished = chunk.choices.iter().filter(|choice| choice.finish_reason.is_some());
        let choices = finished.fold(0, |all, choice| all | 1_u128.checked_shl(choice.index).unwrap_or(0));
        Ended { all: chunk.choices.is_empty() && chunk.usage.is_some(), choices }
    }

    fn usage(&self, json: &[u8]) -> Option<Usage> {
        let whole = json.starts_with(b"{");
        let json = if whole { json } else { sse::data(json) };
        let at_end = if whole { usage_at_end(json) } else { None };
        let usage = at_end.or_else(|| serde_json::from_slice::<WithUsage>(json).ok()?.usage)?;
        Some(Usage {
            input_tokens: usage.prompt_tokens,
            output_tokens: usage.completion_tokens.unwrap_or(0),
            cached_tokens: usage.prompt_tokens_details.and_then(|details| details.cached_tokens),
        })
    }

    fn error_message(&self, body: &[u8]) -> Option<String> {
        match serde_json::from_slice::<ErrorBody>(body).ok()? {
            ErrorBody { error: Some(ErrorField::Nested { message }), .. } => Some(message),
            ErrorBody { error: Some(ErrorField::Flat(message)), .. } => Some(message),
            ErrorBody { message, .. } => message,
        }
    }
}

/// The usage of a whole answer where it usually stands: last, or before a few plain fields. The answer before it, which is
/// passed on whatever it says, is not read. With one brace left to close, the usage is that of the answer itself, and a quote
/// inside of text has a backslash before it.
fn usage_at_end(json: &[u8]) -> Option<UsageField> {
    const NAME: &[u8] = b"\"usage\"";
    let at = memchr::memmem::rfind(json, NAME)?;
    let value = json.get(at + NAME.len()..)?.trim_ascii_start().strip_prefix(b":")?;
    let mut values = serde_json::Deserializer::from_slice(value).into_iter::<UsageField>();
    let usage = values.next()?.ok()?;
    let behind = value.get(values.byte_offset()..)?;
    let last = memchr::memchr2(b'{', b'}', behind)?;
    let whole = behind.get(last..)?.strip_prefix(b"}")?.trim_ascii_end().is_empty();
    whole.then_some(usage)
}

/// An error event by its first bytes; a chunk that carries `"error": null` is none.
fn is_error(event: &[u8], data: &[u8]) -> bool {
    let Some(rest) = data.strip_prefix(b"{") else { return event.starts_with(b"event: error") };
    let Some(rest) = rest.trim_ascii_start().strip_prefix(b"\"error\"") else {
        return event.starts_with(b"event: error");
    };
    let value = rest.trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start);
    value.is_some_and(|value| !value.starts_with(b"null"))
}

#[derive(Deserialize)]
struct ToldError {
    error: Option<ErrorCode>,
}

#[derive(Deserialize)]
struct ErrorCode {
    code: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u32,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct WithUsage {
    usage: Option<UsageField>,
}

#[derive(Deserialize)]
struct UsageField {
    prompt_tokens: u64,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: Option<ErrorField>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorField {
    Nested { message: String },
    Flat(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_apart() {
        #[track_caller]
        fn check(event: &str, expected: EventKind) {
            assert_eq!(OpenAi.event_kind(event.as_bytes()), expected);
        }
        check("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n", EventKind::Content);
        check("data: [DONE]\n\n", EventKind::Done);
        check("data:[DONE]\r\n\r\n", EventKind::Done);
        check("data: {\"error\":{\"message\":\"x\"}}\n\n", EventKind::Error);
        check("data: { \"error\": {\"message\":\"x\"}}\n\n", EventKind::Error);
        check("data: {\"error\":null,\"choices\":[]}\n\n", EventKind::Content);
        check(": keepalive\n\n", EventKind::Comment);
    }

    #[test]
    fn an_error_event_tells_whose_fault_it_is() {
        #[track_caller]
        fn check(event: &str, expected: bool) {
            assert_eq!(OpenAi.blames_caller(event.as_bytes()), expected, "{event}");
        }
        check("data: {\"error\":{\"message\":\"x\",\"code\":400}}\n\n", true);
        check("data: {\"error\":{\"message\":\"x\",\"code\":429}}\n\n", false);
        check("data: {\"error\":{\"message\":\"x\",\"code\":\"server_error\"}}\n\n", false);
        check("data: {\"error\":\"x\"}\n\n", false);
    }

    #[test]
    fn completeness_is_read_from_the_last_event() {
        #[track_caller]
        fn check(event: &str, expected: bool) {
            assert_eq!(OpenAi.completes(event.as_bytes()), expected, "{event}");
        }
        check("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n", true);
        check(
            "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"finish_reason\\\":\\\"stop\\\"\"},\"finish_reason\":null}]}\n\n",
            false,
        );
        check("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n", true);
        check("data: {\"object\":\"error\"}\n\n", false);
        let both = b"data: {\"choices\":[{\"index\":1,\"finish_reason\":\"stop\"},{\"index\":3,\"finish_reason\":\"length\"}]}\n\n";
        assert_eq!(OpenAi.ended(both), Ended { all: false, choices: 0b1010 });
        let beyond = b"data: {\"choices\":[{\"index\":4000,\"finish_reason\":\"stop\"}]}\n\n";
        assert_eq!(OpenAi.ended(beyond), Ended::default());
    }

    #[test]
    fn usage_is_read_from_events_and_answers() {
        let expected = Some(Usage { input_tokens: 12, output_tokens: 34, cached_tokens: None });
        let report = "{\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":34,\"total_tokens\":46}}";
        assert_eq!(OpenAi.usage(report.as_bytes()), expected);
        assert_eq!(OpenAi.usage(format!("data: {report}\n\n").as_bytes()), expected);
        assert_eq!(OpenAi.usage(b"{\"choices\":[]}"), None);
        let cached =
            br#"{"usage":{"prompt_tokens":12,"completion_tokens":34,"prompt_tokens_details":{"cached_tokens":8}}}"#;
        assert_eq!(OpenAi.usage(cached).map(|usage| usage.cached_tokens), Some(Some(8)));
        let silent = br#"{"usage":{"prompt_tokens":12,"prompt_tokens_details":null}}"#;
        assert_eq!(OpenAi.usage(silent).map(|usage| usage.cached_tokens), Some(None));
        let of_two = |last: &str| format!("{{\"usage\":{{\"prompt_tokens\":12,\"completion_tokens\":34}},{last}}}");
        for last in [
            r#""text":"and then \"usage\":{\"prompt_tokens\":7}""#,
            r#""a":{"usage":{"prompt_tokens":7}}"#,
            r#""a":[{"usage":{"prompt_tokens":7}}]"#,
            r#""a":"usage""#,
            r#""service_tier":"x}","b":null"#,
        ] {
            assert_eq!(OpenAi.usage(of_two(last).as_bytes()), expected, "{last}");
        }
        let plain = of_two(r#""service_tier":"default" , "b":null"#) + " \n";
        assert!(usage_at_end(plain.as_bytes()).is_some(), "{plain}");
    }

    #[test]
    fn error_messages_of_every_shape_are_read() {
        #[track_caller]
        fn check(body: &str, expected: Option<&str>) {
            assert_eq!(OpenAi.error_message(body.as_bytes()).as_deref(), expected);
        }
        check("{\"error\":{\"message\":\"too long\",\"type\":\"x\"}}", Some("too long"));
        check("{\"error\":\"nope\"}", Some("nope"));
        check("{\"message\":\"flat\",\"code\":\"y\"}", Some("flat"));
        check("<html>", None);
    }
}
