//! A connection of a client in memory, read by hyper behind the strict reader, by hyper alone, and by a third reader that
//! knows nothing but lengths and chunks.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pointsman::serve::strict::{Answering, Flaw, Heard, Strict};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A request as a reader understood it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Method and target.
    pub line: String,
    /// Its body; `None` where it did not come to its end.
    pub body: Option<Vec<u8>>,
}

/// Bytes that come piece by piece; then nothing more comes, and the other side waits.
struct Pieces {
    pieces: std::vec::IntoIter<Vec<u8>>,
    rest: Vec<u8>,
}

impl Pieces {
    /// Cut at these places.
    fn new(bytes: &[u8], cuts: &[usize]) -> Pieces {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| (*cut).min(bytes.len())).collect();
        cuts.sort_unstable();
        cuts.push(bytes.len());
        let mut from = 0;
        let mut pieces = Vec::new();
        for cut in cuts {
            pieces.push(bytes[from..cut].to_vec());
            from = cut;
        }
        pieces.retain(|piece| !piece.is_empty());
        Pieces { pieces: pieces.into_iter(), rest: Vec::new() }
    }
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            let Some(piece) = self.pieces.next() else { return Poll::Pending };
            self.rest = piece;
        }
        let count = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..count]);
        self.rest.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What hyper reads behind the strict reader, and the flaw that ended the connection.
pub fn strictly(bytes: &[u8], cuts: &[usize]) -> (Vec<Read>, Option<Flaw>) {
    let (heard, answering) = (Arc::new(Heard::default()), Answering::default());
    let read = served(Strict::new(Pieces::new(bytes, cuts), Arc::clone(&heard), answering.clone()));
    (read, heard.flaw.get().copied())
}

/// What hyper reads alone.
pub fn by_hyper(bytes: &[u8]) -> Vec<Read> {
    served(Pieces::new(bytes, &[]))
}

fn served(stream: impl AsyncRead + AsyncWrite + Unpin) -> Vec<Read> {
    let read = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let read = Rc::clone(&read);
        async move {
            let line = format!("{} {}", request.method(), request.uri());
            let place = read.borrow().len();
            read.borrow_mut().push(Read { line, body: None });
            let body = request.into_body().collect().await;
            if let (Ok(body), Some(read)) = (body, read.borrow_mut().get_mut(place)) {
                read.body = Some(body.to_bytes().to_vec());
            }
            Ok::<_, std::convert::Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    {
        let mut context = Context::from_waker(Waker::noop());
        let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        // hyper yields now and then without having nothing to do.
        for _ in 0..64 {
            if connection.as_mut().poll(&mut context).is_ready() {
                break;
            }
        }
    }
    Rc::try_unwrap(read).map(RefCell::into_inner).unwrap_or_default()
}

/// What stands there for a reader that takes heads to be sound: request after request, as far as they are whole.
pub fn plainly(mut bytes: &[u8]) -> Vec<Read> {
    let mut read = Vec::new();
    loop {
        while let Some(rest) = bytes.strip_prefix(b"\r\n") {
            bytes = rest;
        }
        let Some((head, rest)) = until(bytes, b"\r\n\r\n") else { return read };
        let head = String::from_utf8_lossy(head).into_owned();
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or_default();
        let line = line.rsplit_once(' ').map_or(line, |(line, _)| line).to_owned();
        let (mut length, mut chunked) = (0, false);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "transfer-encoding" => chunked = true,
                _ => {}
            }
        }
        let body = if chunked { chunks(rest) } else { rest.split_at_checked(length).map(|(body, rest)| (body.to_vec(), rest)) };
        let Some((body, rest)) = body else {
            read.push(Read { line, body: None });
            return read;
        };
        read.push(Read { line, body: Some(body) });
        bytes = rest;
    }
}

fn chunks(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let (line, rest) = until(bytes, b"\r\n")?;
        let digits = line.split(|byte| *byte == b';').next()?;
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        if size == 0 {
            let mut rest = rest;
            loop {
                let (line, behind) = until(rest, b"\r\n")?;
                rest = behind;
                if line.is_empty() {
                    return Some((body, rest));
                }
            }
        }
        let (chunk, rest) = rest.split_at_checked(size)?;
        body.extend_from_slice(chunk);
        bytes = rest.strip_prefix(b"\r\n")?;
    }
}

fn until<'b>(bytes: &'b [u8], end: &[u8]) -> Option<(&'b [u8], &'b [u8])> {
    let at = bytes.windows(end.len()).position(|window| window == end)?;
    Some((&bytes[..at], &bytes[at + end.len()..]))
}
