//! The machine behind the proxies: answers at once with a fixed answer, or streams events at a set pace. It also takes the
//! traces that a gateway sends.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::time::{Instant, Sleep, sleep};

use crate::process::now_ns;

/// Sets the pace of streams: `PUT /pace?EVENTS,MICROSECONDS`.
pub(crate) const PACE: &str = "/pace?";

const ANSWER: &str = r#"{"id":"chatcmpl-000000000000000000000001","object":"chat.completion","created":1780000000,"model":"gpt-oss-120b","choices":[{"index":0,"message":{"role":"assistant","content":"A proxy that stands in front of a machine should cost as little as one that is not there. What it does for its callers is choose, and what it does for its operators is tell; neither may be felt while an answer is on its way, and none of it may be lost.","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":27,"completion_tokens":54,"total_tokens":81}}"#;
const LAST: &str = "data: {\"id\":\"chatcmpl-000000000000000000000001\",\"object\":\"chat.completion.chunk\",\"created\":1780000000,\"model\":\"gpt-oss-120b\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":27,\"completion_tokens\":100,\"total_tokens\":127}}\n\ndata: [DONE]\n\n";
const MODELS: &str =
    r#"{"object":"list","data":[{"id":"gpt-oss-120b","object":"model","created":1780000000,"owned_by":"bench"}]}"#;
/// What routers ask of their workers before they send work.
const WORKER: &str = r#"{"status":"ok","model_path":"gpt-oss-120b","served_model_name":"gpt-oss-120b","is_generation":true,"version":"1","tp_size":1,"dp_size":1}"#;

/// Of streams.
#[derive(Debug, Default)]
struct Pace {
    events: AtomicU64,
    every_us: AtomicU64,
}

/// Serves until it is killed.
pub(crate) fn run(listeners: usize) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let pace = Arc::new(Pace::default());
        let mut addresses = String::new();
        for _ in 0..listeners {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
            let _ = write!(addresses, "{} ", listener.local_addr().expect("an address"));
            tokio::spawn(serve(listener, Arc::clone(&pace)));
        }
        println!("{addresses}");
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}

/// The addresses in the line that it prints.
pub(crate) fn addresses(line: &str) -> Vec<SocketAddr> {
    line.split_whitespace().map(|address| address.parse().expect("an address")).collect()
}

async fn serve(listener: TcpListener, pace: Arc<Pace>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let pace = Arc::clone(&pace);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, Arc::clone(&pace)));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, pace: Arc<Pace>) -> Result<Response<Reply>, Infallible> {
    let (head, body) = request.into_parts();
    let streamed = wants_stream(body).await;
    Ok(match head.uri.path() {
        "/v1/chat/completions" | "/chat/completions" if streamed => {
            let mut response = Response::new(Reply::Stream(Box::new(Stream::new(&pace))));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            response
        }
        "/v1/chat/completions" | "/chat/completions" => json(ANSWER),
        "/v1/models" | "/models" => json(MODELS),
        "/pace" => {
            let (events, every_us) = head.uri.query().and_then(|query| query.split_once(',')).expect("a pace");
            pace.events.store(events.parse().expect("a number"), Relaxed);
            pace.every_us.store(every_us.parse().expect("a number"), Relaxed);
            json("{}")
        }
        "/v1/traces" | "/health" | "/healthz" | "/v1/health" | "/ready" | "/" | "/get_model_info" | "/model_info"
        | "/get_server_info" | "/server_info" | "/version" | "/health_generate" => json(WORKER),
        _ => {
            let mut response = json("{}");
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    })
}

/// Reads all of a body; whether it asks for a stream.
async fn wants_stream(mut body: Incoming) -> bool {
    let mut streamed = false;
    let wanted = [memchr::memmem::Finder::new(b"\"stream\":true"), memchr::memmem::Finder::new(b"\"stream\": true")];
    let mut seam: Vec<u8> = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(bytes) = frame.into_data() else { continue };
        seam.extend_from_slice(&bytes[..bytes.len().min(16)]);
        streamed |= wanted.iter().any(|wanted| wanted.find(&bytes).is_some() || wanted.find(&seam).is_some());
        seam = bytes[bytes.len().saturating_sub(16)..].to_vec();
    }
    streamed
}

fn json(text: &'static str) -> Response<Reply> {
    let mut response = Response::new(Reply::Whole(Some(Bytes::from_static(text.as_bytes()))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Body of an answer.
enum Reply {
    Whole(Option<Bytes>),
    Stream(Box<Stream>),
}

/// Events at a steady pace, the first at once. Each carries when it was sent, so that its way can be timed.
struct Stream {
    sent: u64,
    events: u64,
    every: Duration,
    next: Pin<Box<Sleep>>,
}

impl Stream {
    fn new(pace: &Pace) -> Stream {
        let every = Duration::from_micros(pace.every_us.load(Relaxed));
        Stream { sent: 0, events: pace.events.load(Relaxed), every, next: Box::pin(sleep(Duration::ZERO)) }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.sent > self.events {
            return Poll::Ready(None);
        }
        let mut due = Instant::now();
        if self.sent > 0 {
            ready!(self.next.as_mut().poll(context));
            due = self.next.deadline();
        }
        self.next.as_mut().reset(due + self.every);
        self.sent += 1;
        Poll::Ready(Some(if self.sent > self.events { Bytes::from_static(LAST.as_bytes()) } else { event(self.sent) }))
    }
}

fn event(number: u64) -> Bytes {
    let mut text = String::with_capacity(256);
    let _ = write!(
        text,
        "data: {{\"id\":\"chatcmpl-000000000000000000000001\",\"object\":\"chat.completion.chunk\",\"created\":1780000000,\
         \"model\":\"gpt-oss-120b\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"@{}@ tok{number}\"}},\
         \"finish_reason\":null}}]}}\n\n",
        now_ns()
    );
    Bytes::from(text)
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut *self {
            Reply::Whole(bytes) => bytes.take(),
            Reply::Stream(stream) => ready!(stream.poll(context)),
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Reply::Stream(_) => SizeHint::default(),
        }
    }
}
