//! The demo's machines: each a process of its own that serves real HTTP, so that one can be killed to see what happens.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A killed machine comes back after this long, as an orchestrator would bring it back.
const RESTART_AFTER: Duration = Duration::from_secs(10);

/// The portfolio: pool, hardware, models.
const FLEET: [(&str, &str, &[&str]); 6] = [
    ("gpu-a", "h100", &["gpt-oss-120b", "llama-3.1-8b"]),
    ("gpu-a", "h100", &["gpt-oss-120b", "llama-3.1-8b"]),
    ("gpu-b", "h200", &["gpt-oss-120b"]),
    ("gpu-b", "h200", &["gpt-oss-120b"]),
    ("wafer", "cs3", &["gpt-oss-120b"]),
    ("cpu", "cpu", &["llama-3.1-8b"]),
];

/// A simulated machine.
#[derive(Debug)]
pub(super) struct Machine {
    /// Its pool.
    pub(super) pool: &'static str,
    /// Where it listens, also after a restart.
    pub(super) address: SocketAddr,
    /// Its process.
    pub(super) pid: u32,
    hardware: &'static str,
    models: &'static [&'static str],
    seed: u64,
    child: Child,
    /// Held open: the machine ends when it closes.
    stdin_held: Option<ChildStdin>,
}

/// All of them; they end when this is dropped or the demo dies.
#[derive(Debug)]
pub(super) struct Machines(Vec<Machine>);

impl Machines {
    /// Starts every machine.
    pub(super) async fn start(seed: u64) -> anyhow::Result<Machines> {
        let mut machines = Vec::with_capacity(FLEET.len());
        for (index, (pool, hardware, models)) in FLEET.into_iter().enumerate() {
            let seed = seed.wrapping_mul(1_000).wrapping_add(index as u64);
            let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
            let (mut child, address, pid) = spawn(hardware, models, seed, anywhere).await?;
            let stdin_held = child.stdin.take();
            machines.push(Machine { pool, address, pid, hardware, models, seed, child, stdin_held });
        }
        Ok(Machines(machines))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Machine> {
        self.0.iter()
    }

    /// Brings machines back that have died, until told to stop.
    pub(super) async fn keep_alive(self, stop: CancellationToken) {
        let mut watching = JoinSet::new();
        for mut machine in self.0 {
            let stop = stop.clone();
            watching.spawn(async move { stop.run_until_cancelled_owned(machine.keep_alive()).await });
        }
        while watching.join_next().await.is_some() {}
    }
}

impl Machine {
    async fn keep_alive(&mut self) {
        loop {
            let _ = self.child.wait().await;
            tokio::time::sleep(RESTART_AFTER).await;
            match spawn(self.hardware, self.models, self.seed, self.address).await {
                Ok((mut child, _, pid)) => {
                    self.stdin_held = child.stdin.take(); // waiting for the child would close it
                    (self.child, self.pid) = (child, pid);
                }
                Err(error) => tracing::warn!("a machine of pool {} does not come back: {error:#}", self.pool),
            }
        }
    }
}

async fn spawn(
    hardware: &str,
    models: &[&str],
    seed: u64,
    listen: SocketAddr,
) -> anyhow::Result<(Child, SocketAddr, u32)> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(program);
    command.args(["simulate", "--until-stdin-closes", "--hardware", hardware]);
    command.arg("--listen").arg(listen.to_string()).arg("--seed").arg(seed.to_string());
    for model in models {
        command.arg("--model").arg(model);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).process_group(0);
    let mut child = command.spawn().context("cannot start a simulated machine")?;
    let output = child.stdout.take().ok_or_else(|| anyhow!("the machine has no output"))?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).await?;
    let address = line.trim().rsplit(' ').next().and_then(|address| address.parse().ok());
    let address = address.ok_or_else(|| anyhow!("a simulated {hardware} did not start"))?;
    let pid = child.id().unwrap_or_default();
    Ok((child, address, pid))
}
