//! Whether a canary does worse, judged after every request for as long as it runs.
//!
//! Looking again and again until something shows would find a difference where there is none, so the judgement is a bet
//! that must not win: for each class, gamblers stake on "the candidate's attainment is more than the margin below the
//! incumbent's". If it is not, their joint wealth can be expected to shrink, and that it ever reaches `n` times the
//! stake has a probability of at most `1 / n`, however long and however often one looks (Ville's inequality). At
//! `classes / (1 - confidence)` times the stake the canary has failed. What is bet on is the difference between answers
//! of both policies that ended at about the same time, so an hour that is bad for both is evidence against neither. And
//! requests of one session resemble each other: of those, the first, second, fourth, eighth and so on are bet on, lest a
//! few sessions that are hard for any policy look like many requests that this one failed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Arm;
use crate::policy::Guard;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Parts of its wealth that a gambler stakes each time; each has one. Large stakes see large differences soon, small
/// ones see small differences at all.
const STAKES: [f64; 6] = [0.95, 0.6, 0.3, 0.15, 0.07, 0.03];
/// Rounds after which fresh gamblers begin, so that a candidate that did well for long and then does badly is seen
/// before it has lost what it was ahead.
const BEGINNINGS: [u64; 14] =
    [0, 128, 256, 512, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15, 1 << 16, 1 << 17, 1 << 18, 1 << 20];
/// Part of all wealth that those who begin at once have; the others share the rest evenly.
const FIRST_SHARE: f64 = 0.5;

/// Sessions, or whatever stays together, whose requests are counted at the same time; where more are active, some are
/// taken for new ones.
const REMEMBERED: usize = 1 << 14;

/// Requests and how many of them were kept to the promise of their class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Requests that ended, by no doing of the client.
    pub requests: u64,
    /// Those whose promise was kept.
    pub kept: u64,
}

impl Tally {
    /// The share that was kept; `None` where there was no request.
    pub fn attainment(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.kept as f64 / self.requests as f64)
    }

    fn count(&mut self, kept: bool) {
        self.requests += 1;
        self.kept += u64::from(kept);
    }
}

/// One class under both policies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassWatch {
    /// Under the policy in force.
    pub incumbent: Tally,
    /// Under the one on trial.
    pub candidate: Tally,
    /// Requests that no round has compared yet.
    waiting: [Tally; 2],
    /// Rounds so far.
    rounds: u64,
    /// Natural logarithm of what each gambler has made of its stake.
    log_wealth: [[f64; STAKES.len()]; BEGINNINGS.len()],
    /// How many times their stake they have together: the odds against the candidate.
    odds: f64,
}

impl Default for ClassWatch {
    fn default() -> ClassWatch {
        ClassWatch {
            incumbent: Tally::default(),
            candidate: Tally::default(),
            waiting: [Tally::default(); 2],
            rounds: 0,
            log_wealth: [[0.0; STAKES.len()]; BEGINNINGS.len()],
            odds: 1.0,
        }
    }
}

impl ClassWatch {
    fn count(&mut self, arm: Arm, kept: bool) {
        match arm {
            Arm::Incumbent => self.incumbent.count(kept),
            Arm::Candidate => self.candidate.count(kept),
        }
    }

    fn bet(&mut self, arm: Arm, kept: bool, margin: f64) {
        let [incumbent, candidate] = &mut self.waiting;
        match arm {
            Arm::Incumbent => incumbent.count(kept),
            Arm::Candidate => candidate.count(kept),
        }
        let both = incumbent.attainment().zip(candidate.attainment());
        let Some((incumbent, candidate)) = both else { return };
        self.round(incumbent - candidate - margin, margin);
        self.waiting = [Tally::default(); 2];
    }

    /// A fair game at best, as long as the candidate is not worse by more than the margin: `gain` is then expected to
    /// be at most 0. It is at least `-1 - margin`, so nobody loses everything.
    fn round(&mut self, gain: f64, margin: f64) {
        let playing = BEGINNINGS.iter().zip(&mut self.log_wealth).filter(|(begins, _)| **begins <= self.rounds);
        for (_, gamblers) in playing {
            for (stake, log_wealth) in STAKES.iter().zip(gamblers) {
                *log_wealth += (stake / (1.0 + margin) * gain).ln_1p();
            }
        }
        self.rounds += 1;
        self.odds = self.joint_wealth();
    }

