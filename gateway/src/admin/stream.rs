//! `/api/v1/stream`: what happens, as it happens, in server-sent events. Each watcher reads at its own pace; what it is too
//! slow for is left out, and it is told how much.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http_body::Frame;
use serde_json::json;
use tokio::sync::watch;

use super::problem::Problem;
use super::query::Query;
use super::requests::filter;
use crate::gateway::Gateway;
use crate::traffic::feed::MOST_WATCHERS;
use crate::traffic::filter::{Bound, Filter};
use crate::traffic::tend::now_ms;

/// Requests shown a second; more could not be read.
const MOST_REQUESTS_PER_S: u32 = 20;
/// How often something is said, so that proxies let the connection be.
const ALIVE: Duration = Duration::from_secs(15);
/// Where a watcher left off.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What changes nothing.
pub fn reads() -> Router<Arc<Gateway>> {
    Router::new().route("/api/v1/stream", get(stream))
}

async fn stream(State(gateway): State<Arc<Gateway>>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let filter = filter(&Query::read(&uri, &["filter"])?, "filter")?;
    let traffic = gateway.telemetry().traffic();
    let Some(changed) = traffic.feed.watch() else {
        let many = format!("{MOST_WATCHERS} watch already");
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-watchers", many);
        return Err(problem.help("close a page that watches this gateway, or ask /api/v1/timeseries"));
    };
    let left_off = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()).and_then(place);
    let watcher = Watcher {
        filter,
        bound: None,
        message: left_off.map_or(traffic.feed.last(), |(message, _)| message),
        seq: left_off.map(|(_, seq)| seq),
        second: 0,
        shown: 0,
        left_out: 0,
        greeted: false,
        changed,
        gateway: Arc::clone(&gateway),
    };
    let events = Events(Some(Box::pin(watcher.more())));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, Body::new(events)).into_response())
}

/// `MESSAGE.REQUEST`
fn place(id: &str) -> Option<(u64, u64)> {
    let (message, seq) = id.split_once('.')?;
    Some((message.parse().ok()?, seq.parse().ok()?))
}

/// Somebody who watches.
struct Watcher {
    gateway: Arc<Gateway>,
    filter: Filter,
    /// The filter, for so many names.
    bound: Option<(usize, Bound)>,
    /// The last message it has.
    message: u64,
    /// The next request to look at; `None` before the first look.
    seq: Option<u64>,
    second: u64,
    /// Requests shown in this second.
    shown: u32,
    /// Requests left out since the last time it was told.
    left_out: u64,
    greeted: bool,
    changed: watch::Receiver<()>,
}

/// The watcher and what is new to it; no watcher where that is the end.
type More = (Option<Watcher>, Bytes);

impl Watcher {
    async fn more(mut self) -> More {
        loop {
            let text = self.gather();
            if !text.is_empty() {
                return (Some(self), Bytes::from(text));
            }
            match tokio::time::timeout(ALIVE, self.changed.changed()).await {
                Ok(Ok(())) if self.gateway.is_ready() => {}
                Ok(_) => return (None, Bytes::new()), // the gateway ends
                Err(_) => return (Some(self), Bytes::from_static(b": alive\n\n")),
            }
        }
    }

    fn gather(&mut self) -> String {
        let gateway = Arc::clone(&self.gateway);
        let traffic = gateway.telemetry().traffic();
        let mut text = String::new();
        if !std::mem::replace(&mut self.greeted, true) {
            let snapshot = gateway.snapshot();
            let told = json!({
                "version": env!("CARGO_PKG_VERSION"),
                "policy": &*snapshot.version,
                "generation": snapshot.generation,
                "now_unix_ms": now_ms(),
                "capacity": snapshot.process.telemetry.room().rows,
                "instance": "this instance",
            });
            self.event(&mut text, "snapshot", &told.to_string());
        }
        let (messages, mut forgotten) = traffic.feed.after(self.message);
        for message in messages {
            self.message = message.id;
            self.event(&mut text, message.event, &message.json);
        }
        if self.message > traffic.feed.last() {
            (self.message, forgotten) = (traffic.feed.last(), 0); // of another process
        }
        self.requests(&mut text);
        let second = now_ms() / 1_000;
        if second != self.second {
            if forgotten > 0 || self.left_out > 0 {
                let gap = json!({ "requests": self.left_out, "events": forgotten });
                self.left_out = 0;
                self.event(&mut text, "gap", &gap.to_string());
            }
            (self.second, self.shown) = (second, 0);
        }
        text
    }

    /// New requests that are meant. While somebody else has the books they wait for the next look.
    fn requests(&mut self, text: &mut String) {
        let gateway = Arc::clone(&self.gateway);
        let Some(books) = gateway.telemetry().traffic().try_books() else { return };
        let next = books.rows.next();
        let from = self.seq.unwrap_or(next).min(next);
        self.seq = Some(next);
        let count = books.names.count();
        if self.bound.as_ref().is_none_or(|(known, _)| *known != count) {
            self.bound = Some((count, self.filter.bind(&books.names)));
        }
        let Some((_, bound)) = &self.bound else { return };
        let mut left_out = from.max(next.saturating_sub(books.rows.len() as u64)) - from;
        let mut shown = Vec::new();
        let room = MOST_REQUESTS_PER_S.saturating_sub(self.shown) as usize;
        for (seq, row) in books.rows.from(from).filter(|(seq, row)| bound.is_met_by(row, || books.why(*seq).is_some()))
        {
            if shown.len() < room {
                shown.push(json!(books.view(seq, row)).to_string());
            } else {
                left_out += 1;
            }
        }
        drop(books);
        self.shown += shown.len() as u32;
        self.left_out += left_out;
        for request in shown {
            self.event(text, "request", &request);
        }
    }

    fn event(&self, text: &mut String, event: &str, json: &str) {
        let seq = self.seq.unwrap_or_default();
        text.push_str(&format!("id: {}.{seq}\nevent: {event}\ndata: {json}\n\n", self.message));
    }
}

/// What one watcher after the other look brings.
struct Events(Option<Pin<Box<dyn Future<Output = More> + Send>>>);

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(looking) = self.0.as_mut() else { return Poll::Ready(None) };
        let (watcher, bytes) = ready!(looking.as_mut().poll(context));
        self.0 = watcher.map(|watcher| Box::pin(watcher.more()) as Pin<Box<dyn Future<Output = More> + Send>>);
        if self.0.is_none() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_two_numbers() {
        assert_eq!(place("12.345"), Some((12, 345)));
        assert_eq!([place("12"), place(""), place("a.b"), place("1.2.3")], [None; 4]);
    }
}
