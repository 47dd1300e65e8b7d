//! A client: whole answers, streams event by event, HTTP/1.1 and HTTP/2, with and without TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pointsman_backends::frames::sse::{Events, data};
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

/// No request of a test takes longer, unless it is told to be patient.
const LONGEST: Duration = Duration::from_secs(60);

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Ask {
    /// A GET.
    pub fn get(path: &str) -> Ask {
        Ask { method: Method::GET, path: path.to_owned(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A POST of JSON.
    pub fn post(path: &str, body: &Value) -> Ask {
        Ask::raw(path, body.to_string())
    }

    /// A POST of bytes that claim to be JSON.
    pub fn raw(path: &str, body: impl Into<Bytes>) -> Ask {
        let ask = Ask { method: Method::POST, body: body.into(), ..Ask::get(path) };
        ask.header("content-type", "application/json")
    }

    /// A chat.
    pub fn chat(body: &Value) -> Ask {
        Ask::post("/v1/chat/completions", body)
    }

    /// By another method.
    pub fn method(self, method: Method) -> Ask {
        Ask { method, ..self }
    }

    /// With one more header.
    pub fn header(mut self, name: &'static str, value: &str) -> Ask {
        self.headers.insert(name, HeaderValue::try_from(value).expect("a header"));
        self
    }

    fn request(self, authority: &str, version: Version) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.headers_mut() = self.headers;
        *request.version_mut() = version;
        let uri = if version == Version::HTTP_2 { format!("http://{authority}{}", self.path) } else { self.path };
        *request.uri_mut() = uri.parse().expect("a path");
        if version == Version::HTTP_11 {
            let host = HeaderValue::try_from(authority).expect("a host");
            request.headers_mut().entry(header::HOST).or_insert(host);
        }
        request
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Reply {
    /// A header as text; empty where absent.
    pub fn header(&self, name: &str) -> &str {
        text(&self.headers, name)
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).expect("UTF-8")
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).map_or("", |value| value.to_str().expect("visible ASCII"))
}

/// How a stream goes on.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// An event, its `data`.
    Event(String),
    /// The answer ended as HTTP has it.
    End,
    /// The connection broke.
    Broken(String),
}

/// An answer of which the head is there. Dropped, its connection is closed, or its stream reset where others share it.
#[derive(Debug)]
pub struct Stream {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    body: Incoming,
    events: Events,
    connection: Connection,
}

impl Stream {
    /// A header as text; empty where absent.
    pub fn header(&self, name: &str) -> &str {
        text(&self.headers, name)
    }

    /// The next event.
    pub async fn next(&mut self) -> Next {
        loop {
            if let Some(event) = self.events.take() {
                return Next::Event(String::from_utf8_lossy(data(&event)).into_owned());
            }
            match tokio::time::timeout(self.connection.longest, self.body.frame()).await.expect("an event in time") {
                None => return Next::End,
                Some(Err(error)) => return Next::Broken(error.to_string()),
                Some(Ok(frame)) => self.events.push(frame.into_data().expect("only data")),
            }
        }
    }

    /// The whole body, of an answer from which nothing has been taken.
    pub async fn whole(self) -> Result<Reply, hyper::Error> {
        let body = tokio::time::timeout(self.connection.longest, self.body.collect())
            .await
            .expect("a whole answer in time")?;
        Ok(Reply { status: self.status, headers: self.headers, body: body.to_bytes() })
    }

    /// All events until the end, and how it ended.
    pub async fn rest(&mut self) -> (Vec<String>, Next) {
        let mut events = Vec::new();
        loop {
            match self.next().await {
                Next::Event(event) => events.push(event),
                end => return (events, end),
            }
        }
    }
}

/// A connection; the last clone to go closes it.
#[derive(Clone, Debug)]
pub struct Connection {
    sender: Sender,
    authority: String,
    longest: Duration,
    _driver: Arc<Driver>,
}

#[derive(Clone, Debug)]
enum Sender {
    Http1(Arc<tokio::sync::Mutex<http1::SendRequest<Full<Bytes>>>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

#[derive(Debug)]
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// HTTP/1.1.
    pub async fn http1(address: SocketAddr) -> Connection {
        Connection::over(connect(address).await, address.to_string(), false).await
    }

    /// HTTP/2 with prior knowledge.
    pub async fn http2(address: SocketAddr) -> Connection {
        Connection::over(connect(address).await, address.to_string(), true).await
    }

    /// The same, where it may be that nobody listens or that the other side wants no more connections.
    pub async fn try_new(address: SocketAddr, http2: bool) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Connection::try_over(stream, address.to_string(), http2).await.map_err(std::io::Error::other)
    }

    /// TLS; the version is what the server chose.
    pub async fn tls(address: SocketAddr, tls: Arc<ClientConfig>) -> Connection {
        Connection::try_tls(address, "localhost", tls).await.expect("a handshake")
    }

    /// TLS with a host of this name; an error says how the handshake failed.
    pub async fn try_tls(
        address: SocketAddr,
        host: &'static str,
        tls: Arc<ClientConfig>,
    ) -> std::io::Result<Connection> {
        let name = ServerName::try_from(host).expect("a name");
        let stream = TlsConnector::from(tls).connect(name, connect(address).await).await?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Connection::over(stream, host.to_owned(), http2).await)
    }

    async fn over<S>(stream: S, authority: String, http2: bool) -> Connection
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Connection::try_over(stream, authority, http2).await.expect("a connection")
    }

    async fn try_over<S>(stream: S, authority: String, http2: bool) -> Result<Connection, hyper::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, task) = if http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            (Sender::Http2(sender), tokio::spawn(async move { drop(connection.await) }))
        } else {
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            let sender = Arc::new(tokio::sync::Mutex::new(sender));
            (Sender::Http1(sender), tokio::spawn(async move { drop(connection.await) }))
        };
        let _driver = Arc::new(Driver(task.abort_handle()));
        Ok(Connection { sender, authority, longest: LONGEST, _driver })
    }

    /// Waits so long for anything.
    pub fn patient(self, longest: Duration) -> Connection {
        Connection { longest, ..self }
    }

    /// Whether HTTP/2 is spoken.
    pub fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Sends a request and waits for the head of its answer; an error says how the connection failed.
    pub async fn try_open(&self, ask: Ask) -> Result<Stream, hyper::Error> {
        let sending = async {
            match self.sender.clone() {
                Sender::Http1(sender) => {
                    let mut sender = sender.lock().await;
                    sender.ready().await?;
                    sender.send_request(ask.request(&self.authority, Version::HTTP_11)).await
                }
                Sender::Http2(mut sender) => {
                    sender.ready().await?;
                    sender.send_request(ask.request(&self.authority, Version::HTTP_2)).await
                }
            }
        };
        let response = tokio::time::timeout(self.longest, sending).await.expect("an answer in time")?;
        let (head, body) = response.into_parts();
        let events = Events::default();
        Ok(Stream { status: head.status, headers: head.headers, body, events, connection: self.clone() })
    }

    /// The same for those who expect an answer.
    pub async fn open(&self, ask: Ask) -> Stream {
        self.try_open(ask).await.expect("an answer")
    }

    /// Sends a request and waits for its whole answer; an error says how the connection failed.
    pub async fn try_send(&self, ask: Ask) -> Result<Reply, hyper::Error> {
        self.try_open(ask).await?.whole().await
    }

    /// The same for those who expect an answer.
    pub async fn send(&self, ask: Ask) -> Reply {
        self.try_send(ask).await.expect("an answer")
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    stream
}

/// Sends a request on an HTTP/1.1 connection of its own.
pub async fn send(address: SocketAddr, ask: Ask) -> Reply {
    Connection::http1(address).await.send(ask).await
}

/// Opens a stream on an HTTP/1.1 connection of its own.
pub async fn open(address: SocketAddr, ask: Ask) -> Stream {
    Connection::http1(address).await.open(ask).await
}

/// Sends bytes as they are and returns all that comes back until the other side closes or nothing has come for `quiet`.
pub async fn send_bytes(address: SocketAddr, bytes: &[u8], quiet: Duration) -> String {
    let mut stream = connect(address).await;
    // The other side may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let mut buffer = [0_u8; 4096];
    while let Ok(Ok(count @ 1..)) = tokio::time::timeout(quiet, stream.read(&mut buffer)).await {
        answer.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}
