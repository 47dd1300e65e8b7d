//! Flow control: what stands between a decision and the machines and has a clock. The gateway holds what a machine would
//! only queue, lets the most urgent go first when there is room, and changes its mind while a request waits. The pipeline
//! calls it with real time, the simulation with virtual time; nothing here reads a clock.
//!
//! ```text
//! decide ──► room? ──► sent            held ──► room for the first of its pool ──► decided again ──► sent
//!              └─────► held              └────► little slack left ──► decided again ──► sent or held elsewhere
//!                                        └────► late and may be shed, or held too long ──► refused
//! ```

/// The line itself, under its lock.
mod line;
/// Those who have left it.
mod left;
/// Decisions.
mod fresh;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use pointsman_backends::fleet::Dispatched;
use pointsman_policies::facts::{Facts, OwnedFacts};
use pointsman_policies::fleet::Waiting;
use pointsman_policies::mechanisms::Mechanisms;
use pointsman_policies::plan::Hold;
use pointsman_policies::policy::{Class, ClassId};
use pointsman_policies::prefix::Prefix;
use pointsman_policies::queue::Held;
use pointsman_policies::refusal::Refusal;
use pointsman_policies::trial::Arm;
use pointsman_policies::units::Micros;
use xxhash_rust::xxh3::xxh3_64;

use crate::record::DecisionRecord;
use crate::snapshot::Snapshot;
use fresh::{fresh, retry_ms};
use left::Left;
use line::LineUp;

pub use fresh::refusal;

/// Those who are held are looked after at most this often.
pub const TICK: Micros = Micros(5_000);
/// And at least this often: whatever changes without anybody telling is then noticed.
const LONGEST_UNLOOKED: Micros = Micros(100_000);

/// Who is held; `T` is what the caller wants back with the outcome.
#[derive(Debug)]
pub struct Flow<T> {
    mechanisms: Mechanisms,
    line: Mutex<LineUp<T>>,
    held: AtomicUsize,
    /// When those who wait are looked after next; microseconds.
    due: AtomicU64,
    tickets: AtomicU64,
}

/// What is asked of a decision.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// The generation.
    pub snapshot: &'a Arc<Snapshot>,
    /// Which of its policies decides.
    pub arm: Arm,
    /// The request.
    pub facts: &'a Facts<'a>,
    /// How its prompt begins.
    pub prefix: &'a Arc<Prefix>,
    /// Its class.
    pub class: ClassId,
    /// A random number.
    pub draw: u64,
}

/// A request that has been put in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered {
    /// Its number.
    pub ticket: u64,
    /// Requests that stood before it.
    pub ahead: usize,
}

/// What became of a request that was held.
#[derive(Debug)]
pub struct Released<T> {
    /// The caller's.
    pub token: T,
    /// The decision that was made last.
    pub made: Arc<DecisionRecord>,
    /// Sent to the first endpoint of its plan, or refused.
    pub outcome: Result<Dispatched, Refusal>,
    /// How it came to that.
    pub end: HeldEnd,
    /// How often it moved from one pool's line to another's.
    pub moved: u32,
}

/// How a request stopped being held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldEnd {
    /// There was room for it.
    Sent,
    /// No machine may be asked any more.
    Refused,
    /// It may be shed and was late, or made room for a better one.
    Shed,
    /// It had been held as long as anybody may be.
    TooLong,
    /// Its client left.
    Left,
}

impl HeldEnd {
    /// Every end there is.
    pub const ALL: [HeldEnd; 5] = [HeldEnd::Sent, HeldEnd::Refused, HeldEnd::Shed, HeldEnd::TooLong, HeldEnd::Left];

    /// The name in metrics and traces.
    pub fn as_str(self) -> &'static str {
        match self {
            HeldEnd::Sent => "sent",
            HeldEnd::Refused => "refused",
            HeldEnd::Shed => "shed",
            HeldEnd::TooLong => "too-long",
            HeldEnd::Left => "left",
        }
    }
}

/// Requests of one class that wait for one pool.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Overview {
    /// The pool's name.
    pub pool: String,
    /// The class's name.
    pub class: String,
    /// How many.
    pub requests: u64,
    /// Their prompt tokens.
    pub input_tokens: u64,
    /// How long the first of them has waited, milliseconds.
    pub oldest_ms: f64,
    /// How much later the most pressed may be sent, milliseconds; negative where it is late already.
    pub least_slack_ms: f64,
}

impl<T> Default for Flow<T> {
    fn default() -> Flow<T> {
        Flow::new(Mechanisms::default())
    }
}

