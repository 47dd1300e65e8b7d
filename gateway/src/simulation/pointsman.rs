//! Pointsman's own router: the gateway's flow control, its account of what is in flight, its leases, its decision, on the
//! clock of the simulation.

/// A request that was sent.
mod running;
/// Another attempt beside it.
mod hedging;
/// Its accounts.
mod books;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pointsman_backends::accounts::Statement;
use pointsman_backends::fleet::Verdict;
use pointsman_backends::health::engine_report::EngineReport;
use pointsman_backends::learn::output_length::Asked;
use pointsman_policies::facts::Facts;
use pointsman_policies::mechanisms::Mechanisms;
use pointsman_policies::plan::Tried;
use pointsman_policies::policy::ClassId;
use pointsman_policies::prefix::of_blocks;
use pointsman_policies::trial::Arm;
use pointsman_policies::units::Micros;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::router::{Act, Arrival, BLOCK_TOKENS, Ended, Predicted, Router, Seen, TurnedAway};
use crate::extra_attempts::RouteAccounts;
use crate::flow::{Ask, Flow, Released};
use crate::learning::{Ending, Learning};
use crate::record::DecisionRecord;
use crate::snapshot::Snapshot;
use books::{Books, Used};
use running::{Flight, Pending, Running};

/// How long a machine that does not say is left alone after a refusal.
const DEFAULT_BACK_PRESSURE: Micros = Micros::from_secs(1);

/// One gateway.
pub struct Pointsman {
    snapshot: Arc<Snapshot>,
    flow: Flow<Pending>,
    accounts: RouteAccounts,
    learning: Learning,
    books: Books,
    running: BTreeMap<u32, Running>,
    /// When another attempt begins beside a slow one, and of which request.
    hedges: BTreeSet<(Micros, u32)>,
    random: Pcg64Mcg,
    /// When the last report of each endpoint's engine was true.
    reported: Vec<Option<Micros>>,
    /// The generation that takes over, and when.
    next: Option<(Micros, Arc<Snapshot>)>,
    /// How often a held request moved to another line.
    moves: u64,
}

impl Pointsman {
    /// A gateway. Its snapshot is built on a fleet of its own.
    pub fn new(snapshot: Arc<Snapshot>, seed: u64) -> Pointsman {
        let random = Pcg64Mcg::seed_from_u64(seed);
        let (flow, learning) = (Flow::default(), Learning::default());
        learning.adopt(&snapshot);
        let books = Books::wanted(snapshot.terms().matter());
        Pointsman {
            snapshot,
            flow,
            accounts: RouteAccounts::default(),
            learning,
            books,
            running: BTreeMap::new(),
            hedges: BTreeSet::new(),
            random,
            reported: Vec::new(),
            next: None,
            moves: 0,
        }
    }

    /// The same without prices that follow what was spent, served and drawn.
    pub fn without_prices(self) -> Pointsman {
        Pointsman { books: Books::default(), ..self }
    }

    /// The accounts as of the last second.
    pub fn statement(&self) -> &Statement {
        &self.books.statement
    }

    /// The decision by which a request that is on its way was sent.
    pub fn made(&self, request: u32) -> Option<&DecisionRecord> {
        self.running.get(&request).map(|running| &*running.made)
    }

    /// The same, with another generation on the same machines that takes over at a moment.
    pub fn followed_by(self, at: Micros, snapshot: Arc<Snapshot>) -> Pointsman {
        Pointsman { next: Some((at, snapshot)), ..self }
    }

    fn swap(&mut self, now: Micros) {
        if let Some((_, snapshot)) = self.next.take_if(|(at, _)| *at <= now) {
            self.learning.adopt(&snapshot);
            self.books.wanted |= snapshot.terms().matter();
            self.snapshot = snapshot;
        }
    }

    /// The same with these mechanisms only, to see what each is worth.
    pub fn with(self, mechanisms: Mechanisms) -> Pointsman {
        let (flow, learning) = (Flow::new(mechanisms), Learning::new(mechanisms));
        learning.adopt(&self.snapshot);
        Pointsman { flow, learning, ..self }
    }

    /// Takes over what engines have said of themselves since.
    fn hear(&mut self, seen: &Seen<'_>) {
        self.reported.resize(seen.endpoints.len(), None);
        for (index, (endpoint, heard)) in seen.endpoints.iter().zip(&mut self.reported).enumerate() {
            let Some(told) = endpoint.reported.filter(|told| *heard != Some(told.at)) else { continue };
            *heard = Some(told.at);
            let Some(target) = self.snapshot.target(index) else { continue };
            let kv_tokens = target.facts.service.kv_tokens;
            let report = EngineReport {
                running: told.running,
                waiting: told.waiting,
                kv_used: kv_tokens.map(|capacity| told.kv_tokens as f64 / capacity.max(1) as f64),
                ..EngineReport::default()
            };
            target.live.take_report(told.at, &report, kv_tokens);
        }
    }

