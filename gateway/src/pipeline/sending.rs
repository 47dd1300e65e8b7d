//! Sends an answer to a client that may be behind. What its client does not take is kept here, up to a bound, so that the machine is not
//! held up by it, nor others whose answers come over the same connection; a client that stays behind is cut.
//!
//! No task runs for this. Whoever serves the client's connection polls what sends the answer, and if that has not asked for
//! more, it asks here instead ([`Watch::cut`]): the client's socket or window is full.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

use super::body::Prompt;
use super::relay::{BrokenOff, Relay};
use crate::serve::strict::Answering;

/// What was kept is given in pieces of this many bytes: what sends it holds sixteen of them, and is only then seen to be slow.
const PIECE: usize = 4 << 10;

type Given = Poll<Option<Result<Frame<Bytes>, BrokenOff>>>;

/// How far a client may be behind, and how long.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    /// Bytes kept for it.
    pub(super) bytes: usize,
    /// Bytes kept for all.
    pub(super) bytes_of_all: usize,
    /// Without taking any.
    pub(super) nothing_taken: Duration,
    /// With `bytes` kept and less than that taken.
    pub(super) full: Duration,
    /// Bytes kept for all now.
    pub(super) kept_for_all: Arc<AtomicUsize>,
}

/// The client's end of an answer. Dropped before its end, the client has left.
#[derive(Debug)]
pub struct Reader(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Whether the client has taken all that there is, and waits for more.
    asked: AtomicBool,
    answer: Mutex<Option<Behind>>,
}

/// Keeps an eye on the answer that is sent over a connection, or a stream of one.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Mutex<Option<Arc<Shared>>>>);

