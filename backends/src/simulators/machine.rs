//! An engine in real time: one driver lets happen what is due, readers collect their streams, and a reader who leaves
//! takes the job along.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_policies::units::Micros;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::account::{Account, Taken};
use super::engine::{Admission, Emission, Engine, Job, Refused};

/// Events held for a slow reader; beyond this, tokens join the last one held.
const HELD_EVENTS: usize = 1024;
/// The longest sleep of the driver: a bound on what clocks can express, not a rhythm.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// A machine that runs. Clones are the same machine.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    floor: Mutex<Floor>,
    /// Something may be due earlier than the driver thinks.
    changed: Notify,
    clock: Clock,
}

#[derive(Debug)]
struct Floor {
    engine: Engine,
    mailboxes: HashMap<u64, Arc<Mailbox>>,
    taken: Taken,
    next_id: u64,
    sent: Vec<Emission>,
    last_cancel: Option<LastCancel>,
}

impl Machine {
    /// The machine's time runs `speed` times as fast as real time.
    pub(super) fn new(engine: Engine, speed: f64, account: Option<Account>) -> Machine {
        let taken = Taken::off(account);
        let floor = Floor { engine, mailboxes: HashMap::new(), taken, next_id: 1, sent: Vec::new(), last_cancel: None };
        let clock = Clock { origin: Instant::now(), speed: if speed > 0.0 { speed } else { 1.0 } };
        Machine { shared: Arc::new(Shared { floor: Mutex::new(floor), changed: Notify::new(), clock }) }
    }

    /// Lets happen what is due, until dropped.
    pub(super) async fn drive(self) {
        let shared = &self.shared;
        loop {
            let next = {
                let mut floor = shared.floor.lock();
                floor.advance(shared.clock.now());
                floor.engine.next_event()
            };
            let wake = next.map_or_else(|| Instant::now() + LONGEST_SLEEP, |at| shared.clock.instant(at));
            tokio::select! {
                () = tokio::time::sleep_until(wake) => {}
                () = shared.changed.notified() => {}
            }
        }
    }

    /// Hands a job in; its number is the machine's to give.
    pub(super) fn submit(&self, job: Job) -> Result<Stream, Refused> {
        let now = self.shared.clock.now();
        let mut floor = self.shared.floor.lock();
        floor.advance(now);
        let id = floor.next_id;
        floor.taken.take(id, &job)?;
        match floor.engine.submit(now, Job { id, ..job }) {
            Admission::Refused(refused) => {
                floor.taken.give_back(id);
                Err(refused)
            }
            Admission::Accepted => {
                floor.next_id += 1;
                let mailbox = Arc::<Mailbox>::default();
                floor.mailboxes.insert(id, Arc::clone(&mailbox));
                drop(floor);
                self.shared.changed.notify_one();
                Ok(Stream { id, mailbox, shared: Arc::clone(&self.shared), ended: false })
            }
        }
    }

    /// A span of the machine's time in real time.
    pub(super) fn real(&self, span: Micros) -> Duration {
        self.shared.clock.real(span)
    }

    /// What prompt and answer together may be, tokens.
    pub(super) fn longest(&self) -> u64 {
        self.shared.floor.lock().engine.profile().longest()
    }

    pub(super) fn stats(&self) -> Stats {
        let now = self.shared.clock.now();
        let mut floor = self.shared.floor.lock();
        floor.advance(now);
        let (engine, counters) = (&floor.engine, floor.engine.counters());
        let energy = engine.energy(now);
        Stats {
            kind: engine.profile().kind.as_str(),
            running: engine.running(),
            waiting: engine.waiting(),
            kv_tokens: engine.kv_tokens(),
            kv_capacity: engine.profile().service.kv_tokens,
            accepted: counters.accepted,
            refused: counters.refused,
            completed: counters.completed,
            cancelled: counters.cancelled,
            preempted: counters.preempted,
            prompt_tokens: counters.prompt_tokens,
            output_tokens: counters.output_tokens,
            joules: energy.joules,
            energy_basis: energy.basis.as_str(),
            last_cancel: floor.last_cancel,
            faults: Vec::new(),
        }
    }
}

impl Floor {
    fn advance(&mut self, now: Micros) {
        self.engine.advance(now, &mut self.sent);
        for emission in self.sent.drain(..) {
            if emission.last {
                self.taken.settle(emission.id, None);
                if let Some(mailbox) = self.mailboxes.remove(&emission.id) {
                    mailbox.put(emission);
                }
            } else if let Some(mailbox) = self.mailboxes.get(&emission.id) {
                mailbox.put(emission);
            }
        }
    }
}

