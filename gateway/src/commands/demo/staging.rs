//! What the demo brings about by itself, so that within twenty seconds there is something to look at: a candidate in the
//! shadow, a machine that fails, another that is late. All of it happens as in life: a file is saved, a machine misbehaves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use pointsman_backends::connect::{Connections, Outgoing, Spliced, Version};
use pointsman_backends::endpoint::Address;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::files::Folder;
use super::machines::Machines;
use crate::commands::library;

/// The policy of the library that decides in the shadow.
const CANDIDATE: &str = "latency-first";
/// When it comes into the policy file, after the first request.
const CANDIDATE_AFTER: Duration = Duration::from_secs(4);
/// How long machines then work as they should, after every incident.
const BETWEEN: [Duration; 2] = [Duration::from_secs(4), Duration::from_secs(60)];
/// A machine is on this machine.
const CONNECT_TIME: Duration = Duration::from_secs(2);

/// What goes wrong with so many machines of a pool, and for how long.
struct Incident {
    pool: &'static str,
    machines: usize,
    fault: &'static str,
    lasts: Duration,
}

/// In turn, again and again.
const INCIDENTS: [Incident; 2] = [
    Incident { pool: "gpu-a", machines: 1, fault: "error500:1", lasts: Duration::from_secs(5) },
    Incident { pool: "gpu-b", machines: 2, fault: "slow-first-byte:1500ms", lasts: Duration::from_secs(4) },
];

/// What will happen, for the greeting.
pub(super) const TOLD: &str = "Staged (--calm: none of it): after 4 s `latency-first` decides in the shadow of a policy \
                               that is new in the\n  folder; every minute one gpu-a answers 500 for 5 s, both gpu-b are \
                               1.5 s late for 4 s.";

/// Where the machines of the incidents are.
pub(super) struct Stage {
    policy: Option<PathBuf>,
    machines: Vec<(&'static Incident, Vec<Arc<Connections>>)>,
}

impl Stage {
    /// With these machines, and this folder's policy if the demo wrote it: anybody else's is not touched.
    pub(super) fn new(folder: &Folder, machines: &Machines) -> Stage {
        let connections = |incident: &'static Incident| {
            let struck = machines.iter().filter(|machine| machine.pool == incident.pool).take(incident.machines);
            let connect = |address| Arc::new(Connections::new(address, None, Version::Http1, TaskTracker::new()));
            (incident, struck.map(|machine| connect(Address::of(machine.address))).collect())
        };
        let policy = folder.policy_is_new.then(|| folder.policy_file.clone());
        Stage { policy, machines: INCIDENTS.iter().map(connections).collect() }
    }

    /// Plays until told to stop; nothing where there is no stage.
    pub(super) async fn play(stage: Option<Stage>, stop: CancellationToken) {
        if let Some(stage) = stage {
            let _ = stop.run_until_cancelled_owned(stage.act()).await;
        }
    }

    async fn act(self) {
        tokio::time::sleep(CANDIDATE_AFTER).await;
        if let Some(policy) = &self.policy
            && let Err(error) = put_into_shadow(policy)
        {
            tracing::warn!("no candidate is tried: {error:#}");
        }
        let mut pauses = BETWEEN.into_iter().chain(std::iter::repeat(BETWEEN[1]));
        loop {
            tokio::time::sleep(pauses.next().unwrap_or(BETWEEN[1])).await;
            for (incident, machines) in &self.machines {
                if let Err(error) = happen(incident, machines).await {
                    tracing::warn!("nothing happens to a machine of {}: {error:#}", incident.pool);
                }
            }
        }
    }
}

/// Saves the policy with a candidate, as an editor would; not where somebody has edited it by now.
fn put_into_shadow(policy: &Path) -> anyhow::Result<()> {
    let text = library::text(super::files::POLICY).context("the library has no such policy")?;
    if std::fs::read_to_string(policy)? != text {
        return Ok(());
    }
    let file = format!("{CANDIDATE}.toml");
    let candidate = library::text(CANDIDATE).context("the library has no such candidate")?;
    std::fs::write(policy.with_file_name(&file), candidate)?;
    let beside = policy.with_extension("toml.new");
    let shadow =
        format!("\n# Decides every request a second time, without consequence.\n[shadow]\npolicy = \"{file}\"\n");
    std::fs::write(&beside, format!("{text}{shadow}"))?;
    Ok(std::fs::rename(&beside, policy)?)
}

async fn happen(incident: &Incident, machines: &[Arc<Connections>]) -> anyhow::Result<()> {
    for machine in machines {
        set_faults(machine, &[incident.fault]).await?;
    }
    tokio::time::sleep(incident.lasts).await;
    for machine in machines {
        set_faults(machine, &[]).await?;
    }
    Ok(())
}

async fn set_faults(machine: &Arc<Connections>, faults: &[&str]) -> anyhow::Result<()> {
    let body = Spliced::new([Bytes::from(json!({ "faults": faults }).to_string()), Bytes::new(), Bytes::new()]);
    let json = HeaderValue::from_static("application/json");
    let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, json)]);
    let path = PathAndQuery::from_static("/simulator/faults");
    let outgoing = Outgoing { method: Method::POST, path, headers, body };
    let (response, hold) = machine.send(|| outgoing.clone(), CONNECT_TIME).await.map_err(|error| anyhow!("{error}"))?;
    hold.finish();
    if response.status() != StatusCode::OK {
        return Err(anyhow!("it answered {}", response.status()));
    }
    Ok(())
}
