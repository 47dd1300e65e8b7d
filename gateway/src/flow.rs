//! Flow control: what stands between a decision and the machines and has a clock. The gateway holds what a machine would
//! only queue, lets the most urgent go first when there is room, and changes its mind while a request waits. The pipeline
//! calls it with real time, the simulation with virtual time; nothing here reads a clock.
//!
//! ```text
//! decide ──► room? ──► sent            held ──► room for the first of its pool ──► decided again ──► sent
//!              └─────► held              └────► little slack left ──► decided again ──► sent or held elsewhere
//!                                        └────► late and may be shed, or held too long ──► refused
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use pointsman_backends::fleet::Dispatched;
use pointsman_policies::decide::{Decision, Request, decide};
use pointsman_policies::facts::{Facts, OwnedFacts};
use pointsman_policies::fleet::{Fleet as View, Waiting};
use pointsman_policies::plan::Hold;
use pointsman_policies::policy::{Class, ClassId};
use pointsman_policies::queue::{Held, Queue};
use pointsman_policies::refusal::Refusal;
use pointsman_policies::trial::Arm;
use pointsman_policies::units::Micros;
use xxhash_rust::xxh3::xxh3_64;

use crate::record::DecisionRecord;
use crate::snapshot::Snapshot;

/// While anybody is held, limits and slack are looked at this often.
pub const TICK: Micros = Micros(5_000);
/// Requests that may be held where nothing else is said: a bound on memory, far above what any promise outlives.
pub const MAX_HELD: usize = 20_000;
/// Nobody is held longer than this.
const LONGEST_HELD: Micros = Micros::from_secs(600);
/// A held request is decided again once so much slack is left.
const PRESSED: Micros = Micros(60_000);
/// At most so many of them in one tick.
const PRESSED_AT_ONCE: usize = 16;
/// Sent from one pool's line without a look at the others: bounds the work under the lock.
const RELEASED_AT_ONCE: usize = 64;

/// Who is held; `T` is what the caller wants back with the outcome.
#[derive(Debug)]
pub struct Flow<T> {
    line: Mutex<LineUp<T>>,
    held: AtomicUsize,
    tickets: AtomicU64,
}

#[derive(Debug)]
struct LineUp<T> {
    queue: Queue,
    parked: HashMap<u64, Parked<T>>,
}

#[derive(Debug)]
struct Parked<T> {
    made: Arc<DecisionRecord>,
    since: Micros,
    token: T,
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
    /// Its class.
    pub class: ClassId,
    /// A random number.
    pub draw: u64,
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
}

impl<T> Default for Flow<T> {
    fn default() -> Flow<T> {
        let line = LineUp { queue: Queue::default(), parked: HashMap::new() };
        Flow { line: Mutex::new(line), held: AtomicUsize::new(0), tickets: AtomicU64::new(1) }
    }
}

impl<T> Flow<T> {
    /// How many are held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// What is held, by pool and priority.
    pub fn waiting(&self, now: Micros) -> Vec<Waiting> {
        if self.held() == 0 { Vec::new() } else { self.line.lock().queue.waiting(now, None) }
    }

    /// Decides a request that has just come, with every reason.
    pub fn decide(&self, ask: &Ask<'_>, now: Micros) -> DecisionRecord {
        made(ask, OwnedFacts::of(ask.facts, headers_kept(ask.snapshot)), self.waiting(now), now)
    }

    /// Work that was sent at once counts towards its tenant's share.
    pub fn sent(&self, made: &DecisionRecord, now: Micros) {
        let facts = &made.facts;
        self.line.lock().queue.passed(now, tenant(facts), facts.input_tokens, facts.output_tokens);
    }

