//! Simulated machines in this process, fast enough for tests and without rate limits unless asked for.

use std::sync::Arc;

use pointsman_backends::hardware;
use pointsman_backends::simulators::faults::Faults;
use pointsman_backends::simulators::profile::Profile;
use pointsman_backends::simulators::server::{RunningSimulator, Simulator, SimulatorConfig};
use serde_json::{Value, json};

use crate::files::MODEL;

/// A machine of the catalog without rate limits, ten times as fast as real time.
pub fn config(name: &str) -> SimulatorConfig {
    let mut profile = Profile::of(hardware::find(name).expect("it is in the catalog"));
    profile.limits = Default::default();
    SimulatorConfig { speed: 10.0, ..SimulatorConfig::new(profile, vec![MODEL.to_owned()]) }
}

/// Starts a machine without faults.
pub async fn start(name: &str) -> RunningSimulator {
    run(config(name)).await
}

/// Starts a machine with faults, such as `error500:1`.
pub async fn faulty(name: &str, faults: &[&str]) -> RunningSimulator {
    run(SimulatorConfig { faults: Faults::parse(faults).expect("faults"), ..config(name) }).await
}

/// Starts a machine that serves TLS.
pub async fn tls(name: &str, tls: Arc<tokio_rustls::rustls::ServerConfig>) -> RunningSimulator {
    run(SimulatorConfig { tls: Some(tls), ..config(name) }).await
}

/// Starts a machine.
pub async fn run(config: SimulatorConfig) -> RunningSimulator {
    Simulator::start(config).await.expect("it can listen")
}

/// The base URL of a machine.
pub fn url(machine: &RunningSimulator) -> String {
    format!("http://{}", machine.address())
}

/// A chat whose answer has exactly this many tokens.
pub fn chat(tokens: u64, stream: bool) -> Value {
    json!({
        "model": MODEL,
        "messages": [{"role": "user", "content": "Which track shall the next train take?"}],
        "stream": stream,
        "max_tokens": tokens,
        "ignore_eos": true,
    })
}

/// A streamed chat that goes on for longer than any test.
pub fn endless() -> Value {
    chat(200_000, true)
}
