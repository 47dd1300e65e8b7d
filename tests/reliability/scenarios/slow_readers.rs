//! Clients that ask for a great deal and read none of it, over events so small that HTTP/2's own bound on small frames is
//! soon met: they are cut, the memory they take is bounded, and neighbours on the same connection to a machine see nothing.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use super::Scale;
use crate::client::Load;
use crate::frames::{self, PREFACE, frame, kind};
use crate::machine::{Machine, Manners, Wish};
use crate::report::{Promise, Report};
use crate::stand::{Stand, pool};

/// More than sockets hold between a machine and a client, bytes.
const TOO_MUCH: u64 = 12 << 20;
/// What one slow reader may take, KiB: its buffer, and what a stream costs.
const EACH_KIB: f64 = 256.0 + 64.0 + 48.0;
/// What the load beside it and the allocator may take, KiB.
const OTHERS_KIB: f64 = 24.0 * 1024.0;
/// Longer than this no slow reader is borne with here.
const LIMITS: &str = "[timeouts]\nclient_write_s = 1\nclient_behind_s = 1\n";

/// Slow readers of three lengths of events, beside a load that reads.
pub(super) async fn run(scale: Scale) -> Report {
    let mut report = Report::default();
    let each = scale.of(1, 8);
    for http in ["h2", "h1"] {
        let machine = Machine::start(Manners::default()).await;
        let stand = Stand::start(LIMITS, &[pool("gpu", http, [machine.url()])]).await;
        let load = Load::start(stand.address(), 8, Wish::stream(50, 10), Duration::ZERO);
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (before, broken) = (stand.resident_kib(), machine.seen.broken.load(Relaxed));
        let watch = stand.watch_memory(Duration::from_millis(50));
        let mut slow = Vec::new();
        for bytes in [40, 120, 300] {
            let wish = Wish { bytes, ..Wish::stream(TOO_MUCH / bytes as u64, 0) };
            for _ in 0..each {
                slow.push(deaf_http1(stand.address(), wish).await);
                slow.push(deaf_http2(stand.address(), wish).await);
            }
        }
        let cut =
            until_cut(&machine, slow.len() as u64, scale.of(Duration::from_secs(15), Duration::from_secs(60))).await;
        let samples = watch.stop().await;
        let most = samples.iter().map(|(_, kib)| *kib).fold(0.0, f64::max);
        report.book(load.stop().await);
        let allowed = slow.len() as f64 * EACH_KIB + OTHERS_KIB;
        report.figure(&format!("slow readers, {http}"), slow.len() as f64, Promise::None);
        report.none(&format!("of them not cut, {http}"), slow.len() as u64 - cut.0);
        report.figure(&format!("seconds until the last was cut, {http}"), cut.1.as_secs_f64(), Promise::None);
        report.figure(&format!("memory grown, KiB, {http}"), most - before, Promise::AtMost(allowed));
        if http == "h2" {
            report.none("connections to machines broken, h2", machine.seen.broken.load(Relaxed) - broken);
        }
    }
    report
}

/// How many were cut, and when the last of them was.
async fn until_cut(machine: &Machine, count: u64, limit: Duration) -> (u64, Duration) {
    let began = Instant::now();
    loop {
        let cut = machine.seen.let_go.load(Relaxed);
        if cut >= count || began.elapsed() > limit {
            return (cut.min(count), began.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A socket with next to no room of its own.
async fn narrow(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    let _ = socket.set_recv_buffer_size(4096);
    socket.connect(address).await.expect("it listens")
}

async fn deaf_http1(address: SocketAddr, wish: Wish) -> TcpStream {
    let body = wish.body().to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = narrow(address).await;
    stream.write_all((head + &body).as_bytes()).await.expect("it reads");
    stream
}

/// Grants the 64 KiB that are granted to everybody, and no more.
async fn deaf_http2(address: SocketAddr, wish: Wish) -> TcpStream {
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(kind::SETTINGS, 0, 0, &[]));
    bytes.extend(frames::chat(1, &wish.body().to_string()));
    let mut stream = narrow(address).await;
    stream.write_all(&bytes).await.expect("it reads");
    stream
}
