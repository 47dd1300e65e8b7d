//! What is counted. Counts of frames are added in the order of the frames, so that sums come out the same every time.

use std::collections::BTreeMap;

use pointsman_policies::decide::Scored;

use super::experience::Experience;
use crate::decision_log::{Damage, Outcome};

/// Kinds of request that are told apart; what is beyond them counts as moved and is listed nowhere.
const MOST_KINDS: usize = 4096;

/// Everything counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Decisions read.
    pub(super) decisions: u64,
    /// When the first and the last of them were made, milliseconds since 1970.
    pub(super) span_ms: Option<(u64, u64)>,
    /// Sets that decided, by `NAME@GENERATION`, with the number of their decisions.
    pub(super) versions: BTreeMap<String, u64>,
    /// Decisions that came out as they were, to the last bit.
    pub(super) same: u64,
    /// Decisions that came out otherwise.
    pub(super) differing: u64,
    /// The first of them.
    pub(super) examples: Vec<Differing>,
    /// Decisions that could not be made again, by reason.
    pub(super) undecided: BTreeMap<String, u64>,
    /// Frames that could not be understood.
    pub(super) damage: Vec<Damage>,
    /// The candidate against the incumbent.
    pub(super) difference: Difference,
}

/// A decision that came out otherwise than it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Differing {
    /// The request.
    pub(super) id: String,
    /// When, milliseconds since 1970.
    pub(super) unix_ms: u64,
    /// Under what.
    pub(super) version: String,
    /// What differs.
    pub(super) what: String,
    /// The file it is in, by its place among those given.
    pub(super) file: usize,
}

/// The candidate against the incumbent.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// Decisions that both made.
    pub(super) decisions: u64,
    /// By class, as the incumbent names it.
    pub(super) classes: BTreeMap<String, ClassDifference>,
    /// From place to place, places being pools and `refused`; those that stay as well.
    pub(super) flows: BTreeMap<(String, String), u64>,
    /// Requests that the candidate puts into another class, from and to; `None` where it knows no such class.
    pub(super) reclassified: BTreeMap<(String, Option<String>), u64>,
    /// What came of predictions.
    pub(super) experience: Experience,
    /// Kinds of request that moved.
    pub(super) kinds: BTreeMap<Kind, Moved>,
}

/// A kind of request that moved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    /// Its class, as the incumbent names it.
    pub(super) class: String,
    /// Its model.
    pub(super) model: String,
    /// Whether it streams.
    pub(super) stream: bool,
    /// Its prompt has from 2^n to 2^(n+1) - 1 tokens.
    pub(super) input_log2: u32,
    /// Whether it offers tools.
    pub(super) tools: bool,
    /// Where the incumbent sends it.
    pub(super) from: String,
    /// Where the candidate sends it.
    pub(super) to: String,
}

/// How many of a kind moved, and one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    /// How many.
    pub(super) count: u64,
    /// Id of the first.
    pub(super) example: String,
    /// The file it is in, by its place among those given.
    pub(super) file: usize,
}

/// One class.
#[derive(Clone, Debug, Default)]
pub(super) struct ClassDifference {
    /// Decisions.
    pub(super) requests: u64,
    /// Of those, moved to another pool, or between a pool and refusal.
    pub(super) moved: u64,
    /// Of those, moved to another endpoint of the same pool.
    pub(super) moved_within: u64,
    /// As the incumbent predicts it.
    pub(super) incumbent: Predicted,
    /// As the candidate predicts it.
    pub(super) candidate: Predicted,
    /// As it came out.
    pub(super) observed: Observed,
}

/// Predictions for the first choices.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Predicted {
    /// Sent to a machine.
    pub(super) sent: u64,
    /// Refused.
    pub(super) refused: u64,
    /// Likely to keep the promise.
    pub(super) likely: u64,
    /// Price, US dollars.
    pub(super) usd: f64,
    /// Energy, joules, of those where it is known.
    pub(super) joules: f64,
    /// Where it is not known.
    pub(super) joules_unknown: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Observed {
    /// Requests whose promise was judged.
    pub(super) judged: u64,
    /// Of those, kept whole.
    pub(super) attained: u64,
    /// Price, US dollars.
    pub(super) usd: f64,
}

impl Tally {
    /// Adds what was counted after this, in a file.
    pub(super) fn add(&mut self, later: Tally, file: usize, limit: usize) {
        self.decisions += later.decisions;
        self.same += later.same;
        self.differing += later.differing;
        if let Some((first, last)) = later.span_ms {
            let (from, to) = self.span_ms.unwrap_or((first, last));
            self.span_ms = Some((from.min(first), to.max(last)));
        }
        let room = limit.saturating_sub(self.examples.len());
        self.examples.extend(later.examples.into_iter().take(room).map(|found| Differing { file, ..found }));
        add_counts(&mut self.versions, later.versions);
        add_counts(&mut self.undecided, later.undecided);
        self.damage.extend(later.damage);
        self.difference.add(later.difference, file);
    }
}

