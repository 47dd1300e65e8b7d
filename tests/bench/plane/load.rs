//! Many connections at once, from one thread that waits for all of them: a client that costs little beside a proxy.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::time::Timespec;

use crate::answer::{Answer, Events};
use crate::process::now_ns;

/// Read at once, bytes.
const READ: usize = 64 << 10;
/// Connections that are told of at once.
const TOLD: usize = 512;
/// Loads that have not ended this long after they should have are cut.
const GRACE: Duration = Duration::from_secs(15);
/// Longest time that is told apart, microseconds.
const LONGEST_US: u64 = 60_000_000;
/// After this many failures without an answer, nothing more is tried.
const HOPELESS: u64 = 500;

/// What is sent, and how.
#[derive(Debug)]
pub(crate) struct Load {
    /// Where to.
    pub(crate) address: SocketAddr,
    /// A request, head and body.
    pub(crate) request: Vec<u8>,
    /// Connections.
    pub(crate) connections: usize,
    /// How long, or how many streams.
    pub(crate) extent: Extent,
}

/// How much there is of a load.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extent {
    /// Each connection sends the next request when an answer is whole, for this long.
    For(Duration),
    /// Each connection asks for `each` streams of so many `events`, one after the other; they begin spread over `ramp`,
    /// and each is over within `longest`.
    Streams { each: u64, events: u64, ramp: Duration, longest: Duration },
}

/// What came out. Times in microseconds.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Answers that were right and whole.
    pub(crate) answers: u64,
    /// Everything else.
    pub(crate) errors: u64,
    /// Events.
    pub(crate) events: u64,
    /// From first to last.
    pub(crate) elapsed: Duration,
    /// Of whole answers: from the request on. Of streams: an event's way from the machine to here.
    pub(crate) times_us: Histogram<u64>,
    /// Of streams: from the request to the first event.
    pub(crate) first_us: Histogram<u64>,
}

struct Connection {
    stream: Option<TcpStream>,
    sent: usize,
    answer: Answer,
    events: Events,
    began_ns: u64,
    begin_at_ns: u64,
    busy: bool,
    left: u64,
    writing: bool,
}

/// Runs a load to its end.
pub(crate) fn run(load: &Load) -> Outcome {
    let histogram = || Histogram::new_with_bounds(1, LONGEST_US, 3).expect("bounds");
    let (times_us, first_us) = (histogram(), histogram());
    let outcome = Outcome { answers: 0, errors: 0, events: 0, elapsed: Duration::ZERO, times_us, first_us };
    let poll = epoll::create(CreateFlags::CLOEXEC).expect("a poll");
    let began_ns = now_ns();
    let (end, each, ramp) = match load.extent {
        Extent::For(time) => (time, u64::MAX, Duration::ZERO),
        Extent::Streams { each, ramp, longest, .. } => (ramp + longest * each as u32, each, ramp),
    };
    let gap_ns = ramp.as_nanos() as u64 / load.connections as u64;
    let connections = (0..load.connections as u64).map(|place| Connection {
        stream: None,
        sent: 0,
        answer: Answer::default(),
        events: Events::default(),
        began_ns: 0,
        begin_at_ns: began_ns + place * gap_ns,
        busy: false,
        left: each,
        writing: false,
    });
    let (stop_ns, end_ns) = (began_ns + end.as_nanos() as u64, began_ns + (end + GRACE).as_nanos() as u64);
    Running { load, poll, connections: connections.collect(), outcome, stop_ns, end_ns, began_ns }.until_the_end()
}

struct Running<'l> {
    load: &'l Load,
    poll: OwnedFd,
    connections: Vec<Connection>,
    outcome: Outcome,
    began_ns: u64,
    stop_ns: u64,
    end_ns: u64,
}

