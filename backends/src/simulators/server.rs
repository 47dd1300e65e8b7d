//! A simulated machine behind a real port: HTTP/1.1 and HTTP/2, with or without TLS, in the OpenAI dialect.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::account::Account;
use super::engine::Engine;
use super::faults::Faults;
use super::machine::Machine;
pub use super::machine::{LastCancel, Stats};
use super::profile::Profile;
use super::routes::Desk;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait after an accept failed, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Requests at once on one HTTP/2 connection: more than any machine has slots and places in its queue.
const HTTP2_STREAMS: u32 = 4096;

/// What to simulate, and where.
#[derive(Clone, Debug)]
pub struct SimulatorConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The machine.
    pub profile: Profile,
    /// Models it serves; any other is a 404.
    pub models: Vec<String>,
    /// How many times as fast as real time the machine runs; 1 where it is not positive.
    pub speed: f64,
    /// Decides jitter, answers and whom faults strike.
    pub seed: u64,
    /// What it does wrong.
    pub faults: Faults,
    /// Whose limits it keeps beside those of its profile.
    pub account: Option<Account>,
    /// Serves TLS with this, offering what it offers.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl SimulatorConfig {
    /// A machine without faults and TLS, in real time, on a free port of this host.
    pub fn new(profile: Profile, models: Vec<String>) -> SimulatorConfig {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let faults = Faults::default();
        SimulatorConfig { listen, profile, models, speed: 1.0, seed: 0, faults, account: None, tls: None }
    }
}

/// Simulated machines behind real ports.
#[derive(Debug)]
pub struct Simulator;

impl Simulator {
    /// Listens and serves until stopped or dropped. Fails when it cannot listen.
    pub async fn start(config: SimulatorConfig) -> io::Result<RunningSimulator> {
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        let machine = Machine::new(Engine::new(config.profile, config.seed), config.speed, config.account);
        let desk = Arc::new(Desk {
            machine: machine.clone(),
            models: config.models,
            seed: config.seed,
            faults: Mutex::new((config.faults, Pcg64Mcg::seed_from_u64(config.seed))),
        });
        let tasks = Tasks { tracker: TaskTracker::new(), stop: CancellationToken::new() };
        tasks.execute(machine.drive());
        let tls = config.tls.map(TlsAcceptor::from);
        tasks.execute(accept(listener, tls, Arc::clone(&desk), tasks.clone()));
        tasks.tracker.close();
        let stop = tasks.stop.clone().drop_guard();
        Ok(RunningSimulator { address, desk, tracker: tasks.tracker, stop })
    }
}

/// A machine that serves. Dropped, it goes away with its connections.
#[derive(Debug)]
pub struct RunningSimulator {
    address: SocketAddr,
    desk: Arc<Desk>,
    tracker: TaskTracker,
    stop: DropGuard,
}

impl RunningSimulator {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its counters now.
    pub fn stats(&self) -> Stats {
        self.desk.stats()
    }

    /// Replaces what it does wrong, from the next request on.
    pub fn set_faults(&self, faults: Faults) {
        self.desk.faults.lock().0 = faults;
    }

    /// Goes away as a machine that loses power: connections break. Returns when all is gone.
    pub async fn stop(self) {
        drop(self.stop);
        self.tracker.wait().await;
    }
}

/// Owns every task of one simulator: all end when it stops.
#[derive(Clone, Debug)]
struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl<Work: Future<Output: Send> + Send + 'static> Executor<Work> for Tasks {
    fn execute(&self, work: Work) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            stop.run_until_cancelled(work).await;
        });
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, desk: Arc<Desk>, tasks: Tasks) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => tasks.execute(greet(socket, tls.clone(), Arc::clone(&desk), tasks.clone())),
            Err(error) => {
                tracing::warn!(%error, "a simulated machine cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn greet(socket: TcpStream, tls: Option<TlsAcceptor>, desk: Arc<Desk>, tasks: Tasks) {
    // Events are small and must leave at once.
    if socket.set_nodelay(true).is_err() {
        return;
    }
    match tls {
        None => serve(socket, desk, tasks).await,
        Some(acceptor) => {
            if let Ok(Ok(socket)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await {
                serve(socket, desk, tasks).await;
            }
        }
    }
}

async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, desk: Arc<Desk>, tasks: Tasks) {
    let mut builder = auto::Builder::new(tasks);
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(HTTP2_STREAMS);
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { desk.answer(request).await }
    });
    if let Err(error) = builder.serve_connection(TokioIo::new(socket), service).await {
        tracing::debug!(%error, "a connection to a simulated machine ended early");
    }
}

#[cfg(test)]
mod tests;
