//! The last requests, kept in memory so that any of them can be explained: bounded in number, in bytes and in
//! configurations, the oldest forgotten first.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_policies::fleet::Waiting;
use pointsman_policies::plan::Attempt;
use pointsman_policies::prefix::Prefix;

use crate::record::{AttemptRecord, DecisionRecord, Planned, Record};

/// Requests that are kept: some minutes of a quiet gateway, some seconds of a busy one.
pub const MOST_RECORDS: usize = 4_096;
/// Memory that they may take, bytes: about what all of them take.
pub const MOST_BYTES: usize = 16 << 20;
/// Generations whose decisions are kept: each holds a configuration set in memory.
pub const MOST_GENERATIONS: u64 = 16;

/// The last requests.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    records: VecDeque<(Arc<Record>, usize)>,
    bytes: usize,
}

impl Recent {
    /// Keeps a request that asked for work, and forgets what there is no more room for.
    pub fn keep(&self, record: &Arc<Record>) {
        if record.api.is_none() {
            return;
        }
        let bytes = bytes(record);
        let generation = generation(record);
        let mut forgotten = Vec::new(); // let go of outside the lock
        let mut ring = self.0.lock();
        while let Some((oldest, _)) = ring.records.front() {
            let old =
                generation.zip(self::generation(oldest)).is_some_and(|(now, then)| now >= then + MOST_GENERATIONS);
            if !old && ring.records.len() < MOST_RECORDS && ring.bytes + bytes <= MOST_BYTES {
                break;
            }
            forgotten.extend(ring.forget());
        }
        ring.bytes += bytes;
        ring.records.push_back((Arc::clone(record), bytes));
        drop(ring);
    }

    /// The requests, the newest first, as far as they are wanted.
    pub fn newest(&self, most: usize, wanted: impl Fn(&Record) -> bool) -> Vec<Arc<Record>> {
        let all: Vec<Arc<Record>> = self.0.lock().records.iter().rev().map(|(record, _)| Arc::clone(record)).collect();
        all.into_iter().filter(|record| wanted(record)).take(most).collect()
    }

    /// The newest request with this id, or of this trace.
    pub fn find(&self, id: &str) -> Option<Arc<Record>> {
        let trace = u128::from_str_radix(id, 16).ok().filter(|_| id.len() == 32);
        let wanted = |record: &Record| record.request_id == id || trace == Some(record.trace.trace_id);
        self.newest(1, wanted).pop()
    }
}

impl Ring {
    fn forget(&mut self) -> Option<Arc<Record>> {
        let (record, bytes) = self.records.pop_front()?;
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(record)
    }
}

fn generation(record: &Record) -> Option<u64> {
    record.decision.as_ref().map(|decision| decision.snapshot.generation)
}

/// About what a record takes, without the configuration that it shares with others.
fn bytes(record: &Record) -> usize {
    let attempts: usize = record
        .attempts
        .iter()
        .map(|attempt| size_of::<AttemptRecord>() + attempt.failure.as_ref().map_or(0, String::len))
        .sum();
    let decision = record.decision.as_ref().map_or(0, |decision| decision_bytes(decision));
    size_of::<Record>() + record.path.len() + record.model.len() + attempts + decision
}

fn decision_bytes(decision: &DecisionRecord) -> usize {
    let facts = &decision.facts;
    let headers: usize = facts.headers.iter().map(|(name, value)| 48 + name.len() + value.len()).sum();
    let told = [&facts.path, &facts.tenant, &facts.model, &facts.service_tier, &facts.declared_class, &facts.session];
    let attempts = decision.plan.as_ref().map_or(0, |plan| plan.attempts.len() * size_of::<Attempt>());
    size_of::<DecisionRecord>()
        + size_of::<Prefix>()
        + decision.prefix.marks_bytes()
        + decision.endpoints.bytes()
        + decision.planned.len() * size_of::<Planned>()
        + decision.waiting.len() * size_of::<Waiting>()
        + attempts
        + headers
        + told.iter().map(|text| text.len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use pointsman_backends::fleet::Seen;
    use pointsman_policies::facts::Api;
    use pointsman_policies::fleet::{Cached, EndpointState};
    use pointsman_policies::prefix::of_blocks;

    use super::*;
    use crate::decision_log::recorder::tests::{record as decided, snapshot};

    const WAITING: Waiting =
        Waiting { pool: 0, priority: 0, requests: 1, input_tokens: 1, output_tokens: 1, least_slack_ms: None };

    fn record(id: usize, path_bytes: usize) -> Arc<Record> {
        let blank = Record::blank(Instant::now(), SystemTime::UNIX_EPOCH);
        let path = "x".repeat(path_bytes);
        let (request_id, api) = (format!("r{id}"), Some(Api::ChatCompletions));
        let mut record = Record { request_id, path, api, ..blank };
        record.trace.trace_id = id as u128 + 1;
        Arc::new(record)
    }

    #[test]
    fn the_newest_are_kept_and_found_by_either_id() {
        let recent = Recent::default();
        for id in 0..MOST_RECORDS + 10 {
            recent.keep(&record(id, 0));
        }
        let all = recent.newest(usize::MAX, |_| true);
        assert_eq!((all.len(), all[0].request_id.as_str()), (MOST_RECORDS, format!("r{}", MOST_RECORDS + 9).as_str()));
        assert!(recent.find("r9").is_none() && recent.find("r10").is_some());
        assert_eq!(recent.find(&format!("{:032x}", 12)).unwrap().request_id, "r11");
        assert!(recent.find(&format!("{:x}", 12)).is_none(), "a trace id has 32 digits");
    }

    #[test]
    fn all_that_a_decision_holds_counts() {
        let folder = tempfile::tempdir().unwrap();
        let record = decided(&snapshot(folder.path()));
        let made = record.decision.as_deref().unwrap();
        let more = |change: fn(&mut DecisionRecord)| {
            let mut other = made.clone();
            change(&mut other);
            decision_bytes(&other) - decision_bytes(made)
        };
        let prompt = more(|made| made.prefix = Arc::new(of_blocks(&(0..100).collect::<Vec<_>>(), 512, 51_200)));
        assert!(prompt >= 60 * 16, "marks of a long prompt: {prompt}");
        assert!(more(|made| made.waiting = vec![WAITING; 10]) >= 10 * size_of::<Waiting>());
        let cached = more(|made| {
            let cached: Vec<Cached> = (0..100).map(|endpoint| Cached { endpoint, tokens: 7 }).collect();
            made.endpoints = Seen::of(vec![EndpointState::idle(0); 100]).for_prompt(&cached);
        });
        assert!(cached >= 100 * (size_of::<EndpointState>() + 16), "{cached}");
        assert!(more(|made| made.facts.session = "x".repeat(1_000)) >= 1_000);
    }

    #[test]
    fn large_ones_push_out_more_and_lists_are_none() {
        let recent = Recent::default();
        for id in 0..100 {
            recent.keep(&record(id, MOST_BYTES / 20));
        }
        assert_eq!(recent.newest(usize::MAX, |_| true).len(), 19);
        let list = Record { api: None, ..Record::blank(Instant::now(), SystemTime::UNIX_EPOCH) };
        recent.keep(&Arc::new(list));
        assert_eq!(recent.newest(usize::MAX, |_| true).len(), 19);
    }
}
