//! `pointsman simulate`: a simulated machine behind a real port, speaking the OpenAI dialect.

use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use pointsman_backends::hardware;
use pointsman_backends::simulators::faults::{Fault, Faults};
use pointsman_backends::simulators::profile::Profile;
use pointsman_backends::simulators::server::{Simulator, SimulatorConfig};
use pointsman_backends::tls;
use pointsman_policies::language::nearest;
use tokio::signal::unix::{SignalKind, signal};

/// Arguments of `simulate`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// An entry of the hardware catalog; `pointsman hardware` lists them.
    #[arg(long, value_name = "NAME")]
    hardware: String,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// A model it serves; may be given more than once.
    #[arg(long = "model", default_value = "gpt-oss-120b", value_name = "NAME")]
    models: Vec<String>,
    /// How many times as fast as real time it runs.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    speed: f64,
    /// Sequences that run at once, instead of the catalog's.
    #[arg(long, value_name = "NUMBER")]
    slots: Option<u32>,
    /// Without the provider's rate limits.
    #[arg(long)]
    unlimited: bool,
    /// What goes wrong, such as `refuse:0.1`, `error500:0.05`, `overloaded-429:0.1`, `reset-mid-stream:0.1`,
    /// `stall:0.01`, `slow-first-byte:2s`; may be given more than once.
    #[arg(long = "fault", value_name = "FAULT:SHARE")]
    faults: Vec<Fault>,
    /// Decides jitter, answers and whom faults strike.
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    seed: u64,
    /// Serve TLS with this certificate chain, PEM.
    #[arg(long, requires = "key_file", value_name = "FILE")]
    cert_file: Option<PathBuf>,
    /// The private key of the certificate, PEM.
    #[arg(long, requires = "cert_file", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Ends when stdin does, so that a parent that dies takes it along.
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

/// Serves until it is told to stop.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = config(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let machine =
            Simulator::start(config).await.with_context(|| format!("cannot listen on {}", arguments.listen))?;
        super::print(&format!("{} simulated on {}\n", arguments.hardware, machine.address()))?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = stdin_closed(), if arguments.until_stdin_closes => {}
        }
        machine.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}

fn config(arguments: &Arguments) -> anyhow::Result<SimulatorConfig> {
    let Some(found) = hardware::find(&arguments.hardware) else {
        let help = match nearest(&arguments.hardware, hardware::names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the catalog has {}", hardware::names().collect::<Vec<_>>().join(", ")),
        };
        bail!("unknown hardware `{}`; {help}", arguments.hardware);
    };
    if !(arguments.speed.is_finite() && arguments.speed > 0.0) {
        bail!("--speed {} is not a positive number", arguments.speed);
    }
    let mut profile = Profile::of(found);
    profile.service.slots = arguments.slots.unwrap_or(profile.service.slots);
    if arguments.unlimited {
        profile.limits = Default::default();
    }
    let tls = match (&arguments.cert_file, &arguments.key_file) {
        (Some(cert_file), Some(key_file)) => Some(tls::server(cert_file, key_file)?),
        _ => None,
    };
    Ok(SimulatorConfig {
        listen: arguments.listen,
        speed: arguments.speed,
        seed: arguments.seed,
        faults: Faults::of(arguments.faults.clone()),
        tls,
        ..SimulatorConfig::new(profile, arguments.models.clone())
    })
}

/// Blocking reads of stdin end only with the process, so a thread of its own waits for them.
async fn stdin_closed() {
    let (closed, wait) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = closed.send(());
    });
    let _ = wait.await;
}