impl Running<'_> {
    fn until_the_end(mut self) -> Outcome {
        let streams = matches!(self.load.extent, Extent::Streams { .. });
        let mut told = Vec::with_capacity(TOLD);
        let mut buffer = vec![0; READ];
        loop {
            let now = now_ns();
            let open = streams || now < self.stop_ns;
            let mut next_ns = now + 50_000_000;
            for place in 0..self.connections.len() {
                let connection = &self.connections[place];
                if open && !connection.busy && connection.left > 0 {
                    match connection.begin_at_ns <= now {
                        true => self.begin(place, now),
                        false => next_ns = next_ns.min(connection.begin_at_ns),
                    }
                }
            }
            let over = |connection: &Connection| !connection.busy && (!open || connection.left == 0);
            let hopeless = self.outcome.errors > HOPELESS && self.outcome.errors > self.outcome.answers;
            if self.connections.iter().all(over) || now > self.end_ns || hopeless {
                break;
            }
            let mut wait_ns = next_ns - now;
            // Between two rounds over all connections, many answers are dealt with.
            for _ in 0..16 {
                told.clear();
                let wait = Timespec { tv_sec: 0, tv_nsec: wait_ns as i64 };
                let _ = epoll::wait(&self.poll, spare_capacity(&mut told), Some(&wait));
                let events: Vec<(usize, EventFlags)> =
                    told.iter().map(|event| (event.data.u64() as usize, event.flags)).collect();
                if events.is_empty() {
                    break;
                }
                for (place, flags) in events {
                    self.ready(place, flags, &mut buffer);
                }
                if now_ns() > self.stop_ns.min(next_ns) {
                    break;
                }
                wait_ns = 200_000;
            }
        }
        self.outcome.errors += self.connections.iter().filter(|connection| connection.busy).count() as u64;
        self.outcome.elapsed = Duration::from_nanos(now_ns() - self.began_ns);
        self.outcome
    }

    fn begin(&mut self, place: usize, now: u64) {
        let connection = &mut self.connections[place];
        connection.busy = true;
        (connection.sent, connection.began_ns, connection.events) = (0, now, Events::default());
        connection.answer.reset();
        if connection.stream.is_none() {
            let stream = TcpStream::connect_timeout(&self.load.address, Duration::from_secs(5)).and_then(|stream| {
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                epoll::add(&self.poll, &stream, EventData::new_u64(place as u64), EventFlags::IN)?;
                Ok(stream)
            });
            connection.writing = false;
            match stream {
                Ok(stream) => connection.stream = Some(stream),
                Err(_) => return self.ended(place, false),
            }
        }
        self.send(place);
    }

    fn ready(&mut self, place: usize, flags: EventFlags, buffer: &mut [u8]) {
        if flags.contains(EventFlags::OUT) {
            self.send(place);
        }
        if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            return;
        }
        let connection = &mut self.connections[place];
        let Some(stream) = &mut connection.stream else { return };
        let count = match stream.read(buffer) {
            Ok(count) if count > 0 && connection.busy => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            _ if connection.busy => return self.ended(place, false),
            _ => {
                connection.stream = None; // closed between two answers, which it may
                return;
            }
        };
        let now = now_ns();
        let Connection { answer, events, began_ns, .. } = connection;
        let outcome = &mut self.outcome;
        let whole = answer.take(&buffer[..count], |bytes| {
            events.take(bytes, |sent_ns| {
                outcome.events += 1;
                outcome.times_us.saturating_record((now.saturating_sub(sent_ns) / 1000).max(1));
            });
        });
        if events.seen > 0 && *began_ns > 0 {
            outcome.first_us.saturating_record(((now - *began_ns) / 1000).max(1));
            *began_ns = 0; // told once
        }
        match whole {
            Ok(false) => {}
            Ok(true) => {
                let right = answer.status == 200
                    && match self.load.extent {
                        Extent::For(_) => true,
                        Extent::Streams { events: wanted, .. } => events.done && events.seen == wanted,
                    };
                self.ended(place, right);
            }
            Err(_) => self.ended(place, false),
        }
    }

    fn send(&mut self, place: usize) {
        let connection = &mut self.connections[place];
        let Some(stream) = &mut connection.stream else { return };
        while connection.sent < self.load.request.len() {
            match stream.write(&self.load.request[connection.sent..]) {
                Ok(count) => connection.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.ended(place, false),
            }
        }
        let blocked = connection.sent < self.load.request.len();
        if blocked != connection.writing {
            connection.writing = blocked;
            let flags = if blocked { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            let _ = epoll::modify(&self.poll, &*stream, EventData::new_u64(place as u64), flags);
        }
    }

    /// An answer is over; the next request follows at once.
    fn ended(&mut self, place: usize, right: bool) {
        let now = now_ns();
        let connection = &mut self.connections[place];
        connection.busy = false;
        connection.left -= 1;
        let streams = matches!(self.load.extent, Extent::Streams { .. });
        if right {
            self.outcome.answers += 1;
            if !streams {
                self.outcome.times_us.saturating_record(((now - connection.began_ns) / 1000).max(1));
            }
        } else {
            self.outcome.errors += 1;
        }
        if !right || connection.answer.closes || streams {
            connection.stream = None;
            connection.begin_at_ns = now;
        } else if now < self.stop_ns {
            self.begin(place, now);
        }
    }
}
