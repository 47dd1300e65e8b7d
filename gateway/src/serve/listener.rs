//! Accepts client connections: TLS, HTTP/1.1 or HTTP/2 by what the client speaks, each phase under its own time limit.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::strict::{Answering, FirstFlaw, REFUSED_PATH, Strict};
use crate::config::process::Process;
use crate::gateway::Gateway;
use crate::identity::Caller;
use crate::pipeline;

/// TLS handshake and the first byte of a request each get this long.
const OPENING_TIME: Duration = Duration::from_secs(10);
/// After an accept fails (no file descriptors, say) nothing is accepted for this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Head of a request that is read at all, bytes; what is allowed is less, and refused in words by the pipeline.
const HEAD_BYTES: usize = 256 << 10;
/// Streams of one client's HTTP/2 connection.
const HTTP2_STREAMS: u32 = 250;
/// HTTP/2 flow-control window of one stream, bytes.
const STREAM_WINDOW: u32 = 256 << 10;
/// HTTP/2 flow-control window of one connection, bytes.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Once the gateway ends, connections of HTTP/1.1 are kept for a last request so long.
const LAST_REQUESTS: Duration = Duration::from_secs(1);
/// A silent HTTP/2 client is asked this often whether it lives.
const HTTP2_PING: Duration = Duration::from_secs(30);
/// The preface of HTTP/2 and no HTTP/1.1 method begins so.
const HTTP2_PREFACE_START: &[u8] = b"PRI";

/// The clients' listener.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    tls: bool,
    connections: Arc<Semaphore>,
    times: Times,
}

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
struct Times {
    head: Duration,
    write: Duration,
}

impl Listener {
    /// Serves a socket as the process file says.
    pub fn new(socket: TcpListener, process: &Process) -> Listener {
        let connections = Arc::new(Semaphore::new(process.connections.min(Semaphore::MAX_PERMITS)));
        let times = Times { head: process.timeouts.head, write: process.timeouts.client_write };
        Listener { socket, tls: process.tls.is_some(), connections, times }
    }