/// The machine's counters at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// Kind of machine.
    pub kind: &'static str,
    /// Jobs that have a place.
    pub running: usize,
    /// Jobs accepted that wait for a place.
    pub waiting: usize,
    /// KV memory in use, tokens.
    pub kv_tokens: u64,
    /// KV memory there is, tokens, where it is the bound.
    pub kv_capacity: Option<u64>,
    /// Jobs taken in.
    pub accepted: u64,
    /// Jobs refused.
    pub refused: u64,
    /// Jobs that ran to their end.
    pub completed: u64,
    /// Jobs whose caller left.
    pub cancelled: u64,
    /// Times a job lost its place because KV memory ran out.
    pub preempted: u64,
    /// Prompt tokens of jobs that ended.
    pub prompt_tokens: u64,
    /// Tokens sent.
    pub output_tokens: u64,
    /// Energy used, joules.
    pub joules: f64,
    /// How the energy was reckoned: `power`, `per-token` or `unknown`.
    pub energy_basis: &'static str,
    /// The last job whose caller left.
    pub last_cancel: Option<LastCancel>,
    /// What the machine does wrong now.
    pub faults: Vec<String>,
}

/// A job whose caller left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LastCancel {
    /// The machine's number for it.
    pub id: u64,
    /// When, microseconds of the machine's time.
    pub at_us: u64,
    /// Whether its caller had seen a token.
    pub started: bool,
}

/// The events of one job. Dropped before its end, it cancels the job.
#[derive(Debug)]
pub(super) struct Stream {
    id: u64,
    mailbox: Arc<Mailbox>,
    shared: Arc<Shared>,
    ended: bool,
}

impl Stream {
    /// The machine's number for the job.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Waits until an event can be taken, and takes none.
    pub(super) async fn ready(&self) {
        std::future::poll_fn(|context| {
            let mut held = self.mailbox.held.lock();
            if held.events.is_empty() { held.wait(context) } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Takes everything that has arrived: at least one event.
    pub(super) fn poll_take(&mut self, context: &mut Context<'_>, into: &mut VecDeque<Emission>) -> Poll<()> {
        let mut held = self.mailbox.held.lock();
        if held.events.is_empty() {
            return held.wait(context);
        }
        held.taken = true;
        into.append(&mut held.events);
        self.ended |= into.back().is_some_and(|emission| emission.last);
        Poll::Ready(())
    }

    /// All tokens of the job, once it has ended.
    pub(super) async fn finish(mut self) -> (u64, u64) {
        let (mut tokens, mut cached_tokens, mut events) = (0, 0, VecDeque::new());
        while !self.ended {
            std::future::poll_fn(|context| self.poll_take(context, &mut events)).await;
            for emission in events.drain(..) {
                tokens += u64::from(emission.tokens);
                cached_tokens = emission.cached_tokens;
            }
        }
        (tokens, cached_tokens)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let now = self.shared.clock.now();
        let mut floor = self.shared.floor.lock();
        floor.mailboxes.remove(&self.id);
        if let Some(made) = floor.engine.cancel(now, self.id) {
            floor.taken.settle(self.id, Some(made));
            let started = self.mailbox.held.lock().taken;
            floor.last_cancel = Some(LastCancel { id: self.id, at_us: now.0, started });
            drop(floor);
            // Its place may be given to someone who waits.
            self.shared.changed.notify_one();
        }
    }
}

#[derive(Debug, Default)]
struct Mailbox {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    events: VecDeque<Emission>,
    waker: Option<Waker>,
    taken: bool,
}

impl Mailbox {
    fn put(&self, emission: Emission) {
        let mut held = self.held.lock();
        let full = held.events.len() >= HELD_EVENTS;
        match held.events.back_mut() {
            Some(last) if full => {
                last.tokens += emission.tokens;
                last.last |= emission.last;
            }
            _ => held.events.push_back(emission),
        }
        if let Some(waker) = held.waker.take() {
            drop(held);
            waker.wake();
        }
    }
}

impl Held {
    fn wait(&mut self, context: &Context<'_>) -> Poll<()> {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            self.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

/// The machine's clock: microseconds since it was built, at its speed.
#[derive(Debug)]
struct Clock {
    origin: Instant,
    speed: f64,
}

impl Clock {
    fn now(&self) -> Micros {
        Micros((self.origin.elapsed().as_secs_f64() * self.speed * 1e6) as u64)
    }

    fn instant(&self, at: Micros) -> Instant {
        Instant::now() + self.real(at - self.now())
    }

    fn real(&self, span: Micros) -> Duration {
        Duration::try_from_secs_f64(span.as_secs() / self.speed).unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)
    }
}
