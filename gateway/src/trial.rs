//! The candidate on trial beside the policy in force. A canary decides for some requests and is rolled back where it does
//! worse; a shadow decides a second time what has been decided, and nothing comes of it.

/// What is counted, over all generations that try the same.
pub mod run;
/// All that outlives a generation: the run, what was rolled back, what waits to be compared.
pub mod trials;
/// What survives a restart.
pub mod memory;
/// The task behind: compares, rolls back, saves.
pub mod tend;
/// Trials in the text of a policy.
pub mod file;
/// What an operator sees.
pub mod view;

use std::sync::Arc;

use http::HeaderValue;
use pointsman_policies::facts::Facts;
use pointsman_policies::policy::TrialMode;
use pointsman_policies::trial::{Arm, Lot};

use crate::config::candidate::Candidate;
use crate::gateway::Gateway;
use crate::record::Record;
use crate::snapshot::class_names;
use run::Run;

/// A trial as one generation runs it.
#[derive(Debug)]
pub struct Trial {
    /// What is tried.
    pub candidate: Candidate,
    /// How.
    pub mode: TrialMode,
    /// `NAME@GENERATION+canary`, or `+shadow`.
    pub version: Arc<str>,
    /// The same, as `x-pointsman-policy`.
    pub version_header: HeaderValue,
    /// Its classes' names, as records keep them.
    pub class_names: Vec<Arc<str>>,
    /// What is counted of it.
    pub run: Arc<Run>,
    lot: Lot,
}

impl Trial {
    /// A trial in a generation.
    pub fn new(generation: u64, candidate: Candidate, mode: TrialMode, run: Arc<Run>) -> Trial {
        let version = format!("{}@{generation}+{}", candidate.policy.name, name(&mode));
        let version_header = HeaderValue::try_from(&version).unwrap_or(HeaderValue::from_static("candidate"));
        let lot = Lot::of(&candidate.hash);
        let class_names = class_names(&candidate.policy);
        Trial { candidate, mode, version: version.into(), version_header, class_names, run, lot }
    }

    /// Who decides a request.
    pub fn arm(&self, facts: &Facts<'_>, request_id: &str) -> Arm {
        match &self.mode {
            TrialMode::Canary(canary) => self.lot.arm(canary, facts, request_id),
            TrialMode::Shadow { .. } => Arm::Incumbent,
        }
    }
}

/// The word for a mode.
pub fn name(mode: &TrialMode) -> &'static str {
    match mode {
        TrialMode::Shadow { .. } => "shadow",
        TrialMode::Canary(_) => "canary",
    }
}

/// A request has ended: counts it where there is a canary, and lays it aside for comparison where there is a shadow.
pub fn settled(gateway: &Gateway, record: &Record) {
    let Some(decision) = &record.decision else { return };
    let Some(trial) = &decision.snapshot.trial else { return };
    match &trial.mode {
        TrialMode::Canary(canary) => {
            let Some((class, kept)) = record.class.as_deref().zip(record.attained()) else { return };
            gateway.telemetry().metrics().trial_request(decision.arm, class, kept);
            let unit = trial.lot.unit(canary, &decision.facts.facts(), &record.request_id);
            if trial.run.observe(class, (decision.arm, unit), kept, &canary.guard) {
                gateway.trials().failed();
            }
        }
        TrialMode::Shadow { sample } => {
            if trial.lot.draws(&record.request_id, *sample) && !gateway.trials().lay_aside(decision) {
                trial.run.dropped();
                gateway.telemetry().metrics().shadow("dropped");
            }
        }
    }
}
