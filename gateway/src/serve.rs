//! The process around the pipeline: listeners up, signals heard, drained at the end.

/// Listening sockets that somebody else has bound.
pub mod inherited;
/// Hands listening sockets to a successor.
pub mod handover;
/// Accepts connections and speaks HTTP on them.
pub mod listener;
/// What a client may take before it is heard.
pub mod edge;
/// How many requests each caller has running.
pub mod callers;
/// Accepting while file descriptors run out.
pub mod shortage;
/// Who is at the other end of a connection.
pub mod client;
/// A connection from its first request to its end.
pub mod drive;
/// Looks at the frames of HTTP/2 connections.
pub mod frames;
/// Runs the streams of HTTP/2 connections.
pub mod streams;
/// Heads that can be read in one way only.
pub mod strict;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::accounting::Accounting;
use crate::admin;
use crate::config::process::Process;
use crate::config::set::ConfigSet;
use crate::decision_log::writer::LogFiles;
use crate::gateway::Gateway;
use crate::generations::entry::Change;
use crate::identity;
use crate::learning::file as learning;
use crate::overload::Overload;
use crate::queue::Queue;
use crate::record::Record;
use crate::reload;
use crate::telemetry::{Readers, Telemetry, otlp};
use crate::traffic;
use crate::trial::tend::tend;
use handover::Offer;
use inherited::{Inherited, Purpose};
use listener::Listener;

/// How often idle connections to machines are swept.
const SWEEP: Duration = Duration::from_secs(1);
/// How often a successor hears what is spent while requests end: as often as it is written where there is none.
const LEAVE: Duration = Duration::from_secs(5);
/// How long what operators have asked gets to be answered, once requests have ended.
const LAST_ADMIN: Duration = Duration::from_secs(1);
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
    stop_admin: watch::Sender<bool>,
    offer: Option<Offer>,
    data: JoinHandle<()>,
    admin: JoinHandle<()>,
    /// What requests need until the last has ended.
    serving: Vec<JoinHandle<()>>,
    /// What writes to the state folder, or reads files into force.
    keeping: Vec<JoinHandle<()>>,
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
    /// Sockets that are bound already.
    pub inherited: Inherited,
}

/// Binds both listeners and starts serving a checked set.
pub async fn start(set: ConfigSet, options: Options) -> io::Result<Running> {
    let Options { watched, tap, record, mut inherited } = options;
    let process = set.process.clone();
    let exporter = otlp::exporter(&process.telemetry).map_err(io::Error::other)?;
    let (telemetry, records) = Telemetry::new();
    let readers = match (&tap, &exporter) {
        (Some(_), _) => Readers::All,
        (None, Some(_)) => Readers::Traces,
        (None, None) => Readers::None,
    };
    let telemetry = telemetry.read_by(readers, process.telemetry.traces_per_s);
    let telemetry = telemetry.remembering(process.telemetry.room());
    let metrics = Arc::clone(telemetry.metrics());
    shortage::raise_limit(process.connections);
    let socket = bind(&mut inherited, Purpose::Data, process.listen).await?;
    let admin_listener = bind(&mut inherited, Purpose::Admin, process.admin_listen).await?;
    let (address, admin_address) = (socket.local_addr()?, admin_listener.local_addr()?);
    refuse_open(&process, address, admin_address)?;
    let sockets = [socket.as_fd().try_clone_to_owned()?, admin_listener.as_fd().try_clone_to_owned()?];
    let listener = Listener::new(socket, &process, Arc::clone(&metrics));
    let gateway = tokio::task::spawn_blocking(move || Gateway::new(set, telemetry)).await.map_err(io::Error::other)?;
    if !address.ip().is_loopback() {
        gateway.identity().expose(&process);
    }
    if let Some(told) = gateway.identity().told().into_iter().find(|told| told.problem.is_some()) {
        return Err(io::Error::other(format!("{}: {}", told.what, told.problem.unwrap_or_default())));
    }
    if record.is_some() || process.record.from_start {
        let files = LogFiles { file: record.unwrap_or(process.record.files.file), ..process.record.files };
        gateway.telemetry().recorder().start(files).await?;
    }
    let (stop, stopped) = watch::channel(false);
    let data = tokio::spawn(listener.run(Arc::clone(&gateway), stopped));
    let router = admin::router(Arc::clone(&gateway)).into_make_service_with_connect_info::<SocketAddr>();
    let (stop_admin, mut admin_stopped) = watch::channel(false);
    let admin = tokio::spawn(async move {
        let stopped = async move { drop(admin_stopped.wait_for(|stopped| *stopped).await) };
        if let Err(error) = axum::serve(admin_listener, router).with_graceful_shutdown(stopped).await {
            tracing::error!("the admin listener failed: {error}");
        }
    });
    let serving = vec![
        tokio::spawn(sweep(Arc::clone(&gateway))),
        tokio::spawn(Queue::tend(Arc::clone(&gateway))),
        tokio::spawn(traffic::tend::tend(Arc::clone(&gateway))),
        tokio::spawn(identity::tend(Arc::clone(&gateway))),
        tokio::spawn(identity::ask_issuer(Arc::clone(&gateway))),
    ];
    let mut keeping = vec![
        tokio::spawn(tend(Arc::clone(&gateway))),
        tokio::spawn(learning::keep(Arc::clone(&gateway))),
        tokio::spawn(Accounting::tend(Arc::clone(&gateway))),
        tokio::spawn(Overload::tend(Arc::clone(&gateway))),
    ];
    if let Some(process_file) = watched {
        keeping.push(tokio::spawn(reload::watch(Arc::clone(&gateway), process_file)));
    }
    let told = (metrics, Arc::clone(gateway.telemetry().health()));
    let exporting = tokio::spawn(otlp::export(records, exporter, tap, told));
    let offer = Offer::new(&process.state, sockets);
    let offer = offer.inspect_err(|error| tracing::info!("no successor can take over: {error}")).ok();
    gateway.set_ready(true);
    inherited.serve_now()?;
    Ok(Running { gateway, address, admin_address, stop, stop_admin, offer, data, admin, serving, keeping, exporting })
}

