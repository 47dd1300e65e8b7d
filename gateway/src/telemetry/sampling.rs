//! Which requests are traced: as many a second as the process file says, beyond them those that went wrong. Counters,
//! decision logs and the last requests in memory see every one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::record::{Outcome, Record};

/// Traces begun a second where nothing is said.
pub const TRACES_PER_S: u32 = 100;

/// Decides it. Requests that carry a `traceparent` are traced as it says, whatever is decided here.
#[derive(Debug)]
pub struct Sampler {
    traces_per_s: u32,
    begun: Second,
    gone_wrong: Second,
}

impl Sampler {
    /// One that lets so many traces a second begin, and as many again of requests that went wrong.
    pub fn new(traces_per_s: u32) -> Sampler {
        Sampler { traces_per_s, begun: Second::default(), gone_wrong: Second::default() }
    }

    /// Whether a request that has just come is traced.
    pub fn begin(&self, now: SystemTime) -> bool {
        self.begun.take(now, self.traces_per_s)
    }

    /// Whether a request that is kept whole in memory is traced after all: the same that an operator finds here is found
    /// where the traces are.
    pub fn look_again_at_kept(&self, record: &Record) -> bool {
        let told_not_to = record.trace.parent_id.is_some();
        !told_not_to && self.gone_wrong.take(SystemTime::now(), self.traces_per_s)
    }

    /// Whether a request that has ended is traced after all, because somebody will want to know what went wrong.
    pub fn look_again(&self, record: &Record) -> bool {
        let told_not_to = record.trace.parent_id.is_some();
        !told_not_to && went_wrong(record) && self.gone_wrong.take(record.wall, self.traces_per_s)
    }
}

fn went_wrong(record: &Record) -> bool {
    matches!(record.outcome, Outcome::Broken(_)) || record.status >= 500 || record.attempts.len() > 1
}

/// What has been taken of one second's share. Any other second begins anew, so that clocks may jump.
#[derive(Debug, Default)]
struct Second(AtomicU64);

impl Second {
    fn take(&self, now: SystemTime, share: u32) -> bool {
        let second = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() << 32;
        let next = |taken: u64| {
            let same = taken >> 32 == second >> 32;
            let count = if same { taken & u64::from(u32::MAX) } else { 0 };
            (count < u64::from(share)).then_some(second | (count + 1))
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn each_second_has_its_share_also_when_the_clock_goes_back() {
        let sampler = Sampler::new(2);
        let begun = [7, 7, 7, 8, 8, 8, 7, 7, 7].map(|second| sampler.begin(at(second)));
        assert_eq!(begun, [true, true, false, true, true, false, true, true, false]);
    }

    #[test]
    fn what_went_wrong_is_traced_beyond_the_share_unless_the_caller_said_not_to() {
        let sampler = Sampler::new(1);
        let mut record = Record::blank(Instant::now(), at(7));
        assert!(sampler.begin(at(7)) && !sampler.begin(at(7)));
        assert!(!sampler.look_again(&record), "nothing went wrong");
        record.outcome = Outcome::Broken("it broke".to_owned());
        record.trace.parent_id = Some(1);
        assert!(!sampler.look_again(&record), "its caller does not want it traced");
        record.trace.parent_id = None;
        assert!(sampler.look_again(&record));
        assert!(!sampler.look_again(&record), "the share is bounded");
    }
}
