//! What both ways to run read and write: the machine, its queue, its account, its chance.

use std::collections::VecDeque;

use pointsman_policies::units::Micros;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64Mcg;

use super::engine::Counters;
use super::profile::Profile;
use super::sequence::Sequence;
use super::weather::Weather;
use crate::lease::{Limiter, RateLimits};

#[derive(Clone, Debug)]
pub(super) struct Intake {
    pub(super) profile: Profile,
    pub(super) waiting: VecDeque<Sequence>,
    pub(super) counters: Counters,
    pub(super) limiter: Limiter,
    /// How many times as fast as its profile the machine runs.
    pub(super) speed: f64,
    /// Places that were freed from outside are given no earlier than this.
    pub(super) changed: Micros,
    weather: Option<Weather>,
    random: Pcg64Mcg,
}

impl Intake {
    pub(super) fn new(profile: Profile, seed: u64) -> Intake {
        let neighbours = profile.neighbours.filter(|_| !profile.batches());
        let mut intake = Intake {
            limiter: Limiter::new(profile.limits),
            waiting: VecDeque::new(),
            counters: Counters::default(),
            speed: 1.0,
            changed: Micros(0),
            weather: neighbours.map(|neighbours| Weather::new(neighbours, seed)),
            random: Pcg64Mcg::seed_from_u64(seed),
            profile,
        };
        intake.leave_to_neighbours(Micros(0));
        intake
    }

    /// Sequences that run at once; a machine without a slot would never serve.
    pub(super) fn places(&self) -> usize {
        let taken = self.weather.as_ref().map_or(0, |weather| weather.neighbours.slots_taken(weather.now().busy));
        usize::try_from(self.profile.service.slots.saturating_sub(taken)).unwrap_or(usize::MAX).max(1)
    }

    /// When the waiting job at the head of the queue may be given a place, if there is room for it.
    pub(super) fn next_ready(&self) -> Option<Micros> {
        self.waiting.front().map(|sequence| sequence.ready.max(self.changed))
    }

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

    /// A job leaves, however: its account is closed.
    pub(super) fn settle(&mut self, at: Micros, sequence: &Sequence) {
        self.counters.prompt_tokens += sequence.job.prompt_tokens;
        self.limiter.settle(at, sequence.reservation, sequence.kv_tokens());
    }

    /// A factor for the sum of so many durations that vary apart from each other: lognormal with mean one, so that
    /// jitter changes no average, and with the variance of the sum.
    pub(super) fn jitter(&mut self, durations: u64) -> f64 {
        let sigma = self.profile.service.jitter_sigma;
        if sigma <= 0.0 {
            return 1.0;
        }
        let variance = match durations {
            0 | 1 => sigma * sigma,
            many => ((sigma * sigma).exp_m1() / many as f64).ln_1p(),
        };
        let normal: f64 = StandardNormal.sample(&mut self.random);
        (variance.sqrt() * normal - variance / 2.0).exp()
    }

    /// The rare pauses that so many events of a stream meet.
    pub(super) fn tail(&mut self, events: u64) -> Micros {
        let Some(tail) = self.profile.tail.filter(|tail| tail.probability > 0.0) else { return Micros(0) };
        let missed_ln = (-tail.probability.min(1.0)).ln_1p();
        let (mut left, mut pauses) = (events as f64, 0_u32);
        loop {
            // How many events pass until one meets the pause is geometric.
            left -= ((1.0 - self.random.random::<f64>()).ln() / missed_ln).floor() + 1.0;
            if left < 0.0 {
                return Micros::from_ms(tail.pause_ms * f64::from(pauses));
            }
            pauses += 1;
        }
    }

    /// What takes so long without neighbours, with those there are. A time to first token varies more.
    pub(super) fn among_neighbours(&mut self, at: Micros, ms: f64, first: bool) -> Micros {
        let Some(weather) = &mut self.weather else { return Micros::from_ms(ms) };
        let factor = if first { weather.ttft_factor() } else { 1.0 };
        weather.stretched(at, ms * factor)
    }

    /// Lets the neighbours come and go until a moment.
    pub(super) fn pass(&mut self, at: Micros) {
        while let Some(ended) = self.weather.as_mut().and_then(|weather| weather.pass(at)) {
            self.leave_to_neighbours(ended);
        }
    }

    /// When the neighbours next come or go.
    pub(super) fn next_spell(&self) -> Option<Micros> {
        self.weather.as_ref().map(|weather| weather.now().ends)
    }

    /// Other limits from now on, of which the neighbours take their part as before.
    pub(super) fn change_limits(&mut self, now: Micros, limits: RateLimits) {
        self.limiter.change_to(now, limits);
        self.leave_to_neighbours(now);
    }

    fn leave_to_neighbours(&mut self, at: Micros) {
        if let Some(weather) = &self.weather {
            self.limiter.slow_to(at, weather.neighbours.limits_left(weather.now().busy));
        }
    }
}