/// Why a gateway ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It was told to, after it has answered "not ready" for this long.
    Told(Duration),
    /// A successor serves.
    Succeeded,
}

impl Running {
    /// Stops accepting, lets running requests finish within the drain time, sends the last traces.
    pub async fn drain(self) {
        self.finish(false).await;
    }

    /// The same; what a successor does by now is left to it.
    async fn finish(self, succeeded: bool) {
        let Running { gateway, stop, stop_admin, offer, data, admin, serving, mut keeping, exporting, .. } = self;
        drop(offer);
        gateway.set_ready(false);
        let _ = stop.send(true);
        if succeeded {
            let _ = stop_admin.send(true);
            end(std::mem::take(&mut keeping)).await;
        }
        let drain = gateway.snapshot().process.timeouts.drain;
        let mut data = data;
        let drained = async {
            let mut tick = tokio::time::interval(LEAVE);
            loop {
                tokio::select! {
                    _ = &mut data => return,
                    _ = tick.tick(), if succeeded => leave(&gateway).await,
                }
            }
        };
        if tokio::time::timeout(drain, drained).await.is_err() {
            tracing::warn!("requests still ran after {drain:?} and were cut");
            end(vec![data]).await;
        }
        let _ = stop_admin.send(true);
        let mut admin = admin;
        if tokio::time::timeout(LAST_ADMIN, &mut admin).await.is_err() {
            end(vec![admin]).await;
        }
        end(serving).await;
        end(std::mem::take(&mut keeping)).await;
        match succeeded {
            true => leave(&gateway).await,
            false => save(&gateway, Accounting::save).await,
        }
        gateway.fleet().shut_down(LAST_CONNECTIONS).await;
        gateway.telemetry().recorder().stop().await;
        drop(gateway);
        let _ = tokio::time::timeout(LAST_EXPORT, exporting).await;
    }