    /// The facts with the length of the answer that experience lets expect.
    fn with_length<'a>(&self, facts: &Facts<'a>, class: ClassId) -> Facts<'a> {
        let class = self.snapshot.policy.classes.get(class.0).map_or("", |class| class.name.as_str());
        let Facts { tenant, model, input_tokens, max_output_tokens, .. } = *facts;
        let mean = self.learning.output_tokens(&Asked { tenant, model, class, input_tokens }, max_output_tokens);
        Facts { output_tokens: mean.round() as u64, ..*facts }
    }

    /// Follows a decision.
    fn decided(&mut self, now: Micros, pending: Pending, made: DecisionRecord, acts: &mut Vec<Act>) {
        let made = Arc::new(made);
        let refuse = |retry_after_ms| Act::Refuse { request: pending.request, retry_after_ms };
        let Some(plan) = &made.plan else { return acts.push(refuse(1_000.0)) };
        if let Some(hold) = plan.hold {
            if let Err((_, refusal)) = self.flow.hold(Arc::clone(&made), hold, pending, now) {
                acts.push(refuse(refusal.retry_in_ms().unwrap_or(0.0)));
            }
            return;
        }
        let begun =
            plan.attempts.iter().find_map(|attempt| Some((attempt.endpoint, made.begin(attempt.endpoint, now)?.ok()?)));
        let Some((endpoint, dispatched)) = begun else { return acts.push(refuse(1_000.0)) };
        // A request that is decided again has been charged to its tenant.
        if pending.tried.attempts == 0 {
            self.flow.sent(&made, now);
        }
        self.send(now, pending, made, Flight { endpoint, dispatched }, acts);
    }

    fn send(&mut self, now: Micros, pending: Pending, made: Arc<DecisionRecord>, flight: Flight, acts: &mut Vec<Act>) {
        let request = pending.request;
        if pending.tried.attempts == 0 {
            self.accounts.sent(&made, now);
        }
        acts.push(Act::Send { request, endpoint: flight.endpoint });
        let running = Running::new(made, flight, pending, now);
        self.hedges.extend(running.hedge.map(|(at, _)| (at, request)));
        self.running.insert(request, running);
    }

    fn released(&mut self, now: Micros, released: Vec<Released<Pending>>, acts: &mut Vec<Act>) {
        for Released { token: pending, made, outcome, moved, .. } in released {
            let request = pending.request;
            self.moves += u64::from(moved);
            let first = made.plan.as_ref().and_then(|plan| plan.attempts.first()).map(|first| first.endpoint);
            match (outcome, first) {
                (Ok(dispatched), Some(endpoint)) => {
                    self.send(now, pending, made, Flight { endpoint, dispatched }, acts);
                }
                (Ok(_), None) => acts.push(Act::Refuse { request, retry_after_ms: 1_000.0 }),
                (Err(refusal), _) => {
                    acts.push(Act::Refuse { request, retry_after_ms: refusal.retry_in_ms().unwrap_or(0.0) });
                }
            }
        }
    }

    fn room_made(&mut self, now: Micros, acts: &mut Vec<Act>) {
        let released = self.flow.release(now);
        self.released(now, released, acts);
    }

    /// Another machine, for a request whose last attempt came to nothing.
    fn again(&mut self, now: Micros, pending: Pending, before: &DecisionRecord, acts: &mut Vec<Act>) {
        let route = before.deciding().policy.routes.get(before.route);
        let may_go_on = route.is_some_and(|route| pending.tried.may_go_on(&route.budgets));
        if !may_go_on || self.accounts.retry(before, now).is_err() {
            return acts.push(Act::Refuse { request: pending.request, retry_after_ms: 1_000.0 });
        }
        let facts = Facts { waited_ms: (now - pending.since).as_ms(), ..before.facts.facts() };
        let ask = Ask {
            snapshot: &before.snapshot,
            arm: before.arm,
            facts: &facts,
            prefix: &before.prefix,
            class: before.class,
            draw: self.random.random(),
        };
        let made = self.flow.decide(&ask, now);
        self.decided(now, pending, made, acts);
    }
}

impl Router for Pointsman {
    fn name(&self) -> &str {
        "pointsman"
    }

