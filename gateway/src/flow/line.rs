//! The line of those who are held: who goes next, where to, and who is given up. Everything here is done under one lock,
//! without waiting for anything, and bounded.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pointsman_backends::fleet::Dispatched;
use pointsman_policies::decide::{Candidate, reserve_s};
use pointsman_policies::fleet::Waiting;
use pointsman_policies::mechanisms::Mechanisms;
use pointsman_policies::queue::{Held, Order, Queue};
use pointsman_policies::refusal::Refusal;
use pointsman_policies::units::Micros;

use super::fresh::{Fresh, fresh};
use super::left::{Left, Parked, seen_by};
use super::{Entered, HeldEnd, LONGEST_UNLOOKED, Overview, Released, TICK, class};
use crate::record::{DecisionRecord, work};
use crate::snapshot::Snapshot;

/// At most so many are decided again in one tick without there being room.
const REVIEWED_AT_ONCE: usize = 64;
/// Sent from one pool's line without a look at the others: bounds the work under the lock.
const RELEASED_AT_ONCE: usize = 64;
/// At most so many are given up at once; the others in the next turn, which comes at once.
const GIVEN_UP_AT_ONCE: usize = 64;
/// Behind one that has to wait for a machine, so many are looked at that may be able to use another.
const PASSING_AT_ONCE: usize = 4;

/// Those who are held, in order and with their decisions.
#[derive(Debug)]
pub(super) struct LineUp<T> {
    mechanisms: Mechanisms,
    queue: Queue,
    parked: HashMap<u64, Parked<T>>,
    /// Gave their place to a better one; told at the next occasion.
    displaced: Left<T>,
    longest: Micros,
    /// When those who go first were looked at last.
    looked: Micros,
    /// When they are looked at next.
    look: Micros,
}

impl<T> LineUp<T> {
    pub(super) fn new(mechanisms: Mechanisms) -> LineUp<T> {
        let queue = Queue::new(if mechanisms.queue { Order::Urgency } else { Order::Coming });
        LineUp {
            mechanisms,
            queue,
            parked: HashMap::new(),
            displaced: Left::default(),
            longest: Micros::NEVER,
            looked: Micros(0),
            look: Micros::NEVER,
        }
    }

    /// How many there are to look after.
    pub(super) fn len(&self) -> usize {
        self.parked.len() + self.displaced.len()
    }

    /// When those who wait are to be looked after next.
    pub(super) fn due(&self) -> Micros {
        self.look.min(self.queue.due(self.longest))
    }

    /// Something has changed that those who wait may gain by.
    fn stir(&mut self, now: Micros) {
        self.look = self.look.min(now.max(self.looked + TICK));
    }

    /// What is held, as a generation's decisions read it.
    pub(super) fn waiting(&mut self, snapshot: &Snapshot, now: Micros) -> Vec<Waiting> {
        seen_by(snapshot, self.queue.waiting(now, None))
    }

    /// Work of a tenant that was sent without being held.
    pub(super) fn passed(&mut self, now: Micros, tenant: u64, input_tokens: u64, output_tokens: u64) {
        self.queue.passed(now, tenant, input_tokens, output_tokens);
    }

    /// Puts a request in line. Where there is no place for it, and nobody who gives up his, it is handed back.
    pub(super) fn enter(
        &mut self,
        now: Micros,
        made: Arc<DecisionRecord>,
        held: Held,
        token: T,
    ) -> Result<Entered, (T, Arc<DecisionRecord>)> {
        let limits = made.snapshot.process.queue;
        self.longest = limits.max_wait;
        if self.parked.len() >= limits.max_requests {
            let better = |least: &Held| held.shed_order.is_none_or(|order| least.shed_order < Some(order));
            let least = self.queue.least().filter(better);
            let Some(least) = least else { return Err((token, made)) };
            let mut displaced = std::mem::take(&mut self.displaced);
            self.give_up(least, HeldEnd::Shed, &mut displaced);
            self.displaced = displaced;
        }
        self.queue.hold(now, held);
        self.parked.insert(held.ticket, Parked { made, since: held.since, moved: 0, token });
        self.stir(now);
        Ok(Entered { ticket: held.ticket, ahead: self.queue.ahead(held.ticket) })
    }

    pub(super) fn leave(&mut self, ticket: u64) -> bool {
        self.queue.remove(ticket);
        self.stir(self.looked);
        self.parked.remove(&ticket).is_some()
    }

