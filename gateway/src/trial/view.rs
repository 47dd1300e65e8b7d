//! What an operator sees of a trial: the answer to `GET /api/v1/trial`, which the command line reads again.

use std::collections::BTreeMap;

use pointsman_policies::policy::{Canary, CanaryKey, Policy, TrialMode};
use pointsman_policies::trial::agreement::ClassAgreement;
use pointsman_policies::trial::guard::{Tally, Verdict};
use serde::{Deserialize, Serialize};

use super::Trial;
use super::memory::Stopped;
use super::run::Counts;
use crate::gateway::Gateway;
use crate::snapshot::Snapshot;

/// A trial as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialView {
    /// Whether there is one.
    pub state: State,
    /// The policy in force.
    pub incumbent: Side,
    /// The candidate that the policy file names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Side>,
    /// When the counts began, seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began_unix_s: Option<u64>,
    /// The canary, while there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryView>,
    /// The shadow, while there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowView>,
    /// Why the candidate was rolled back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<Stopped>,
}

/// Whether there is a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The policy file names no candidate.
    None,
    /// It runs.
    Running,
    /// The file names a canary that was rolled back and stays away.
    RolledBack,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Its name, with generation where it decides.
    pub policy: String,
    /// Its file.
    pub file: String,
    /// Hash of its text.
    pub hash: String,
}

/// A canary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CanaryView {
    /// Share that it decides, 0 to 1.
    pub share: f64,
    /// Of what: `session`, `tenant` or `request`.
    pub by: String,
    /// Tenants that get it whole.
    pub tenants: Vec<String>,
    /// Points of attainment by which it may be worse, 0 to 1.
    pub margin: f64,
    /// Confidence that it is, before it is rolled back, 0 to 1.
    pub confidence: f64,
    /// Requests of a class that each side must have had.
    pub min_requests: u64,
    /// Classes that both policies have, in the order of the policy in force.
    pub classes: Vec<ClassView>,
    /// Classes that only one of them has, and that nothing guards.
    pub unguarded: Vec<String>,
}

/// A class under both policies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassView {
    /// Its name.
    pub class: String,
    /// Under the policy in force.
    pub incumbent: Attained,
    /// Under the candidate.
    pub candidate: Attained,
    /// What is known.
    pub verdict: Verdict,
}

/// Requests and attainment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attained {
    /// Requests that ended, by no doing of the client.
    pub requests: u64,
    /// Those whose promise was kept.
    pub kept: u64,
    /// The share of them, 0 to 1; absent without requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attainment: Option<f64>,
}

/// A shadow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShadowView {
    /// Share of requests that it decides besides, 0 to 1.
    pub sample: f64,
    /// Decisions compared.
    pub compared: u64,
    /// Decisions that there was no time for.
    pub dropped: u64,
    /// By class of the policy in force.
    pub classes: BTreeMap<String, ClassAgreement>,
}

impl TrialView {
    /// As it stands now.
    pub fn of(gateway: &Gateway) -> TrialView {
        let snapshot = gateway.snapshot();
        let incumbent = Side {
            policy: snapshot.version.to_string(),
            file: snapshot.texts.policy.path.display().to_string(),
            hash: snapshot.texts.policy.hash(),
        };
        let candidate = snapshot.candidate.as_ref();
        let view = TrialView {
            state: State::None,
            incumbent,
            candidate: candidate.map(|candidate| Side {
                policy: snapshot
                    .trial
                    .as_ref()
                    .map_or(candidate.policy.name.clone(), |trial| trial.version.to_string()),
                file: candidate.file.display().to_string(),
                hash: candidate.hash.clone(),
            }),
            began_unix_s: None,
            canary: None,
            shadow: None,
            rolled_back: candidate.and_then(|candidate| gateway.trials().stopped(&candidate.hash)),
        };
        match (&snapshot.trial, candidate) {
            (Some(trial), _) => view.running(&snapshot, trial),
            (None, Some(_)) => TrialView { state: State::RolledBack, ..view },
            (None, None) => view,
        }
    }

    fn running(self, snapshot: &Snapshot, trial: &Trial) -> TrialView {
        let counts = trial.run.counts().clone();
        let mut view = TrialView { state: State::Running, began_unix_s: Some(counts.began_unix_s), ..self };
        match &trial.mode {
            TrialMode::Canary(canary) => {
                view.canary = Some(CanaryView::of(canary, &snapshot.policy, &trial.candidate.policy, &counts));
            }
            TrialMode::Shadow { sample } => {
                let compared = counts.agreement.requests();
                let classes = counts.agreement.classes;
                view.shadow = Some(ShadowView { sample: *sample, compared, dropped: counts.dropped, classes });
            }
        }
        view
    }
}

impl CanaryView {
    fn of(canary: &Canary, incumbent: &Policy, candidate: &Policy, counts: &Counts) -> CanaryView {
        let watched: BTreeMap<_, _> = counts.watch.classes().collect();
        let names = incumbent.classes.iter().map(|class| class.name.as_str());
        let classes = names.filter_map(|class| {
            let watch = watched.get(class)?;
            let verdict = counts.watch.verdict(class, &canary.guard)?;
            let (incumbent, candidate) = (Attained::of(&watch.incumbent), Attained::of(&watch.candidate));
            Some(ClassView { class: class.to_owned(), incumbent, candidate, verdict })
        });
        let all = incumbent.classes.iter().chain(&candidate.classes);
        let unguarded = all.filter(|class| !watched.contains_key(class.name.as_str()));
        CanaryView {
            share: canary.share,
            by: by(canary.by).to_owned(),
            tenants: canary.tenants.clone(),
            margin: canary.guard.margin,
            confidence: canary.guard.confidence,
            min_requests: canary.guard.min_requests,
            classes: classes.collect(),
            unguarded: unguarded.map(|class| class.name.clone()).collect(),
        }
    }
}

impl Attained {
    fn of(tally: &Tally) -> Attained {
        Attained { requests: tally.requests, kept: tally.kept, attainment: tally.attainment() }
    }
}

/// The word of a policy file for what stays together.
pub fn by(key: CanaryKey) -> &'static str {
    match key {
        CanaryKey::Session => "session",
        CanaryKey::Tenant => "tenant",
        CanaryKey::Request => "request",
    }
}
