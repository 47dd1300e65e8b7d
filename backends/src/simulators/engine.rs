//! One simulated machine as a pure state machine: jobs go in, events of their streams come out, the clock is an
//! argument. The same seed and the same calls give the same events.
//!
//! ```text
//! submit ──► limits ──► queue ──► a place in the batch, or a slot ──► events ──► done
//! ```

use pointsman_policies::units::Micros;

use super::batch::Batch;
use super::change::Change;
use super::flat::Flat;
use super::intake::Intake;
use super::power::Meter;
pub use super::power::{Energy, EnergyBasis};
use super::profile::Profile;
use super::report::Report;
use super::sequence::Sequence;
pub use super::sequence::{Emission, Job};
use crate::lease::Limit;

/// How long a caller is told to stay away when the queue is full; assumed.
const QUEUE_FULL_RETRY: Micros = Micros::from_secs(1);

/// A machine. A clone goes on as the original would.
#[derive(Clone, Debug)]
pub struct Engine {
    intake: Intake,
    places: Places,
    meter: Meter,
    up: bool,
    busy_since: Option<Micros>,
}

impl Engine {
    /// An idle machine at the origin of its clock.
    pub fn new(profile: Profile, seed: u64) -> Engine {
        let places = match profile.batches() {
            true => Places::Batch(Batch::new(profile.prefix_block_tokens)),
            false => Places::Flat(Flat::default()),
        };
        let intake = Intake::new(profile, seed);
        let mut engine = Engine { intake, places, meter: Meter::default(), up: true, busy_since: None };
        engine.account(Micros(0));
        engine
    }

    /// Takes a job in, or refuses it. Nothing runs before the next [`advance`](Self::advance); call that first, so that
    /// the machine is where it would be now.
    pub fn submit(&mut self, now: Micros, job: Job) -> Admission {
        let job = Job { output_tokens: job.output_tokens.max(1), ..job };
        self.intake.pass(now);
        match self.reserve(now, job) {
            Ok(sequence) => {
                self.intake.counters.accepted += 1;
                self.intake.waiting.push_back(sequence);
                if let Places::Batch(batch) = &mut self.places {
                    batch.make_way(&self.intake);
                }
                Admission::Accepted
            }
            Err(refused) => {
                self.intake.counters.refused += 1;
                Admission::Refused(refused)
            }
        }
    }

    fn reserve(&mut self, now: Micros, job: Job) -> Result<Sequence, Refused> {
        if !self.up {
            return Err(Refused::Down);
        }
        let profile = &self.intake.profile;
        let longest = profile.longest();
        if job.prompt_tokens.saturating_add(job.output_tokens.max(job.reserved_output_tokens)) > longest {
            return Err(Refused::ContextTooLong { longest });
        }
        if self.running() + self.waiting() >= self.intake.places() + profile.max_waiting {
            return Err(Refused::QueueFull { retry_after: QUEUE_FULL_RETRY });
        }
        // A machine that batches spends the fixed time before the queue, on its host; the others in the slot.
        let fixed = match profile.batches() {
            true => Micros::from_ms(profile.service.fixed_ttft_ms / self.intake.speed),
            false => Micros(0),
        };
        let reservation = self
            .intake
            .limiter
            .try_take(now, job.prompt_tokens, job.reserved_output_tokens)
            .map_err(|short| Refused::RateLimited { limit: short.limit, retry_after: short.retry_after })?;
        Ok(Sequence::new(job, now + fixed, reservation))
    }

    /// Drops a job that waits or runs; its place and memory are free at once. How many tokens of its answer were made
    /// by then; `None` when there is no such job.
    pub fn cancel(&mut self, now: Micros, id: u64) -> Option<u64> {
        let queued = self.intake.waiting.iter().position(|sequence| sequence.job.id == id);
        let removed = match queued {
            Some(at) => self.intake.waiting.remove(at),
            None => match &mut self.places {
                Places::Batch(batch) => batch.remove(now, id, &mut self.intake),
                Places::Flat(flat) => flat.remove(now, id, &mut self.intake),
            },
        };
        let sequence = removed?;
        self.intake.counters.cancelled += 1;
        self.intake.settle(now, &sequence);
        self.intake.changed = self.intake.changed.max(now);
        self.account(now);
        Some(sequence.produced)
    }

    /// Changes the machine from outside. Appends the jobs that broke, those it held when it went down, each with the
    /// tokens of its answer that were made by then.
    pub fn apply(&mut self, now: Micros, change: Change, broken: &mut Vec<(u64, u64)>) {
        self.intake.pass(now);
        self.intake.changed = self.intake.changed.max(now);
        match change {
            Change::Up => self.up = true,
            Change::Down => {
                self.up = false;
                self.break_all(now, broken);
            }
            Change::Slots(slots) => self.intake.profile.service.slots = slots,
            Change::Limits(limits) => self.intake.change_limits(now, limits),
            Change::Speed(speed) => self.intake.speed = if speed > 0.0 { speed } else { 1.0 },
        }
        if let Places::Batch(batch) = &mut self.places {
            batch.settle(now);
        }
        self.account(now);
    }

    fn break_all(&mut self, now: Micros, broken: &mut Vec<(u64, u64)>) {
        let mut held = match &mut self.places {
            Places::Batch(batch) => batch.clear(now, &mut self.intake),
            Places::Flat(flat) => flat.clear(now, &mut self.intake),
        };
        held.extend(self.intake.waiting.drain(..));
        for sequence in held {
            self.intake.counters.broken += 1;
            self.intake.settle(now, &sequence);
            broken.push((sequence.job.id, sequence.produced));
        }
    }

