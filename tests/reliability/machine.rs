//! A machine whose streams are numbered: the body of a request says how many events come, how long they are and how
//! far apart, so that a client can tell one that was lost, doubled or moved. It counts who left before the end, and when.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use pointsman_tests::files::MODEL;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, Sleep};

/// Streams of one HTTP/2 connection.
const HTTP2_STREAMS: u32 = 100;
/// Behind the last numbered event.
const END: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":9}}\n\ndata: [DONE]\n\n";

/// What a request asks of the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    /// Numbered events, or pieces of a whole answer.
    pub(crate) events: u64,
    /// From one to the next.
    pub(crate) every: Duration,
    /// Before the first.
    pub(crate) first: Duration,
    /// Length of an event, bytes; no shorter than its number needs.
    pub(crate) bytes: usize,
    /// Whether the answer is a stream.
    pub(crate) stream: bool,
}

impl Wish {
    /// A stream of events this far apart, each of the usual length.
    pub(crate) fn stream(events: u64, every_ms: u64) -> Wish {
        Wish { events, every: Duration::from_millis(every_ms), first: Duration::ZERO, bytes: 120, stream: true }
    }

    /// As the body of a chat.
    pub(crate) fn body(&self) -> Value {
        json!({
            "model": MODEL,
            "messages": [{"role": "user", "content": "Which track shall the next train take?"}],
            "stream": self.stream,
            "max_tokens": self.events.max(1),
            "metadata": {
                "events": self.events,
                "every_us": self.every.as_micros() as u64,
                "first_us": self.first.as_micros() as u64,
                "bytes": self.bytes,
            },
        })
    }

    fn of(body: &[u8]) -> Wish {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let number = |name: &str, default: u64| body["metadata"][name].as_u64().unwrap_or(default);
        Wish {
            events: number("events", 1),
            every: Duration::from_micros(number("every_us", 0)),
            first: Duration::from_micros(number("first_us", 0)),
            bytes: number("bytes", 120) as usize,
            stream: body["stream"] == true,
        }
    }
}

/// What the machine has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Requests that came whole.
    pub(crate) asked: AtomicU64,
    /// Answers that went out whole.
    pub(crate) answered: AtomicU64,
    /// Answers that nobody wanted any more.
    pub(crate) let_go: AtomicU64,
    /// Requests that are being answered.
    pub(crate) running: AtomicI64,
    /// Connections that were accepted.
    pub(crate) connections: AtomicU64,
    /// Connections that ended while something ran on them.
    pub(crate) broken: AtomicU64,
}

/// How the machine treats its connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manners {
    /// Closes one on which nothing has run for this long.
    pub(crate) idle_close: Option<Duration>,
    /// Works on so many requests at once; others wait.
    pub(crate) slots: Option<Arc<Semaphore>>,
}

