//! Load that nobody here can see: other customers of a rented machine. Spells of calm and spells of work take turns; in
//! the latter, first tokens and all others come later and less of the machine is left.

use std::collections::VecDeque;

use pointsman_policies::units::Micros;
use rand::SeedableRng;
use rand_distr::{Distribution, Exp1, StandardNormal};
use rand_pcg::Pcg64Mcg;

/// Keeps the weather of a seed apart from its jitter.
const WEATHER_SEED: u64 = 0x5eed_0f0f_5eed_f0f0;

/// Other customers of the same machine. Every number is a knob: no provider publishes any.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbours {
    /// Lognormal sigma of the time to first token, over the jitter of everything; its mean stays.
    pub ttft_sigma: f64,
    /// What a spell of work multiplies times to first token and between tokens with.
    pub slowdown: f64,
    /// Mean length of a spell of calm, seconds; the lengths are exponential.
    pub calm_s: f64,
    /// Mean length of a spell of work, seconds; the lengths are exponential.
    pub busy_s: f64,
    /// Slots they take in a spell of calm, and in one of work.
    pub slots: [u32; 2],
    /// Part of the rate limits' refill that they use up in a spell of calm, and in one of work.
    pub limits_share: [f64; 2],
}

impl Default for Neighbours {
    /// Two thirds of the time calm, else times doubled and most of 256 slots taken; assumed.
    fn default() -> Neighbours {
        Neighbours {
            ttft_sigma: 0.4,
            slowdown: 2.0,
            calm_s: 120.0,
            busy_s: 60.0,
            slots: [32, 192],
            limits_share: [0.0, 0.5],
        }
    }
}

impl Neighbours {
    pub(super) fn slots_taken(&self, busy: bool) -> u32 {
        let [calm, work] = self.slots;
        if busy { work } else { calm }
    }

    pub(super) fn limits_left(&self, busy: bool) -> f64 {
        let [calm, work] = self.limits_share;
        (1.0 - if busy { work } else { calm }).clamp(0.0, 1.0)
    }

    fn slowdown(&self, busy: bool) -> f64 {
        if busy { self.slowdown.max(f64::MIN_POSITIVE) } else { 1.0 }
    }
}

/// The spells of one machine. They follow from its seed alone, whatever is sent to it.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    pub(super) neighbours: Neighbours,
    random: Pcg64Mcg,
    /// The spell that reigns, and those after it as far as anyone had to look ahead.
    spells: VecDeque<Spell>,
}

/// A stretch of time in which the neighbours do not change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spell {
    pub(super) busy: bool,
    pub(super) ends: Micros,
}

impl Weather {
    pub(super) fn new(neighbours: Neighbours, seed: u64) -> Weather {
        let random = Pcg64Mcg::seed_from_u64(seed ^ WEATHER_SEED);
        let mut weather = Weather { neighbours, random, spells: VecDeque::new() };
        weather.look_ahead();
        weather
    }

    /// The spell that reigns.
    pub(super) fn now(&self) -> Spell {
        self.spells.front().copied().unwrap_or(Spell { busy: false, ends: Micros::NEVER })
    }

    /// Goes on to the next spell, if this one has ended by a moment: when it ended.
    pub(super) fn pass(&mut self, at: Micros) -> Option<Micros> {
        let ended = self.now().ends;
        if ended > at || ended == Micros::NEVER {
            return None;
        }
        if self.spells.len() < 2 {
            self.look_ahead();
        }
        self.spells.pop_front();
        Some(ended)
    }

    /// How long it takes from a moment on what would take `calm_ms` without neighbours.
    pub(super) fn stretched(&mut self, from: Micros, calm_ms: f64) -> Micros {
        let (mut at, mut left_ms, mut next) = (from, calm_ms, 0);
        loop {
            while self.spells.len() <= next {
                self.look_ahead();
            }
            let spell = self.spells.get(next).copied().unwrap_or(Spell { busy: false, ends: Micros::NEVER });
            let slowdown = self.neighbours.slowdown(spell.busy);
            let room_ms = (spell.ends - at).as_ms() / slowdown;
            if left_ms <= room_ms || spell.ends == Micros::NEVER {
                return at + Micros::from_ms(left_ms * slowdown) - from;
            }
            left_ms -= room_ms;
            at = at.max(spell.ends);
            next += 1;
        }
    }

    /// A factor with mean one for a time to first token.
    pub(super) fn ttft_factor(&mut self) -> f64 {
        let sigma = self.neighbours.ttft_sigma;
        let normal: f64 = StandardNormal.sample(&mut self.random);
        (sigma * normal - sigma * sigma / 2.0).exp()
    }

    fn look_ahead(&mut self) {
        let last = self.spells.back().copied().unwrap_or(Spell { busy: true, ends: Micros(0) });
        let busy = !last.busy;
        let mean_s = if busy { self.neighbours.busy_s } else { self.neighbours.calm_s };
        let length: f64 = Exp1.sample(&mut self.random);
        let ends = last.ends + Micros::from_ms(mean_s * 1e3 * length).max(Micros(1));
        self.spells.push_back(Spell { busy, ends });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_have_their_mean_lengths_and_take_turns() {
        let mut weather = Weather::new(Neighbours::default(), 3);
        let (mut busy_s, mut calm_s, mut since) = (0.0, 0.0, Micros(0));
        for _ in 0..4000 {
            let spell = weather.now();
            *if spell.busy { &mut busy_s } else { &mut calm_s } += (spell.ends - since).as_secs();
            since = weather.pass(spell.ends).expect("it has ended");
            assert_ne!(weather.now().busy, spell.busy);
        }
        assert!((busy_s / 2000.0 / 60.0 - 1.0).abs() < 0.1, "{busy_s}");
        assert!((calm_s / 2000.0 / 120.0 - 1.0).abs() < 0.1, "{calm_s}");
    }

    #[test]
    fn work_takes_longer_in_the_part_that_meets_a_spell_of_work() {
        let mut weather = Weather::new(Neighbours { slowdown: 3.0, ..Neighbours::default() }, 3);
        let first = weather.now();
        assert!(!first.busy);
        let from = first.ends - Micros::from_ms(500.0);
        assert_eq!(weather.stretched(from, 400.0), Micros::from_ms(400.0));
        assert_eq!(weather.stretched(from, 600.0), Micros::from_ms(500.0 + 3.0 * 100.0));
        assert_eq!(weather.now().ends, first.ends, "looking ahead passes no time");
    }
}
