//! What the gateway promises under load and under faults, shown on the real program: scenarios with one ledger each, in
//! which sent = ok + refused + failed closes to zero, and figures with what was promised of them. `tests/reliability/run`
//! builds and starts it; `tests/reliability/README.md` says what is measured, and what came out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop where its own assumptions break"
)]

/// What became of every request.
mod ledger;
/// What came out.
mod report;
/// The machine behind the gateway.
mod machine;
/// Clients that count.
mod client;
/// HTTP/2 frame by frame.
mod frames;
/// The gateway as a process.
mod stand;
/// Whether memory grows.
mod slope;
/// The scenarios.
mod scenarios;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Map, Value, json};

use report::Report;
use scenarios::{SCENARIOS, Scale, Scenario};

/// No scenario takes longer, whatever hangs.
const LONGEST: Duration = Duration::from_secs(1800);

/// Shows what the gateway promises under load and under faults. Exits 1 where a promise is broken.
#[derive(Debug, Parser)]
#[command(name = "tests/reliability/run")]
struct Arguments {
    /// Everything short and small, for every day: under 90 seconds on two cores.
    #[arg(long)]
    quick: bool,
    /// Where the figures go, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Names the scenarios.
    #[arg(long)]
    list: bool,
    /// Which scenarios; all where none is named.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The machine as a process of its own.
    #[arg(long, hide = true, value_name = "ADDRESS:PORT")]
    machine: Option<SocketAddr>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if let Some(listen) = arguments.machine {
        runtime().block_on(machine::alone(listen));
        return ExitCode::SUCCESS;
    }
    if arguments.list {
        SCENARIOS.iter().for_each(|scenario| println!("{:<12} {}", scenario.name, scenario.what));
        return ExitCode::SUCCESS;
    }
    let known = |name: &&String| !SCENARIOS.iter().any(|scenario| scenario.name == name.as_str());
    if let Some(unknown) = arguments.names.iter().find(known) {
        eprintln!("there is no scenario `{unknown}`; --list names them");
        return ExitCode::FAILURE;
    }
    let wanted =
        |scenario: &&Scenario| arguments.names.is_empty() || arguments.names.iter().any(|name| name == scenario.name);
    let scale = Scale { quick: arguments.quick };
    let (mut kept, mut told) = (true, Map::new());
    for scenario in SCENARIOS.iter().filter(wanted) {
        let began = Instant::now();
        let report = run(scenario, scale);
        let seconds = began.elapsed().as_secs_f64();
        match &report {
            Ok(report) => {
                print!("{}", report.rows(scenario.name, seconds));
                told.insert(scenario.name.to_owned(), report.json(seconds));
                kept &= report.kept() && (report.why_skipped().is_none() || arguments.names.is_empty());
            }
            Err(why) => {
                println!("not ok {}: it stopped: {why}", scenario.name);
                told.insert(scenario.name.to_owned(), json!({ "kept": false, "stopped": why }));
                kept = false;
            }
        }
    }
    let told = json!({ "quick": arguments.quick, "scenarios": Value::Object(told) });
    if let Some(file) = &arguments.json
        && let Err(error) = std::fs::write(file, format!("{told:#}\n"))
    {
        eprintln!("cannot write `{}`: {error}", file.display());
        return ExitCode::FAILURE;
    }
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Runs a scenario on threads of its own; one that panics is one that stopped.
fn run(scenario: &Scenario, scale: Scale) -> Result<Report, String> {
    let runtime = runtime();
    let bounded = || runtime.block_on(async { tokio::time::timeout(LONGEST, (scenario.run)(scale)).await });
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(bounded));
    runtime.shutdown_background();
    match ended {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(_)) => Err(format!("it did not end within {LONGEST:?}")),
        Err(_) => Err("an assumption of its own broke; it is told above".to_owned()),
    }
}