    /// Holds a request whose plan says so, and returns its ticket; or refuses it where holding does not help.
    pub fn hold(&self, made: Arc<DecisionRecord>, hold: Hold, token: T, now: Micros) -> Result<u64, (T, Refusal)> {
        let class = class(&made);
        let sheddable = class.is_some_and(|class| class.sheddable);
        if sheddable && hold.slack_ms < 0.0 {
            return Err((token, Refusal::Saturated { retry_in_ms: -hold.slack_ms }));
        }
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let held = held(&made, hold, (ticket, now), now);
        let mut line = self.line.lock();
        if line.parked.len() >= MAX_HELD {
            let retry_in_ms = first_wait_ms(&made);
            return Err((token, Refusal::Saturated { retry_in_ms }));
        }
        line.queue.hold(held);
        line.parked.insert(ticket, Parked { made, since: now, token });
        self.held.store(line.parked.len(), Ordering::Relaxed);
        Ok(ticket)
    }

    /// The caller of a held request has left. `false` where it is not held any more.
    pub fn leave(&self, ticket: u64) -> bool {
        let mut line = self.line.lock();
        line.queue.remove(ticket);
        let left = line.parked.remove(&ticket).is_some();
        self.held.store(line.parked.len(), Ordering::Relaxed);
        left
    }

    /// Sends what there is room for now; to be called when a first token or an end has made room.
    pub fn release(&self, now: Micros) -> Vec<Released<T>> {
        self.attend(now, false)
    }

    /// The same, and looks after those who have waited: to be called every [`TICK`] while anybody is held.
    pub fn tend(&self, now: Micros) -> Vec<Released<T>> {
        self.attend(now, true)
    }

    fn attend(&self, now: Micros, all: bool) -> Vec<Released<T>> {
        let mut released = Vec::new();
        if self.held() == 0 {
            return released;
        }
        let mut line = self.line.lock();
        for pool in line.queue.pools() {
            for _ in 0..RELEASED_AT_ONCE {
                let Some(first) = line.queue.next(now, pool) else { break };
                if !line.again(first, now, &mut released) {
                    break;
                }
            }
        }
        if all {
            for pressed in line.queue.pressed(now, now + PRESSED, PRESSED_AT_ONCE) {
                line.again(pressed, now, &mut released);
            }
            line.give_up(now, &mut released);
        }
        self.held.store(line.parked.len(), Ordering::Relaxed);
        released
    }
}

impl<T> LineUp<T> {
    /// Decides a held request again. Whether the place that it had in its pool's line is free: it was sent, refused, or
    /// waits for another pool now.
    fn again(&mut self, held: Held, now: Micros, released: &mut Vec<Released<T>>) -> bool {
        let Some(parked) = self.parked.get(&held.ticket) else {
            self.queue.remove(held.ticket);
            return true;
        };
        let mut facts = parked.made.facts.clone();
        facts.waited_ms = (now - parked.since).as_ms();
        let waiting = self.queue.waiting(now, Some(held.ticket));
        let made = redecided(&parked.made, facts, waiting, now);
        let Some(plan) = &made.plan else {
            return self.refuse(held.ticket, made, released);
        };
        let first = plan.attempts.first().map(|attempt| attempt.endpoint);
        match (plan.hold, first) {
            (None, Some(endpoint)) => self.send((held, endpoint), made, now, released),
            (Some(hold), _) if hold.pool == held.pool => false,
            (Some(hold), _) => {
                let moved = self::held(&made, hold, (held.ticket, held.since), now);
                self.queue.hold(moved);
                true
            }
            (None, None) => false,
        }
    }

    fn send(
        &mut self,
        (held, endpoint): (Held, usize),
        made: DecisionRecord,
        now: Micros,
        released: &mut Vec<Released<T>>,
    ) -> bool {
        let Some(target) = made.snapshot.target(endpoint) else { return false };
        // What the decision saw may have been taken by a request that was sent at once.
        let Ok(dispatched) = target.live.begin(now, made.work(endpoint)) else { return false };
        self.queue.remove(held.ticket);
        self.queue.sent(now, &held);
        if let Some(parked) = self.parked.remove(&held.ticket) {
            released.push(Released { token: parked.token, made: Arc::new(made), outcome: Ok(dispatched) });
        }
        true
    }

