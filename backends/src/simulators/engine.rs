//! One simulated machine as a pure state machine: jobs go in, events of their streams come out, the clock is an
//! argument. The same seed and the same calls give the same events.
//!
//! ```text
//! submit ──► limits ──► queue ──► a place in the batch, or a slot ──► events ──► done
//! ```

use std::collections::VecDeque;

use pointsman_policies::units::Micros;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64Mcg;

use super::batch::Batch;
use super::flat::Flat;
use super::profile::Profile;
use super::sequence::Sequence;
pub use super::sequence::{Emission, Job};
use crate::lease::{Limit, Limiter};

/// How long a caller is told to stay away when the queue is full; assumed.
const QUEUE_FULL_RETRY: Micros = Micros::from_secs(1);

/// A machine. A clone goes on as the original would.
#[derive(Clone, Debug)]
pub struct Engine {
    intake: Intake,
    places: Places,
    busy_since: Option<Micros>,
}

impl Engine {
    /// An idle machine at the origin of its clock.
    pub fn new(profile: Profile, seed: u64) -> Engine {
        let places = if profile.batches() { Places::Batch(Batch::default()) } else { Places::Flat(Flat::default()) };
        let intake = Intake {
            limiter: Limiter::new(profile.limits),
            waiting: VecDeque::new(),
            counters: Counters::default(),
            random: Pcg64Mcg::seed_from_u64(seed),
            profile,
        };
        Engine { intake, places, busy_since: None }
    }

    /// Takes a job in, or refuses it. Nothing runs before the next [`advance`](Self::advance).
    pub fn submit(&mut self, now: Micros, job: Job) -> Admission {
        let job = Job { output_tokens: job.output_tokens.max(1), ..job };
        match self.reserve(now, &job) {
            Ok(sequence) => {
                self.intake.counters.accepted += 1;
                self.intake.waiting.push_back(sequence);
                Admission::Accepted
            }
            Err(refused) => {
                self.intake.counters.refused += 1;
                Admission::Refused(refused)
            }
        }
    }

    fn reserve(&mut self, now: Micros, job: &Job) -> Result<Sequence, Refused> {
        let profile = &self.intake.profile;
        let longest = profile.longest();
        if job.prompt_tokens.saturating_add(job.output_tokens.max(job.reserved_output_tokens)) > longest {
            return Err(Refused::ContextTooLong { longest });
        }
        if self.running() + self.waiting() >= slots(profile) + profile.max_waiting {
            return Err(Refused::QueueFull { retry_after: QUEUE_FULL_RETRY });
        }
        // A machine that batches spends the fixed time before the queue, on its host; the others in the slot.
        let fixed = if profile.batches() { Micros::from_ms(profile.service.fixed_ttft_ms) } else { Micros(0) };
        let reservation = self
            .intake
            .limiter
            .try_take(now, job.prompt_tokens, job.reserved_output_tokens)
            .map_err(|short| Refused::RateLimited { limit: short.limit, retry_after: short.retry_after })?;
        Ok(Sequence::new(*job, now + fixed, reservation))
    }

