//! Whole requests, with decision and attempts, so that any of them can be explained: bounded in bytes and configurations.
//! Each reason for keeping one has a share of the room that no other reason can take from it, so that a storm of errors
//! does not push out the rest; what one does not use, others may until it wants it back.

/// What a record takes.
mod weight;
/// What several take together.
mod shared;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::Serialize;

use super::sketch::Sketch;
use crate::record::{DecisionRecord, Record};
use shared::Shared;

/// Memory that they may take where nothing is said, bytes.
pub const DEFAULT_BYTES: usize = 32 << 20;
/// Generations whose decisions are kept: each holds a configuration set in memory.
pub const MOST_GENERATIONS: u64 = 16;
/// Requests under a new generation that are kept because it is new.
const FIRST_OF_GENERATION: u32 = 50;
/// Of the ordinary requests that have to go, one in so many stays for longer.
const ONE_IN: u64 = 20;
/// Requests of a class before it is told which are slow.
const ENOUGH: u64 = 100;
/// Requests of a class after which earlier ones count half.
const MANY: u64 = 2_000;
/// In the place of a class, those ordinary ones that stay for longer.
const STAYS: u16 = u16::MAX;
/// Classes that are told apart; requests of others share a place.
const MOST_CLASSES: usize = 64;

/// Why a request is kept whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Because {
    /// The gateway or a machine failed it.
    Error,
    /// Its promise was not kept.
    SloMiss,
    /// It took longer than 99 of 100 of its class.
    Slow,
    /// It was tried more than once, or its caller wants it traced, or its policy was new, or a shadow disagreed.
    Unusual,
    /// It is like most.
    Baseline,
}

impl Because {
    const ALL: [Because; 5] = [Because::Error, Because::SloMiss, Because::Slow, Because::Unusual, Because::Baseline];

    /// The share of the room that is its own, percent.
    fn percent(self) -> usize {
        match self {
            Because::Error | Because::SloMiss => 25,
            Because::Slow | Because::Unusual => 15,
            Because::Baseline => 20,
        }
    }
}

/// What is to be known of a request before it is decided whether it is slow or new.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Its number.
    pub seq: u64,
    /// The number of its class's name.
    pub class: u16,
    /// Time to first token, else to the end, milliseconds.
    pub waited_ms: f64,
    /// Whether it failed.
    pub is_error: bool,
    /// Whether its promise was missed.
    pub is_missed: bool,
    /// Whether its caller wants it kept.
    pub is_asked_for: bool,
}

/// Whole requests.
#[derive(Debug)]
pub struct Details {
    most_bytes: usize,
    lanes: [Lane; Because::ALL.len()],
    shared: Shared,
    because: HashMap<u64, Because>,
    classes: HashMap<u16, Sketch>,
    generation: (u64, u32),
    ordinary: u64,
    /// The generation after which old ones were looked for.
    swept: u64,
}

/// Those that are kept for one reason.
#[derive(Debug, Default)]
struct Lane {
    /// Of ordinary ones by class; elsewhere all in one.
    queues: HashMap<u16, VecDeque<Kept>>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    seq: u64,
    bytes: usize,
    record: Arc<Record>,
}

impl Default for Details {
    fn default() -> Details {
        Details::new(DEFAULT_BYTES)
    }
}

impl Details {
    /// Room for so many bytes.
    pub fn new(most_bytes: usize) -> Details {
        let (lanes, shared, because, classes) = Default::default();
        Details { most_bytes, lanes, shared, because, classes, generation: (0, 0), ordinary: 0, swept: 0 }
    }

    /// Keeps a request, and forgets what there is no more room for, into `forgotten`.
    pub fn keep(&mut self, record: &Arc<Record>, seen: &Seen, forgotten: &mut Vec<Arc<Record>>) -> Because {
        let because = self.because(record, seen);
        let bytes = weight::bytes(record);
        self.shared.hold(record);
        let queue = if because == Because::Baseline { seen.class } else { 0 };
        let kept = Kept { seq: seen.seq, bytes, record: Arc::clone(record) };
        if let Some(lane) = self.lanes.get_mut(because as usize) {
            lane.bytes += bytes;
            let queue = if lane.queues.len() < MOST_CLASSES { queue } else { 0 };
            lane.queues.entry(queue).or_default().push_back(kept);
        }
        self.because.insert(seen.seq, because);
        while self.bytes() > self.most_bytes && self.forget_one(forgotten) {}
        self.forget_generations(record, forgotten);
        because
    }

