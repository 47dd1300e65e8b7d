//! One client's request over real HTTP, measured where the client stands.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;
use pointsman_backends::connect::{Connections, Outgoing, Spliced, Version};
use pointsman_backends::dialects::{Dialect, EventKind, openai::OpenAi};
use pointsman_backends::endpoint::Address;
use pointsman_backends::frames::sse::Events;
use pointsman_policies::attain::Observed;
use serde_json::json;
use tokio_util::task::TaskTracker;

use super::tally::{Measured, Tally};
use super::traffic::{Ask, Caller};
use crate::gateway::Gateway;
use crate::prompt::BYTES_PER_TOKEN;
use crate::snapshot;

/// The gateway is on this machine.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// What prompts are made of.
const WORDS: &str = "the quick brown fox jumps over a lazy dog while rain falls on the old railway yard ";

/// A client of the gateway; copies share connections.
#[derive(Clone, Debug)]
pub(super) struct Client {
    connections: Arc<Connections>,
    gateway: Arc<Gateway>,
    tally: Arc<Mutex<Tally>>,
}

impl Client {
    pub(super) fn new(address: SocketAddr, gateway: Arc<Gateway>, tally: Arc<Mutex<Tally>>) -> Client {
        let address = Address::of(address);
        let connections = Connections::new(address, None, Version::Http1, TaskTracker::new());
        Client { connections: Arc::new(connections), gateway, tally }
    }

    /// Asks, reads the answer to its end and writes down how it went.
    pub(super) async fn ask(&self, ask: Ask) {
        let began = Instant::now();
        let streamed = matches!(ask.caller, Caller::Voice | Caller::Reader);
        let measured = match self.send(&ask, streamed).await {
            Ok((response, hold)) => {
                let endpoint = header(&response, snapshot::ENDPOINT_HEADER.as_str());
                let class = header(&response, snapshot::CLASS_HEADER_NAME);
                let failed_over = header(&response, snapshot::ATTEMPTS_HEADER.as_str()) != "1";
                let status = response.status();
                let read = read(response.into_body(), streamed, began).await;
                hold.finish();
                let read = if status.is_success() { read } else { Err(format!("status {status}")) };
                Measured { class, endpoint, failed_over, read }
            }
            Err(error) => {
                Measured { class: String::new(), endpoint: String::new(), failed_over: false, read: Err(error) }
            }
        };
        self.tally.lock().count(&self.gateway.snapshot(), measured);
    }

    async fn send(
        &self,
        ask: &Ask,
        streamed: bool,
    ) -> Result<(Response<Incoming>, pointsman_backends::connect::Hold), String> {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        headers.insert("x-pointsman-tenant", http::HeaderValue::from_static(ask.tenant()));
        if let Ok(session) = http::HeaderValue::try_from(format!("session-{}", ask.session)) {
            headers.insert("x-pointsman-session", session);
        }
        if ask.caller == Caller::Voice {
            headers.insert("x-agent", http::HeaderValue::from_static("voice"));
        }
        let body = Spliced::new([Bytes::from(body(ask, streamed)), Bytes::new(), Bytes::new()]);
        let path = PathAndQuery::from_static("/v1/chat/completions");
        let outgoing = Outgoing { method: Method::POST, path, headers, body };
        self.connections.send(|| outgoing.clone(), CONNECT_TIME).await.map_err(|error| error.to_string())
    }
}

fn body(ask: &Ask, streamed: bool) -> String {
    let length = (ask.input_tokens * BYTES_PER_TOKEN) as usize;
    // Who talks on begins as before, and everybody begins in another way.
    let begun = format!("Conversation {}. ", ask.session);
    let prompt: String = begun.chars().chain(WORDS.chars().cycle()).take(length).collect();
    let mut body = json!({
        "model": ask.model,
        "messages": [{ "role": "user", "content": prompt }],
        "max_tokens": ask.output_tokens,
        "ignore_eos": true,
        "stream": streamed,
    });
    if streamed && let Some(fields) = body.as_object_mut() {
        fields.insert("stream_options".to_owned(), json!({ "include_usage": true }));
    }
    if ask.caller == Caller::Job
        && let Some(fields) = body.as_object_mut()
    {
        fields.insert("service_tier".to_owned(), json!("flex"));
    }
    body.to_string()
}

async fn read(mut body: Incoming, streamed: bool, began: Instant) -> Result<Observed, String> {
    if !streamed {
        let whole = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        let usage = OpenAi.usage(&whole).ok_or("the answer reports no usage")?;
        return Ok(Observed {
            total_ms: ms(began.elapsed()),
            output_tokens: usage.output_tokens,
            ..Observed::default()
        });
    }
    let (mut events, mut first, mut last) = (Events::default(), None, began);
    let (mut usage, mut done) = (None, false);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        events.push(frame.into_data().unwrap_or_default());
        while let Some(event) = events.take() {
            match OpenAi.event_kind(&event) {
                EventKind::Content => match OpenAi.usage(&event) {
                    Some(reported) => usage = Some(reported),
                    None => {
                        last = Instant::now();
                        first.get_or_insert(last);
                    }
                },
                EventKind::Error => return Err("the stream ended in an error event".to_owned()),
                EventKind::Done => done = true,
                EventKind::Comment => {}
            }
        }
    }
    let first = first.filter(|_| done).ok_or("the stream ended without [DONE]")?;
    let output_tokens = usage.ok_or("the stream reports no usage")?.output_tokens;
    let itl_ms = (output_tokens > 1).then(|| ms(last - first) / (output_tokens - 1) as f64);
    let ttft_ms = Some(ms(first - began));
    Ok(Observed { streamed, ttft_ms, itl_ms, total_ms: ms(last - began), output_tokens })
}

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

fn header<Body>(response: &Response<Body>, name: &str) -> String {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}
