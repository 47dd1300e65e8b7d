//! The task behind trials: compares what shadows would have done, rolls back a canary that has failed, saves the counts.

use std::sync::Arc;
use std::time::Duration;

use pointsman_policies::decide::Decision;
use pointsman_policies::policy::{Canary, TrialMode};
use pointsman_policies::trial::agreement::Choice;
use pointsman_policies::trial::guard::{Tally, Verdict};
use tokio::time::MissedTickBehavior;

use super::Trial;
use super::memory::{Figures, Stopped};
use super::trials::unix_s;
use crate::gateway::Gateway;
use crate::generations::entry::{Change, Origin};
use crate::record::DecisionRecord;
use crate::snapshot::Snapshot;

/// Counts are saved this often; a process that is killed loses no more.
const BETWEEN_SAVES: Duration = Duration::from_secs(5);
/// Comparisons after which other tasks get their turn.
const AT_A_TIME: usize = 16;

/// Who rolls back, in the history and the audit log.
const GUARD: &str = "canary guard";

/// Runs until it is dropped.
pub async fn tend(gateway: Arc<Gateway>) {
    let mut save = tokio::time::interval(BETWEEN_SAVES);
    save.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut complained = false;
    loop {
        tokio::select! {
            () = gateway.trials().work.notified() => {
                compare_all(&gateway).await;
                roll_back_if_failed(&gateway).await;
            }
            _ = save.tick() => {
                let saving = Arc::clone(&gateway);
                let saved = tokio::task::spawn_blocking(move || saving.trials().save()).await;
                if let Ok(Err(error)) = saved
                    && !std::mem::replace(&mut complained, true)
                {
                    tracing::warn!("the counts of the trial will not survive a restart: {error}");
                }
            }
        }
    }
}

async fn compare_all(gateway: &Gateway) {
    let mut compared = 0;
    while let Some(decision) = gateway.trials().next_waiting() {
        compare(gateway, &decision);
        compared += 1;
        if compared % AT_A_TIME == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Decides again what has been decided, by the other policy, with what was known then.
fn compare(gateway: &Gateway, decision: &Arc<DecisionRecord>) {
    let snapshot = &decision.snapshot;
    let Some(trial) = &snapshot.trial else { return };
    let states = decision.endpoints.states();
    let fleet = decision.fleet(&states);
    let Decision { route, candidates, plan } = decision.again(&states);
    let incumbent = Choice::told(&snapshot.policy, fleet, decision.class, route, &candidates, plan.as_ref());
    let candidate = Choice::make(&trial.candidate.policy, &decision.facts.facts(), fleet, decision.draw);
    let endpoint = |choice: &Choice<'_>| choice.first.map(|first| first.endpoint);
    let same = incumbent.class == candidate.class && endpoint(&incumbent) == endpoint(&candidate);
    gateway.telemetry().metrics().shadow(if same { "same" } else { "different" });
    trial.run.counts().agreement.count(&incumbent, &candidate);
    if !same {
        gateway.telemetry().traffic().disagreed(decision);
    }
}

async fn roll_back_if_failed(gateway: &Arc<Gateway>) {
    let failed = gateway.snapshot().trial.as_ref().is_some_and(|trial| trial.run.has_failed());
    if failed {
        let gateway = Arc::clone(gateway);
        if let Err(error) = tokio::task::spawn_blocking(move || roll_back(&gateway)).await {
            tracing::error!("rolling back failed: {error}");
        }
    }
}

/// Puts a generation in force that is the same without its failed canary.
fn roll_back(gateway: &Gateway) {
    let _one_at_a_time = gateway.reloading();
    let snapshot = gateway.snapshot();
    let Some(trial) = snapshot.trial.as_ref().filter(|trial| trial.run.has_failed()) else { return };
    let TrialMode::Canary(canary) = &trial.mode else { return };
    let Some(stopped) = verdict(trial, canary) else { return };
    gateway.trials().stop(stopped.clone());
    let next = gateway.swap(snapshot.set());
    gateway.telemetry().metrics().rollback();
    gateway.set_reload_status(gateway.reload_status().under(&next));
    let change = Change { origin: Origin::CanaryRollback, who: GUARD.to_owned(), from: None };
    gateway.history().accepted_because(&next, &change, format!("`{}` is taken back: {stopped}", stopped.policy));
    tracing::warn!(
        generation = next.generation,
        policy = %next.version,
        candidate = %trial.version,
        "the canary guard rolled back `{}`: {stopped}",
        stopped.file
    );
    if let Err(error) = gateway.trials().save() {
        tracing::warn!("a restart will try the candidate again, because this cannot be remembered: {error}");
    }
}

/// Lets a candidate that was rolled back be tried again, in a generation that is the same but for that. `None` where none
/// was rolled back.
pub fn resume(gateway: &Gateway, change: &Change) -> Option<Arc<Snapshot>> {
    let _one_at_a_time = gateway.reloading();
    let snapshot = gateway.snapshot();
    let candidate = snapshot.candidate.as_ref()?;
    if !gateway.trials().resume(&candidate.hash) {
        return None;
    }
    let next = gateway.swap(snapshot.set());
    gateway.set_reload_status(gateway.reload_status().under(&next));
    gateway.history().accepted_because(&next, change, format!("`{}` is tried again", candidate.policy.name));
    tracing::info!(generation = next.generation, "the candidate `{}` is tried again", candidate.policy.name);
    if let Err(error) = gateway.trials().save() {
        tracing::warn!("a restart will keep the candidate away, because this cannot be remembered: {error}");
    }
    Some(next)
}

/// The class that the canary has failed by, with its figures: the one against which the odds are longest.
fn verdict(trial: &Trial, canary: &Canary) -> Option<Stopped> {
    let counts = trial.run.counts();
    let against = |class: &str| match counts.watch.verdict(class, &canary.guard) {
        Some(Verdict::Worse { odds, .. }) => Some(odds),
        _ => None,
    };
    let judged = counts.watch.classes().filter_map(|(class, watch)| Some((against(class)?, class, watch)));
    let (_, class, watch) = judged.max_by(|one, other| one.0.total_cmp(&other.0))?;
    let figures =
        |tally: &Tally| Figures { requests: tally.requests, attainment: tally.attainment().unwrap_or_default() };
    Some(Stopped {
        hash: trial.candidate.hash.clone(),
        policy: trial.candidate.policy.name.clone(),
        file: trial.candidate.file.display().to_string(),
        at_unix_s: unix_s(),
        class: class.to_owned(),
        incumbent: figures(&watch.incumbent),
        candidate: figures(&watch.candidate),
        margin: canary.guard.margin,
        confidence: canary.guard.confidence,
    })
}