    /// Serves until `stopped` turns true, then until every connection has finished what it was doing.
    pub async fn run(self, gateway: Arc<Gateway>, mut stopped: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        let tasks = TaskTracker::new();
        let cut = CancellationToken::new();
        let _cut_when_aborted = cut.clone().drop_guard();
        loop {
            let accepting = async {
                let permit = Arc::clone(&self.connections).acquire_owned().await;
                (permit, self.socket.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                accepted = accepting => accepted,
                _ = stopped.wait_for(|stopped| *stopped) => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (gateway, tls, watcher) = (Arc::clone(&gateway), self.tls, graceful.watcher());
                    let (times, stopped, cut) = (self.times, stopped.clone(), cut.clone());
                    tasks.spawn(async move {
                        let _ = stream.set_nodelay(true);
                        let serving = open(gateway, stream, tls, watcher, times, stopped);
                        if let Some(Err(error)) = cut.run_until_cancelled(serving).await {
                            tracing::debug!("client connection: {error}");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.socket);
        graceful.shutdown().await;
        tasks.close();
        tasks.wait().await;
    }
}

async fn open(
    gateway: Arc<Gateway>,
    stream: TcpStream,
    tls: bool,
    watcher: Watcher,
    times: Times,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    if !tls {
        let sniffing = within(OPENING_TIME, speaks_http2(&stream));
        let Some(http2) = unless_stopped(&mut stopped, sniffing).await? else { return Ok(()) };
        return Box::pin(speak(gateway, patient(stream, times), None, http2, (watcher, stopped), times)).await;
    }
    // As it is now: certificates are swapped while connections stay.
    let config = gateway.identity().server_config();
    let tls = config.ok_or_else(|| io::Error::other("no certificate can be shown"))?;
    let handshake = Box::pin(within(OPENING_TIME, TlsAcceptor::from(tls).accept(patient(stream, times))));
    let Some(stream) = unless_stopped(&mut stopped, handshake).await? else { return Ok(()) };
    let session = stream.get_ref().1;
    let http2 = session.alpn_protocol() == Some(b"h2");
    let peer = session.peer_certificates().and_then(|chain| gateway.identity().peer(chain));
    Box::pin(speak(gateway, stream, peer, http2, (watcher, stopped), times)).await
}

/// A client of HTTP/1.1 may have a request on its way on a connection that has none: it is answered, and told that it was
/// the last. Only then connections without a request are closed.
async fn last_requests<C: GracefulConnection>(
    connection: C,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), C::Error> {
    let mut connection = std::pin::pin!(connection);
    let moment = async {
        let _ = stopped.wait_for(|stopped| *stopped).await;
        tokio::time::sleep(LAST_REQUESTS).await;
    };
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = moment => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// A client that has not said a word does not hold up the end; `None` where it has come.
async fn unless_stopped<T>(
    stopped: &mut watch::Receiver<bool>,
    opening: impl Future<Output = io::Result<T>>,
) -> io::Result<Option<T>> {
    tokio::select! {
        biased;
        opened = opening => opened.map(Some),
        _ = stopped.wait_for(|stopped| *stopped) => Ok(None),
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(limit, work).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// A client that does not read its answer is cut after a while; nothing else would ever look at its clock.
fn patient(stream: TcpStream, times: Times) -> Pin<Box<TimeoutStream<TcpStream>>> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(times.write));
    Box::pin(stream)
}

/// Looks at the first bytes without taking them.
async fn speaks_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut seen = [0_u8; HTTP2_PREFACE_START.len()];
    loop {
        let count = stream.peek(&mut seen).await?;
        let seen = seen.get(..count).unwrap_or_default();
        if seen.is_empty() || seen.len() == HTTP2_PREFACE_START.len() || !HTTP2_PREFACE_START.starts_with(seen) {
            return Ok(seen == HTTP2_PREFACE_START);
        }
        // Peeking again returns at once what is already there; a client this slow can wait a little.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn speak<S>(
    gateway: Arc<Gateway>,
    stream: S,
    peer: Option<Arc<Caller>>,
    http2: bool,
    (watcher, stopped): (Watcher, watch::Receiver<bool>),
    times: Times,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let flaw = FirstFlaw::default();
    let heard = Arc::clone(&flaw);
    let ending = stopped.clone();
    let answering = Answering::default();
    let asked = answering.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (gateway, peer, last) = (Arc::clone(&gateway), peer.clone(), !http2 && *ending.borrow());
        if let Some(flaw) = heard.get().filter(|_| request.uri().path() == REFUSED_PATH) {
            request.extensions_mut().insert(*flaw);
        }
        // Large while a request is being dealt with, and gone once its answer begins; connections stay.
        let asked = asked.clone();
        Box::pin(async move {
            let mut response = pipeline::serve(gateway, request, peer).await;
            if last {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response.body_mut().goes_with(asked);
            Ok::<_, std::convert::Infallible>(response)
        })
    });
    let served = if http2 {
        let stream = TokioIo::new(stream);
        let mut server = http2::Builder::new(TokioExecutor::new());
        server
            .timer(TokioTimer::new())
            .max_concurrent_streams(HTTP2_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEAD_BYTES as u32)
            .keep_alive_interval(HTTP2_PING);
        Box::pin(watcher.watch(server.serve_connection(stream, service))).await
    } else {
        let stream = TokioIo::new(Strict::new(stream, flaw, answering));
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(times.head).max_buf_size(HEAD_BYTES);
        // Headers: hyper reads a hundred and answers 431 to more. Were it told to read more, it would take 25 kB from the heap
        // for each request.
        last_requests(server.serve_connection(stream, service), stopped).await
    };
    served.map_err(io::Error::other)
}
