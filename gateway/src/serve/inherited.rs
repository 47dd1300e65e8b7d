//! Listening sockets that somebody else has bound: systemd, or the process before this one. Connections that wait in
//! them are accepted by whoever comes next; none is refused or reset by a restart.

use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use listenfd::ListenFd;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// What the process before says with its sockets.
pub(super) const GREETING: &[u8] = b"pointsman-sockets-1\n";
/// What this one says once it serves.
pub(super) const READY: &[u8] = b"ready\n";
/// How long the process before may take to save what it has learned and to answer.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Clients.
    Data,
    /// Operators.
    Admin,
}

/// Sockets that were bound by somebody else.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(Purpose, TcpListener)>,
    before: Option<UnixStream>,
}

impl Inherited {
    /// From systemd (`LISTEN_FDS`). A socket whose name has `admin` in it is for operators, the first other one for
    /// clients; two without such names are for clients and operators in this order. Must run before there are threads.
    pub fn from_environment() -> io::Result<Inherited> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names: Vec<&str> = names.split(':').collect();
        let named = names.iter().any(|name| name.contains("admin"));
        let mut given = ListenFd::from_env();
        let mut sockets: Vec<(Purpose, TcpListener)> = Vec::new();
        for index in 0..given.len() {
            let Some(socket) = given.take_tcp_listener(index)? else { continue };
            let admin = if named { names.get(index).is_some_and(|name| name.contains("admin")) } else { index == 1 };
            let purpose = if admin { Purpose::Admin } else { Purpose::Data };
            if sockets.iter().any(|(known, _)| *known == purpose) {
                let message = format!("systemd hands over two sockets for {purpose:?}; one each is used");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            socket.set_nonblocking(true)?;
            sockets.push((purpose, socket));
        }
        Ok(Inherited { sockets, before: None })
    }

    /// From the process that serves now, by the socket in its state folder. Where nobody serves there is nothing to
    /// inherit, and that is no error.
    pub fn from_process_before(path: &Path) -> io::Result<Inherited> {
        let mut stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                tracing::info!("nobody serves behind `{}`: nothing is inherited", path.display());
                return Ok(Inherited::default());
            }
            Err(error) => return Err(error),
        };
        stream.set_read_timeout(Some(ANSWER_TIME))?;
        stream.write_all(GREETING)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let mut said = [0_u8; GREETING.len()];
        let received = recvmsg(&stream, &mut [IoSliceMut::new(&mut said)], &mut rights, RecvFlags::CMSG_CLOEXEC)?;
        let mut sockets = Vec::new();
        for message in rights.drain() {
            if let RecvAncillaryMessage::ScmRights(given) = message {
                sockets.extend([Purpose::Data, Purpose::Admin].into_iter().zip(given.map(TcpListener::from)));
            }
        }
        if received.bytes < said.len() {
            stream.read_exact(said.get_mut(received.bytes..).unwrap_or_default())?;
        }
        if said != GREETING || sockets.len() != 2 {
            return Err(io::Error::other(format!("`{}` gives no sockets: it is of another version", path.display())));
        }
        Ok(Inherited { sockets, before: Some(stream) })
    }

    /// The socket for a purpose. One that a process before had under another address is let go, so that a new address of
    /// the process file takes effect; systemd's own are what its units say.
    pub(super) fn take(&mut self, purpose: Purpose, wanted: SocketAddr) -> io::Result<Option<TcpListener>> {
        let Some(index) = self.sockets.iter().position(|(known, _)| *known == purpose) else { return Ok(None) };
        let (_, socket) = self.sockets.swap_remove(index);
        let address = socket.local_addr()?;
        let same = address == wanted || (wanted.port() == 0 && address.ip() == wanted.ip());
        if self.before.is_some() && !same {
            tracing::info!("the process before listened on {address}, this one shall on {wanted}: bound anew");
            return Ok(None);
        }
        Ok(Some(socket))
    }

    /// Tells the process before that this one serves; it finishes what it has and ends.
    pub(super) fn serve_now(&mut self) -> io::Result<()> {
        let Some(mut before) = self.before.take() else { return Ok(()) };
        before.write_all(READY)
    }
}