    /// When something happens next; `None` while idle. May lie in the past until [`advance`](Self::advance) is called.
    pub fn next_event(&self) -> Option<Micros> {
        match &self.places {
            Places::Batch(batch) => batch.next_event(&self.intake),
            Places::Flat(flat) => flat.next_event(&self.intake),
        }
    }

    /// Lets everything happen that is due by `now`, in order, and appends what was sent.
    pub fn advance(&mut self, now: Micros, sent: &mut Vec<Emission>) {
        while let Some(at) = self.next_event().filter(|at| *at <= now && *at < Micros::NEVER) {
            match &mut self.places {
                Places::Batch(batch) => batch.happen(at, &mut self.intake, sent),
                Places::Flat(flat) => flat.happen(at, &mut self.intake, sent),
            }
            self.account(at);
        }
    }

    /// Jobs that have a place.
    pub fn running(&self) -> usize {
        match &self.places {
            Places::Batch(batch) => batch.running(),
            Places::Flat(flat) => flat.running(),
        }
    }

    /// Jobs accepted that wait for a place.
    pub fn waiting(&self) -> usize {
        self.intake.waiting.len()
    }

    /// KV memory in use as of the last event, tokens.
    pub fn kv_tokens(&self) -> u64 {
        match &self.places {
            Places::Batch(batch) => batch.kv_tokens(),
            Places::Flat(flat) => flat.kv_tokens(),
        }
    }

    /// Whether it serves at all.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Totals as of the last event.
    pub fn counters(&self) -> &Counters {
        &self.intake.counters
    }

    /// What the machine is.
    pub fn profile(&self) -> &Profile {
        &self.intake.profile
    }

    /// What an inference server would say of itself now; to be asked after [`advance`](Self::advance).
    pub fn report(&self, now: Micros) -> Report {
        let counters = &self.intake.counters;
        let (made, taken) = match &self.places {
            Places::Batch(batch) => (batch.made_by(now), batch.made_by(now)),
            // Their memory is set aside beforehand.
            Places::Flat(flat) => (flat.made_by(now), 0),
        };
        let kv_tokens = self.kv_tokens() + taken;
        let capacity = self.intake.profile.service.kv_tokens;
        Report {
            at: now,
            running: u32::try_from(self.running()).unwrap_or(u32::MAX),
            waiting: u32::try_from(self.waiting()).unwrap_or(u32::MAX),
            kv_tokens,
            kv_used: capacity.map_or(0.0, |capacity| (kv_tokens as f64 / capacity.max(1) as f64).min(1.0)),
            looked_up_tokens: counters.looked_up_tokens,
            found_tokens: counters.found_tokens,
            prompt_tokens: counters.prompt_tokens,
            output_tokens: counters.output_tokens + made,
            watts: self.watts(),
        }
    }

    /// What it draws as of the last event, watts; zero where its power is not published.
    pub fn watts(&self) -> f64 {
        self.meter.watts()
    }

    /// Energy used so far: what was drawn, idle or not; by the token where only that is published.
    pub fn energy(&self, now: Micros) -> Energy {
        let (service, counters) = (&self.intake.profile.service, &self.intake.counters);
        match (service.power_kw, service.joules_per_output_token) {
            (Some(_), _) => Energy { joules: self.meter.joules(now), basis: EnergyBasis::Power },
            (None, Some(joules)) => {
                Energy { joules: joules * counters.output_tokens as f64, basis: EnergyBasis::PerToken }
            }
            (None, None) => Energy { joules: 0.0, basis: EnergyBasis::Unknown },
        }
    }

    fn account(&mut self, at: Micros) {
        match (self.busy_since, self.running() > 0) {
            (None, true) => self.busy_since = Some(at),
            (Some(since), false) => {
                self.intake.counters.busy += at - since;
                self.busy_since = None;
            }
            _ => {}
        }
        let profile = &self.intake.profile;
        let idle = profile.idle_power_share.clamp(0.0, 0.99);
        let activity = match &self.places {
            Places::Batch(batch) => batch.activity(idle),
            Places::Flat(flat) => flat.activity(&self.intake),
        };
        let share = if self.up { idle + (1.0 - idle) * activity } else { 0.0 };
        self.meter.set(at, profile.service.power_kw.unwrap_or(0.0) * 1e3 * share);
    }
}

/// What became of a job that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It waits or runs.
    Accepted,
    /// It was not taken.
    Refused(Refused),
}

/// Why a machine took no job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A provider's limit is used up.
    RateLimited {
        /// Which.
        limit: Limit,
        /// How long until the same job would be taken.
        retry_after: Micros,
    },
    /// All slots and all places in the queue are taken.
    QueueFull {
        /// How long to stay away.
        retry_after: Micros,
    },
    /// It is down, or not there yet.
    Down,
    /// It can never fit.
    ContextTooLong {
        /// What prompt and answer together may be, tokens.
        longest: u64,
    },
}

/// Totals of one machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Jobs taken in.
    pub accepted: u64,
    /// Jobs refused.
    pub refused: u64,
    /// Jobs that ran to their end.
    pub completed: u64,
    /// Jobs dropped on request.
    pub cancelled: u64,
    /// Jobs lost because the machine went down.
    pub broken: u64,
    /// Times a job lost its place because KV memory ran out.
    pub preempted: u64,
    /// Prompt tokens of jobs that ended.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub output_tokens: u64,
    /// Prompt tokens, of jobs given a place, that carried hashes of their blocks.
    pub looked_up_tokens: u64,
    /// Of these, tokens found in the prefix cache.
    pub found_tokens: u64,
    /// Time with at least one job in place, up to when the machine was last idle.
    pub busy: Micros,
}

#[derive(Clone, Debug)]
enum Places {
    Batch(Batch),
    Flat(Flat),
}

#[cfg(test)]
mod tests;
