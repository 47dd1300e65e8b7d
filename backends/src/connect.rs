//! Connections to one endpoint: HTTP/1.1 kept for reuse, HTTP/2 shared up to a bound, TLS by rustls. What dies on a stale
//! kept connection before a byte was answered is sent again on a new one.

/// Several addresses of one name.
mod race;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use crate::endpoint::Address;

/// Servers of this field close idle connections after 5 s (uvicorn's default); we let go before they do.
const IDLE_LIMIT: Duration = Duration::from_secs(4);
/// Kept HTTP/1.1 connections of one endpoint.
const IDLE_CONNECTIONS: usize = 256;
/// Streams on one HTTP/2 connection; servers commonly allow 100.
const STREAMS_PER_CONNECTION: usize = 90;
/// HTTP/2 flow-control window of one stream, bytes.
const STREAM_WINDOW: u32 = 64 << 10;
/// HTTP/2 flow-control window of one connection, bytes.
const CONNECTION_WINDOW: u32 = 64 << 20;
/// A kept connection that the other side had closed says so within a round trip. One that dies later than this with a
/// request on it dies with the work in it: to send that again is a retry, and needs a budget.
const STALE_WITHIN: Duration = Duration::from_millis(250);
/// How often a quiet HTTP/2 connection is asked whether it lives.
const HTTP2_PING: Duration = Duration::from_secs(20);

/// Why no answer began.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name could not be resolved.
    #[error("cannot resolve `{0}`: {1}")]
    Dns(String, std::io::Error),
    /// No connection: refused, unreachable, reset.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, std::io::Error),
    /// No connection in time.
    #[error("no connection to {0} within {1:?}")]
    ConnectTimeout(String, Duration),
    /// The TLS handshake failed.
    #[error("TLS with {0}: {1}")]
    Tls(String, std::io::Error),
    /// A new connection took no request.
    #[error("{0} took the connection but no request")]
    Refused(String),
    /// The connection broke before the head of an answer.
    #[error("{0} closed the connection before answering: {1}")]
    Closed(String, hyper::Error),
}

impl ConnectError {
    /// The name in traces and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            ConnectError::Dns(..) => "dns",
            ConnectError::Connect(..) => "connect",
            ConnectError::ConnectTimeout(..) => "connect-timeout",
            ConnectError::Tls(..) => "tls",
            ConnectError::Refused(..) => "refused",
            ConnectError::Closed(..) => "closed",
        }
    }

    /// Whether it was the connection that ended, not a stream on it that the machine refused.
    fn connection_died(&self) -> bool {
        let ConnectError::Closed(_, error) = self else { return false };
        std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
    }

    /// Whether the host is there and its engine is not.
    pub fn nobody_listens(&self) -> bool {
        matches!(self, ConnectError::Connect(_, error) if error.kind() == std::io::ErrorKind::ConnectionRefused)
    }
}

/// A request body made of at most three slices: what stands before the model's name, the name, what stands behind it.
#[derive(Clone, Debug, Default)]
pub struct Spliced {
    parts: [Bytes; 3],
    next: usize,
}

impl Spliced {
    /// Of these slices, in order; empty ones are skipped.
    pub fn new(parts: [Bytes; 3]) -> Spliced {
        Spliced { parts, next: 0 }
    }

    fn remaining(&self) -> u64 {
        self.parts.iter().skip(self.next).map(|part| part.len() as u64).sum()
    }
}

impl Body for Spliced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            let next = self.next;
            let Some(part) = self.parts.get_mut(next) else { return Poll::Ready(None) };
            let part = std::mem::take(part);
            self.next += 1;
            if !part.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(part))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.remaining() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining())
    }
}

/// Which HTTP version to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// By ALPN over TLS, HTTP/1.1 without TLS.
    Negotiated,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only, with prior knowledge where there is no TLS.
    Http2,
}

/// What is sent: everything but the parts of the head that depend on the connection.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Method.
    pub method: Method,
    /// Path with the endpoint's base path.
    pub path: PathAndQuery,
    /// Headers, without `host`.
    pub headers: http::HeaderMap,
    /// Body.
    pub body: Spliced,
}

/// Connections to one endpoint.
pub struct Connections {
    address: Address,
    host: Option<HeaderValue>,
    tls: Option<Arc<rustls::ClientConfig>>,
    version: Version,
    idle: Mutex<Vec<Idle>>,
    shared: Mutex<Vec<Shared>>,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections").field("address", &self.address).finish_non_exhaustive()
    }
}

struct Idle {
    sender: http1::SendRequest<Spliced>,
    since: Instant,
}

struct Shared {
    sender: http2::SendRequest<Spliced>,
    streams: Arc<AtomicUsize>,
}

/// Keeps the connection of an answer: given back once the body has ended, closed (or its stream reset) when dropped
/// before.
#[derive(Debug)]
pub struct Hold(Option<Held>);