    /// Sends what there is room for, because some was made.
    pub(super) fn release(&mut self, now: Micros) -> Left<T> {
        let mut left = std::mem::take(&mut self.displaced);
        self.send_first(now, false, &mut left);
        self.stir(now);
        self.ahead_of(left, now)
    }

    /// Looks after those whose moment has come.
    pub(super) fn tend(&mut self, now: Micros) -> Left<T> {
        let mut left = std::mem::take(&mut self.displaced);
        if self.look <= now {
            let opens = self.send_first(now, true, &mut left);
            self.looked = now;
            self.look = opens.clamp(now + TICK, now + LONGEST_UNLOOKED);
        }
        for held in self.queue.to_review(now, REVIEWED_AT_ONCE) {
            let waiting = self.queue.waiting(now, Some(held.ticket));
            self.again(&held, waiting, now, &mut left);
        }
        for (lost, end) in self.queue.lost(now, self.longest, GIVEN_UP_AT_ONCE) {
            let end = if end { HeldEnd::TooLong } else { HeldEnd::Shed };
            self.give_up(lost, end, &mut left);
        }
        self.ahead_of(left, now)
    }

    /// With what is ahead of those who are given up, should they come back.
    fn ahead_of(&mut self, left: Left<T>, now: Micros) -> Left<T> {
        let waiting = if left.given_up.is_empty() { Vec::new() } else { self.queue.waiting(now, None) };
        Left { waiting, ..left }
    }