    /// Waits for a signal to end: SIGHUP reloads; SIGTERM answers "not ready" for a while, then drains; SIGINT drains at
    /// once; a second signal ends the process. A successor that serves makes it drain at once as well.
    pub async fn until_signalled(self, process_file: &Path) -> io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tell_systemd(&[NotifyState::Ready]);
        let why = {
            let mut succeeded = std::pin::pin!(successor(self.offer.as_ref(), &self.gateway));
            loop {
                tokio::select! {
                    _ = hangup.recv() => {
                        let (gateway, file) = (Arc::clone(&self.gateway), process_file.to_owned());
                        let reloading = tokio::task::spawn_blocking(move || reload::reload_and_log(&gateway, &file, &Change::signal()));
                        if let Err(error) = reloading.await {
                            tracing::error!("reload failed: {error}");
                        }
                    }
                    _ = terminate.recv() => break End::Told(self.gateway.snapshot().process.timeouts.lame_duck),
                    _ = interrupt.recv() => break End::Told(Duration::ZERO),
                    () = &mut succeeded => break End::Succeeded,
                }
            }
        };
        self.gateway.set_ready(false);
        let shutdown = async {
            match why {
                End::Succeeded => self.finish(true).await,
                End::Told(lame_duck) => {
                    tracing::info!("shutting down; a second signal ends at once");
                    tell_systemd(&[NotifyState::Stopping]);
                    tokio::time::sleep(lame_duck).await;
                    self.finish(false).await;
                }
            }
        };
        tokio::select! {
            () = shutdown => tracing::info!("stopped"),
            _ = terminate.recv() => tracing::warn!("ended by a second signal"),
            _ = interrupt.recv() => tracing::warn!("ended by a second signal"),
        }
        Ok(())
    }
}

/// Says how things stand to systemd, where it started this process.
fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("systemd cannot be told: {error}");
    }
}

/// Waits for a successor that serves; for ever where none can come.
async fn successor(offer: Option<&Offer>, gateway: &Arc<Gateway>) {
    let Some(offer) = offer else { return std::future::pending().await };
    let pid = offer.taken(gateway).await;
    tracing::info!("process {pid} has taken over; this one finishes what it has");
    if let Ok(pid) = u32::try_from(pid) {
        tell_systemd(&[NotifyState::MainPid(pid)]);
    }
}

/// Ends tasks and waits until they have ended.
async fn end(tasks: Vec<JoinHandle<()>>) {
    for task in tasks {
        task.abort();
        let _ = task.await;
    }
}

/// Writes down what was booked since a successor took over.
async fn leave(gateway: &Arc<Gateway>) {
    let gateway = Arc::clone(gateway);
    let leaving = tokio::task::spawn_blocking(move || {
        if let Err(error) = gateway.accounting().leave() {
            tracing::warn!("what was spent since the successor took over cannot be left to it now: {error}");
        }
    });
    let _ = leaving.await;
}

/// Writes down what the next process goes on from, its accounts by `keep`.
async fn save(gateway: &Arc<Gateway>, keep: fn(&Accounting) -> io::Result<()>) {
    let gateway = Arc::clone(gateway);
    let saving = tokio::task::spawn_blocking(move || {
        if let Err(error) = gateway.trials().save() {
            tracing::warn!("the counts of the trial are lost: {error}");
        }
        learning::save_and_log(&gateway);
        if let Err(error) = keep(gateway.accounting()) {
            tracing::warn!("what was spent of late is lost: {error}");
        }
    });
    let _ = saving.await;
}

async fn sweep(gateway: Arc<Gateway>) {
    let mut tick = tokio::time::interval(SWEEP);
    loop {
        tick.tick().await;
        gateway.fleet().sweep();
    }
}

async fn bind(inherited: &mut Inherited, purpose: Purpose, address: SocketAddr) -> io::Result<TcpListener> {
    if let Some(socket) = inherited.take(purpose, address)? {
        return TcpListener::from_std(socket);
    }
    let key = match purpose {
        Purpose::Data => "listen",
        Purpose::Admin => "admin_listen",
    };
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address} (`{key}`): {error}")))
}

/// What the process file says was checked; a socket that somebody else has bound may be elsewhere.
fn refuse_open(process: &Process, address: SocketAddr, admin_address: SocketAddr) -> io::Result<()> {
    let refused = |what| Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    if !address.ip().is_loopback() && !process.auth.required && !process.auth.open {
        return refused(format!(
            "clients reach {address} from other machines and nobody is asked who they are: add `[auth]`, or write `auth = \"none\"`"
        ));
    }
    if !admin_address.ip().is_loopback() && process.admin.token.is_none() {
        return refused(format!("operators reach {admin_address} from other machines and there is no `admin.token`"));
    }
    Ok(())
}
