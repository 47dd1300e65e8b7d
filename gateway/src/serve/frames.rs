//! Looks at the frames of a client's HTTP/2 connection as they pass: h2 bounds header blocks, continuations, empty frames
//! and streams that are reset before they are served, but answers as many PINGs and SETTINGS as come, begins as many
//! streams as are reset, and waits for ever for the rest of a header block.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// What a client sends before the first frame, bytes.
const PREFACE: u32 = 24;
/// The head of a frame, bytes.
const HEAD: usize = 9;
/// Frames that ask for something other than work: as many at once, and as many a second. Clients that measure their line
/// with PINGs send one for each round trip at most.
const CONTROLS: (f64, f64) = (1_000.0, 100.0);
/// Streams that are begun and reset: as many at once, and as many a second, each of them a request that was begun in vain.
const RESETS: (f64, f64) = (500.0, 50.0);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Why a connection was ended for its frames, once it was.
pub type Ended = Arc<OnceLock<&'static str>>;

/// A connection of which the frames are counted.
#[derive(Debug)]
pub struct Frames<S> {
    stream: S,
    next: Next,
    /// Whether frames have come, the client's settings first.
    begun: bool,
    /// Whether a header block has begun that has not ended.
    in_block: bool,
    controls: Allowance,
    resets: Allowance,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    ended: Ended,
}

/// What comes next.
#[derive(Debug)]
enum Next {
    Preface(u32),
    Head([u8; HEAD], usize),
    Payload { left: u32, ends_block: bool },
}

/// So many at once, and so many a second.
#[derive(Debug)]
struct Allowance {
    left: f64,
    most: f64,
    per_s: f64,
    at: Instant,
}

impl Allowance {
    fn new((most, per_s): (f64, f64)) -> Allowance {
        Allowance { left: most, most, per_s, at: Instant::now() }
    }

    fn take(&mut self) -> bool {
        if self.left < 1.0 {
            let now = Instant::now();
            let more = now.duration_since(self.at).as_secs_f64() * self.per_s;
            self.left = (self.left + more).min(self.most);
            self.at = now;
        }
        self.left -= 1.0;
        self.left >= 0.0
    }
}

impl<S> Frames<S> {
    /// Of a client's connection; its first frame, and each header block, get `limit` to be whole. Tells why it was ended, where it was.
    pub fn new(stream: S, limit: Duration, ended: Ended) -> Frames<S> {
        Frames {
            stream,
            next: Next::Preface(PREFACE),
            begun: false,
            in_block: false,
            controls: Allowance::new(CONTROLS),
            resets: Allowance::new(RESETS),
            limit,
            timer: None,
            ended,
        }
    }

    /// Follows what has come; an error where it is too much of something.
    fn follow(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match &mut self.next {
                Next::Preface(left) => {
                    skip(left, &mut bytes);
                    if *left == 0 {
                        self.next = Next::Head([0; HEAD], 0);
                    }
                }
                Next::Head(head, have) => {
                    let count = (HEAD - *have).min(bytes.len());
                    let (fresh, rest) = bytes.split_at_checked(count).unwrap_or((bytes, &[]));
                    if let Some(room) = head.get_mut(*have..*have + count) {
                        room.copy_from_slice(fresh);
                    }
                    bytes = rest;
                    *have += count;
                    if *have == HEAD {
                        let head = *head;
                        self.begin(head)?;
                    }
                }
                Next::Payload { left, ends_block } => {
                    skip(left, &mut bytes);
                    if *left == 0 {
                        self.in_block &= !*ends_block;
                        self.next = Next::Head([0; HEAD], 0);
                    }
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, [high, middle, low, kind, flags, ..]: [u8; HEAD]) -> io::Result<()> {
        self.begun = true;
        let answer = flags & ACK != 0;
        let allowed = match kind {
            DATA | HEADERS | CONTINUATION | WINDOW_UPDATE | GOAWAY => true,
            PING | SETTINGS if answer => true,
            RST_STREAM => self.resets.take(),
            _ => self.controls.take(), // PING, SETTINGS, PRIORITY, and what is unknown
        };
        if !allowed {
            let _ = self.ended.set("http2-flood");
            return Err(io::Error::other(format!("too many frames of type {kind}")));
        }
        self.in_block |= kind == HEADERS;
        let ends_block = matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS != 0;
        self.next = match u32::from_be_bytes([0, high, middle, low]) {
            0 => {
                self.in_block &= !ends_block;
                Next::Head([0; HEAD], 0)
            }
            left => Next::Payload { left, ends_block },
        };
        Ok(())
    }

    /// The client has begun what it has to finish, and sends nothing now.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.begun && !self.in_block {
            self.timer = None;
            return Poll::Pending;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.limit)));
        ready!(timer.as_mut().poll(context));
        let _ = self.ended.set("head-timeout");
        Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)))
    }
}