    /// A shadow would have decided otherwise: the request is not ordinary, then. Its number and itself, where it is kept.
    pub fn disagreed(&mut self, decision: &Arc<DecisionRecord>) -> Option<(u64, Arc<Record>)> {
        let is = |kept: &Kept| kept.record.decision.as_ref().is_some_and(|made| Arc::ptr_eq(made, decision));
        let ordinary = self.lanes.get_mut(Because::Baseline as usize)?;
        let found = ordinary.queues.values_mut().find_map(|queue| queue.remove(queue.iter().rposition(is)?));
        let Some(kept) = found else {
            let all = self.lanes.iter().flat_map(|lane| lane.queues.values().flat_map(|queue| queue.iter().rev()));
            return all.into_iter().find(|kept| is(kept)).map(|kept| (kept.seq, Arc::clone(&kept.record)));
        };
        ordinary.bytes = ordinary.bytes.saturating_sub(kept.bytes);
        ordinary.queues.retain(|_, queue| !queue.is_empty());
        let told = (kept.seq, Arc::clone(&kept.record));
        self.because.insert(kept.seq, Because::Unusual);
        let unusual = self.lanes.get_mut(Because::Unusual as usize)?;
        unusual.bytes += kept.bytes;
        unusual.queues.entry(0).or_default().push_back(kept);
        Some(told)
    }

    /// Why it is kept; `None` where it is not, or not any more.
    pub fn why(&self, seq: u64) -> Option<Because> {
        self.because.get(&seq).copied()
    }

    /// Bytes that are taken.
    pub fn bytes(&self) -> usize {
        self.shared.bytes() + self.lanes.iter().map(|lane| lane.bytes).sum::<usize>()
    }

    /// The requests, the newest first, as far as they are wanted.
    pub fn newest(&self, most: usize, wanted: impl Fn(&Record) -> bool) -> Vec<Arc<Record>> {
        let mut all: Vec<&Kept> = self.lanes.iter().flat_map(|lane| lane.queues.values().flatten()).collect();
        all.sort_unstable_by_key(|kept| std::cmp::Reverse(kept.seq));
        all.into_iter().filter(|kept| wanted(&kept.record)).take(most).map(|kept| Arc::clone(&kept.record)).collect()
    }

    /// The newest request with this id, or of this trace, and its number.
    pub fn find(&self, id: &str) -> Option<(u64, Arc<Record>)> {
        let trace = u128::from_str_radix(id, 16).ok().filter(|_| id.len() == 32);
        let wanted = |record: &Record| record.request_id == id || trace == Some(record.trace.trace_id);
        let all = self.lanes.iter().flat_map(|lane| lane.queues.values().flatten());
        let newest = all.filter(|kept| wanted(&kept.record)).max_by_key(|kept| kept.seq)?;
        Some((newest.seq, Arc::clone(&newest.record)))
    }

    fn because(&mut self, record: &Record, seen: &Seen) -> Because {
        let generation = record.decision.as_ref().map_or(self.generation.0, |made| made.snapshot.generation);
        if generation > self.generation.0 {
            self.generation = (generation, 0);
        }
        let is_new = generation == self.generation.0 && generation > 1 && self.generation.1 < FIRST_OF_GENERATION;
        self.generation.1 = self.generation.1.saturating_add(1);
        let is_slow = self.is_slow(seen);
        match () {
            () if seen.is_error => Because::Error,
            () if seen.is_missed => Because::SloMiss,
            () if is_slow => Because::Slow,
            () if record.attempts.len() > 1 || seen.is_asked_for || is_new => Because::Unusual,
            () => Because::Baseline,
        }
    }

    fn is_slow(&mut self, seen: &Seen) -> bool {
        if self.classes.len() >= MOST_CLASSES && !self.classes.contains_key(&seen.class) {
            return false;
        }
        let times = self.classes.entry(seen.class).or_default();
        let slow_ms = times.quantile(0.99).filter(|_| times.total() >= ENOUGH);
        times.add(seen.waited_ms);
        if times.total() > MANY {
            times.halve();
        }
        slow_ms.is_some_and(|slow_ms| seen.waited_ms > slow_ms * (1.0 + super::sketch::WITHIN))
    }

    /// Forgets the oldest of the reason that takes most beyond its share; among ordinary ones, of the class that takes
    /// most.
    fn forget_one(&mut self, forgotten: &mut Vec<Arc<Record>>) -> bool {
        let over = |(because, lane): &(Because, &Lane)| lane.bytes * 100 / because.percent();
        let Some((because, _)) = Because::ALL.into_iter().zip(&self.lanes).max_by_key(over) else { return false };
        let Some(lane) = self.lanes.get_mut(because as usize) else { return false };
        let longest = lane.queues.iter_mut().max_by_key(|(class, queue)| (queue.len(), **class));
        let Some((class, kept)) = longest.and_then(|(class, queue)| Some((*class, queue.pop_front()?))) else {
            return false;
        };
        if because == Because::Baseline && class != STAYS {
            self.ordinary += 1;
            if self.ordinary.is_multiple_of(ONE_IN) {
                lane.queues.entry(STAYS).or_default().push_back(kept);
                return true;
            }
        }
        lane.bytes = lane.bytes.saturating_sub(kept.bytes);
        self.shared.let_go(&kept.record);
        self.because.remove(&kept.seq);
        forgotten.push(kept.record);
        lane.queues.retain(|_, queue| !queue.is_empty());
        true
    }

