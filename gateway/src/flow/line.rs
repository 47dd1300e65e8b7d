//! The line of those who are held: who goes next, where to, and who is given up. Everything here is done under one lock,
//! without waiting for anything, and bounded.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pointsman_policies::fleet::Waiting;
use pointsman_policies::mechanisms::Mechanisms;
use pointsman_policies::queue::{Held, Order, Queue};
use pointsman_policies::refusal::Refusal;
use pointsman_policies::units::Micros;

use super::{Ask, Entered, HeldEnd, Overview, Released, class, made, refusal, retry_ms};
use crate::record::DecisionRecord;
use crate::snapshot::Snapshot;

/// At most so many are decided again in one tick without there being room.
const REVIEWED_AT_ONCE: usize = 64;
/// Sent from one pool's line without a look at the others: bounds the work under the lock.
const RELEASED_AT_ONCE: usize = 64;
/// Behind one that has to wait for a machine, so many are looked at that may be able to use another.
const PASSING_AT_ONCE: usize = 4;

/// Those who are held, in order and with their decisions.
#[derive(Debug)]
pub(super) struct LineUp<T> {
    mechanisms: Mechanisms,
    queue: Queue,
    parked: HashMap<u64, Parked<T>>,
    /// Gave their place to a better one; told at the next occasion.
    displaced: Vec<Released<T>>,
    longest: Micros,
}

#[derive(Debug)]
struct Parked<T> {
    made: Arc<DecisionRecord>,
    since: Micros,
    moved: u32,
    token: T,
}

impl<T> LineUp<T> {
    pub(super) fn new(mechanisms: Mechanisms) -> LineUp<T> {
        let queue = Queue::new(if mechanisms.queue { Order::Urgency } else { Order::Coming });
        LineUp { mechanisms, queue, parked: HashMap::new(), displaced: Vec::new(), longest: Micros::NEVER }
    }

    /// How many there are to look after.
    pub(super) fn len(&self) -> usize {
        self.parked.len() + self.displaced.len()
    }

    /// What is held, as a generation's decisions read it.
    pub(super) fn waiting(&mut self, snapshot: &Snapshot, now: Micros) -> Vec<Waiting> {
        seen_by(snapshot, self.queue.waiting(now, None))
    }

    /// Work of a tenant that was sent without being held.
    pub(super) fn passed(&mut self, now: Micros, tenant: u64, input_tokens: u64, output_tokens: u64) {
        self.queue.passed(now, tenant, input_tokens, output_tokens);
    }

    pub(super) fn enter(
        &mut self,
        now: Micros,
        made: Arc<DecisionRecord>,
        held: Held,
        token: T,
    ) -> Result<Entered, (T, Refusal)> {
        let limits = made.snapshot.process.queue;
        self.longest = limits.max_wait;
        if self.parked.len() >= limits.max_requests {
            let least = self.queue.least().filter(|least| !held.sheddable || least.priority < held.priority);
            let Some(least) = least else {
                return Err((token, Refusal::Saturated { retry_in_ms: retry_ms(&made) }));
            };
            let mut displaced = std::mem::take(&mut self.displaced);
            self.give_up(least, HeldEnd::Shed, &mut displaced);
            self.displaced = displaced;
        }
        self.queue.hold(now, held);
        self.parked.insert(held.ticket, Parked { made, since: held.since, moved: 0, token });
        Ok(Entered { ticket: held.ticket, ahead: self.queue.ahead(held.ticket) })
    }

    pub(super) fn leave(&mut self, ticket: u64) -> bool {
        self.queue.remove(ticket);
        self.parked.remove(&ticket).is_some()
    }

    /// Sends what there is room for. With `all`, also looks after those who have waited long.
    pub(super) fn attend(&mut self, now: Micros, all: bool) -> Vec<Released<T>> {
        let mut released = std::mem::take(&mut self.displaced);
        for pool in self.queue.pools() {
            for _ in 0..RELEASED_AT_ONCE {
                let Some(first) = self.queue.next(now, pool) else { break };
                let waiting = self.queue.waiting_behind(now, &first);
                if !self.again(first, waiting, now, &mut released) {
                    if all {
                        self.let_others_pass(&first, now, &mut released);
                    }
                    break;
                }
            }
        }
        if all {
            for held in self.queue.to_review(now, REVIEWED_AT_ONCE) {
                let waiting = self.queue.waiting(now, Some(held.ticket));
                self.again(held, waiting, now, &mut released);
            }
            for (lost, end) in self.queue.lost(now, self.longest) {
                let end = if end { HeldEnd::TooLong } else { HeldEnd::Shed };
                self.give_up(lost, end, &mut released);
            }
        }
        released
    }

    /// Who is held, by pool and class.
    pub(super) fn overview(&self, now: Micros) -> Vec<Overview> {
        let mut sums: BTreeMap<(String, String), Overview> = BTreeMap::new();
        for held in self.queue.everyone() {
            let Some(parked) = self.parked.get(&held.ticket) else { continue };
            let (snapshot, class) = (&parked.made.snapshot, class(&parked.made));
            let pool = snapshot.pool_of(held.pool).and_then(|pool| snapshot.portfolio.facts.get(pool));
            let pool = pool.map_or_else(String::new, |pool| pool.name.clone());
            let class = class.map_or_else(String::new, |class| class.name.clone());
            let slack_ms = (held.due - now).as_ms() - (now - held.due).as_ms();
            let sum = sums.entry((pool.clone(), class.clone())).or_insert_with(|| Overview {
                pool,
                class,
                requests: 0,
                input_tokens: 0,
                oldest_ms: 0.0,
                least_slack_ms: slack_ms,
            });
            sum.requests += 1;
            sum.input_tokens += held.input_tokens;
            sum.oldest_ms = sum.oldest_ms.max((now - held.since).as_ms());
            sum.least_slack_ms = sum.least_slack_ms.min(slack_ms);
        }
        sums.into_values().collect()
    }