impl<T> Flow<T> {
    /// Nobody is held yet; decides with these mechanisms.
    pub fn new(mechanisms: Mechanisms) -> Flow<T> {
        let line = Mutex::new(LineUp::new(mechanisms));
        let (held, due) = (AtomicUsize::new(0), AtomicU64::new(Micros::NEVER.0));
        Flow { mechanisms, line, held, due, tickets: AtomicU64::new(1) }
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Who is held, by pool and class, in the order of their names.
    pub fn overview(&self, now: Micros) -> Vec<Overview> {
        if self.held() == 0 { Vec::new() } else { self.line.lock().overview(now) }
    }

    /// What is held, by pool and priority, as a generation's decisions read it.
    pub fn waiting(&self, snapshot: &Snapshot, now: Micros) -> Vec<Waiting> {
        if self.held() == 0 { Vec::new() } else { self.line.lock().waiting(snapshot, now) }
    }

    /// Decides a request that has just come, with every reason.
    pub fn decide(&self, ask: &Ask<'_>, now: Micros) -> DecisionRecord {
        let waiting = self.waiting(ask.snapshot, now);
        let made = fresh(ask, self.mechanisms, waiting, now);
        made.record(ask, OwnedFacts::of(ask.facts, headers_kept(ask.snapshot)))
    }

    /// Work that was sent at once counts towards its tenant's share.
    pub fn sent(&self, made: &DecisionRecord, now: Micros) {
        let facts = &made.facts;
        self.line.lock().passed(now, tenant(facts), facts.input_tokens, facts.output_tokens);
    }

    /// Holds a request whose plan says so; or refuses it where holding does not help. Where too many are held already,
    /// the least urgent of those that may be shed goes, or the newcomer.
    pub fn hold(&self, made: Arc<DecisionRecord>, hold: Hold, token: T, now: Micros) -> Result<Entered, (T, Refusal)> {
        let shed = self.mechanisms.queue && class(&made).is_some_and(|class| class.sheddable);
        if shed && hold.slack_ms < 0.0 {
            return Err((token, Refusal::Saturated { retry_in_ms: retry_ms(&made).max(-hold.slack_ms) }));
        }
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let since = now - Micros::from_ms(made.facts.waited_ms);
        let held = held(&made, hold, (ticket, since), now);
        let mut line = self.line.lock();
        let entered = line.enter(now, made, held, token);
        self.note(&line);
        drop(line);
        entered.map_err(|(token, made)| (token, Refusal::Saturated { retry_in_ms: retry_ms(&made) }))
    }

    /// The caller of a held request has left. `false` where it is not held any more.
    pub fn leave(&self, ticket: u64) -> bool {
        let mut line = self.line.lock();
        let left = line.leave(ticket);
        self.note(&line);
        left
    }

    /// Sends what there is room for now; to be called when a first token or an end has made room.
    pub fn release(&self, now: Micros) -> Vec<Released<T>> {
        self.attend(now, |line| line.release(now))
    }

    /// When those who wait are to be looked after next; `None` while nobody waits. What happens meanwhile can bring it
    /// nearer.
    pub fn due(&self) -> Option<Micros> {
        (self.held() > 0).then(|| Micros(self.due.load(Ordering::Relaxed)))
    }

    /// The same as [`Flow::release`], and looks after those who have waited, where that is [due](Flow::due).
    pub fn tend(&self, now: Micros) -> Vec<Released<T>> {
        if self.due().is_some_and(|due| due <= now) { self.attend(now, |line| line.tend(now)) } else { Vec::new() }
    }

    fn attend(&self, now: Micros, attend: impl FnOnce(&mut LineUp<T>) -> Left<T>) -> Vec<Released<T>> {
        if self.held() == 0 {
            return Vec::new();
        }
        let mut line = self.line.lock();
        let left = attend(&mut line);
        self.note(&line);
        drop(line);
        left.told(self.mechanisms, now)
    }

    fn note(&self, line: &LineUp<T>) {
        self.held.store(line.len(), Ordering::Relaxed);
        self.due.store(line.due().0, Ordering::Relaxed);
    }
}

/// What the policies read, and what a candidate may want to read.
fn headers_kept(snapshot: &Snapshot) -> impl Iterator<Item = &str> {
    let read = &snapshot.headers_read;
    let besides = snapshot.process.record.headers.iter().filter(|name| !read.contains(name));
    read.iter().chain(besides).map(String::as_str)
}

/// A request's place in line: by the pool's number, which generations share.
fn held(made: &DecisionRecord, hold: Hold, (ticket, since): (u64, Micros), now: Micros) -> Held {
    let class = class(made);
    let facts = &made.facts;
    Held {
        ticket,
        pool: made.snapshot.pool_number(hold.pool).unwrap_or(usize::MAX),
        priority: class.map_or(0, |class| class.priority),
        shed_order: class.filter(|class| class.sheddable).map(|class| class.shed_order),
        tenant: tenant(facts),
        since,
        due: if hold.slack_ms >= 0.0 {
            now + Micros::from_ms(hold.slack_ms)
        } else {
            now - Micros::from_ms(-hold.slack_ms)
        },
        input_tokens: facts.input_tokens,
        output_tokens: facts.output_tokens,
    }
}

fn class(made: &DecisionRecord) -> Option<&Class> {
    made.deciding().policy.classes.get(made.class.0)
}

fn tenant(facts: &OwnedFacts) -> u64 {
    if facts.tenant.is_empty() { 0 } else { xxh3_64(facts.tenant.as_bytes()) }
}