    fn arrive(&mut self, now: Micros, arrival: &Arrival<'_>, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        self.hear(seen);
        self.swap(now);
        let snapshot = Arc::clone(&self.snapshot);
        let draw = self.random.random();
        let learned = self.with_length(&arrival.facts, arrival.class);
        // What is learned of lengths is wrong by as much as the scenario wants predictions to be.
        let error = arrival.predicted_output_tokens.max(1) as f64 / arrival.true_output_tokens.max(1) as f64;
        let output_tokens = (learned.output_tokens as f64 * error).round().max(1.0) as u64;
        let prefix = Arc::new(of_blocks(arrival.prefix, BLOCK_TOKENS, learned.input_tokens));
        let facts = Facts { output_tokens, prefix: prefix.home(), ..learned };
        let (arm, class) = (Arm::Incumbent, arrival.class);
        let ask = Ask { snapshot: &snapshot, arm, facts: &facts, prefix: &prefix, class, draw };
        let made = self.flow.decide(&ask, now);
        self.decided(now, Pending { request: arrival.id, since: now, tried: Tried::default() }, made, acts);
    }

    fn first_token(&mut self, now: Micros, request: u32, endpoint: usize, _: &Seen<'_>, acts: &mut Vec<Act>) {
        self.needs_no_hedge(request);
        if let Some(running) = self.running.get_mut(&request) {
            let outrun = running.won_by(endpoint);
            running.first.dispatched.first_token(now);
            running.first.dispatched.live().report(Verdict::Began, now);
            self.learning.first_token(&running.answering(&self.snapshot, true, now), now);
            let made = Arc::clone(&running.made);
            if let Some(flight) = outrun {
                self.outrun(now, request, &made, flight, acts);
            }
        }
        self.room_made(now, acts);
    }

    fn ended(&mut self, now: Micros, ended: &Ended, _: &Seen<'_>, acts: &mut Vec<Act>) {
        self.needs_no_hedge(ended.request);
        let Some(running) = self.running.remove(&ended.request) else { return };
        if !ended.broken {
            let ending = Ending {
                last_token: now,
                input_tokens: ended.input_tokens,
                cached_tokens: ended.cached_tokens,
                output_tokens: Some(ended.output_tokens),
                whole: true,
            };
            let streamed = ended.ttft_ms.is_some();
            self.learning.ended(&running.answering(&self.snapshot, streamed, now), &ending, now);
        }
        self.books.book(now, &self.snapshot, (&running.made, ended.endpoint), Used::of(ended));
        let (Flight { mut dispatched, .. }, rest) = running.without(ended.endpoint);
        if !ended.broken {
            dispatched.answered(Some(ended.cached_tokens));
        }
        let verdict = if ended.broken { Verdict::Failed } else { Verdict::Worked };
        dispatched.live().report(verdict, now);
        dispatched.settle(now, ended.input_tokens + ended.output_tokens);
        match rest {
            Ok(other) => drop(self.running.insert(ended.request, other)),
            Err((made, mut pending)) if ended.broken && ended.ttft_ms.is_none() => {
                pending.tried.failed += 1;
                self.again(now, pending, &made, acts);
            }
            Err(_) => {}
        }
        self.room_made(now, acts);
    }

    fn turned_away(&mut self, now: Micros, away: &TurnedAway, _: &Seen<'_>, acts: &mut Vec<Act>) {
        self.needs_no_hedge(away.request);
        let Some(running) = self.running.remove(&away.request) else { return };
        let (Flight { dispatched, .. }, rest) = running.without(away.endpoint);
        let wait = away.retry_after_ms.map_or(DEFAULT_BACK_PRESSURE, Micros::from_ms);
        dispatched.live().report(Verdict::BackPressure(wait), now);
        dispatched.refused(now);
        match rest {
            Ok(other) => drop(self.running.insert(away.request, other)),
            Err((made, pending)) => self.again(now, pending, &made, acts),
        }
        self.room_made(now, acts);
    }

    fn predicted(&self, request: u32, endpoint: usize) -> Option<Predicted> {
        let running = self.running.get(&request).filter(|running| running.at(endpoint).is_some())?;
        let estimate = running.made.planned(endpoint)?.candidate.verdict.as_ref().ok()?.estimate;
        Some(Predicted { ttft_ms: estimate.ttft_ms, itl_ms: estimate.itl_ms })
    }

    fn moves(&self) -> u64 {
        self.moves
    }

    fn next_wake(&self) -> Option<Micros> {
        let hedge = self.hedges.first().map(|(at, _)| *at);
        [self.flow.due(), hedge, self.books.wanted.then_some(self.books.due)].into_iter().flatten().min()
    }

    fn wake(&mut self, now: Micros, _: &Seen<'_>, acts: &mut Vec<Act>) {
        self.books.publish(now, &self.snapshot);
        self.hedge(now, acts);
        let released = self.flow.tend(now);
        self.released(now, released, acts);
    }
}

impl std::fmt::Debug for Pointsman {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pointsman").field("running", &self.running.len()).field("held", &self.flow.held()).finish()
    }
}