    fn joint_wealth(&self) -> f64 {
        let later = (1.0 - FIRST_SHARE) / (BEGINNINGS.len() - 1) as f64;
        let shares = std::iter::once(FIRST_SHARE).chain(std::iter::repeat(later));
        let wealth = |gamblers: &[f64; STAKES.len()]| gamblers.iter().map(|log| log.exp()).sum::<f64>();
        let sum: f64 = shares.zip(&self.log_wealth).map(|(share, gamblers)| share * wealth(gamblers)).sum();
        (sum / STAKES.len() as f64).min(f64::MAX)
    }
}

/// What is known of a class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Verdict {
    /// It is not judged before both sides have had enough requests.
    Waiting {
        /// So many more under the policy in force.
        incumbent: u64,
        /// So many more under the candidate.
        candidate: u64,
    },
    /// Nothing that would be enough to roll it back.
    Fine {
        /// The odds against the candidate.
        odds: f64,
        /// The odds at which it is rolled back.
        limit: f64,
    },
    /// Worse than the margin allows.
    Worse {
        /// The odds against the candidate.
        odds: f64,
        /// The odds at which it is rolled back.
        limit: f64,
    },
}

/// All classes that both policies have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    margin: f64,
    classes: BTreeMap<String, ClassWatch>,
    /// Forgotten at a restart.
    #[serde(skip)]
    repeats: Repeats,
}

/// How many requests each session has had lately.
#[derive(Clone, Debug, PartialEq)]
struct Repeats(Vec<(u64, u64)>);

impl Default for Repeats {
    fn default() -> Repeats {
        Repeats(vec![(0, 0); REMEMBERED])
    }
}

impl Repeats {
    /// Counts a request and returns which it is of its session, from 1.
    fn count(&mut self, session: u64) -> u64 {
        let place = session as usize % REMEMBERED;
        let Some((remembered, requests)) = self.0.get_mut(place) else { return 1 };
        if *remembered != session {
            (*remembered, *requests) = (session, 0);
        }
        *requests += 1;
        *requests
    }
}

impl Watch {
    /// Nothing seen yet of these classes; the margin is the guard's.
    pub fn new(classes: impl IntoIterator<Item = String>, margin: f64) -> Watch {
        let classes = classes.into_iter().map(|class| (class, ClassWatch::default())).collect();
        Watch { margin, classes, repeats: Repeats::default() }
    }

    /// A request of a class has ended; `unit` is the same for those that stay together. Classes that only one policy has
    /// are not compared.
    pub fn observe(&mut self, class: &str, arm: Arm, unit: u64, kept: bool) {
        let Some(watch) = self.classes.get_mut(class) else { return };
        watch.count(arm, kept);
        if self.repeats.count(xxh3_64_with_seed(class.as_bytes(), unit)).is_power_of_two() {
            watch.bet(arm, kept, self.margin);
        }
    }

    /// Every class, by name.
    pub fn classes(&self) -> impl Iterator<Item = (&str, &ClassWatch)> {
        self.classes.iter().map(|(name, watch)| (name.as_str(), watch))
    }

    /// The margin it was made for.
    pub fn margin(&self) -> f64 {
        self.margin
    }

    /// What is known of one class; `None` where it is not watched.
    pub fn verdict(&self, class: &str, guard: &Guard) -> Option<Verdict> {
        let watch = self.classes.get(class)?;
        let needed = |tally: &Tally| guard.min_requests.saturating_sub(tally.requests);
        let (incumbent, candidate) = (needed(&watch.incumbent), needed(&watch.candidate));
        if incumbent > 0 || candidate > 0 {
            return Some(Verdict::Waiting { incumbent, candidate });
        }
        let (odds, limit) = (watch.odds, self.limit(guard));
        Some(if odds >= limit { Verdict::Worse { odds, limit } } else { Verdict::Fine { odds, limit } })
    }

    /// A class may be blamed wrongly with its part of the probability that the confidence leaves.
    fn limit(&self, guard: &Guard) -> f64 {
        self.classes.len().max(1) as f64 / (1.0 - guard.confidence)
    }
}

#[cfg(test)]
mod tests;
