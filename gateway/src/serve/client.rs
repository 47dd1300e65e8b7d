//! Who is at the other end of a connection, and what it is doing: counted so that a connection without work is known as
//! one, and a caller with too much as well.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::callers::Place;
use crate::pipeline::Answer;

/// The other end of a connection.
#[derive(Debug)]
pub struct Client {
    address: IpAddr,
    running: AtomicUsize,
    begun: AtomicU64,
    of_all: Arc<AtomicUsize>,
    ending: AtomicBool,
}

impl Client {
    /// From this address, with nothing to do; what runs of all clients is counted too.
    pub fn new(address: IpAddr, of_all: Arc<AtomicUsize>) -> Client {
        Client {
            address,
            running: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            of_all,
            ending: AtomicBool::new(false),
        }
    }

    /// Where it is.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// A request has come. It runs until what is returned is dropped, with the last byte of its answer.
    pub fn begin(self: &Arc<Client>) -> Running {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.of_all.fetch_add(1, Ordering::Relaxed);
        Running(Arc::clone(self))
    }

    /// Whether no request of it runs.
    pub fn is_idle(&self) -> bool {
        self.running.load(Ordering::Relaxed) == 0
    }

    /// Its connection is asked to end.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Whether it is.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Requests that it has begun so far.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }
}

/// A request that runs.
#[derive(Debug)]
pub struct Running(Arc<Client>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
        self.0.of_all.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer that is counted as running until it has been sent or given up.
#[derive(Debug)]
pub struct Counted {
    answer: Answer,
    _running: Running,
    _place: Option<Place>,
}

impl Counted {
    /// An answer to a request that runs, and the caller's place if those are counted.
    pub fn new(answer: Answer, running: Running, place: Option<Place>) -> Counted {
        Counted { answer, _running: running, _place: place }
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = <Answer as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.answer).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }
}
