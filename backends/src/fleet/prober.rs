//! Keeps asking one endpoint whether it is well, as long as it is part of the portfolio.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::State;
use crate::connect::Connections;
use crate::endpoint::EndpointId;
use crate::health::probe::{Probe, Wellbeing};
use crate::portfolio::Pool;

/// The task that asks; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Prober {
    probe: Probe,
    models: Vec<(String, String)>,
    connections: Arc<Connections>,
    _stop: DropGuard,
}

/// Whom to ask, and who wants to know.
pub(super) struct Examined {
    pub(super) id: EndpointId,
    pub(super) connections: Arc<Connections>,
    pub(super) state: Arc<State>,
    /// The pool's models, by the clients' names and the machines'.
    pub(super) models: Vec<(String, String)>,
}

impl Prober {
    /// Begins to ask, where there is a runtime to do it; `tasks` owns the task.
    pub(super) fn start(probe: Probe, pool: &Pool, examined: Examined, tasks: &TaskTracker) -> Option<Prober> {
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        let mut key = HeaderMap::new();
        if let Some(api_key) = &pool.api_key {
            pool.dialect.authorize(&mut key, api_key);
        }
        let stop = CancellationToken::new();
        let (connections, models) = (Arc::clone(&examined.connections), examined.models.clone());
        let asking = stop.clone().run_until_cancelled_owned(ask_on(probe.clone(), key, examined));
        tasks.spawn_on(asking, &runtime);
        Some(Prober { probe, models, connections, _stop: stop.drop_guard() })
    }

    /// Whether it does what is wanted now.
    pub(super) fn serves(&self, probe: &Probe, models: &[(String, String)], connections: &Arc<Connections>) -> bool {
        self.probe == *probe && self.models == models && Arc::ptr_eq(&self.connections, connections)
    }

    /// How often it asks.
    pub(super) fn interval(&self) -> Duration {
        self.probe.interval
    }
}

async fn ask_on(probe: Probe, key: HeaderMap, examined: Examined) {
    let (mut wellbeing, mut known) = (Wellbeing::default(), Vec::new());
    loop {
        let answer = probe.ask(&examined.connections, &key).await;
        let changed = wellbeing.answered(answer.is_ok());
        match &answer {
            Err(problem) if changed => tracing::warn!(
                endpoint = %examined.id,
                path = %probe.path,
                "it is not well: {problem}; nothing is sent there until it answers again. Check the machine, and `health` of its pool"
            ),
            Ok(_) if changed => tracing::info!(endpoint = %examined.id, "it is well again"),
            _ => {}
        }
        let missing = answer.ok().flatten().map(|listed| missing(&examined.models, &listed));
        if let Some(missing) = missing.as_ref().filter(|missing| **missing != known) {
            tracing::warn!(endpoint = %examined.id, ?missing, "the models that it does not list are others now");
            known.clone_from(missing);
        }
        examined.state.examined(wellbeing.is_well(), missing, examined.models.len());
        tokio::time::sleep(probe.interval).await;
    }
}

/// The clients' names of those models that an endpoint does not list.
fn missing(models: &[(String, String)], listed: &[String]) -> Vec<String> {
    let there: BTreeSet<&str> = listed.iter().map(String::as_str).collect();
    let missing = models.iter().filter(|(_, theirs)| !there.contains(theirs.as_str()));
    missing.map(|(own, _)| own.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_by_the_machines_name_is_missing() {
        let models = [("a", "org/a"), ("b", "b")].map(|(own, theirs)| (own.to_owned(), theirs.to_owned()));
        let listed = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(missing(&models, &listed(&["org/a", "x"])), ["b"]);
        assert_eq!(missing(&models, &listed(&["a"])), ["a", "b"]);
        assert!(missing(&models, &listed(&["b", "org/a"])).is_empty());
    }
}