    /// Lets go of configurations that were replaced long ago.
    fn forget_generations(&mut self, newest: &Record, forgotten: &mut Vec<Arc<Record>>) {
        let Some(now) = newest.decision.as_ref().map(|made| made.snapshot.generation) else { return };
        let is_old = |record: &Record| {
            record.decision.as_ref().is_some_and(|made| now >= made.snapshot.generation + MOST_GENERATIONS)
        };
        if now == std::mem::replace(&mut self.swept, now) {
            return;
        }
        let (because, shared) = (&mut self.because, &mut self.shared);
        for lane in &mut self.lanes {
            let bytes = &mut lane.bytes;
            for queue in lane.queues.values_mut() {
                queue.retain(|kept| {
                    let old = is_old(&kept.record);
                    if old {
                        *bytes = bytes.saturating_sub(kept.bytes);
                        because.remove(&kept.seq);
                        shared.let_go(&kept.record);
                        forgotten.push(Arc::clone(&kept.record));
                    }
                    !old
                });
            }
            lane.queues.retain(|_, queue| !queue.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use pointsman_policies::facts::Api;

    use super::*;

    fn record(id: usize, path_bytes: usize) -> Arc<Record> {
        let blank = Record::blank(Instant::now(), SystemTime::UNIX_EPOCH);
        let path = "x".repeat(path_bytes);
        let (request_id, api) = (format!("r{id}"), Some(Api::ChatCompletions));
        let mut record = Record { request_id, path, api, ..blank };
        record.trace.trace_id = id as u128 + 1;
        Arc::new(record)
    }

    const ORDINARY: Seen =
        Seen { seq: 0, class: 1, waited_ms: 10.0, is_error: false, is_missed: false, is_asked_for: false };

    fn kept(details: &Details, because: Because) -> usize {
        details.because.values().filter(|other| **other == because).count()
    }

    /// Records of about ten kilobytes into a store for a hundred.
    fn fill(details: &mut Details, seqs: std::ops::Range<u64>, seen: Seen) {
        for seq in seqs {
            details.keep(&record(seq as usize, 10_000), &Seen { seq, ..seen }, &mut Vec::new());
        }
    }

    #[test]
    fn the_newest_are_found_by_either_id() {
        let mut details = Details::default();
        fill(&mut details, 0..20, ORDINARY);
        let all = details.newest(usize::MAX, |_| true);
        assert_eq!((all.len(), all[0].request_id.as_str()), (20, "r19"));
        assert_eq!(details.find("r9").unwrap().0, 9);
        assert_eq!(details.find(&format!("{:032x}", 12)).unwrap().1.request_id, "r11");
        assert!(details.find(&format!("{:x}", 12)).is_none(), "a trace id has 32 digits");
        assert!(details.find("r20").is_none());
    }

    #[test]
    fn a_storm_of_errors_pushes_out_no_more_than_its_share() {
        let mut details = Details::new(1 << 20);
        fill(&mut details, 0..200, ORDINARY);
        let alone = kept(&details, Because::Baseline);
        assert!(alone > 80, "what others do not use is free: {alone}");
        fill(&mut details, 200..250, Seen { is_missed: true, ..ORDINARY });
        fill(&mut details, 250..5_000, Seen { is_error: true, ..ORDINARY });
        let counts = [Because::Error, Because::SloMiss, Because::Baseline].map(|because| kept(&details, because));
        assert!(counts[1] >= 24 && counts[2] >= 18, "misses and ordinary ones keep their room: {counts:?}");
        assert!(details.bytes() <= 1 << 20);
        fill(&mut details, 5_000..5_100, Seen { is_missed: true, ..ORDINARY });
        assert!(kept(&details, Because::SloMiss) >= counts[1], "room that was lent comes back");
    }

    #[test]
    fn a_rare_class_is_not_pushed_out_by_a_busy_one_and_some_of_the_past_stays() {
        let mut details = Details::new(1 << 20);
        fill(&mut details, 0..5, Seen { class: 2, ..ORDINARY });
        fill(&mut details, 5..2_000, ORDINARY);
        assert!((0..5).all(|seq| details.why(seq) == Some(Because::Baseline)));
        let old = details.because.keys().filter(|seq| (5..1_800).contains(*seq)).count();
        assert!(old >= 30, "one in {ONE_IN} stays for longer: {old}");
    }

    #[test]
    fn who_takes_longer_than_its_class_is_slow() {
        let mut details = Details::default();
        fill(&mut details, 0..200, ORDINARY);
        assert_eq!(kept(&details, Because::Slow), 0);
        fill(&mut details, 200..201, Seen { waited_ms: 500.0, ..ORDINARY });
        fill(&mut details, 201..202, Seen { waited_ms: 500.0, class: 2, ..ORDINARY });
        assert_eq!((details.why(200), details.why(201)), (Some(Because::Slow), Some(Because::Baseline)));
    }
}
