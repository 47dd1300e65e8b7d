//! The body of a streamed answer: whatever the machine has sent by the time it is asked, as separate events in one
//! piece of bytes. Dropped before its end, it takes the job along.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};

use super::engine::Emission;
use super::faults::Blow;
use super::machine::Stream;
use super::openai::Chunks;

/// Events sent before a fault breaks a stream.
const EVENTS_BEFORE_BLOW: u32 = 3;
/// Bytes asked for at a time; several events fit.
const BUFFER_BYTES: usize = 4096;

/// A streamed answer.
pub(super) struct StreamBody {
    stream: Stream,
    chunks: Chunks,
    blow: Option<Blow>,
    arrived: VecDeque<Emission>,
    written: BytesMut,
    events: u32,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Struck,
    Ended,
}

impl StreamBody {
    pub(super) fn new(stream: Stream, chunks: Chunks, blow: Option<Blow>) -> StreamBody {
        let blow = blow.filter(|blow| matches!(blow, Blow::ResetMidStream | Blow::Stall));
        let (arrived, written) = (VecDeque::new(), BytesMut::new());
        StreamBody { stream, chunks, blow, arrived, written, events: 0, state: State::Open }
    }

    fn write_arrived(&mut self) {
        self.written.reserve(BUFFER_BYTES);
        while let Some(emission) = self.arrived.pop_front() {
            if self.blow.is_some() && self.events >= EVENTS_BEFORE_BLOW {
                self.state = State::Struck;
                return;
            }
            self.chunks.cached_tokens = emission.cached_tokens;
            self.chunks.put_tokens(&mut self.written, emission.tokens);
            self.events += 1;
            if emission.last {
                self.state = if self.blow.is_some() { State::Struck } else { State::Ended };
                if self.state == State::Ended {
                    self.chunks.put_end(&mut self.written);
                }
            }
        }
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        match (this.state, this.blow) {
            (State::Ended, _) => return Poll::Ready(None),
            (State::Struck, Some(Blow::ResetMidStream)) => {
                return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::ConnectionReset))));
            }
            // Nothing wakes it again: it stays until its caller gives up.
            (State::Struck, _) => return Poll::Pending,
            (State::Open, _) => {}
        }
        std::task::ready!(this.stream.poll_take(context, &mut this.arrived));
        this.write_arrived();
        if this.written.is_empty() {
            // Struck before anything was written: the new state decides.
            return self.poll_frame(context);
        }
        Poll::Ready(Some(Ok(Frame::data(this.written.split().freeze()))))
    }
}
