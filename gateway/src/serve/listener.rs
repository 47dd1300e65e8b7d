//! Accepts client connections: TLS, HTTP/1.1 or HTTP/2 by what the client speaks, each phase under its own time limit.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::{Client, Counted};
use super::drive::{self, Closing, drive};
use super::edge::Edge;
use super::frames::{self, Frames};
use super::shortage::Shortage;
use super::streams::{self, Streams};
use super::strict::{Answering, Heard, REFUSED_PATH, Strict};
use crate::config::process::Process;
use crate::gateway::Gateway;
use crate::identity::Caller;
use crate::overload::Level;
use crate::pipeline::{self, Answer, Watch};
use crate::telemetry::metrics::Metrics;

/// Head of a request that is read at all, bytes; what is allowed is less, and refused in words by the pipeline.
const HEAD_BYTES: usize = 256 << 10;
/// Streams of one client's HTTP/2 connection.
const HTTP2_STREAMS: u32 = 250;
/// HTTP/2 flow-control window of one stream, bytes.
const STREAM_WINDOW: u32 = 256 << 10;
/// What is held of one HTTP/2 stream's answer beyond its client's window, bytes; what comes on top is kept elsewhere, and
/// counted.
const SEND_BUFFER: usize = 64 << 10;
/// HTTP/2 flow-control window of one connection, bytes.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// A client of HTTP/1.1 may have a request on its way on a connection that has none: for so long it is answered, and told that
/// it was the last. Only then connections without a request are closed.
const LAST_REQUESTS: Duration = Duration::from_secs(1);
/// HTTP/2 has a frame to say it at once, and a way to find out what is on its way.
const LAST_STREAMS: Duration = Duration::ZERO;
/// A silent HTTP/2 client is asked this often whether it lives.
const HTTP2_PING: Duration = Duration::from_secs(30);
/// A client that has sent a part of three bytes is looked at again after this, then ever more seldom.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// But as often as this.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// The preface of HTTP/2 and no HTTP/1.1 method begins so.
const HTTP2_PREFACE_START: &[u8] = b"PRI";

/// The clients' listener.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    tls: bool,
    edge: Arc<Edge>,
    times: Times,
}

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
struct Times {
    head: Duration,
    write: Duration,
}

/// A connection as it was accepted, and what it needs to be served.
struct Accepted {
    gateway: Arc<Gateway>,
    edge: Arc<Edge>,
    client: Arc<Client>,
    times: Times,
    closing: watch::Receiver<Closing>,
}

impl Listener {
    /// Serves a socket as the process file says.
    pub fn new(socket: TcpListener, process: &Process, metrics: Arc<Metrics>) -> Listener {
        let edge = Arc::new(Edge::new(process.connections, metrics));
        let times = Times { head: process.timeouts.head, write: process.timeouts.client_write };
        Listener { socket, tls: process.tls.is_some(), edge, times }
    }

