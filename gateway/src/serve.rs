//! The process around the pipeline: listeners up, signals heard, drained at the end.

/// Accepts connections and speaks HTTP on them.
pub mod listener;
/// Heads that can be read in one way only.
pub mod strict;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::accounting::Accounting;
use crate::admin;
use crate::config::set::ConfigSet;
use crate::decision_log::writer::LogFiles;
use crate::gateway::Gateway;
use crate::generations::entry::Change;
use crate::learning::file as learning;
use crate::queue::Queue;
use crate::record::Record;
use crate::reload;
use crate::telemetry::{Readers, Telemetry, otlp};
use crate::trial::tend::tend;
use listener::Listener;

/// How often idle connections to machines are swept.
const SWEEP: Duration = Duration::from_secs(1);
/// How long connections to machines get to close.
const LAST_CONNECTIONS: Duration = Duration::from_secs(1);
/// How long traces still waiting at the end get to leave.
const LAST_EXPORT: Duration = Duration::from_secs(3);

/// A gateway that listens.
#[derive(Debug)]
pub struct Running {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where operators connect.
    pub admin_address: SocketAddr,
    stop: watch::Sender<bool>,
    data: JoinHandle<()>,
    admin: JoinHandle<()>,
    background: Vec<JoinHandle<()>>,
    exporting: JoinHandle<()>,
}

/// What a start may be given besides its configuration.
#[derive(Debug, Default)]
pub struct Options {
    /// The process file, to be watched with the files it names.
    pub watched: Option<PathBuf>,
    /// Gets every record that has been settled, as long as it has room.
    pub tap: Option<mpsc::Sender<Arc<Record>>>,
    /// Where to record decisions from the start on; as the process file says where `None`.
    pub record: Option<PathBuf>,
}

/// Binds both listeners and starts serving a checked set.
pub async fn start(set: ConfigSet, options: Options) -> io::Result<Running> {
    let Options { watched, tap, record } = options;
    let process = set.process.clone();
    let exporter = otlp::exporter(&process.telemetry).map_err(io::Error::other)?;
    let (telemetry, records) = Telemetry::new();
    let readers = match (&tap, &exporter) {
        (Some(_), _) => Readers::All,
        (None, Some(_)) => Readers::Traces,
        (None, None) => Readers::None,
    };
    let telemetry = telemetry.read_by(readers, process.telemetry.traces_per_s);
    let metrics = Arc::clone(telemetry.metrics());
    let listener = Listener::bind(&process).await?;
    let admin_listener = bind(process.admin_listen, "admin_listen").await?;
    let gateway = tokio::task::spawn_blocking(move || Gateway::new(set, telemetry)).await.map_err(io::Error::other)?;
    let (address, admin_address) = (listener.address()?, admin_listener.local_addr()?);
    if record.is_some() || process.record.from_start {
        let files = LogFiles { file: record.unwrap_or(process.record.files.file), ..process.record.files };
        gateway.telemetry().recorder().start(files).await?;
    }
    let (stop, stopped) = watch::channel(false);
    let data = tokio::spawn(listener.run(Arc::clone(&gateway), stopped));
    let router = admin::router(Arc::clone(&gateway)).into_make_service_with_connect_info::<SocketAddr>();
    let admin = tokio::spawn(async move {
        if let Err(error) = axum::serve(admin_listener, router).await {
            tracing::error!("the admin listener failed: {error}");
        }
    });
    let mut background = vec![
        tokio::spawn(sweep(Arc::clone(&gateway))),
        tokio::spawn(tend(Arc::clone(&gateway))),
        tokio::spawn(Queue::tend(Arc::clone(&gateway))),
        tokio::spawn(learning::keep(Arc::clone(&gateway))),
        tokio::spawn(Accounting::tend(Arc::clone(&gateway))),
    ];
    if let Some(process_file) = watched {
        background.push(tokio::spawn(reload::watch(Arc::clone(&gateway), process_file)));
    }
    let exporting = tokio::spawn(otlp::export(records, exporter, tap, metrics));
    gateway.set_ready(true);
    Ok(Running { gateway, address, admin_address, stop, data, admin, background, exporting })
}

impl Running {
    /// Stops accepting, lets running requests finish within the drain time, sends the last traces.
    pub async fn drain(self) {
        let Running { gateway, stop, data, admin, background, exporting, .. } = self;
        gateway.set_ready(false);
        let _ = stop.send(true);
        let drain = gateway.snapshot().process.timeouts.drain;
        let abort = data.abort_handle();
        if tokio::time::timeout(drain, data).await.is_err() {
            tracing::warn!("requests still ran after {drain:?} and were cut");
            abort.abort();
        }
        admin.abort();
        for task in background {
            task.abort();
            let _ = task.await;
        }
        let _ = admin.await;
        if let Err(error) = gateway.trials().save() {
            tracing::warn!("the counts of the trial are lost: {error}");
        }
        let saving = Arc::clone(&gateway);
        let _ = tokio::task::spawn_blocking(move || learning::save_and_log(&saving)).await;
        if let Err(error) = gateway.accounting().save() {
            tracing::warn!("what was spent of late is lost: {error}");
        }
        gateway.fleet().shut_down(LAST_CONNECTIONS).await;
        gateway.telemetry().recorder().stop().await;
        drop(gateway);
        let _ = tokio::time::timeout(LAST_EXPORT, exporting).await;
    }

    /// Waits for a signal to end: SIGHUP reloads; SIGTERM answers "not ready" for a while, then drains; SIGINT drains at
    /// once; a second signal ends the process.
    pub async fn until_signalled(self, process_file: &Path) -> io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let lame_duck = loop {
            tokio::select! {
                _ = hangup.recv() => {
                    let (gateway, file) = (Arc::clone(&self.gateway), process_file.to_owned());
                    let reloading = tokio::task::spawn_blocking(move || reload::reload_and_log(&gateway, &file, &Change::signal()));
                    if let Err(error) = reloading.await {
                        tracing::error!("reload failed: {error}");
                    }
                }
                _ = terminate.recv() => break self.gateway.snapshot().process.timeouts.lame_duck,
                _ = interrupt.recv() => break Duration::ZERO,
            }
        };
        tracing::info!("shutting down; a second signal ends at once");
        self.gateway.set_ready(false);
        let shutdown = async {
            tokio::time::sleep(lame_duck).await;
            self.drain().await;
        };
        tokio::select! {
            () = shutdown => tracing::info!("stopped"),
            _ = terminate.recv() => tracing::warn!("ended by a second signal"),
            _ = interrupt.recv() => tracing::warn!("ended by a second signal"),
        }
        Ok(())
    }
}

async fn sweep(gateway: Arc<Gateway>) {
    let mut tick = tokio::time::interval(SWEEP);
    loop {
        tick.tick().await;
        gateway.fleet().sweep();
    }
}

async fn bind(address: SocketAddr, key: &str) -> io::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address} (`{key}`): {error}")))
}
