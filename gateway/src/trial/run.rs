//! What is counted of a trial. Generations that try the same candidate in the same way against the same rules count on
//! together; another candidate, other rules, another mode or margin start anew. Machines, shares and confidence may
//! change meanwhile: both sides are compared at the same time on the same machines.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};
use pointsman_policies::policy::{Guard, Policy, TrialMode};
use pointsman_policies::trial::Arm;
use pointsman_policies::trial::agreement::Agreement;
use pointsman_policies::trial::guard::{Verdict, Watch};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

use super::file::without_trial;
use crate::config::candidate::Candidate;

/// The counts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Counts {
    /// When they began, seconds since 1970.
    pub began_unix_s: u64,
    /// Attainment under both policies, of a canary.
    pub watch: Watch,
    /// Agreement of both policies, of a shadow.
    pub agreement: Agreement,
    /// Requests that a shadow had no time for.
    pub dropped: u64,
}

/// A trial over all generations that run it.
#[derive(Debug)]
pub struct Run {
    /// What it compares: equal for the same.
    pub key: String,
    counts: Mutex<Counts>,
    failed: AtomicBool,
}

impl Run {
    /// Nothing counted yet.
    pub fn new(key: String, incumbent: &Policy, candidate: &Policy, margin: f64, now_unix_s: u64) -> Run {
        let classes = incumbent.classes.iter().filter(|class| candidate.class_by_name(&class.name).is_some());
        let watch = Watch::new(classes.map(|class| class.name.clone()), margin);
        let counts = Counts { began_unix_s: now_unix_s, watch, agreement: Agreement::default(), dropped: 0 };
        Run::of(key, counts)
    }

    /// Goes on from what was counted before.
    pub fn of(key: String, counts: Counts) -> Run {
        Run { key, counts: Mutex::new(counts), failed: AtomicBool::new(false) }
    }

    /// Counts a request that has ended, one of those that stay together as `unit`; whether this is what the canary has failed by, told once.
    pub fn observe(&self, class: &str, (arm, unit): (Arm, u64), kept: bool, guard: &Guard) -> bool {
        let mut counts = self.counts.lock();
        counts.watch.observe(class, arm, unit, kept);
        let worse = matches!(counts.watch.verdict(class, guard), Some(Verdict::Worse { .. }));
        worse && !self.failed.swap(true, Ordering::Relaxed)
    }

    /// The counts, for a moment.
    pub fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock()
    }

    /// Counts a request that a shadow had no time for.
    pub fn dropped(&self) {
        self.counts.lock().dropped += 1;
    }

    /// Whether the canary has failed.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

/// What a trial compares, as 16 hexadecimal digits.
pub fn key(policy_text: &str, candidate: &Candidate, mode: &TrialMode) -> String {
    let mut hasher = Xxh3Default::new();
    let mode_and_margin = match mode {
        TrialMode::Shadow { .. } => "shadow".to_owned(),
        TrialMode::Canary(canary) => format!("canary {}", canary.guard.margin),
    };
    let rules = without_trial(policy_text).unwrap_or_else(|_| policy_text.to_owned());
    for part in [candidate.text.as_ref(), &rules, &mode_and_margin] {
        hasher.update(part.as_bytes());
        hasher.update(&[0xff]);
    }
    format!("{:016x}", hasher.digest())
}