    /// Serves until `stopped` turns true, then until every connection has finished what it was doing.
    pub async fn run(self, gateway: Arc<Gateway>, mut stopped: watch::Receiver<bool>) {
        let (close, closing) = watch::channel(Closing::Nobody);
        let tasks = TaskTracker::new();
        let cut = CancellationToken::new();
        let _cut_when_aborted = cut.clone().drop_guard();
        let mut shortage = Shortage::default();
        let mut overload = gateway.overload().watch();
        loop {
            let accepting = async {
                let room = self.edge.room().await;
                (room, self.socket.accept().await)
            };
            let (room, accepted) = tokio::select! {
                accepted = accepting => accepted,
                Ok(()) = overload.changed() => {
                    let idle = *overload.borrow_and_update() == Level::CloseIdle;
                    close.send_replace(if idle { Closing::Idle } else { Closing::Nobody });
                    continue;
                }
                _ = stopped.wait_for(|stopped| *stopped) => break,
            };
            let (stream, address) = match accepted {
                Ok((stream, address)) => (stream, address.ip()),
                Err(error) => {
                    shortage.wait(&error, &self.socket, self.edge.metrics()).await;
                    continue;
                }
            };
            shortage.is_over();
            let Some(taken) = self.edge.take(room, address, &gateway.snapshot().process.edge) else {
                self.edge.metrics().connections().cut("per-address");
                continue;
            };
            let (edge, client) = (Arc::clone(&self.edge), Arc::new(self.edge.client(address)));
            let (gateway, mut closing) = (Arc::clone(&gateway), closing.clone());
            closing.mark_unchanged(); // who comes now was not meant by what was said before
            let accepted = Accepted { gateway, edge, client, times: self.times, closing };
            let (tls, cut) = (self.tls, cut.clone());
            tasks.spawn(async move {
                let _ = stream.set_nodelay(true);
                if let Some(Err(error)) = cut.run_until_cancelled(open(accepted, stream, tls)).await {
                    tracing::debug!("client connection: {error}");
                }
                drop(taken);
            });
        }
        drop(self.socket);
        let _ = close.send(Closing::All);
        tasks.close();
        tasks.wait().await;
    }
}

async fn open(mut accepted: Accepted, stream: TcpStream, tls: bool) -> io::Result<()> {
    let metrics = Arc::clone(accepted.edge.metrics());
    let limit = accepted.gateway.snapshot().process.timeouts.opening;
    if !tls {
        let sniffing = within(limit, speaks_http2(&stream));
        let sniffed = unless_stopped(&mut accepted.closing, sniffing).await;
        let Some(http2) = sniffed.inspect_err(|error| count(&metrics, error, "first-byte-timeout"))? else {
            return Ok(());
        };
        let stream = patient(stream, accepted.times);
        return Box::pin(speak(accepted, stream, None, http2)).await;
    }
    // As it is now: certificates are swapped while connections stay.
    let config = accepted.gateway.identity().server_config();
    let tls = config.ok_or_else(|| io::Error::other("no certificate can be shown"))?;
    let stream = patient(stream, accepted.times);
    let handshake = Box::pin(within(limit, TlsAcceptor::from(tls).accept(stream)));
    let shaken = unless_stopped(&mut accepted.closing, handshake).await;
    let Some(stream) = shaken.inspect_err(|error| count(&metrics, error, "tls-timeout"))? else { return Ok(()) };
    let session = stream.get_ref().1;
    let http2 = session.alpn_protocol() == Some(b"h2");
    let peer = session.peer_certificates().and_then(|chain| accepted.gateway.identity().peer(chain));
    Box::pin(speak(accepted, stream, peer, http2)).await
}

/// Counts a phase that took too long; what the client broke off itself is its own affair.
fn count(metrics: &Metrics, error: &io::Error, reason: &'static str) {
    if error.kind() == io::ErrorKind::TimedOut {
        metrics.connections().cut(reason);
    }
}

/// A client that has not said a word does not hold up the end; `None` where it has come. Its first request may be on its way,
/// as any that comes last.
async fn unless_stopped<T>(
    closing: &mut watch::Receiver<Closing>,
    opening: impl Future<Output = io::Result<T>>,
) -> io::Result<Option<T>> {
    let mut heard = closing.clone();
    let over = async {
        let _ = heard.wait_for(|closing| *closing == Closing::All).await;
        tokio::time::sleep(LAST_REQUESTS).await;
    };
    tokio::select! {
        biased;
        opened = opening => opened.map(Some),
        () = over => Ok(None),
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(limit, work).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// A client that does not read is cut after a while. Answers of machines have a clock of their own, which tells more and
/// comes first; this one is for everything else.
fn patient(stream: TcpStream, times: Times) -> Pin<Box<TimeoutStream<TcpStream>>> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(times.write.mul_f64(1.5)));
    Box::pin(stream)
}

