//! Reads the body under its own limits and parses it just far enough: no DOM, no tokenizer, the bytes kept as they came.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use pointsman_backends::connect::Spliced;
use pointsman_policies::facts::Api;
use pointsman_policies::refusal::{Refusal as Unserved, shortened};
use serde_json::error::Category;

use super::accept::Call;
use super::wishes::Wishes;
use crate::gateway::Gateway;
use crate::identity::Caller;
use crate::prompt::{self, Parsed, Text};
use crate::record::Record;
use crate::refusal::Refusal;
use crate::snapshot::Snapshot;

/// A request read whole.
pub(super) struct Prompt {
    /// The client API.
    pub(super) api: Api,
    /// The path as sent.
    pub(super) path: String,
    /// The headers as sent.
    pub(super) headers: HeaderMap,
    /// What the caller wants, and who it says it is.
    pub(super) wishes: Wishes,
    /// Who it is, where it was asked.
    pub(super) caller: Option<Arc<Caller>>,
    /// What the body says.
    pub(super) parsed: Parsed,
    body: Bytes,
}

impl Prompt {
    /// The body as sent.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// How long it is.
    pub(super) fn bytes(&self) -> usize {
        self.body.len()
    }

    /// Memory that it takes: its body and its head.
    pub(super) fn memory(&self) -> usize {
        let head: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        self.body.len() + head
    }

    /// The same request with another body; `None` where that cannot be read.
    pub(super) fn with_body(&self, body: Vec<u8>) -> Option<Prompt> {
        let parsed = prompt::parse(self.api, &body).ok()?;
        let (path, headers) = (self.path.clone(), self.headers.clone());
        let (api, wishes, caller, body) = (self.api, self.wishes.clone(), self.caller.clone(), Bytes::from(body));
        Some(Prompt { api, path, headers, wishes, caller, parsed, body })
    }

    /// The body with the model's name replaced where a pool knows it by another; the other bytes are untouched.
    pub(super) fn body_for(&self, upstream_model: Option<&String>) -> Spliced {
        let Some(name) = upstream_model else { return Spliced::new([self.body.clone(), Bytes::new(), Bytes::new()]) };
        let span = &self.parsed.model_span;
        let quoted = Bytes::from(serde_json::Value::from(name.as_str()).to_string());
        Spliced::new([self.body.slice(..span.start), quoted, self.body.slice(span.end..)])
    }
}

/// Reads and parses.
pub(super) async fn read(
    gateway: &Gateway,
    snapshot: &Snapshot,
    call: Call,
    record: &mut Record,
) -> Result<Prompt, Refusal> {
    let Call { api, path, headers, wishes, caller, body } = call;
    let body = collect(snapshot, &headers, body).await?;
    record.read_at = record.elapsed();
    let mut parsed = prompt::parse(api, &body).map_err(|error| refuse(&error))?;
    let Text { bytes, content, other_tokens, .. } = parsed.text;
    let text_tokens = gateway.learning().tokens(&parsed.model, &wishes.tenant, content, bytes);
    parsed.input_tokens = text_tokens.saturating_add(other_tokens);
    record.text = parsed.text;
    record.model = shortened(&parsed.model);
    record.stream = parsed.stream;
    record.input_tokens = parsed.input_tokens;
    if !snapshot.serves(&parsed.model) {
        return Err(unknown_model(snapshot, &parsed.model));
    }
    if caller.as_ref().is_some_and(|caller| !caller.scope.models.admits(&parsed.model)) {
        return Err(Refusal::Forbidden(format!("its key is not for the model `{}`", record.model)));
    }
    Ok(Prompt { api, path, headers, wishes, caller, parsed, body })
}

/// The refusal for a model that no pool serves.
pub(super) fn unknown_model(snapshot: &Snapshot, model: &str) -> Refusal {
    Unserved::unknown_model(model, snapshot.models.iter().map(String::as_str)).into()
}

async fn collect(snapshot: &Snapshot, headers: &HeaderMap, mut body: hyper::body::Incoming) -> Result<Bytes, Refusal> {
    let limit = snapshot.process.body_bytes;
    let announced = headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > limit) {
        return Err(Refusal::BodyTooLarge(limit));
    }
    let (idle, whole) = (snapshot.process.timeouts.body_idle, snapshot.process.timeouts.body);
    let late = |began: Instant| match began.elapsed() < whole {
        true => Refusal::BodyTimeout(idle),
        false => Refusal::BodyTooSlow(whole),
    };
    let began = Instant::now();
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let patience = idle.min(whole.saturating_sub(began.elapsed()));
        let Some(frame) = tokio::time::timeout(patience, body.frame()).await.map_err(|_| late(began))? else { break };
        let frame = frame.map_err(|error| Refusal::BodyIncomplete(error.to_string()))?;
        let Ok(bytes) = frame.into_data() else { continue };
        if first.len() + rest.len() + bytes.len() > limit {
            return Err(Refusal::BodyTooLarge(limit));
        }
        if first.is_empty() && rest.is_empty() {
            first = bytes; // most bodies come in one piece and are never copied
        } else {
            if rest.is_empty() {
                rest.reserve(announced.unwrap_or(first.len() * 2).min(limit));
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&bytes);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// The refusal for a body that cannot be used.
pub(super) fn refuse(error: &prompt::ParseError) -> Refusal {
    match error {
        prompt::ParseError::Empty => bad(None, "it is empty".to_owned()),
        prompt::ParseError::NotUtf8(at) => bad(None, format!("byte {at} is not UTF-8")),
        prompt::ParseError::NotAnObject => bad(None, "it is not a JSON object".to_owned()),
        prompt::ParseError::TooDeep(limit) => bad(None, format!("it is nested more than {limit} levels deep")),
        prompt::ParseError::Field(field, problem) => bad(Some(field), problem.clone()),
        prompt::ParseError::Json(error) if error.classify() == Category::Eof => {
            bad(None, "the JSON ends before it is whole".to_owned())
        }
        prompt::ParseError::Json(error) => bad(None, error.to_string()),
    }
}

fn bad(field: Option<&'static str>, problem: String) -> Refusal {
    Refusal::BadBody { field, problem }
}
