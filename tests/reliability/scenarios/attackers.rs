//! Floods and those who are slow on purpose: others see nothing of them, and the memory they take is bounded.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Scale;
use crate::client::Load;
use crate::frames::{END_HEADERS, PREFACE, field, frame, head, kind};
use crate::machine::{Machine, Wish};
use crate::report::{Promise, Report};
use crate::stand::{Stand, pool};

/// What a flood may take, KiB.
const FLOOD_KIB: f64 = 64.0 * 1024.0;

/// What is sent again and again on one connection; it may depend on how often.
type Flood = fn(u32) -> Vec<u8>;

const FLOODS: [(&str, Flood); 7] = [
    ("PING", |_| frame(kind::PING, 0, 0, &[0; 8])),
    ("SETTINGS", |_| frame(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])),
    ("resets", |number| {
        let mut bytes = frame(kind::HEADERS, END_HEADERS, number * 2 + 1, &head(9));
        bytes.extend(frame(kind::RESET, 0, number * 2 + 1, &[0, 0, 0, 8]));
        bytes
    }),
    ("CONTINUATION", |number| match number {
        0 => frame(kind::HEADERS, 0, 1, &head(9)),
        _ => frame(kind::CONTINUATION, 0, 1, &field("x-more", &"x".repeat(100))),
    }),
    ("empty DATA", |number| match number {
        0 => frame(kind::HEADERS, END_HEADERS, 1, &head(9)),
        _ => frame(kind::DATA, 0, 1, &[]),
    }),
    ("WINDOW_UPDATE", |_| frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
    ("PRIORITY", |_| frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 3, 7])),
];

/// Each flood for a while, beside a load.
pub(super) async fn floods(scale: Scale) -> Report {
    let mut report = Report::default();
    let machines = Machine::several(2).await;
    let stand = Stand::start("", &[pool("gpu", "h2", machines.iter().map(Machine::url))]).await;
    let load = Load::start(stand.address(), 8, Wish::stream(20, 5), Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(300)).await;
    for (name, flood) in FLOODS {
        let before = stand.resident_kib();
        let watch = stand.watch_memory(Duration::from_millis(20));
        let long = scale.of(Duration::from_millis(600), Duration::from_secs(10));
        let mut attackers = JoinSet::new();
        for _ in 0..scale.of(1, 4) {
            attackers.spawn(attack(stand.address(), flood, long));
        }
        let sent = attackers.join_all().await;
        let most = watch.stop().await.iter().map(|(_, kib)| *kib).fold(before, f64::max);
        report.figure(&format!("{name}: memory grown, KiB"), most - before, Promise::AtMost(FLOOD_KIB));
        let frames: u64 = sent.iter().map(|(frames, _)| frames).sum();
        report.figure(&format!("{name}: frames taken, thousands"), frames as f64 / 1e3, Promise::None);
        let cut = sent.iter().filter(|(_, cut)| *cut).count();
        report.figure(&format!("{name}: attackers cut, %"), cut as f64 / sent.len() as f64 * 100.0, Promise::None);
    }
    let ledger = load.stop().await;
    report.none("others that were refused", ledger.refused);
    report.none("others that were cut", ledger.told);
    report.book(ledger);
    report
}

/// How many frames went out, and whether the other side had enough of it. What it answers is not read.
async fn attack(address: SocketAddr, flood: Flood, long: Duration) -> (u64, bool) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return (0, true) };
    let mut opening = PREFACE.to_vec();
    opening.extend(frame(kind::SETTINGS, 0, 0, &[]));
    let _ = stream.write_all(&opening).await;
    let (began, mut sent) = (Instant::now(), 0_u64);
    while began.elapsed() < long {
        let batch: Vec<u8> = (0..256).flat_map(|place| flood(sent as u32 + place)).collect();
        match tokio::time::timeout(long.saturating_sub(began.elapsed()), stream.write_all(&batch)).await {
            Ok(Ok(())) => sent += 256,
            Ok(Err(_)) => return (sent, true),
            Err(_) => break, // it reads no more of this
        }
    }
    (sent, false)
}

/// Limits that fit into a test.
const LIMITS: &str = "[timeouts]\nhead_s = 1\nbody_idle_s = 1\nclient_write_s = 1\n";

/// Heads and bodies that drip, beside a load; by hand also what slowhttptest makes of it.
pub(super) async fn slow(scale: Scale) -> Report {
    let mut report = Report::default();
    let machines = Machine::several(2).await;
    let more = format!("{}{LIMITS}", super::limits(4000));
    let stand = Stand::start(&more, &[pool("gpu", "h1", machines.iter().map(Machine::url))]).await;
    let load = Load::start(stand.address(), 8, Wish::stream(20, 5), Duration::ZERO);
    let attackers = scale.of(100, 1000);
    let before = stand.resident_kib();
    for (what, start, each, most_s) in [
        ("heads", "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nx: ", "x", 3.0),
        (
            "bodies that stop",
            "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{",
            "",
            3.0,
        ),
    ] {
        let mut all = JoinSet::new();
        for _ in 0..attackers {
            all.spawn(drip(stand.address(), start, each));
        }
        let longest = all.join_all().await.into_iter().max().unwrap_or_default();
        report.figure(&format!("{what}: longest until cut, s"), longest.as_secs_f64(), Promise::AtMost(most_s));
    }
    if !scale.quick {
        for (what, kind) in [("heads", "-H"), ("bodies", "-B"), ("reads", "-X")] {
            slowhttptest(&mut report, &stand, what, kind).await;
        }
    }
    let ledger = load.stop().await;
    report.none("others that were refused", ledger.refused);
    report.none("others that were cut", ledger.told);
    report.book(ledger);
    report.figure("memory grown, KiB", stand.most_resident_kib() - before, Promise::AtMost(FLOOD_KIB));
    report
}

/// How long the other side bears with a byte every 300 ms. A thousand that connect at once wait for each other; that counts
/// for nobody.
async fn drip(address: SocketAddr, start: &str, each: &str) -> Duration {
    let Ok(mut stream) = TcpStream::connect(address).await else { return Duration::ZERO };
    let began = Instant::now();
    let _ = stream.write_all(start.as_bytes()).await;
    let mut answer = [0; 1024];
    while began.elapsed() < Duration::from_secs(30) {
        match tokio::time::timeout(Duration::from_millis(300), stream.read(&mut answer)).await {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(_)) => {}
            Err(_) => {
                if stream.write_all(each.as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    }
    began.elapsed()
}

/// slowhttptest's own verdict: whether the service was available throughout.
async fn slowhttptest(report: &mut Report, stand: &Stand, what: &str, kind: &'static str) {
    let url = format!("http://{}/v1/models", stand.address());
    let run = tokio::task::spawn_blocking(move || {
        let arguments = [kind, "-c", "1000", "-i", "1", "-r", "500", "-l", "20", "-p", "3", "-u", &url];
        Command::new("slowhttptest").args(arguments).output()
    });
    match run.await.expect("it ends") {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let unavailable = said.matches("service available:").count() > 0
                && said
                    .lines()
                    .rfind(|line| line.contains("service available:"))
                    .is_some_and(|line| line.contains("NO"));
            report.none(&format!("slowhttptest, {what}: not available in the end"), u64::from(unavailable));
        }
        Err(error) => report.figure(&format!("slowhttptest is not installed ({error})"), 0.0, Promise::None),
    }
}