    fn refuse(&mut self, ticket: u64, made: DecisionRecord, released: &mut Vec<Released<T>>) -> bool {
        let refusal = Refusal::of(&decision(&made), made.deciding().policy, &made.snapshot.portfolio.facts);
        let refusal = refusal.unwrap_or(Refusal::Saturated { retry_in_ms: first_wait_ms(&made) });
        self.queue.remove(ticket);
        if let Some(parked) = self.parked.remove(&ticket) {
            released.push(Released { token: parked.token, made: Arc::new(made), outcome: Err(refusal) });
        }
        true
    }

    /// Refuses whoever may be shed and is late, and whoever has been held too long.
    fn give_up(&mut self, now: Micros, released: &mut Vec<Released<T>>) {
        for held in self.queue.lost(now, LONGEST_HELD) {
            self.queue.remove(held.ticket);
            let Some(parked) = self.parked.remove(&held.ticket) else { continue };
            let retry_in_ms = first_wait_ms(&parked.made);
            released.push(Released {
                token: parked.token,
                made: parked.made,
                outcome: Err(Refusal::Saturated { retry_in_ms }),
            });
        }
    }
}

/// Decides, and remembers every reason.
fn made(ask: &Ask<'_>, facts: OwnedFacts, waiting: Vec<Waiting>, now: Micros) -> DecisionRecord {
    let Ask { snapshot, arm, class, draw, .. } = *ask;
    let endpoints = snapshot.endpoint_states(now);
    let learned = snapshot.learned();
    let policy = snapshot.deciding(arm).policy;
    let request = Request { policy, facts: ask.facts, class };
    let view = View { pools: &snapshot.portfolio.facts, endpoints: &endpoints, learned: &learned, waiting: &waiting };
    let Decision { route, candidates, plan } = decide(&request, view, draw);
    let snapshot = Arc::clone(snapshot);
    DecisionRecord { snapshot, arm, facts, class, endpoints, learned, waiting, draw, route, candidates, plan }
}

fn redecided(before: &DecisionRecord, facts: OwnedFacts, waiting: Vec<Waiting>, now: Micros) -> DecisionRecord {
    let borrowed = facts.facts();
    let DecisionRecord { snapshot, arm, class, draw, .. } = before;
    let ask = Ask { snapshot, arm: *arm, facts: &borrowed, class: *class, draw: *draw };
    made(&ask, facts.clone(), waiting, now)
}

/// What the policies read, and what a candidate may want to read.
fn headers_kept(snapshot: &Snapshot) -> impl Iterator<Item = &str> {
    let read = &snapshot.headers_read;
    let besides = snapshot.process.record.headers.iter().filter(|name| !read.contains(name));
    read.iter().chain(besides).map(String::as_str)
}

fn held(made: &DecisionRecord, hold: Hold, (ticket, since): (u64, Micros), now: Micros) -> Held {
    let class = class(made);
    let facts = &made.facts;
    Held {
        ticket,
        pool: hold.pool,
        priority: class.map_or(0, |class| class.priority),
        sheddable: class.is_some_and(|class| class.sheddable),
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

fn decision(made: &DecisionRecord) -> Decision {
    Decision { route: made.route, candidates: made.candidates.clone(), plan: made.plan.clone() }
}

/// The least wait that the decision saw anywhere, milliseconds: when somebody who is refused may come back.
fn first_wait_ms(made: &DecisionRecord) -> f64 {
    let passed = made.candidates.iter().filter_map(|candidate| candidate.verdict.as_ref().ok());
    passed.map(|scored| scored.estimate.wait_ms).min_by(f64::total_cmp).unwrap_or(1_000.0).max(1_000.0)
}
