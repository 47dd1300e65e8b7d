//! Machines that close, reset, or swallow: none of it is seen by a client that has no byte yet.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::Scale;
use crate::client::{self, Load};
use crate::ledger::{Ended, Ledger};
use crate::machine::{Machine, Manners, Wish};
use crate::report::{Promise, Report};
use crate::stand::{Stand, pool};

/// Requests come at about the moment in which their connection is closed.
pub(super) async fn idle_close(scale: Scale) -> Report {
    let mut report = Report::default();
    let long = scale.of(Duration::from_secs(2), Duration::from_secs(60));
    for http in ["h1", "h2"] {
        let limit = Duration::from_millis(20);
        let machine = Machine::start(Manners { idle_close: Some(limit), ..Manners::default() }).await;
        let stand = Stand::start("", &[pool("gpu", http, [machine.url()])]).await;
        let whole = Wish { stream: false, ..Wish::stream(1, 0) };
        // Over HTTP/2 all clients share one connection, which is idle only where there is one client.
        let (clients, pauses_ms) = if http == "h2" { (1, 23..=23) } else { (2, 18..=26) };
        let loads: Vec<Load> = pauses_ms
            .step_by(2)
            .map(|pause_ms| Load::start(stand.address(), clients, whole, Duration::from_millis(pause_ms)))
            .collect();
        tokio::time::sleep(long).await;
        let mut ledger = Ledger::default();
        for load in loads {
            ledger.add(load.stop().await);
        }
        report.none(&format!("errors that a client saw, {http}"), ledger.refused + ledger.failed());
        let connections = machine.seen.connections.load(std::sync::atomic::Ordering::Relaxed);
        report.figure(&format!("connections that were closed, {http}"), connections as f64, Promise::AtLeast(10.0));
        report.book(ledger);
    }
    report
}

/// What a machine does with a connection instead of serving.
#[derive(Clone, Copy, Debug)]
enum Bad {
    /// Takes the connection and says nothing.
    Swallows,
    /// Resets it once it has read the request.
    Resets,
}

async fn bad(bad: Bad) -> (SocketAddr, tokio::task::AbortHandle) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        let mut kept = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            kept.spawn(async move {
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await;
                match bad {
                    Bad::Resets => drop(rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))),
                    Bad::Swallows => std::future::pending().await,
                }
            });
        }
    });
    (address, task.abort_handle())
}

/// An address at which connections are neither taken nor refused; the connections fill its queue.
async fn full() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let listener = socket.listen(1).expect("it can listen");
    let address = listener.local_addr().expect("an address");
    let mut fill = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        fill.push(stream);
    }
    (address, listener, fill)
}

/// Each kind of bad machine beside a good one.
pub(super) async fn blackholes(scale: Scale) -> Report {
    let mut report = Report::default();
    let (swallows, _swallowing) = bad(Bad::Swallows).await;
    let (resets, _resetting) = bad(Bad::Resets).await;
    let (takes_none, _listener, _fill) = full().await;
    for (what, address) in [("takes no connection", takes_none), ("never answers", swallows), ("resets", resets)] {
        let good = Machine::start(Manners::default()).await;
        let limits = "[timeouts]\nconnect_s = 0.3\nfirst_byte_s = 0.5\n";
        let urls = [format!("http://{address}"), good.url()];
        let stand = Stand::start(limits, &[pool("gpu", "h1", urls)]).await;
        let mut clients = JoinSet::new();
        let (rounds, at) = (scale.of(4, 100), stand.address());
        for _ in 0..10 {
            clients.spawn(async move {
                let mut ledger = Ledger::default();
                for _ in 0..rounds {
                    let ended: Ended = client::once(at, Wish::stream(10, 10)).await;
                    ledger.book(&ended);
                }
                ledger
            });
        }
        let ledger = client::sum(clients).await;
        report.none(&format!("errors that a client saw, {what}"), ledger.refused + ledger.failed());
        report.figure(
            &format!("second attempts, {what}"),
            stand.metric("pointsman_retries_total").await,
            Promise::None,
        );
        report.book(ledger);
    }
    report
}