fn add_counts<K: Ord>(counts: &mut BTreeMap<K, u64>, later: BTreeMap<K, u64>) {
    for (key, count) in later {
        *counts.entry(key).or_default() += count;
    }
}

impl Difference {
    fn add(&mut self, later: Difference, file: usize) {
        self.decisions += later.decisions;
        add_counts(&mut self.flows, later.flows);
        self.experience.add(later.experience);
        add_counts(&mut self.reclassified, later.reclassified);
        for (name, class) in later.classes {
            self.classes.entry(name).or_default().add(&class);
        }
        for (kind, moved) in later.kinds {
            self.moved(kind, || Moved { file, ..moved.clone() }, moved.count);
        }
    }

    /// Notes that some of a kind moved.
    pub(super) fn moved(&mut self, kind: Kind, example: impl FnOnce() -> Moved, count: u64) {
        if let Some(moved) = self.kinds.get_mut(&kind) {
            moved.count += count;
        } else if self.kinds.len() < MOST_KINDS {
            self.kinds.insert(kind, example());
        }
    }

    /// All classes together.
    pub(super) fn all(&self) -> ClassDifference {
        let mut all = ClassDifference::default();
        self.classes.values().for_each(|class| all.add(class));
        all
    }

    /// The kinds that moved most, most first; equals by kind.
    pub(super) fn most_moved(&self, limit: usize) -> Vec<(&Kind, &Moved)> {
        let mut kinds: Vec<_> = self.kinds.iter().collect();
        kinds.sort_by_key(|(_, moved)| std::cmp::Reverse(moved.count)); // stable
        kinds.truncate(limit);
        kinds
    }

    /// Every place, pools by name, refusal last.
    pub(super) fn places(&self) -> Vec<&str> {
        let mut places: Vec<&str> = self.flows.keys().flat_map(|(from, to)| [from.as_str(), to.as_str()]).collect();
        places.sort_by_key(|place| (*place == super::ground::REFUSED, *place));
        places.dedup();
        places
    }

    /// How many go from one place to another.
    pub(super) fn flow(&self, from: &str, to: &str) -> u64 {
        self.flows.get(&(from.to_owned(), to.to_owned())).copied().unwrap_or(0)
    }
}

impl ClassDifference {
    fn add(&mut self, later: &ClassDifference) {
        self.requests += later.requests;
        self.moved += later.moved;
        self.moved_within += later.moved_within;
        self.incumbent.add(&later.incumbent);
        self.candidate.add(&later.candidate);
        self.observed.judged += later.observed.judged;
        self.observed.attained += later.observed.attained;
        self.observed.usd += later.observed.usd;
    }
}

impl Predicted {
    fn add(&mut self, later: &Predicted) {
        self.sent += later.sent;
        self.refused += later.refused;
        self.likely += later.likely;
        self.usd += later.usd;
        self.joules += later.joules;
        self.joules_unknown += later.joules_unknown;
    }

    /// Counts one decision by its first choice.
    pub(super) fn count(&mut self, chosen: Option<&Scored>) {
        let Some(scored) = chosen else {
            self.refused += 1;
            return;
        };
        self.sent += 1;
        self.likely += u64::from(scored.feasible());
        self.usd += scored.estimate.usd;
        self.joules += scored.estimate.joules.unwrap_or(0.0);
        self.joules_unknown += u64::from(scored.estimate.joules.is_none());
    }

    /// The part of all requests that is likely to keep the promise, refused ones included.
    pub(super) fn attainment(&self) -> f64 {
        ratio(self.likely as f64, self.sent + self.refused)
    }

    /// Price of one request that is sent, US dollars.
    pub(super) fn usd_each(&self) -> f64 {
        ratio(self.usd, self.sent)
    }

    /// Energy of one request that is sent and whose energy is known, joules.
    pub(super) fn joules_each(&self) -> f64 {
        ratio(self.joules, self.sent - self.joules_unknown)
    }
}

impl Observed {
    /// Counts one outcome.
    pub(super) fn count(&mut self, outcome: &Outcome) {
        self.judged += u64::from(outcome.attained.is_some());
        self.attained += u64::from(outcome.attained == Some(true));
        self.usd += f64::from(outcome.usd);
    }

    /// The part of the judged that was kept; `None` where none was judged.
    pub(super) fn attainment(&self) -> Option<f64> {
        (self.judged > 0).then(|| ratio(self.attained as f64, self.judged))
    }
}

fn ratio(part: f64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part / of as f64 }
}