    /// Sends those who go first as long as there is room and, if wanted, those who may pass them. When time alone may
    /// make room for one of them.
    fn send_first(&mut self, now: Micros, and_others: bool, left: &mut Left<T>) -> Micros {
        let mut opens = Micros::NEVER;
        for pool in self.queue.pools() {
            for _ in 0..RELEASED_AT_ONCE {
                let Some(first) = self.queue.next(now, pool) else { break };
                let waiting = self.queue.waiting_behind(now, &first);
                let Some(stays) = self.again(&first, waiting, now, left) else { continue };
                if and_others {
                    opens = opens.min(self.opens(&first, &stays, now));
                    opens = opens.min(self.let_others_pass((&first, &stays), now, left));
                }
                break;
            }
        }
        opens
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

    /// Decides a held request again. Where it stays in its place, the decision that has it stay; else it was sent,
    /// refused, or waits for another pool now.
    fn again(&mut self, held: &Held, waiting: Vec<Waiting>, now: Micros, left: &mut Left<T>) -> Option<Fresh> {
        match self.decided(held, waiting, now) {
            Some(fresh) => self.follow(held, fresh, now, left),
            None => {
                self.queue.remove(held.ticket);
                None
            }
        }
    }

    fn decided(&self, held: &Held, waiting: Vec<Waiting>, now: Micros) -> Option<Fresh> {
        let parked = self.parked.get(&held.ticket)?;
        let facts = parked.facts(now);
        Some(fresh(&parked.ask(&facts), self.mechanisms, seen_by(&parked.made.snapshot, waiting), now))
    }

    /// Does as a new decision says, which is returned where that is nothing.
    fn follow(&mut self, held: &Held, fresh: Fresh, now: Micros, left: &mut Left<T>) -> Option<Fresh> {
        let parked = self.parked.get_mut(&held.ticket)?;
        let Some(plan) = &fresh.decision.plan else {
            let refusal = fresh.refusal(&parked.ask(&parked.facts(now)));
            let made = parked.record(fresh, now);
            self.end(held.ticket, made, Err(refusal), HeldEnd::Refused, left);
            return None;
        };
        let first = plan.attempts.first().map(|attempt| attempt.endpoint);
        match (plan.hold, first) {
            (None, Some(endpoint)) => self.send((held, endpoint), fresh, now, left),
            (Some(hold), _) if parked.made.snapshot.pool_number(hold.pool) != Some(held.pool) => {
                parked.moved += 1;
                let moved = super::held(&parked.record(fresh, now), hold, (held.ticket, held.since), now);
                self.queue.hold(now, moved);
                None
            }
            _ => Some(fresh),
        }
    }

    fn send(
        &mut self,
        (held, endpoint): (&Held, usize),
        fresh: Fresh,
        now: Micros,
        left: &mut Left<T>,
    ) -> Option<Fresh> {
        let parked = self.parked.get(&held.ticket)?;
        let planned = fresh.found(endpoint);
        let itl_ms = parked.made.planned_itl_ms(endpoint, &fresh.learned);
        // What the decision saw may have been taken by a request that was sent at once.
        let work = work(&parked.made.facts, itl_ms, planned);
        let Ok(dispatched) = parked.made.begin_as(endpoint, work, now)? else { return Some(fresh) };
        let made = parked.record(fresh, now);
        self.queue.sent(now, held);
        self.end(held.ticket, made, Ok(dispatched), HeldEnd::Sent, left);
        None
    }

    /// Who goes first may have to wait for a machine while others wait that cannot use it anyway. Nobody is passed by
    /// those who take from it what it waits for. When time alone will let one of them pass.
    fn let_others_pass(&mut self, first: (&Held, &Fresh), now: Micros, left: &mut Left<T>) -> Micros {
        let mut opens = Micros::NEVER;
        for other in self.queue.after(first.0, PASSING_AT_ONCE) {
            let waiting = self.queue.waiting_behind(now, &other);
            let Some(fresh) = self.decided(&other, waiting, now) else { continue };
            let plan = fresh.decision.plan.as_ref().filter(|plan| plan.hold.is_none());
            let Some(endpoint) = plan.and_then(|plan| plan.attempts.first()).map(|attempt| attempt.endpoint) else {
                opens = opens.min(self.opens(&other, &fresh, now));
                continue;
            };
            if !self.may_use(first, other.ticket, endpoint) {
                self.follow(&other, fresh, now, left);
            }
        }
        opens
    }

    /// Whether who goes first, as it was just decided, may be sent to an endpoint of another's generation at all.
    fn may_use(&self, (first, fresh): (&Held, &Fresh), other: u64, endpoint: usize) -> bool {
        let snapshot = |ticket| self.parked.get(ticket).map(|parked: &Parked<T>| &parked.made.snapshot);
        let Some((own, others)) = snapshot(&first.ticket).zip(snapshot(&other)) else { return true };
        let Some(target) = others.target(endpoint) else { return true };
        let same = |index: usize| own.target(index).is_some_and(|own| own.endpoint.id == target.endpoint.id);
        let alike = |index: usize| own.target(index).is_some_and(|own| own.pool.name == target.pool.name);
        let candidates = &fresh.decision.candidates;
        let weighed = candidates.iter().find(|candidate| same(candidate.endpoint));
        let able = |candidate: &Candidate| candidate.verdict.is_ok() && alike(candidate.endpoint);
        weighed.map_or_else(|| candidates.iter().any(able), |candidate| candidate.verdict.is_ok())
    }

    /// When time alone may make room for a held request, as it was just decided: a limit refills, a machine may be asked
    /// again, or will have read a prompt without a sign.
    fn opens(&self, held: &Held, fresh: &Fresh, now: Micros) -> Micros {
        let Some(parked) = self.parked.get(&held.ticket) else { return Micros::NEVER };
        if fresh.decision.plan.as_ref().is_some_and(|plan| plan.hold.is_none()) {
            return now; // somebody else was faster
        }
        let reserve_s = reserve_s(parked.made.deciding().policy, class(&parked.made));
        let facts = parked.facts(now);
        let waits = fresh.endpoints.iter().filter_map(|state| match state.availability.retry_in_ms() {
            Some(retry_in_ms) => Some(retry_in_ms),
            None => state.lease.map(|lease| lease.ready_in_ms(&facts, reserve_s)),
        });
        let reads =
            fresh.full_of_prompts().filter_map(|endpoint| parked.made.snapshot.target(endpoint)?.live.next_read());
        let reads = reads.map(|at| (at - now).as_ms());
        let soonest = waits.chain(reads).filter(|ms| *ms > 0.0).min_by(f64::total_cmp);
        // Rounded up: a look too soon would find nothing.
        soonest.map_or(Micros::NEVER, |ms| now + Micros::from_ms(ms) + Micros(1))
    }

    fn give_up(&mut self, held: Held, end: HeldEnd, left: &mut Left<T>) {
        self.queue.remove(held.ticket);
        left.given_up.extend(self.parked.remove(&held.ticket).map(|parked| (parked, end)));
    }

    fn end(
        &mut self,
        ticket: u64,
        made: DecisionRecord,
        outcome: Result<Dispatched, Refusal>,
        end: HeldEnd,
        left: &mut Left<T>,
    ) {
        self.queue.remove(ticket);
        if let Some(Parked { moved, token, .. }) = self.parked.remove(&ticket) {
            left.released.push(Released { token, made: Arc::new(made), outcome, end, moved });
        }
    }
}
