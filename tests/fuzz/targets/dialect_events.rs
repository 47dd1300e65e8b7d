//! Any text as the data of an event: kinds are told by first bytes alone, so they are compared with what a full parser says;
//! usage, completeness and blame are those of the JSON, however lines end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_backends::dialects::{Dialect, EventKind};
use pointsman_backends::dialects::openai::OpenAi;
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let _ = OpenAi.error_message(input);
    let _ = OpenAi.usage(input);
    let _ = OpenAi.event_kind(input);
    let Ok(text) = std::str::from_utf8(input) else { return };
    if text.contains(['\n', '\r']) {
        return;
    }
    let event = format!("data: {text}\n\n").into_bytes();
    let kind = OpenAi.event_kind(&event);
    for other in [format!("data:{text}\r\n\r\n"), format!("id: 7\ndata: {text}\n\n"), format!(": told\r\ndata: {text}\r\n\r\n")] {
        let other = other.as_bytes();
        assert_eq!(OpenAi.event_kind(other), kind, "however lines end");
        assert_eq!(OpenAi.usage(other), OpenAi.usage(&event));
        assert_eq!(OpenAi.completes(other), OpenAi.completes(&event));
    }
    let trimmed = text.trim_ascii();
    assert_eq!(kind == EventKind::Comment, trimmed.is_empty());
    assert_eq!(kind == EventKind::Done, trimmed == "[DONE]");
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        assert!(!OpenAi.completes(&event) && OpenAi.usage(&event).is_none(), "what is no JSON ends and counts nothing");
        return;
    };
    if kind == EventKind::Error {
        assert!(value.get("error").is_some(), "an error is one for a full parser: {value}");
    }
    if let Some(usage) = OpenAi.usage(&event) {
        let told = &value["usage"];
        assert_eq!(told["prompt_tokens"].as_u64(), Some(usage.input_tokens), "usage is what it says, not what it was taken for");
        assert_eq!(told["completion_tokens"].as_u64().unwrap_or(0), usage.output_tokens);
    }
    if OpenAi.completes(&event) {
        let finished = value["choices"].as_array().is_some_and(|all| all.iter().any(|choice| choice["finish_reason"].is_string()));
        assert!(finished || !value["usage"].is_null(), "it is complete only where it says so: {value}");
    }
    if OpenAi.blames_caller(&event) {
        let code = value["error"]["code"].as_u64().unwrap_or(0);
        assert!((400..500).contains(&code) && code != 429, "{value}");
    }
});
