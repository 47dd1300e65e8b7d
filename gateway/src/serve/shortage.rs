//! Accepting while file descriptors run out: those who are connected live on, nothing new is accepted for a moment, and
//! where the shortage lasts, those who wait are told by closing them, with one descriptor kept back for that.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;

use crate::telemetry::metrics::Metrics;

/// After an accept fails nothing is accepted for this long.
const PAUSE: Duration = Duration::from_millis(100);
/// After so many failures in a row, a second of them, those who wait are told.
const LASTING: u32 = 10;
/// So many at a time.
const TOLD_AT_ONCE: usize = 128;
/// The log hears of it this often.
const BETWEEN_LINES: Duration = Duration::from_secs(10);
/// Descriptors beside those of connections: files, listeners, the runtime's own.
const OWN_DESCRIPTORS: u64 = 64;

/// Follows failures to accept.
#[derive(Debug)]
pub struct Shortage {
    reserve: Option<File>,
    in_a_row: u32,
    since_line: u64,
    last_line: Option<Instant>,
}

impl Default for Shortage {
    /// With a descriptor kept back.
    fn default() -> Shortage {
        Shortage { reserve: reserve(), in_a_row: 0, since_line: 0, last_line: None }
    }
}

impl Shortage {
    /// A connection was accepted.
    pub fn is_over(&mut self) {
        self.in_a_row = 0;
    }

    /// A connection could not be accepted: waits a little, and tells those who wait where that does not help.
    pub async fn wait(&mut self, error: &io::Error, socket: &TcpListener, metrics: &Metrics) {
        let descriptors = matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE));
        metrics.connections().not_accepted(if descriptors { "file-descriptors" } else { "other" });
        if is_of_the_client(error) {
            return;
        }
        self.log(error, descriptors);
        self.in_a_row = self.in_a_row.saturating_add(1);
        if descriptors && self.in_a_row >= LASTING {
            self.tell(socket, metrics).await;
        }
        tokio::time::sleep(PAUSE).await;
    }

    async fn tell(&mut self, socket: &TcpListener, metrics: &Metrics) {
        self.reserve = None;
        for _ in 0..TOLD_AT_ONCE {
            match tokio::time::timeout(Duration::ZERO, socket.accept()).await {
                Ok(Ok(waiting)) => {
                    drop(waiting);
                    metrics.connections().cut("file-descriptors");
                }
                _ => break,
            }
        }
        self.reserve = reserve();
    }

    /// The first of a shortage, and then now and again.
    fn log(&mut self, error: &io::Error, descriptors: bool) {
        self.since_line += 1;
        if self.last_line.is_some_and(|last| last.elapsed() < BETWEEN_LINES) {
            return;
        }
        let (times, help) =
            (self.since_line, if descriptors { "; raise the limit of open files (ulimit -n)" } else { "" });
        tracing::warn!("cannot accept connections ({times} times since the last such line): {error}{help}");
        self.last_line = Some(Instant::now());
        self.since_line = 0;
    }
}

/// The client left before it was accepted, or its network failed: no reason to make others wait.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable,
    };
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | HostUnreachable | Interrupted | NetworkDown | NetworkUnreachable
    )
}

fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Takes as many descriptors as the system lets this process have, and says where they will not do.
pub fn raise_limit(connections: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::debug!("the limit of open files stays at {current:?}: {error}");
    }
    // A request takes a client's connection and one to a machine.
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_mul(2).saturating_add(OWN_DESCRIPTORS);
    if let Some(current) = getrlimit(Resource::Nofile).current.filter(|current| *current < wanted) {
        tracing::warn!(
            "{current} open files are allowed, and {connections} connections (`limits.connections`) with theirs to machines \
             would need {wanted}; raise the limit (ulimit -n, LimitNOFILE) or lower the key"
        );
    }
}