/// Looks at the first bytes without taking them.
async fn speaks_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut seen = [0_u8; HTTP2_PREFACE_START.len()];
    let mut pause = FIRST_PAUSE;
    loop {
        let count = stream.peek(&mut seen).await?;
        let seen = seen.get(..count).unwrap_or_default();
        if seen.is_empty() || seen.len() == HTTP2_PREFACE_START.len() || !HTTP2_PREFACE_START.starts_with(seen) {
            return Ok(seen == HTTP2_PREFACE_START);
        }
        // Peeking again returns at once what is already there; a client this slow can wait a little.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn speak<S>(accepted: Accepted, stream: S, peer: Option<Arc<Caller>>, http2: bool) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Accepted { gateway, edge, client, times, closing } = accepted;
    let heard = Arc::new(Heard::default());
    let noticed = Arc::clone(&heard);
    let ended = frames::Ended::default();
    let metrics = Arc::clone(edge.metrics());
    let age = drive::age(gateway.snapshot().process.timeouts.connection_age);
    let from = Arc::clone(&client);
    let ending = closing.clone();
    let watch = Watch::default();
    let answers = (!http2).then(|| watch.clone());
    let answering = Answering::default();
    let asked = answering.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (gateway, edge, running) = (Arc::clone(&gateway), Arc::clone(&edge), from.begin());
        let (answers, peer) = (answers.clone(), peer.clone());
        let last = !http2 && (from.is_ending() || *ending.borrow() == Closing::All);
        if let Some(flaw) = noticed.flaw.get().filter(|_| request.uri().path() == REFUSED_PATH) {
            request.extensions_mut().insert(*flaw);
        }
        let address = from.address();
        // Large while a request is being dealt with, and gone once its answer begins; connections stay.
        let asked = asked.clone();
        Box::pin(async move {
            let admitted = edge.admit(&gateway, request.headers(), (peer.as_deref(), address));
            let (admitted, place) = match admitted {
                Ok(place) => (Ok(()), place),
                Err(refusal) => (Err(refusal), None),
            };
            let mut response = pipeline::serve(gateway, request, peer, admitted).await;
            if last {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response.body_mut().goes_with(asked);
            if let Answer::Relay(reader) = response.body() {
                answers.map_or_else(|| streams::watch(reader), |answers| answers.begin(reader));
            }
            Ok::<_, std::convert::Infallible>(response.map(|answer| Counted::new(answer, running, place)))
        })
    });
    let served = if http2 {
        let stream = TokioIo::new(Frames::new(stream, times.head, Arc::clone(&ended)));
        let mut server = http2::Builder::new(Streams);
        server
            .timer(TokioTimer::new())
            .max_concurrent_streams(HTTP2_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEAD_BYTES as u32)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(HTTP2_PING);
        Box::pin(drive(
            server.serve_connection(stream, service),
            (&client, &metrics),
            (age, LAST_STREAMS),
            watch,
            closing,
        ))
        .await
    } else {
        let stream = TokioIo::new(Strict::new(stream, Arc::clone(&heard), answering));
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(times.head).max_buf_size(HEAD_BYTES);
        // Headers: hyper reads a hundred and answers 431 to more. Were it told to read more, it would take 25 kB from the heap
        // for each request.
        drive(server.serve_connection(stream, service), (&client, &metrics), (age, LAST_REQUESTS), watch, closing).await
    };
    if let Some(reason) = served.as_ref().err().and_then(|error| ended.get().copied().or_else(|| cause(error, &heard)))
    {
        metrics.connections().cut(reason);
    }
    served.map_err(io::Error::other)
}

/// Why this side ended a connection, where it did.
fn cause(error: &hyper::Error, heard: &Heard) -> Option<&'static str> {
    if error.is_timeout() {
        let within_head = heard.within_head.load(Ordering::Relaxed);
        return Some(if within_head { "head-timeout" } else { "idle" });
    }
    let mut sources = std::iter::successors(std::error::Error::source(error), |error| error.source());
    let late = |error: &(dyn std::error::Error + 'static)| {
        error.downcast_ref().is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::TimedOut)
    };
    sources.any(late).then_some("nothing-read")
}
