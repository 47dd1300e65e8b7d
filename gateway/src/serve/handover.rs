//! Hands the listening sockets to a successor: a process that was started with `--inherit` asks for them through a socket
//! in the state folder, says when it serves, and only then does this one stop accepting. A successor that fails before
//! leaves everything as it was.

use std::fs::Permissions;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::{UnixListener, UnixStream};

use super::inherited::{GREETING, READY};
use crate::accounting::Accounting;
use crate::decision_log::writer::LogFiles;
use crate::gateway::Gateway;

/// The socket in the state folder.
const SOCKET: &str = "handover.sock";
/// Only whoever runs the gateway may take it over.
const MODE: u32 = 0o600;
/// A successor that does not serve by then never will.
const START_TIME: Duration = Duration::from_secs(60);
/// After accepting failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Where a successor asks.
pub fn path(state: &Path) -> PathBuf {
    state.join(SOCKET)
}

/// What a successor may ask for.
#[derive(Debug)]
pub(super) struct Offer {
    listener: UnixListener,
    sockets: [OwnedFd; 2],
}

impl Offer {
    /// Listens under the path, in the place of whoever did before.
    pub(super) fn new(state: &Path, sockets: [OwnedFd; 2]) -> io::Result<Offer> {
        std::fs::create_dir_all(state)?;
        let beside = state.join(format!(".{SOCKET}.{}", std::process::id()));
        let _ = std::fs::remove_file(&beside);
        let listener = UnixListener::bind(&beside)?;
        std::fs::set_permissions(&beside, Permissions::from_mode(MODE))?;
        std::fs::rename(&beside, path(state))?;
        Ok(Offer { listener, sockets })
    }

    /// Waits until a successor serves; its process id.
    pub(super) async fn taken(&self, gateway: &Arc<Gateway>) -> i32 {
        loop {
            let successor = match self.listener.accept().await {
                Ok((successor, _)) => successor,
                Err(error) => {
                    tracing::warn!("cannot hear a successor: {error}");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let recording = recording(gateway);
            match tokio::time::timeout(START_TIME, self.give(gateway, successor)).await {
                Ok(Ok(pid)) => return pid,
                Ok(Err(error)) => tracing::warn!("a successor did not take over, this process goes on: {error}"),
                Err(_) => tracing::warn!("a successor did not serve within {START_TIME:?}, this process goes on"),
            }
            gateway.history().take_back();
            gateway.accounting().take_back();
            if let Some(files) = recording
                && let Err(error) = gateway.telemetry().recorder().start(files).await
            {
                tracing::error!("decisions are recorded no more: {error}");
            }
        }
    }

    async fn give(&self, gateway: &Arc<Gateway>, mut successor: UnixStream) -> io::Result<i32> {
        let who = rustix::net::sockopt::socket_peercred(&successor)?;
        if who.uid != rustix::process::geteuid() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it runs as another user"));
        }
        let mut said = [0_u8; GREETING.len()];
        successor.read_exact(&mut said).await?;
        if said != GREETING {
            return Err(io::Error::other("it is of another version"));
        }
        // The successor goes on from what is on disk.
        gateway.telemetry().recorder().stop().await;
        super::save(gateway, Accounting::hand_on).await;
        gateway.history().let_go();
        let [data, admin] = &self.sockets;
        let sockets = [data.as_fd(), admin.as_fd()];
        successor
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
                let mut rights = SendAncillaryBuffer::new(&mut space);
                rights.push(SendAncillaryMessage::ScmRights(&sockets));
                Ok(sendmsg(&successor, &[IoSlice::new(GREETING)], &mut rights, SendFlags::NOSIGNAL)?)
            })
            .await?;
        let mut said = [0_u8; READY.len()];
        successor.read_exact(&mut said).await?;
        Ok(who.pid.as_raw_nonzero().get())
    }
}

/// Where decisions are recorded now.
fn recording(gateway: &Gateway) -> Option<LogFiles> {
    let now = gateway.telemetry().recorder().recording();
    let file = now.file.filter(|_| now.on)?;
    Some(LogFiles { file, max_bytes: now.max_bytes, keep: now.keep })
}