    /// Decides a held request again. Whether the place that it had in its pool's line is free: it was sent, refused, or
    /// waits for another pool now.
    fn again(&mut self, held: Held, waiting: Vec<Waiting>, now: Micros, released: &mut Vec<Released<T>>) -> bool {
        let Some(made) = self.decided(held, waiting, now) else {
            self.queue.remove(held.ticket);
            return true;
        };
        self.follow(held, made, now, released)
    }

    fn decided(&self, held: Held, waiting: Vec<Waiting>, now: Micros) -> Option<DecisionRecord> {
        let parked = self.parked.get(&held.ticket)?;
        let mut facts = parked.made.facts.clone();
        facts.waited_ms = (now - parked.since).as_ms();
        let DecisionRecord { snapshot, arm, class, draw, .. } = &*parked.made;
        let borrowed = facts.facts();
        let ask = Ask { snapshot, arm: *arm, facts: &borrowed, class: *class, draw: *draw };
        Some(made(&ask, self.mechanisms, facts.clone(), seen_by(snapshot, waiting), now))
    }

    /// Does as a new decision says.
    fn follow(&mut self, held: Held, made: DecisionRecord, now: Micros, released: &mut Vec<Released<T>>) -> bool {
        let Some(plan) = &made.plan else {
            let refusal = refusal(&made);
            self.end(held.ticket, Some(Arc::new(made)), Err(refusal), HeldEnd::Refused, released);
            return true;
        };
        let first = plan.attempts.first().map(|attempt| attempt.endpoint);
        match (plan.hold, first) {
            (None, Some(endpoint)) => self.send((held, endpoint), made, now, released),
            (Some(hold), _) => {
                let moved = super::held(&made, hold, (held.ticket, held.since), now);
                if moved.pool == held.pool {
                    return false;
                }
                self.queue.hold(now, moved);
                if let Some(parked) = self.parked.get_mut(&held.ticket) {
                    parked.moved += 1;
                }
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
        self.queue.sent(now, &held);
        self.end(held.ticket, Some(Arc::new(made)), Ok(dispatched), HeldEnd::Sent, released);
        true
    }

    /// Who goes first may have to wait for a machine while others wait that cannot use it anyway. Nobody is passed by
    /// those who take from it what it waits for.
    fn let_others_pass(&mut self, first: &Held, now: Micros, released: &mut Vec<Released<T>>) {
        for other in self.queue.after(first, PASSING_AT_ONCE) {
            let waiting = self.queue.waiting_behind(now, &other);
            let Some(made) = self.decided(other, waiting, now) else { continue };
            let now_at = made.plan.as_ref().filter(|plan| plan.hold.is_none()).and_then(|plan| plan.attempts.first());
            let Some(endpoint) = now_at.map(|attempt| attempt.endpoint) else { continue };
            if !self.may_use(first.ticket, &made.snapshot, endpoint) {
                self.follow(other, made, now, released);
            }
        }
    }

    /// Whether a held request may be sent to an endpoint of a generation at all.
    fn may_use(&self, ticket: u64, of: &Snapshot, endpoint: usize) -> bool {
        let Some((parked, target)) = self.parked.get(&ticket).zip(of.target(endpoint)) else { return true };
        let same =
            |index: usize| parked.made.snapshot.target(index).is_some_and(|own| own.endpoint.id == target.endpoint.id);
        parked.made.candidates.iter().any(|candidate| candidate.verdict.is_ok() && same(candidate.endpoint))
    }

    fn give_up(&mut self, held: Held, end: HeldEnd, released: &mut Vec<Released<T>>) {
        let Some(parked) = self.parked.get(&held.ticket) else { return };
        let refusal = Refusal::Saturated { retry_in_ms: retry_ms(&parked.made) };
        self.end(held.ticket, None, Err(refusal), end, released);
    }

    fn end(
        &mut self,
        ticket: u64,
        made: Option<Arc<DecisionRecord>>,
        outcome: Result<pointsman_backends::fleet::Dispatched, Refusal>,
        end: HeldEnd,
        released: &mut Vec<Released<T>>,
    ) {
        self.queue.remove(ticket);
        if let Some(Parked { made: before, moved, token, .. }) = self.parked.remove(&ticket) {
            released.push(Released { token, made: made.unwrap_or(before), outcome, end, moved });
        }
    }
}

/// What is held, by the pools of one generation. What waits for pools that it has not is nothing to it.
fn seen_by(snapshot: &Snapshot, waiting: Vec<Waiting>) -> Vec<Waiting> {
    let seen = |waiting: Waiting| Some(Waiting { pool: snapshot.pool_of(waiting.pool)?, ..waiting });
    waiting.into_iter().filter_map(seen).collect()
}