#[derive(Debug)]
struct Behind {
    relay: Box<Relay>,
    patience: Patience,
    kept: BytesMut,
    /// The machine's end of it.
    ended: Option<Result<(), BrokenOff>>,
    /// Since when the client has taken nothing.
    stalled: Option<Instant>,
    /// Since when there has been no room, and what the client has taken since.
    full: Option<(Instant, usize)>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Reader {
    pub(super) fn new(relay: Relay, patience: Patience) -> Reader {
        let behind = Behind {
            relay: Box::new(relay),
            patience,
            kept: BytesMut::new(),
            ended: None,
            stalled: None,
            full: None,
            timer: None,
        };
        Reader(Arc::new(Shared { asked: AtomicBool::new(true), answer: Mutex::new(Some(behind)) }))
    }

    pub(super) fn poll(&self, context: &mut Context<'_>) -> Given {
        let mut answer = self.0.answer.lock();
        let Some(behind) = answer.as_mut() else { return Poll::Ready(None) };
        let given = behind.give(context);
        self.0.asked.store(given.is_pending(), Ordering::Relaxed);
        given
    }

    /// Holds a connection's token as long as this answer lives.
    pub(super) fn goes_with(&self, answering: Answering) {
        if let Some(behind) = self.0.answer.lock().as_mut() {
            behind.relay.goes_with(answering);
        }
    }

    /// Keeps what a stream needs to go on elsewhere, should it break.
    pub(super) fn may_go_on(&self, prompt: Prompt) {
        if let Some(behind) = self.0.answer.lock().as_mut() {
            behind.relay.may_go_on(prompt);
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.0.answer.lock().as_ref().is_none_or(|behind| behind.kept.is_empty() && behind.relay.is_finished())
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let answer = self.0.answer.lock();
        let Some(behind) = answer.as_ref() else { return SizeHint::with_exact(0) };
        let mut hint = behind.relay.size_hint();
        if let Some(rest) = hint.exact() {
            hint.set_exact(rest + behind.kept.len() as u64);
        }
        hint
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let behind = self.0.answer.lock().take();
        if let Some(mut behind) = behind {
            behind.left();
        }
    }
}

impl Watch {
    /// From now on this answer is the one.
    pub fn begin(&self, reader: &Reader) {
        *self.0.lock() = Some(Arc::clone(&reader.0));
    }

    /// Takes over what the client does not take; ready when the client is to be cut. To be polled by the task that sends the
    /// answer, after it has tried to.
    pub async fn cut(&self) {
        poll_fn(|context| self.poll(context)).await;
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let watched = self.0.lock();
        let Some(shared) = watched.as_ref().filter(|shared| !shared.asked.load(Ordering::Relaxed)) else {
            return Poll::Pending;
        };
        let mut answer = shared.answer.lock();
        answer.as_mut().map_or(Poll::Pending, |behind| behind.take_over(context))
    }
}

impl Behind {
    /// To the client.
    fn give(&mut self, context: &mut Context<'_>) -> Given {
        self.stalled = None;
        if self.kept.is_empty() {
            return match self.ended.take() {
                None => self.relay.poll(context),
                Some(Ok(())) => Poll::Ready(None),
                Some(Err(broken)) => Poll::Ready(Some(Err(broken))),
            };
        }
        let piece = self.kept.split_to(PIECE.min(self.kept.len())).freeze();
        self.forget(piece.len());
        if let Some((_, taken)) = &mut self.full {
            *taken += piece.len();
        }
        // What has ended before the client had it all is booked when it has: nobody asks again behind the last bytes of an
        // answer of known length.
        if self.kept.is_empty() {
            self.kept = BytesMut::new();
            self.full = None;
            self.relay.client_has_all();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    /// From the machine, in the client's place; ready when the client is to be cut.
    fn take_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = Instant::now();
            let stalled = *self.stalled.get_or_insert(now);
            self.take(now, context);
            let full = self.fullness(now).and_then(|since| since.checked_add(self.patience.full));
            let clients = full.into_iter().chain(stalled.checked_add(self.patience.nothing_taken)).min();
            // The machine's time goes by while there is no room for what it sends.
            let machines = self.relay.deadline().filter(|due| self.ended.is_none() && *due > now);
            let Some(due) = clients.into_iter().chain(machines).min() else { return Poll::Pending };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            ready!(timer.as_mut().poll(context));
            if clients == Some(due) {
                self.kept_no_more();
                self.relay.client_is_cut();
                return Poll::Ready(());
            }
        }
    }

    /// Keeps what the machine has sent, as far as there is room; an answer that has run out of time has its end kept, too.
    fn take(&mut self, now: Instant, context: &mut Context<'_>) {
        self.relay.client_is_behind();
        let out_of_time = self.relay.deadline().is_some_and(|due| due <= now);
        while self.ended.is_none() && (out_of_time || self.has_room()) {
            match self.relay.poll(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.patience.kept_for_all.fetch_add(bytes.len(), Ordering::Relaxed);
                        self.kept.extend_from_slice(&bytes);
                    }
                }
                Poll::Ready(Some(Err(broken))) => self.ended = Some(Err(broken)),
                Poll::Ready(None) => self.ended = Some(Ok(())),
                Poll::Pending => break,
            }
        }
    }

    fn has_room(&self) -> bool {
        self.kept.len() < self.patience.bytes
            && self.patience.kept_for_all.load(Ordering::Relaxed) < self.patience.bytes_of_all
    }

    /// Since when the client has had as much before it as is kept for one, and has not taken that much.
    fn fullness(&mut self, now: Instant) -> Option<Instant> {
        let bytes = self.patience.bytes;
        self.full = match self.full {
            _ if self.kept.len() < bytes / 2 && self.has_room() => None,
            Some((_, taken)) if taken >= bytes => Some((now, 0)),
            None if self.kept.len() >= bytes || !self.has_room() => Some((now, 0)),
            full => full,
        };
        self.full.map(|(since, _)| since)
    }

    fn forget(&self, bytes: usize) {
        self.patience.kept_for_all.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn kept_no_more(&mut self) {
        self.forget(self.kept.len());
        self.kept = BytesMut::new();
    }

    /// The connection is gone, or hyper has had all it wants. A client that took nothing for about as long as it may was not
    /// patient but slow, whoever looked at the clock first.
    fn left(&mut self) {
        self.kept_no_more();
        let long = self.patience.nothing_taken.mul_f64(0.9);
        if self.stalled.is_some_and(|since| since.elapsed() >= long) {
            self.relay.client_is_cut();
        }
    }
}