/// Takes off what is there.
fn skip(left: &mut u32, bytes: &mut &[u8]) {
    let count = (*left as usize).min(bytes.len());
    *left -= count as u32;
    *bytes = bytes.get(count..).unwrap_or_default();
}

impl<S: AsyncRead + Unpin> AsyncRead for Frames<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if Pin::new(&mut self.stream).poll_read(context, buffer)?.is_pending() {
            return self.wait(context);
        }
        self.follow(buffer.filled().get(before..).unwrap_or_default())?;
        // A header block that comes in drops is not given more time by each.
        if self.in_block {
            let waited = self.wait(context);
            if let Poll::Ready(Err(error)) = waited {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Frames<S> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let [_, high, middle, low] = u32::try_from(payload).unwrap().to_be_bytes();
        [&[high, middle, low, kind, flags, 0, 0, 0, 1][..], &vec![0; payload]].concat()
    }

    fn frames() -> Frames<tokio::io::Empty> {
        Frames::new(tokio::io::empty(), Duration::from_secs(1), Arc::default())
    }

    #[test]
    fn however_frames_are_cut_they_are_the_same() {
        let all = [
            vec![b'x'; PREFACE as usize],
            frame(SETTINGS, 0, 18),
            frame(HEADERS, 0, 40),
            frame(CONTINUATION, 0, 0),
            frame(CONTINUATION, END_HEADERS, 7),
            frame(DATA, 1, 300),
            frame(HEADERS, END_HEADERS, 0),
            frame(HEADERS, 0, 0),
        ];
        let blocks = [false, false, true, true, false, false, false, true];
        for size in 1..50 {
            let mut frames = frames();
            for (bytes, in_block) in all.iter().zip(blocks) {
                for piece in bytes.chunks(size) {
                    frames.follow(piece).unwrap();
                }
                assert_eq!(frames.in_block, in_block, "in pieces of {size}");
            }
            assert!(frames.begun && frames.controls.left == CONTROLS.0 - 1.0);
        }
    }

    #[test]
    fn floods_are_told_from_use() {
        let lasts = |kind, flags| {
            let mut frames = frames();
            frames.follow(&[b'x'; PREFACE as usize]).unwrap();
            (0..5_000).take_while(|_| frames.follow(&frame(kind, flags, 4)).is_ok()).count()
        };
        assert!((1_000..1_100).contains(&lasts(PING, 0)) && lasts(PING, ACK) == 5_000);
        assert!((1_000..1_100).contains(&lasts(SETTINGS, 0)) && lasts(SETTINGS, ACK) == 5_000);
        assert!((1_000..1_100).contains(&lasts(2, 0)) && (1_000..1_100).contains(&lasts(77, 0)));
        assert!((500..600).contains(&lasts(RST_STREAM, 0)));
        assert_eq!(lasts(WINDOW_UPDATE, 0), 5_000, "a reader of small events sends one for each");
    }
}