#[derive(Debug)]
enum Held {
    Http1(http1::SendRequest<Spliced>, Arc<Connections>),
    Http2(Arc<AtomicUsize>),
}

impl Hold {
    /// The body has ended: the connection may serve again.
    pub fn finish(mut self) {
        if let Some(Held::Http1(sender, connections)) = self.0.take_if(|held| matches!(held, Held::Http1(..))) {
            connections.keep(sender);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(Held::Http2(streams)) = &self.0 {
            streams.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Connections {
    /// No connection is made yet. `tasks` owns the tasks that drive them.
    pub fn new(
        address: Address,
        tls: Option<Arc<rustls::ClientConfig>>,
        version: Version,
        tasks: TaskTracker,
    ) -> Connections {
        let host = HeaderValue::try_from(address.authority.as_str()).ok();
        Connections { address, host, tls, version, idle: Mutex::default(), shared: Mutex::default(), tasks }
    }

    /// Whether a new portfolio's settings for this endpoint can use these connections.
    pub fn serves(&self, address: &Address, tls: Option<&Arc<rustls::ClientConfig>>, version: Version) -> bool {
        let same_tls = match (&self.tls, tls) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            _ => false,
        };
        self.address == *address && self.version == version && same_tls
    }

    /// Closes kept connections that have been idle too long.
    pub fn sweep(&self) {
        self.idle.lock().retain(|idle| idle.since.elapsed() < IDLE_LIMIT && !idle.sender.is_closed());
        let mut shared = self.shared.lock();
        shared.retain(|shared| !shared.sender.is_closed());
        // A cold start under load opens many; one stays for the next request, the others go when they have nothing to do.
        let mut kept = false;
        shared.retain(|shared| shared.streams.load(Ordering::Relaxed) > 0 || !std::mem::replace(&mut kept, true));
    }

    /// Sends a request and waits for the head of the answer. It is made anew for each connection that is tried: most need
    /// one, and a copy kept in reserve would cost as much.
    pub async fn send(
        self: &Arc<Self>,
        outgoing: impl Fn() -> Outgoing,
        connect_timeout: Duration,
    ) -> Result<(Response<Incoming>, Hold), ConnectError> {
        if let Some(answer) = self.send_on_shared(&outgoing).await? {
            return Ok(answer);
        }
        if let Some(answer) = self.send_on_idle(&outgoing).await? {
            return Ok(answer);
        }
        // Boxed: it is large, and most requests find a connection that is there.
        let connecting = tokio::time::timeout(connect_timeout, Box::pin(self.connect()));
        match connecting.await.map_err(|_| ConnectError::ConnectTimeout(self.name(), connect_timeout))?? {
            New::Http1(mut sender) => {
                let response = sender.send_request(self.http1_request(outgoing())).await;
                let response = response.map_err(|error| self.closed(error))?;
                Ok((response, Hold(Some(Held::Http1(sender, Arc::clone(self))))))
            }
            New::Http2(shared) => match self.send_on(shared, &outgoing).await? {
                Some(answer) => Ok(answer),
                None => Err(ConnectError::Refused(self.name())),
            },
        }
    }

    /// Tries kept HTTP/1.1 connections, newest first, until one answers; `None` where a new one is needed. One that dies
    /// at once, before it has answered anything, was stale: the request is sent anew.
    async fn send_on_idle(
        self: &Arc<Self>,
        outgoing: impl Fn() -> Outgoing,
    ) -> Result<Option<(Response<Incoming>, Hold)>, ConnectError> {
        while let Some(mut sender) = self.take_idle() {
            let sent = Instant::now();
            match sender.try_send_request(self.http1_request(outgoing())).await {
                Ok(response) => return Ok(Some((response, Hold(Some(Held::Http1(sender, Arc::clone(self))))))),
                Err(mut error) => match error.take_message() {
                    Some(_) => continue,
                    None if sent.elapsed() < STALE_WITHIN => return Ok(None),
                    None => return Err(self.closed(error.into_error())),
                },
            }
        }
        Ok(None)
    }

    async fn send_on_shared(
        self: &Arc<Self>,
        outgoing: impl Fn() -> Outgoing,
    ) -> Result<Option<(Response<Incoming>, Hold)>, ConnectError> {
        while let Some(shared) = self.take_shared() {
            let (sender, streams, sent) = (shared.sender.clone(), Arc::clone(&shared.streams), Instant::now());
            match self.send_on(shared, &outgoing).await {
                Ok(Some(answer)) => return Ok(Some(answer)),
                Ok(None) => {}
                // A request hears of it before the connection itself does, so that it must not be chosen again.
                Err(error) if error.connection_died() || sender.is_closed() => {
                    self.forget(&streams);
                    if sent.elapsed() >= STALE_WITHIN {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn forget(&self, streams: &Arc<AtomicUsize>) {
        self.shared.lock().retain(|shared| !Arc::ptr_eq(&shared.streams, streams));
    }

    fn take_shared(&self) -> Option<Shared> {
        let mut shared = self.shared.lock();
        shared.retain(|shared| !shared.sender.is_closed());
        let free = |shared: &&Shared| {
            shared.sender.is_ready() && shared.streams.load(Ordering::Relaxed) < STREAMS_PER_CONNECTION
        };
        let free = shared.iter().find(free)?;
        Some(Shared { sender: free.sender.clone(), streams: Arc::clone(&free.streams) })
    }

    /// `None` if the connection was going away and the machine has not seen the request.
    async fn send_on(
        self: &Arc<Self>,
        mut shared: Shared,
        outgoing: impl Fn() -> Outgoing,
    ) -> Result<Option<(Response<Incoming>, Hold)>, ConnectError> {
        shared.streams.fetch_add(1, Ordering::Relaxed);
        let hold = Hold(Some(Held::Http2(Arc::clone(&shared.streams))));
        match shared.sender.try_send_request(self.http2_request(outgoing())).await {
            Ok(response) => Ok(Some((response, hold))),
            Err(mut error) => match error.take_message() {
                Some(_) => Ok(None),
                None => Err(self.closed(error.into_error())),
            },
        }
    }

    async fn connect(self: &Arc<Self>) -> Result<New, ConnectError> {
        let stream = self.connect_tcp().await?;
        let Some(tls) = &self.tls else {
            return self.handshake(stream, self.version == Version::Http2).await;
        };
        let name = ServerName::try_from(self.address.host.clone())
            .map_err(|error| ConnectError::Tls(self.name(), std::io::Error::other(error)))?;
        let stream = tokio_rustls::TlsConnector::from(Arc::clone(tls))
            .connect(name, stream)
            .await
            .map_err(|error| ConnectError::Tls(self.name(), error))?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        self.handshake(stream, http2).await
    }

    async fn connect_tcp(&self) -> Result<TcpStream, ConnectError> {
        let (host, port) = (self.address.host.as_str(), self.address.port);
        let addresses = tokio::net::lookup_host((host, port))
            .await
            .map_err(|error| ConnectError::Dns(self.address.host.clone(), error))?;
        let stream = race::first(addresses, TcpStream::connect).await;
        let stream = stream.map_err(|error| ConnectError::Connect(self.name(), error))?;
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    async fn handshake<S>(self: &Arc<Self>, stream: S, http2: bool) -> Result<New, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = TokioIo::new(stream);
        if !http2 {
            let (sender, connection) = http1::handshake(stream).await.map_err(|error| self.closed(error))?;
            self.tasks.spawn(connection);
            return Ok(New::Http1(sender));
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(HTTP2_PING)
            .handshake(stream)
            .await
            .map_err(|error| self.closed(error))?;
        self.tasks.spawn(connection);
        let streams = Arc::new(AtomicUsize::new(0));
        self.shared.lock().push(Shared { sender: sender.clone(), streams: Arc::clone(&streams) });
        Ok(New::Http2(Shared { sender, streams }))
    }

    fn take_idle(&self) -> Option<http1::SendRequest<Spliced>> {
        let mut idle = self.idle.lock();
        let usable = |idle: &Idle| idle.sender.is_ready() && idle.since.elapsed() < IDLE_LIMIT;
        let newest = idle.iter().rposition(usable)?;
        Some(idle.swap_remove(newest).sender)
    }

    fn keep(&self, sender: http1::SendRequest<Spliced>) {
        let mut idle = self.idle.lock();
        idle.retain(|idle| idle.since.elapsed() < IDLE_LIMIT && !idle.sender.is_closed());
        if idle.len() < IDLE_CONNECTIONS && !sender.is_closed() {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }

    fn http1_request(&self, outgoing: Outgoing) -> Request<Spliced> {
        let mut request = Request::new(outgoing.body);
        *request.method_mut() = outgoing.method;
        *request.uri_mut() = Uri::from(outgoing.path);
        *request.headers_mut() = outgoing.headers;
        if let Some(host) = &self.host {
            request.headers_mut().insert(header::HOST, host.clone());
        }
        request
    }

    fn http2_request(&self, outgoing: Outgoing) -> Request<Spliced> {
        let mut request = self.http1_request(outgoing);
        request.headers_mut().remove(header::HOST);
        *request.version_mut() = http::Version::HTTP_2;
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(if self.address.tls { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = Some(self.address.authority.clone());
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        request
    }

    fn name(&self) -> String {
        self.address.authority.to_string()
    }

    fn closed(&self, error: hyper::Error) -> ConnectError {
        ConnectError::Closed(self.name(), error)
    }
}

enum New {
    Http1(http1::SendRequest<Spliced>),
    Http2(Shared),
}