/// A machine in this process; dropped, it goes away with its connections.
#[derive(Debug)]
pub(crate) struct Machine {
    address: SocketAddr,
    /// What it has seen.
    pub(crate) seen: Arc<Seen>,
    accepting: AbortHandle,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Machine {
    /// Listens on a free port.
    pub(crate) async fn start(manners: Manners) -> Machine {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::<Seen>::default();
        let accepting = tokio::spawn(accept(listener, manners, Arc::clone(&seen))).abort_handle();
        Machine { address, seen, accepting }
    }

    /// Several.
    pub(crate) async fn several(count: usize) -> Vec<Machine> {
        let mut machines = Vec::new();
        for _ in 0..count {
            machines.push(Machine::start(Manners::default()).await);
        }
        machines
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A machine that is a process of its own: prints its address, serves until stdin closes.
pub(crate) async fn alone(listen: SocketAddr) {
    let listener = TcpListener::bind(listen).await.expect("the port is free");
    println!("numbered on {}", listener.local_addr().expect("an address"));
    accept(listener, Manners::default(), Arc::default()).await;
}

async fn accept(listener: TcpListener, manners: Manners, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        seen.connections.fetch_add(1, Relaxed);
        connections.spawn(serve(stream, manners.clone(), Arc::clone(&seen)));
    }
}

async fn serve(stream: TcpStream, manners: Manners, seen: Arc<Seen>) {
    let here = Arc::<Here>::default();
    let service = {
        let (seen, here, slots) = (Arc::clone(&seen), Arc::clone(&here), manners.slots.clone());
        service_fn(move |request| answer(request, Arc::clone(&seen), Arc::clone(&here), slots.clone()))
    };
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new());
    server.http2().timer(TokioTimer::new()).max_concurrent_streams(HTTP2_STREAMS);
    let serving = server.serve_connection(TokioIo::new(stream), service);
    match manners.idle_close {
        None => drop(serving.await),
        // Closed without a word, as uvicorn does: whatever comes in this moment is lost.
        Some(limit) => tokio::select! {
            _ = serving => {}
            () = here.until_idle(limit) => {}
        },
    }
    if here.running.load(Relaxed) > 0 {
        seen.broken.fetch_add(1, Relaxed);
    }
}

/// What runs on one connection.
#[derive(Debug, Default)]
struct Here {
    running: AtomicI64,
    served: AtomicU64,
}

impl Here {
    async fn until_idle(&self, limit: Duration) {
        let (mut since, mut served) = (Instant::now(), 0);
        loop {
            tokio::time::sleep(limit / 4).await;
            let now_served = self.served.load(Relaxed);
            if self.running.load(Relaxed) > 0 || now_served != served || now_served == 0 {
                (since, served) = (Instant::now(), now_served);
            } else if since.elapsed() >= limit {
                return;
            }
        }
    }
}

/// Counts a request until its answer has gone out, or until nobody wants it.
struct Running {
    seen: Arc<Seen>,
    here: Arc<Here>,
    whole: bool,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.here.running.fetch_sub(1, Relaxed);
        self.here.served.fetch_add(1, Relaxed);
        self.seen.running.fetch_sub(1, Relaxed);
        let ended = if self.whole { &self.seen.answered } else { &self.seen.let_go };
        ended.fetch_add(1, Relaxed);
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Seen>,
    here: Arc<Here>,
    slots: Option<Arc<Semaphore>>,
) -> Result<Response<Numbered>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let wish = Wish::of(&body);
    seen.asked.fetch_add(1, Relaxed);
    seen.running.fetch_add(1, Relaxed);
    here.running.fetch_add(1, Relaxed);
    let mut running = Running { seen, here, whole: false, _slot: None };
    if let Some(slots) = slots {
        running._slot = slots.acquire_owned().await.ok();
    }
    if wish.first > Duration::ZERO {
        tokio::time::sleep(wish.first).await;
    }
    let next = Box::pin(tokio::time::sleep(Duration::ZERO));
    let mut response = Response::new(Numbered { wish, sent: 0, next, running });
    let kind = if wish.stream { "text/event-stream" } else { "application/json" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

/// The body of an answer: events `{"n":1}`, `{"n":2}`, ... and the end.
struct Numbered {
    wish: Wish,
    sent: u64,
    next: Pin<Box<Sleep>>,
    running: Running,
}

impl Numbered {
    fn piece(&self) -> Bytes {
        if !self.wish.stream {
            return Bytes::from(match self.sent {
                1 => format!("{{\"choices\":[{{\"message\":{{\"content\":\"{}", "x".repeat(self.wish.bytes)),
                number if number > self.wish.events => "\"}}]}".to_owned(),
                _ => "x".repeat(self.wish.bytes),
            });
        }
        if self.sent > self.wish.events {
            return Bytes::from_static(END.as_bytes());
        }
        let mut event = format!("data: {{\"n\":{},\"x\":\"", self.sent);
        let padding = self.wish.bytes.saturating_sub(event.len() + 4);
        event.extend(std::iter::repeat_n('x', padding));
        event.push_str("\"}\n\n");
        Bytes::from(event)
    }
}

impl Body for Numbered {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.sent > self.wish.events {
            self.running.whole = true;
            return Poll::Ready(None);
        }
        if self.sent > 0 && self.wish.every > Duration::ZERO {
            ready!(self.next.as_mut().poll(context));
        }
        if self.wish.every > Duration::ZERO {
            let due = if self.sent == 0 { Instant::now() } else { self.next.deadline() } + self.wish.every;
            self.next.as_mut().reset(due);
        }
        self.sent += 1;
        if self.sent > self.wish.events {
            self.running.whole = true;
        }
        Poll::Ready(Some(Ok(Frame::data(self.piece()))))
    }
}
