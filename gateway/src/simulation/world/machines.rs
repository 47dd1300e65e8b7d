//! What machines do and send: admission, streams, failures, neighbours, metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use pointsman_backends::simulators::change::Change;
use pointsman_backends::simulators::engine::{Admission, Emission, Job, Refused};
use pointsman_policies::units::Micros;
use rand::RngExt;

use super::{What, World};
use crate::simulation::attempts::Key;
use crate::simulation::conditions::Happening;

/// Health checks notice a change after this long; assumed.
const NOTICED_AFTER: Micros = Micros::from_secs(2);
/// Marks jobs of neighbours.
const NEIGHBOUR: u64 = 1 << 63;

impl World<'_> {
    /// A request has reached its machine: taken, refused, or nobody is there.
    pub(super) fn reaches(&mut self, key: Key) {
        let Some(attempt) = self.attempts.get(key) else { return };
        let (endpoint, id) = (attempt.endpoint, attempt.request);
        let Some(request) = self.request(id) else { return };
        let Some((pool, _)) = self.pool_of(endpoint) else { return };
        self.advance(endpoint);
        let back = self.now + self.one_way(endpoint);
        let prefix = self.workload.prefix(request);
        let Some(machine) = self.machines.get_mut(endpoint) else { return };
        if !machine.up {
            self.plan(back, What::Broke(key));
            return;
        }
        let (input, reserved) = (u64::from(request.input_tokens), u64::from(request.max_output_tokens));
        let limiter = self.limiters.get_mut(pool).and_then(Option::as_mut);
        let reservation = match limiter.map(|limiter| limiter.try_take(self.now, input, reserved)) {
            Some(Err(short)) => {
                self.plan(back, What::Away(key, Some(short.retry_after)));
                return;
            }
            Some(Ok(reservation)) => Some(reservation),
            None => None,
        };
        let job = Job {
            id: key.job(),
            prompt_tokens: input,
            prefix: if prefix.is_empty() { Arc::default() } else { prefix.into() },
            output_tokens: u64::from(request.output_tokens),
            reserved_output_tokens: reserved,
            ..Job::default()
        };
        match machine.engine.submit(self.now, job) {
            Admission::Accepted => {
                if let Some(attempt) = self.attempts.get_mut(key) {
                    (attempt.running, attempt.reservation) = (true, reservation);
                }
            }
            Admission::Refused(refused) => {
                if let Some((limiter, reservation)) =
                    self.limiters.get_mut(pool).and_then(Option::as_mut).zip(reservation)
                {
                    limiter.give_back(self.now, reservation);
                }
                self.plan(back, What::Away(key, wait(refused)));
            }
        }
        self.touch(endpoint);
    }

    /// Plans the machine's next event, unless an earlier one is planned already.
    fn touch(&mut self, endpoint: usize) {
        let Some(machine) = self.machines.get_mut(endpoint) else { return };
        let Some(next) = machine.engine.next_event().map(|next| next.max(self.now)) else { return };
        if next < machine.due {
            machine.due = next;
            self.plan(next, What::Machine(endpoint));
        }
    }

    pub(super) fn machine(&mut self, endpoint: usize) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(endpoint).filter(|machine| machine.due == now) else { return };
        machine.due = Micros::NEVER;
        self.advance(endpoint);
        self.touch(endpoint);
    }

    /// Lets a machine do what is due, so that it is where it would be now.
    fn advance(&mut self, endpoint: usize) {
        let mut emissions = std::mem::take(&mut self.emissions);
        if let Some(machine) = self.machines.get_mut(endpoint) {
            machine.engine.advance(self.now, &mut emissions);
        }
        for emission in emissions.drain(..) {
            self.emitted(endpoint, &emission);
        }
        self.emissions = emissions;
    }

    fn emitted(&mut self, endpoint: usize, emission: &Emission) {
        if emission.id & NEIGHBOUR != 0 {
            return;
        }
        let key = Key::of_job(emission.id);
        let back = emission.at + self.one_way(endpoint);
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        attempt.output_tokens += u64::from(emission.tokens);
        attempt.cached_tokens = emission.cached_tokens;
        let streams = self.workload.requests.get(attempt.request as usize).is_some_and(|request| request.stream);
        if emission.first {
            attempt.first = Some(emission.at);
            if streams {
                self.plan(back, What::First(key));
            }
        }
        if emission.last {
            self.leave(key);
            self.plan(back, What::Last(key));
        }
    }

    /// A machine is done with an attempt: what was used is paid, and comes off the provider's limits.
    fn leave(&mut self, key: Key) {
        let Some(attempt) = self.attempts.get_mut(key).filter(|attempt| attempt.running) else { return };
        attempt.running = false;
        let (id, endpoint, output, cached) =
            (attempt.request, attempt.endpoint, attempt.output_tokens, attempt.cached_tokens);
        let (reservation, outrun) = (attempt.reservation.take(), attempt.cancelled);
        let Some((pool, facts)) = self.pool_of(endpoint) else { return };
        let input = self.request(id).map_or(0, |request| u64::from(request.input_tokens));
        if let Some((limiter, reservation)) = self.limiters.get_mut(pool).and_then(Option::as_mut).zip(reservation) {
            limiter.settle(self.now, reservation, input + output);
        }
        let price = facts.model(self.setup.model).map(|model| model.price).unwrap_or_default();
        let usd = (input as f64 * price.usd_per_m_input + output as f64 * price.usd_per_m_output) / 1e6;
        self.report.in_minute(self.now, |minute| minute.usd += usd);
        self.report.outrun_tokens += if outrun { input + output } else { 0 };
        if let Some(pool) = self.report.pools.get_mut(pool) {
            pool.input_tokens += input;
            pool.cached_tokens += cached;
            pool.output_tokens += output;
            pool.usd += usd;
        }
    }

    /// A machine loses an attempt before its end, when it had made so much of the answer.
    fn cut(&mut self, key: Key, made: Option<u64>) {
        let Some(attempt) = self.attempts.get_mut(key).filter(|attempt| attempt.running) else { return };
        attempt.output_tokens = made.unwrap_or(attempt.output_tokens);
        attempt.cut = true;
        self.leave(key);
    }

    /// A gateway's change of mind has come. An attempt that ended meanwhile is forgotten when its end arrives.
    pub(super) fn cancel(&mut self, key: Key) {
        let Some(attempt) = self.attempts.get(key) else { return };
        let (endpoint, running) = (attempt.endpoint, attempt.running);
        if !running {
            return;
        }
        self.advance(endpoint);
        let made = self.machines.get_mut(endpoint).and_then(|machine| machine.engine.cancel(self.now, key.job()));
        self.cut(key, made);
        if self.attempts.get(key).is_some_and(|attempt| attempt.cut) {
            self.attempts.remove(key);
        }
        self.touch(endpoint);
    }

    pub(super) fn disturb(&mut self, index: usize) {
        let Some(disturbance) = self.conditions.disturbances.get(index) else { return };
        for endpoint in disturbance.endpoints.iter().copied() {
            match disturbance.what {
                Happening::Down => self.down(endpoint),
                Happening::Up => self.up(endpoint),
                Happening::Speed(speed) => {
                    self.advance(endpoint);
                    if let Some(machine) = self.machines.get_mut(endpoint) {
                        machine.engine.apply(self.now, Change::Speed(speed), &mut Vec::new());
                    }
                    self.touch(endpoint);
                }
                Happening::Neighbour(neighbour) => {
                    if let Some(machine) = self.machines.get_mut(endpoint) {
                        machine.neighbour = Some(neighbour);
                    }
                    self.neighbour(endpoint);
                }
                Happening::Alone => {
                    if let Some(machine) = self.machines.get_mut(endpoint) {
                        machine.neighbour = None;
                    }
                }
            }
        }
    }

    fn down(&mut self, endpoint: usize) {
        let back = self.now + self.one_way(endpoint);
        self.advance(endpoint);
        let Some(machine) = self.machines.get_mut(endpoint) else { return };
        let made: BTreeMap<u64, u64> = machine.fail(self.now).into_iter().collect();
        for key in self.attempts.running_at(endpoint) {
            self.cut(key, made.get(&key.job()).copied());
            self.plan(back, What::Broke(key));
        }
        self.plan(self.now + NOTICED_AFTER, What::Noticed(endpoint, false));
    }

    fn up(&mut self, endpoint: usize) {
        if let Some(machine) = self.machines.get_mut(endpoint) {
            machine.come_back(self.now);
            self.plan(self.now + NOTICED_AFTER, What::Noticed(endpoint, true));
        }
    }

    pub(super) fn notice(&mut self, endpoint: usize, up: bool) {
        for seen in self.gateways.iter_mut().filter_map(|gateway| gateway.seen.get_mut(endpoint)) {
            seen.up = up;
        }
    }

    /// A neighbour's request, and when its next comes.
    pub(super) fn neighbour(&mut self, endpoint: usize) {
        let draw: f64 = self.random.random();
        self.advance(endpoint);
        let Some(machine) = self.machines.get_mut(endpoint) else { return };
        let Some(neighbour) = machine.neighbour.filter(|neighbour| neighbour.rps > 0.0) else { return };
        self.jobs_of_neighbours += 1;
        if machine.up {
            let job = Job {
                id: NEIGHBOUR | self.jobs_of_neighbours,
                prompt_tokens: neighbour.input_tokens,
                output_tokens: neighbour.output_tokens,
                reserved_output_tokens: neighbour.output_tokens,
                ..Job::default()
            };
            let _ = machine.engine.submit(self.now, job); // a full machine loses them
        }
        let gap_s = -(1.0 - draw).ln() / neighbour.rps;
        self.plan(self.now + Micros((gap_s * 1e6) as u64), What::Neighbour(endpoint));
        self.touch(endpoint);
    }

    /// Metrics of engines are read, and are on their way.
    pub(super) fn read(&mut self) {
        let now = self.now;
        (0..self.machines.len()).for_each(|endpoint| self.advance(endpoint));
        self.underway.push_back(self.machines.iter().map(|machine| machine.reported(now)).collect());
        if self.conditions.metrics.delay == Micros(0) {
            self.metrics();
        } else {
            self.plan(now + self.conditions.metrics.delay, What::Metrics);
        }
        self.plan(now + self.conditions.metrics.every, What::Read);
    }

    /// Metrics have come; those of machines that are gone do not.
    pub(super) fn metrics(&mut self) {
        let Some(read) = self.underway.pop_front() else { return };
        for gateway in &mut self.gateways {
            for ((seen, reported), machine) in gateway.seen.iter_mut().zip(&read).zip(&self.machines) {
                if machine.up {
                    seen.reported = Some(*reported);
                }
            }
        }
    }
}

/// How long a refusal says to stay away; `None` for ever.
fn wait(refused: Refused) -> Option<Micros> {
    match refused {
        Refused::RateLimited { retry_after, .. } | Refused::QueueFull { retry_after } => Some(retry_after),
        Refused::ContextTooLong { .. } | Refused::Down => None,
    }
}