    /// Drops a job that waits or runs; its place and memory are free at once. False when there is no such job.
    pub fn cancel(&mut self, now: Micros, id: u64) -> bool {
        let queued = self.intake.waiting.iter().position(|sequence| sequence.job.id == id);
        let removed = match queued {
            Some(at) => self.intake.waiting.remove(at),
            None => match &mut self.places {
                Places::Batch(batch) => batch.remove(id),
                Places::Flat(flat) => flat.remove(id),
            },
        };
        let Some(sequence) = removed else { return false };
        self.intake.counters.cancelled += 1;
        self.intake.settle(now, &sequence);
        self.account_busy(now);
        true
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
            self.account_busy(at);
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

    /// KV memory in use, tokens.
    pub fn kv_tokens(&self) -> u64 {
        match &self.places {
            Places::Batch(batch) => batch.kv_tokens(),
            Places::Flat(flat) => flat.kv_tokens(),
        }
    }

    /// Totals since the start.
    pub fn counters(&self) -> &Counters {
        &self.intake.counters
    }

    /// What the machine is.
    pub fn profile(&self) -> &Profile {
        &self.intake.profile
    }

    /// Energy used so far.
    pub fn energy(&self, now: Micros) -> Energy {
        let (service, counters) = (&self.intake.profile.service, &self.intake.counters);
        if let Some(joules) = service.joules_per_output_token {
            return Energy { joules: joules * counters.output_tokens as f64, basis: EnergyBasis::PerToken };
        }
        let busy = counters.busy + self.busy_since.map_or(Micros(0), |since| now - since);
        match service.power_kw {
            Some(kilowatts) => Energy { joules: kilowatts * 1e3 * busy.as_secs(), basis: EnergyBasis::PowerWhileBusy },
            None => Energy { joules: 0.0, basis: EnergyBasis::Unknown },
        }
    }

    fn account_busy(&mut self, at: Micros) {
        match (self.busy_since, self.running() > 0) {
            (None, true) => self.busy_since = Some(at),
            (Some(since), false) => {
                self.intake.counters.busy += at - since;
                self.busy_since = None;
            }
            _ => {}
        }
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
    /// Times a job lost its place because KV memory ran out.
    pub preempted: u64,
    /// Prompt tokens of jobs that ended.
    pub prompt_tokens: u64,
    /// Tokens sent.
    pub output_tokens: u64,
    /// Time with at least one job in place, up to when the machine was last idle.
    pub busy: Micros,
}

/// Energy, and how it was reckoned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Energy {
    /// Joules.
    pub joules: f64,
    /// From which numbers.
    pub basis: EnergyBasis,
}

/// How energy is reckoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnergyBasis {
    /// Energy per output token times tokens.
    PerToken,
    /// All-in power times the time the machine was busy.
    PowerWhileBusy,
    /// Nothing is published; the joules are zero.
    Unknown,
}

impl EnergyBasis {
    /// The name used in statistics.
    pub fn as_str(self) -> &'static str {
        match self {
            EnergyBasis::PerToken => "per-token",
            EnergyBasis::PowerWhileBusy => "power-while-busy",
            EnergyBasis::Unknown => "unknown",
        }
    }
}

#[derive(Clone, Debug)]
enum Places {
    Batch(Batch),
    Flat(Flat),
}

/// What both ways to run read and write: the machine, its queue, its account, its chance.
#[derive(Clone, Debug)]
pub(super) struct Intake {
    pub(super) profile: Profile,
    pub(super) waiting: VecDeque<Sequence>,
    pub(super) counters: Counters,
    limiter: Limiter,
    random: Pcg64Mcg,
}

impl Intake {
    /// The waiting job at the head of the queue, if it may be given a place at this moment.
    pub(super) fn pop_ready(&mut self, at: Micros, fits: impl FnOnce(&Sequence, &Intake) -> bool) -> Option<Sequence> {
        let next = self.waiting.front()?;
        if next.ready > at || !fits(next, self) {
            return None;
        }
        self.waiting.pop_front()
    }

    /// A job ran to its end.
    pub(super) fn complete(&mut self, at: Micros, sequence: &Sequence) {
        self.counters.completed += 1;
        self.settle(at, sequence);
    }

    /// A duration around `ms`: lognormal with mean one, so that jitter changes no average.
    pub(super) fn jittered(&mut self, ms: f64) -> Micros {
        let sigma = self.profile.service.jitter_sigma;
        if sigma <= 0.0 {
            return Micros::from_ms(ms);
        }
        let normal: f64 = StandardNormal.sample(&mut self.random);
        Micros::from_ms(ms * (sigma * normal - sigma * sigma / 2.0).exp())
    }

    /// The rare pause, when it is met.
    pub(super) fn tail(&mut self) -> Micros {
        match self.profile.tail {
            Some(tail) if self.random.random::<f64>() < tail.probability => Micros::from_ms(tail.pause_ms),
            _ => Micros(0),
        }
    }

    fn settle(&mut self, at: Micros, sequence: &Sequence) {
        self.counters.prompt_tokens += sequence.job.prompt_tokens;
        self.limiter.settle(at, sequence.reservation, sequence.kv_tokens());
    }
}

/// Sequences that run at once; a machine without a slot would never serve.
pub(super) fn slots(profile: &Profile) -> usize {
    usize::try_from(profile.service.slots).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests;
