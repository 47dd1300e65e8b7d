//! What gateways do and are told: their routers' acts, and the account each keeps of what it sent.

use std::time::Instant;

use pointsman_policies::attain::Observed;
use pointsman_policies::facts::{Api, Facts, PRIOR_OUTPUT_TOKENS};
use pointsman_policies::policy::{ClassId, Slo};
use pointsman_policies::units::Micros;

use super::{End, Progress, What, World};
use crate::simulation::attempts::{Attempt, Key};
use crate::simulation::router::{Act, Arrival, BEGINNING_S, Ended, Predicted, Router, Seen, SeenEndpoint, TurnedAway};
use crate::simulation::workload::{Request, Workload};

/// One gateway.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) seen: Vec<SeenEndpoint>,
    /// When the heap of events wakes it next.
    pub(super) wakes: Micros,
}

impl<'a> World<'a> {
    pub(super) fn arrival(&mut self, routers: &mut [Box<dyn Router + '_>]) {
        let id = self.arrived as u32;
        let Some(request) = self.request(id) else { return };
        self.arrived += 1;
        if let Some(next) = self.request(id + 1) {
            self.plan(next.at, What::Arrival);
        }
        let gateway = self.gateway_of(request);
        let (class, slo, priority) = self.classes.get(usize::from(request.declared)).copied().unwrap_or((
            ClassId(usize::MAX),
            Slo::default(),
            0,
        ));
        let arrival = Arrival {
            id,
            facts: facts(self.workload, request, self.setup.model),
            class,
            slo,
            priority,
            prefix: self.workload.prefix(request),
            predicted_output_tokens: (f64::from(request.output_tokens) * f64::from(request.prediction_error)) as u64,
            true_output_tokens: u64::from(request.output_tokens),
        };
        let began = Instant::now();
        self.ask(gateway, routers, |router, now, seen, acts| router.arrive(now, &arrival, seen, acts));
        self.report.decided(began.elapsed());
        self.act(gateway, routers);
    }

    fn gateway_of(&self, request: &Request) -> usize {
        usize::from(request.gateway).min(self.gateways.len().saturating_sub(1))
    }

    /// Asks a router, whose acts are then waiting to be done.
    fn ask(
        &mut self,
        gateway: usize,
        routers: &mut [Box<dyn Router + '_>],
        question: impl FnOnce(&mut dyn Router, Micros, &Seen<'_>, &mut Vec<Act>),
    ) {
        let Some((router, gateway)) = routers.get_mut(gateway).zip(self.gateways.get(gateway)) else { return };
        let seen = Seen { pools: &self.setup.portfolio.facts, endpoints: &gateway.seen };
        question(router.as_mut(), self.now, &seen, &mut self.acts);
    }

    /// Does what a router wants, and wakes it when it wants to be.
    fn act(&mut self, gateway: usize, routers: &[Box<dyn Router + '_>]) {
        let mut acts = std::mem::take(&mut self.acts);
        for act in acts.drain(..) {
            let done = match act {
                Act::Send { request, endpoint } => {
                    let predicted = routers.get(gateway).and_then(|router| router.predicted(request, endpoint));
                    self.send(gateway, (request, endpoint), predicted)
                }
                Act::Cancel { request, endpoint } => self.give_up(gateway, request, endpoint),
                Act::Refuse { request, .. } => self.refuse(gateway, request),
            };
            self.report.mistakes += u64::from(done.is_none());
        }
        self.acts = acts;
        let wanted = routers.get(gateway).and_then(|router| router.next_wake());
        let Some((wanted, state)) = wanted.zip(self.gateways.get_mut(gateway)) else { return };
        if wanted < state.wakes {
            state.wakes = wanted.max(self.now);
            let at = state.wakes;
            self.plan(at, What::Wake(gateway));
        }
    }

    pub(super) fn wake(&mut self, gateway: usize, routers: &mut [Box<dyn Router + '_>]) {
        let Some(state) = self.gateways.get_mut(gateway).filter(|state| state.wakes == self.now) else { return };
        state.wakes = Micros::NEVER;
        self.ask(gateway, routers, |router, now, seen, acts| router.wake(now, seen, acts));
        self.act(gateway, routers);
    }

    fn send(&mut self, gateway: usize, (id, endpoint): (u32, usize), predicted: Option<Predicted>) -> Option<()> {
        let request = self.open_request(gateway, id)?;
        let delay = self.one_way(endpoint);
        let seen = self.gateways.get_mut(gateway)?.seen.get_mut(endpoint)?;
        let own_prefill = u64::from(request.read_input_tokens);
        let own_context = own_prefill + expected_output(request);
        seen.in_flight += 1;
        seen.prefill_tokens += own_prefill;
        seen.context_tokens += own_context;
        let progress = self.requests.get_mut(id as usize)?;
        self.report.hedges += u64::from(progress.attempts.is_some());
        let key = self.attempts.insert(Attempt {
            request: id,
            endpoint,
            sent: self.now,
            first: None,
            output_tokens: 0,
            cached_tokens: 0,
            own_prefill,
            own_context,
            reservation: None,
            predicted,
            cancelled: false,
            running: false,
            cut: false,
            next: progress.attempts,
        });
        progress.attempts = Some(key);
        if !std::mem::replace(&mut progress.sent, true)
            && let Some(class) = self.report.classes.get_mut(usize::from(request.class))
        {
            class.held_us.record((self.now - request.at).0);
        }
        self.report.herding.sent(endpoint);
        let (pool, _) = self.pool_of(endpoint)?;
        self.report.pools.get_mut(pool)?.sent += 1;
        self.plan(self.now + delay, What::Reaches(key));
        Some(())
    }

    fn give_up(&mut self, gateway: usize, id: u32, endpoint: usize) -> Option<()> {
        self.request(id).filter(|request| self.gateway_of(request) == gateway)?;
        let mut next = self.requests.get(id as usize)?.attempts;
        while let Some(key) = next {
            let attempt = self.attempts.get(key)?;
            if attempt.endpoint == endpoint {
                self.abandon(key);
                return Some(());
            }
            next = attempt.next;
        }
        None
    }

    fn refuse(&mut self, gateway: usize, id: u32) -> Option<()> {
        self.open_request(gateway, id)?;
        self.requests.get(id as usize).filter(|progress| progress.attempts.is_none())?;
        self.settle(id, End::Shed, None);
        Some(())
    }

    /// A request that has come to this gateway and is not settled.
    fn open_request(&self, gateway: usize, id: u32) -> Option<&'a Request> {
        let request = self.request(id).filter(|request| self.gateway_of(request) == gateway)?;
        let open = (id as usize) < self.arrived && self.requests.get(id as usize).is_some_and(|one| !one.settled);
        open.then_some(request)
    }

    /// The gateway wants no more of an attempt: it is off its account at once, the machine hears of it later.
    fn abandon(&mut self, key: Key) {
        self.release(key);
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        attempt.cancelled = true;
        let at = self.now + self.one_way(self.attempts.get(key).map_or(0, |attempt| attempt.endpoint));
        self.plan(at, What::Cancel(key));
    }

    /// Takes an attempt off its gateway's account and its request's list.
    fn release(&mut self, key: Key) {
        let Some(attempt) = self.attempts.get(key).filter(|attempt| !attempt.cancelled) else { return };
        let (id, endpoint, after) = (attempt.request, attempt.endpoint, attempt.next);
        let (own_prefill, own_context) = (attempt.own_prefill, attempt.own_context);
        let Some(request) = self.request(id) else { return };
        let gateway = self.gateway_of(request);
        if let Some(seen) = self.gateways.get_mut(gateway).and_then(|gateway| gateway.seen.get_mut(endpoint)) {
            seen.in_flight = seen.in_flight.saturating_sub(1);
            seen.prefill_tokens = seen.prefill_tokens.saturating_sub(own_prefill);
            seen.context_tokens = seen.context_tokens.saturating_sub(own_context);
        }
        let Some(progress) = self.requests.get_mut(id as usize) else { return };
        if progress.attempts == Some(key) {
            progress.attempts = after;
            return;
        }
        let mut next = progress.attempts;
        while let Some(other) = next.and_then(|key| self.attempts.get_mut(key)) {
            if other.next == Some(key) {
                other.next = after;
                return;
            }
            next = other.next;
        }
    }

    /// The first token of a stream has come.
    pub(super) fn first(&mut self, key: Key, routers: &mut [Box<dyn Router + '_>]) {
        let Some(attempt) = self.attempts.get_mut(key).filter(|attempt| !attempt.cancelled) else { return };
        let (id, endpoint, own_prefill) = (attempt.request, attempt.endpoint, attempt.own_prefill);
        attempt.own_prefill = 0;
        let Some(request) = self.request(id) else { return };
        let gateway = self.gateway_of(request);
        if let Some(seen) = self.gateways.get_mut(gateway).and_then(|gateway| gateway.seen.get_mut(endpoint)) {
            seen.prefill_tokens = seen.prefill_tokens.saturating_sub(own_prefill);
        }
        if let Some(progress) = self.requests.get_mut(id as usize) {
            progress.first.get_or_insert((key, self.now));
        }
        self.ask(gateway, routers, |router, now, seen, acts| router.first_token(now, id, endpoint, seen, acts));
        self.act(gateway, routers);
    }

    /// An attempt is over, well or not.
    pub(super) fn ended(&mut self, key: Key, broken: bool, routers: &mut [Box<dyn Router + '_>]) {
        self.release(key);
        let Some(attempt) = self.attempts.remove(key).filter(|attempt| !attempt.cancelled) else { return };
        let (id, endpoint) = (attempt.request, attempt.endpoint);
        let Some(request) = self.request(id) else { return };
        let Some(progress) = self.requests.get(id as usize).copied() else { return };
        let ended = self.observe(request, &attempt, broken);
        if let Some(predicted) = attempt.predicted.filter(|_| !broken) {
            self.report.calibration.compare(&predicted, &ended);
        }
        let won = progress.first.is_none_or(|(first, _)| first == key);
        if won && !broken {
            let observed = self.judged(request, &progress, &ended);
            self.settle(id, End::Answered(observed), self.pool_of(endpoint).map(|(pool, _)| pool));
        } else if won && progress.first.is_some() {
            self.settle(id, End::Broken, None);
            self.abandon_all(id);
        }
        let gateway = self.gateway_of(request);
        self.ask(gateway, routers, |router, now, seen, acts| router.ended(now, &ended, seen, acts));
        self.act(gateway, routers);
    }

    /// A client whose stream broke off has left: nobody reads other attempts.
    fn abandon_all(&mut self, id: u32) {
        while let Some(key) = self.requests.get(id as usize).and_then(|progress| progress.attempts) {
            self.abandon(key);
        }
    }

    fn observe(&self, request: &Request, attempt: &Attempt, broken: bool) -> Ended {
        let one_way = self.one_way(attempt.endpoint);
        let first = attempt.first.filter(|_| request.stream).map(|first| first + one_way);
        let steps = attempt.output_tokens.saturating_sub(1);
        Ended {
            request: attempt.request,
            endpoint: attempt.endpoint,
            sent: attempt.sent,
            ttft_ms: first.map(|first| (first - attempt.sent).as_ms()),
            itl_ms: first.filter(|_| steps > 0).map(|first| (self.now - first).as_ms() / steps as f64),
            total_ms: (self.now - attempt.sent).as_ms(),
            input_tokens: u64::from(request.input_tokens),
            cached_tokens: attempt.cached_tokens,
            output_tokens: attempt.output_tokens,
            broken,
        }
    }

    /// As the caller saw it: times count from when the request came.
    fn judged(&self, request: &Request, progress: &Progress, ended: &Ended) -> Observed {
        Observed {
            streamed: request.stream,
            ttft_ms: progress.first.map(|(_, at)| (at - request.at).as_ms()),
            itl_ms: ended.itl_ms,
            total_ms: (self.now - request.at).as_ms(),
            output_tokens: ended.output_tokens,
        }
    }

    /// A machine's refusal has come.
    pub(super) fn away(&mut self, key: Key, wait: Option<Micros>, routers: &mut [Box<dyn Router + '_>]) {
        self.release(key);
        let Some(attempt) = self.attempts.remove(key).filter(|attempt| !attempt.cancelled) else { return };
        let Some(request) = self.request(attempt.request) else { return };
        if let Some(pool) = self.pool_of(attempt.endpoint).and_then(|(pool, _)| self.report.pools.get_mut(pool)) {
            pool.turned_away += 1;
        }
        let away = TurnedAway {
            request: attempt.request,
            endpoint: attempt.endpoint,
            retry_after_ms: wait.map(Micros::as_ms),
        };
        let gateway = self.gateway_of(request);
        self.ask(gateway, routers, |router, now, seen, acts| router.turned_away(now, &away, seen, acts));
        self.act(gateway, routers);
    }
}

/// What a gateway reads of a request.
fn facts<'a>(workload: &'a Workload, request: &Request, model: &'a str) -> Facts<'a> {
    let name = |names: &'a [String], index: usize| names.get(index).map_or("", String::as_str);
    Facts {
        tenant: name(&workload.tenants, usize::from(request.tenant)),
        stream: request.stream,
        declared_class: name(&workload.classes, usize::from(request.declared)),
        input_tokens: u64::from(request.read_input_tokens),
        max_output_tokens: (request.max_output_tokens > 0).then_some(u64::from(request.max_output_tokens)),
        output_tokens: expected_output(request),
        unix_s: BEGINNING_S + request.at.0 / 1_000_000,
        ..Facts::plain(Api::ChatCompletions, model)
    }
}

/// The expected answer of one who has learned nothing, cut at the caller's bound.
fn expected_output(request: &Request) -> u64 {
    match request.max_output_tokens {
        0 => PRIOR_OUTPUT_TOKENS,
        bound => PRIOR_OUTPUT_TOKENS.min(u64::from(bound)),
    }
}
