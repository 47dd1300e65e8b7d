//! Peers as `peers.toml` tells of them: started with ports of their own, in a folder of their own, behind them the machine.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tempfile::TempDir;

use crate::load::{self, Extent, Load};
use crate::process::Process;
use crate::scenario::Target;

/// The one without a proxy.
pub(crate) const DIRECT: &str = "direct";
/// The one that is the floor.
pub(crate) const FLOOR: &str = "hyper";

/// The model that is asked for.
const MODEL: &str = "gpt-oss-120b";
/// Ports that a peer may use.
const PORTS: usize = 3;

/// A table of the file. In all texts `{port}`, `{port1}`, `{port2}` are free ports, `{upstream}`, `{upstream0}` ...
/// `{upstream7}` the machine's addresses, `{otlp}` the receiver of traces, `{folder}` a folder of its own, `{tools}` where
/// peers are installed, `{bin}` where this program is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peer {
    /// What it is, and which version.
    pub(crate) note: String,
    command: Vec<String>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default = "chat_completions")]
    path: String,
    #[serde(default = "model")]
    model: String,
    #[serde(default)]
    headers: Vec<String>,
    #[serde(default = "ready_s")]
    ready_s: u64,
}

fn chat_completions() -> String {
    "/v1/chat/completions".to_owned()
}

fn model() -> String {
    MODEL.to_owned()
}

fn ready_s() -> u64 {
    20
}

/// All peers, by name.
pub(crate) fn read(file: &Path) -> Result<BTreeMap<String, Peer>, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("cannot read `{}`: {error}", file.display()))?;
    toml::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))
}

/// A peer that answers.
pub(crate) struct Started {
    /// Its process; none where there is no proxy.
    pub(crate) process: Option<Process>,
    /// Where it is.
    pub(crate) target: Target,
    /// Goes with it.
    _folder: Option<TempDir>,
}

/// Without a proxy.
pub(crate) fn direct(machine: &[SocketAddr]) -> Started {
    let target = Target { address: machine[0], path: chat_completions(), model: model(), headers: Vec::new() };
    Started { process: None, target, _folder: None }
}

impl Peer {
    /// The bare pass-through, which is part of this program.
    pub(crate) fn floor() -> Peer {
        let command = ["{bin}/plane", "floor", "--listen", "127.0.0.1:{port}", "--upstream", "{upstream}"];
        Peer {
            note: "hyper 1.12 server, hyper-util pooled client, one thread, no logic".to_owned(),
            command: command.map(str::to_owned).to_vec(),
            files: BTreeMap::new(),
            env: BTreeMap::new(),
            path: chat_completions(),
            model: model(),
            headers: Vec::new(),
            ready_s: ready_s(),
        }
    }

    /// Why it cannot be started here, if so.
    pub(crate) fn is_absent(&self) -> Option<String> {
        let program = self.command[0].replace("{bin}", &bin()).replace("{tools}", &tools());
        let found = match program.contains('/') {
            true => Path::new(&program).exists(),
            false => std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
                .any(|folder| folder.join(&program).exists()),
        };
        (!found).then(|| format!("`{program}` is not installed"))
    }

    /// Starts it on a core and waits until it answers.
    pub(crate) fn start(&self, core: usize, machine: &[SocketAddr]) -> Result<Started, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let ports = free_ports();
        let fill = |text: &str| fill(text, folder.path(), &ports, machine);
        for (name, text) in &self.files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap_or(folder.path())).map_err(|error| error.to_string())?;
            fs::write(path, fill(text)).map_err(|error| error.to_string())?;
        }
        let command: Vec<String> = self.command.iter().map(|word| fill(word)).collect();
        let env: Vec<(String, String)> = self.env.iter().map(|(name, value)| (name.clone(), fill(value))).collect();
        let mut process = Process::start(core, &command, &env, folder.path());
        let target = Target {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, ports[0])),
            path: self.path.clone(),
            model: self.model.clone(),
            headers: self.headers.iter().map(|header| fill(header)).collect(),
        };
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(self.ready_s) && !process.has_ended() {
            if answers(&target) {
                return Ok(Started { process: Some(process), target, _folder: Some(folder) });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let said = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        let end: Vec<&str> = said.lines().rev().take(5).collect();
        Err(format!(
            "it did not answer within {} s: {}",
            self.ready_s,
            end.into_iter().rev().collect::<Vec<_>>().join(" | ")
        ))
    }
}

/// Whether a request of the kind that will be measured is answered.
fn answers(target: &Target) -> bool {
    let longest = Duration::from_secs(5);
    let once = Extent::Streams { each: 1, events: 1, ramp: Duration::ZERO, longest };
    let load = Load { address: target.address, request: target.request(0, true), connections: 1, extent: once };
    std::net::TcpStream::connect_timeout(&target.address, longest).is_ok() && load::run(&load).answers == 1
}

/// Ports that nobody uses now.
fn free_ports() -> Vec<u16> {
    let listeners: Vec<TcpListener> =
        (0..PORTS).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("an address").port()).collect()
}

fn fill(text: &str, folder: &Path, ports: &[u16], machine: &[SocketAddr]) -> String {
    let (upstreams, otlp) = machine.split_at(machine.len() - 1);
    let mut text =
        text.replace("{folder}", &folder.to_string_lossy()).replace("{bin}", &bin()).replace("{tools}", &tools());
    text = text.replace("{port}", &ports[0].to_string()).replace("{upstream}", &upstreams[0].to_string());
    text = text.replace("{upstream_port}", &upstreams[0].port().to_string()).replace("{otlp}", &otlp[0].to_string());
    for (place, port) in ports.iter().enumerate() {
        text = text.replace(&format!("{{port{place}}}"), &port.to_string());
    }
    for (place, upstream) in upstreams.iter().enumerate() {
        text = text.replace(&format!("{{upstream{place}}}"), &upstream.to_string());
    }
    text
}

fn bin() -> String {
    let this = std::env::current_exe().expect("the path of this program");
    this.parent().unwrap_or(Path::new(".")).to_string_lossy().into_owned()
}

fn tools() -> String {
    let tools: PathBuf = std::env::current_dir().expect("a folder").join("tests/.tools/peers");
    tools.to_string_lossy().into_owned()
}
