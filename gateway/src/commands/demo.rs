//! `pointsman demo`: the whole thing on one machine, with nothing to set up: a simulated portfolio behind real HTTP,
//! traffic from public traces, a policy file to edit while it runs.

/// The simulated machines, each a process of its own.
mod machines;
/// The three files, written to a folder.
mod files;
/// What is asked, when, by whom.
mod traffic;
/// What happens by itself, to be looked at.
mod staging;
/// One client's request, measured.
mod client;
/// What has been seen, by class.
mod tally;
/// The figures as tables and JSON.
mod report;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use parking_lot::Mutex;
use pointsman_backends::portfolio::Secrets;
use pointsman_policies::language::Located;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::process::TelemetryShape;
use crate::config::set;
use crate::record::Record;
use crate::serve::{self, Running};
use crate::telemetry::logs;
use client::Client;
use files::Folder;
use machines::Machines;
use staging::Stage;
use tally::Tally;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Stop asking after this long (answers that still run get ten seconds more), such as `60s` or `5m`; runs until Ctrl-C where not given.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Print the result as one JSON object on stdout; progress goes to stderr.
    #[arg(long)]
    json: bool,
    /// How fast the trace is replayed, as a multiple of its own rate (10 requests per second on average).
    #[arg(long, default_value_t = 4.0, value_name = "FACTOR")]
    load: f64,
    /// Decides the class mix and every draw of the simulated machines.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    seed: u64,
    /// Where to write the three files; a new folder for temporary files where not given. A policy that is there is kept,
    /// the demo's own process and portfolio files are written anew, anybody else's are left alone.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Record every decision into this file, for `pointsman replay`.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Nothing happens but traffic: no candidate comes into the policy, no machine fails or is late.
    #[arg(long)]
    calm: bool,
}

/// Records on their way from the gateway to the table; more are left out of its sums.
const WAITING_RECORDS: usize = 4096;
/// How often the table is drawn on a terminal, and news told where there is none.
const REDRAW: Duration = Duration::from_secs(1);
/// How long answers still running at the end are waited for; the CPU box takes most of a minute for a long one.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// How long the gateway's last records are waited for.
const LAST_RECORDS: Duration = Duration::from_secs(5);

/// Runs it.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if !(arguments.load.is_finite() && arguments.load > 0.0) {
        return Err(anyhow!("--load {} is not a positive number", arguments.load));
    }
    // The table tells what happens; logs between its lines would tear it, so only RUST_LOG turns them on.
    logs::start(&TelemetryShape {
        log: Some(Located { value: "off".to_owned(), span: 0..0 }),
        ..TelemetryShape::default()
    });
    super::runtime()?.block_on(demonstrate(arguments))
}

async fn demonstrate(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let machines = Machines::start(arguments.seed).await?;
    let folder = Folder::write(arguments.folder.as_deref(), &machines)?;
    let (tap, records) = mpsc::channel(WAITING_RECORDS);
    let running = start(&folder, tap, arguments.record.clone()).await?;
    let drawn = !arguments.json && std::io::stdout().is_terminal();
    let staged = (!arguments.calm).then(|| Stage::new(&folder, &machines));
    let greeting = report::greeting(&running, &folder, &machines, arguments);
    let screen = report::Screen::new(drawn, greeting, running.gateway.snapshot().generation);
    let tally = Arc::new(Mutex::new(Tally::default()));
    let tasks = TaskTracker::new();
    let stop = CancellationToken::new();
    tasks.spawn(tally::count_records(records, Arc::clone(&tally)));
    let client = Client::new(running.address, Arc::clone(&running.gateway), Arc::clone(&tally));
    let replay = traffic::Replay { load: arguments.load, seed: arguments.seed };
    let replaying = tokio::spawn(traffic::replay(replay, client, stop.clone(), LAST_ANSWERS));
    let power_off = CancellationToken::new();
    let staging = tokio::spawn(Stage::play(staged, stop.clone()));
    let restarting = tokio::spawn(machines.keep_alive(power_off.clone()));
    watch(arguments.duration, screen, &running, &tally).await?;
    stop.cancel();
    let let_go = replaying.await.context("the replay failed")?;
    let _ = staging.await;
    power_off.cancel();
    let snapshot = running.gateway.snapshot();
    running.drain().await;
    let _ = restarting.await;
    tasks.close();
    let _ = tokio::time::timeout(LAST_RECORDS, tasks.wait()).await;
    let mut result = tally.lock().result(&snapshot);
    result.let_go = let_go;
    let text = if arguments.json { format!("{}\n", result.json()) } else { report::final_table(&result) };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

async fn start(folder: &Folder, tap: mpsc::Sender<Arc<Record>>, record: Option<PathBuf>) -> anyhow::Result<Running> {
    let mut loaded = set::load(&folder.process_file, Secrets::Required);
    let diagnostics = loaded.render(true);
    let set =
        loaded.set.take().ok_or_else(|| anyhow!("the files in {} cannot be used\n{diagnostics}", folder.shown()))?;
    let options = serve::Options {
        watched: Some(folder.process_file.clone()),
        tap: Some(tap),
        record,
        ..serve::Options::default()
    };
    serve::start(set, options).await.context("the gateway cannot start")
}

/// Shows progress until the time is over or somebody ends it.
async fn watch(
    duration: Option<Duration>,
    mut screen: report::Screen,
    running: &Running,
    tally: &Mutex<Tally>,
) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let began = Instant::now();
    let ends = async {
        match duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    let show = async {
        let mut tick = tokio::time::interval(REDRAW);
        tick.tick().await;
        loop {
            tick.tick().await;
            screen.show(began.elapsed(), &running.gateway, &mut tally.lock());
        }
    };
    tokio::select! {
        () = ends => {}
        () = show => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
