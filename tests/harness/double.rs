//! A machine that writes down what reaches it and answers as it is told: for what simulated machines do not do.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Sleep;

/// What was written leaves before the connection breaks.
const FLUSH: Duration = Duration::from_millis(5);

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its path.
    pub path: String,
    /// The HTTP version it came by.
    pub version: Version,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Seen {
    /// A header as text; empty where absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("visible ASCII"))
    }
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As HTTP has it.
    Clean,
    /// The connection breaks.
    Broken,
    /// Nothing more comes.
    Hang,
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Act {
    status: StatusCode,
    headers: HeaderMap,
    pieces: VecDeque<Bytes>,
    end: End,
    delay: Duration,
    close: bool,
}

impl Act {
    /// A whole answer in JSON.
    pub fn json(status: u16, body: &str) -> Act {
        let act = Act {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: HeaderMap::new(),
            pieces: VecDeque::from([Bytes::copy_from_slice(body.as_bytes())]),
            end: End::Clean,
            delay: Duration::ZERO,
            close: false,
        };
        act.header("content-type", "application/json")
    }

    /// A stream of these pieces of bytes.
    pub fn stream(pieces: &[&str], end: End) -> Act {
        let pieces = pieces.iter().map(|piece| Bytes::copy_from_slice(piece.as_bytes())).collect();
        Act { pieces, end, ..Act::json(200, "") }.header("content-type", "text/event-stream")
    }

    /// A short stream that is well formed.
    pub fn good_stream() -> Act {
        Act::stream(&[FIRST, LAST, DONE], End::Clean)
    }

    /// The connection is closed without an answer.
    pub fn close() -> Act {
        Act { close: true, ..Act::json(200, "") }
    }

    /// With one more header.
    pub fn header(mut self, name: &'static str, value: &str) -> Act {
        self.headers.insert(name, HeaderValue::try_from(value).expect("a header"));
        self
    }

    /// Not before this long.
    pub fn after(self, delay: Duration) -> Act {
        Act { delay, ..self }
    }
}

/// The first event of a chat.
pub const FIRST: &str =
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"},\"finish_reason\":null}]}\n\n";
/// Its last event with a choice.
pub const LAST: &str = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
/// Its end.
pub const DONE: &str = "data: [DONE]\n\n";
/// A whole chat.
pub const WHOLE: &str = r#"{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":1,"total_tokens":8}}"#;

type Handler = dyn Fn(&Seen) -> Act + Send + Sync;

/// A machine that does as it is told. Dropped, it goes away with its connections.
#[derive(Debug)]
pub struct Double {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

impl Double {
    /// Answers each request as the function says.
    pub async fn start(handler: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Double {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("it can listen");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::new(handler), Arc::clone(&seen)));
        Double { address, seen, _tasks: tasks }
    }

    /// Answers every request the same way.
    pub async fn always(act: Act) -> Double {
        Double::start(move |_| act.clone()).await
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that has arrived.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    /// What arrived last.
    pub fn last(&self) -> Seen {
        self.seen.lock().last().expect("a request has arrived").clone()
    }
}

async fn accept(listener: TcpListener, handler: Arc<Handler>, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).expect("a socket");
        let (handler, seen) = (Arc::clone(&handler), Arc::clone(&seen));
        connections.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&handler), Arc::clone(&seen), request));
            let server = auto::Builder::new(TokioExecutor::new());
            // A connection that breaks is what some tests want.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    handler: Arc<Handler>,
    seen: Arc<Mutex<Vec<Seen>>>,
    request: Request<Incoming>,
) -> Result<Response<Pieces>, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let path = head.uri.path_and_query().map_or(String::new(), ToString::to_string);
    let arrived = Seen { path, version: head.version, headers: head.headers, body };
    let act = handler(&arrived);
    seen.lock().push(arrived);
    tokio::time::sleep(act.delay).await;
    if act.close {
        return Err(io::Error::from(io::ErrorKind::ConnectionReset));
    }
    let flushed = Box::pin(tokio::time::sleep(FLUSH));
    let mut response = Response::new(Pieces { pieces: act.pieces, end: act.end, flushed });
    *response.status_mut() = act.status;
    *response.headers_mut() = act.headers;
    Ok(response)
}

struct Pieces {
    pieces: VecDeque<Bytes>,
    end: End,
    flushed: Pin<Box<Sleep>>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match (self.pieces.pop_front(), self.end) {
            (Some(piece), _) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            (None, End::Clean) => Poll::Ready(None),
            (None, End::Broken) => match Pin::new(&mut self.flushed).poll(context) {
                Poll::Ready(()) => Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::ConnectionReset)))),
                Poll::Pending => Poll::Pending,
            },
            (None, End::Hang) => Poll::Pending,
        }
    }
}
