//! HTTP/1 as strict as the strictest before us and behind us: two readers of one connection must agree where a request
//! ends, or one of them serves what the other never saw. hyper reads more than RFC 9112 allows (a length beside chunks,
//! bare line feeds, several hosts); this stands before it and follows the framing, so that it sees only heads that can
//! be read in one way.
//!
//! Bytes go on as they come; only a head that is not whole yet is held back, and what follows a request until that has been
//! answered: hyper stops reading once it has a byte of the next request, and would not see the client leave. The first flaw ends the connection: hyper
//! is given a request for `/.refused` in place of the head, and nothing after it, so that the refusal is answered,
//! counted and traced like any other.

/// What a head may not say.
mod head;
/// Where requests end.
mod framing;

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use head::Flaw;

use framing::Framing;

/// Where a flawed head is sent instead of where it asked to go.
pub const REFUSED_PATH: &str = "/.refused";
const REFUSED: &[u8] = b"GET /.refused HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// What was noticed on a connection.
#[derive(Debug, Default)]
pub struct Heard {
    /// The first flaw.
    pub flaw: OnceLock<Flaw>,
    /// Whether a head had begun, and had not ended, when nothing more came.
    pub within_head: AtomicBool,
}

/// Whether a request of a connection is being answered: as long as anybody holds a clone beside the connection's two.
#[derive(Clone, Debug, Default)]
pub struct Answering(Arc<()>);

impl Answering {
    /// The connection itself and whoever makes the clones.
    const AT_REST: usize = 2;

    fn goes_on(&self) -> bool {
        Arc::strong_count(&self.0) > Self::AT_REST
    }
}

/// A connection of which only sound heads are read.
#[derive(Debug)]
pub struct Strict<S> {
    stream: S,
    framing: Framing,
    /// What has come and has not gone on: a head that is not whole, or what found no room.
    held: Vec<u8>,
    /// The part of it that may go on.
    passed: usize,
    /// Whether what comes next is not part of the request that went on last.
    ended: bool,
    heard: Arc<Heard>,
    answering: Answering,
}

/// Read at once where a head comes in pieces, bytes.
const PIECE: usize = 4 << 10;
/// Held of what a client sends before it has its answer, bytes; whoever sends more is not read until then.
const MOST_AHEAD: usize = 64 << 10;

impl<S> Strict<S> {
    /// Of a client's connection, telling what it notices. `answering` is kept by the caller, too, who gives clones to
    /// its answers.
    pub fn new(stream: S, heard: Arc<Heard>, answering: Answering) -> Strict<S> {
        Strict { stream, framing: Framing::default(), held: Vec::new(), passed: 0, ended: false, heard, answering }
    }

    /// How much of these bytes may go on; the first of them is the first that has not.
    fn examine(&mut self, bytes: &[u8]) -> usize {
        let (passed, flaw, ended) = self.framing.pass(bytes);
        self.ended = ended;
        if let Some(flaw) = flaw {
            let _ = self.heard.flaw.set(flaw);
            self.framing = Framing::Refused;
        }
        passed
    }

    /// Holds what has come and does not go on; after a flaw, the refused request in its place.
    fn hold(&mut self, rest: &[u8]) {
        if matches!(self.framing, Framing::Refused) {
            self.held.truncate(self.passed);
            self.held.extend_from_slice(REFUSED);
            self.passed = self.held.len();
        } else {
            self.held.extend_from_slice(rest);
        }
    }

    /// Gives away what may go on, as far as there is room. Whether anything was given.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let count = self.passed.min(buffer.remaining());
        buffer.put_slice(self.held.get(..count).unwrap_or_default());
        self.held.drain(..count);
        self.passed -= count;
        count > 0
    }
}

impl<S: AsyncRead + Unpin> Strict<S> {
    /// Reads what begins a request or goes on with a body, where it is wanted.
    fn read_through(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<Read>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let fresh = buffer.filled().get(before..).unwrap_or_default();
        if fresh.is_empty() {
            return Poll::Ready(Ok(Read::Given));
        }
        let passed = self.examine(fresh);
        self.hold(fresh.get(passed..).unwrap_or_default());
        buffer.set_filled(before + passed);
        Poll::Ready(Ok(if passed > 0 { Read::Given } else { Read::Held }))
    }

    /// Holds what comes before the last request has been answered: nothing goes on but the end.
    fn read_ahead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Read>> {
        if self.held.len() > MOST_AHEAD {
            return Poll::Pending; // hyper asks again once it has answered
        }
        let mut piece = [std::mem::MaybeUninit::uninit(); PIECE];
        let mut piece = ReadBuf::uninit(&mut piece);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut piece))?;
        self.held.extend_from_slice(piece.filled());
        Poll::Ready(Ok(if piece.filled().is_empty() { Read::Given } else { Read::Held }))
    }

    /// Looks at what came before the last request had been answered.
    fn go_on(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.passed = self.examine(&held);
        self.held = held;
        if matches!(self.framing, Framing::Refused) {
            self.hold(&[]);
        }
    }

    /// Reads more of what is held back.
    fn read_on(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Read>> {
        let mut piece = [std::mem::MaybeUninit::uninit(); PIECE];
        let mut piece = ReadBuf::uninit(&mut piece);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut piece))?;
        if piece.filled().is_empty() {
            self.passed = self.held.len(); // it ends within a head: hyper knows what that means
            return Poll::Ready(Ok(if self.passed > 0 { Read::Held } else { Read::Given }));
        }
        if matches!(self.framing, Framing::Refused) {
            return Poll::Ready(Ok(Read::Held)); // what follows a flaw is not looked at
        }
        self.held.extend_from_slice(piece.filled());
        self.go_on();
        Poll::Ready(Ok(Read::Held))
    }
}

/// What came of reading.
enum Read {
    /// The reader has something, or the end.
    Given,
    /// Nothing for the reader yet.
    Held,
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if buffer.remaining() == 0 || self.give(buffer) {
                return Poll::Ready(Ok(()));
            }
            let read = if self.ended && self.answering.goes_on() {
                self.read_ahead(context)
            } else if self.ended && !self.held.is_empty() {
                self.go_on();
                continue;
            } else if self.held.is_empty() && !matches!(self.framing, Framing::Refused) {
                self.read_through(context, buffer)
            } else {
                self.read_on(context)
            };
            match read {
                Poll::Ready(Ok(Read::Given)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(Read::Held)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.heard.within_head.store(!self.held.is_empty(), Ordering::Relaxed);
                    return Poll::Pending;
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
