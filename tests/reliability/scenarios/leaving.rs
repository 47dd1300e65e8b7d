//! Clients that leave in every phase of a request: the machine is let go within a second, or never asked.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use pointsman_tests::client::{Ask, Next};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::Scale;
use crate::client;
use crate::ledger::{Ended, Ledger};
use crate::machine::{Machine, Manners, Wish};
use crate::report::{Promise, Report};
use crate::stand::{Stand, pool};

/// Who has left is forgotten within this.
const LIMIT: Duration = Duration::from_secs(1);

/// Where in its request a client leaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Head,
    Body,
    Queued,
    FirstByte,
    Stream,
    Whole,
}

const PHASES: [Phase; 6] = [Phase::Head, Phase::Body, Phase::Queued, Phase::FirstByte, Phase::Stream, Phase::Whole];

/// Every phase, over each pair of versions.
pub(super) async fn run(scale: Scale) -> Report {
    let rounds = scale.of(2, 50);
    let mut report = Report::default();
    let mut ledger = Ledger::default();
    for phase in PHASES {
        let mut slowest = Duration::ZERO;
        for (client_http2, machine_http) in [(false, "h1"), (true, "h1"), (false, "h2"), (true, "h2")] {
            let machine = Machine::start(Manners::default()).await;
            let narrow = "window = { requests = 1, prefill_tokens = 100000000 }";
            let pools = match phase {
                Phase::Queued => {
                    let pool = pointsman_tests::files::PoolText::new("gpu", [machine.url()]);
                    pool.key(&format!("http = \"{machine_http}\"")).key(narrow)
                }
                _ => pool("gpu", machine_http, [machine.url()]),
            };
            let stand = Stand::start("", &[pools]).await;
            for _ in 0..rounds {
                let (ended, took) = leave(&stand, &machine, phase, client_http2).await;
                slowest = slowest.max(took);
                ledger.book(&ended);
            }
        }
        let what = format!("slowest to be forgotten, {phase:?}, ms");
        report.figure(&what, slowest.as_secs_f64() * 1e3, Promise::AtMost(LIMIT.as_secs_f64() * 1e3));
    }
    report.book(ledger);
    report
}

/// Leaves once. `Ok` where the gateway and the machine forgot the request in time.
async fn leave(stand: &Stand, machine: &Machine, phase: Phase, http2: bool) -> (Ended, Duration) {
    let asked = machine.seen.asked.load(Relaxed);
    let left = match phase {
        Phase::Head | Phase::Body => {
            let mut stream = TcpStream::connect(stand.address()).await.expect("it listens");
            stream.write_all(part(phase)).await.expect("it reads");
            tokio::time::sleep(Duration::from_millis(20)).await;
            Instant::now()
        }
        Phase::Queued => {
            let wish = Wish { first: Duration::from_secs(60), ..Wish::stream(9, 1) };
            let first = asking(stand.address(), wish, http2);
            until(|| machine.seen.asked.load(Relaxed) > asked).await;
            let second = asking(stand.address(), wish, http2);
            until_metric(stand, "pointsman_queue_held", 1.0).await;
            second.abort();
            let left = Instant::now();
            until_metric(stand, "pointsman_queue_held", 0.0).await;
            first.abort();
            left
        }
        Phase::FirstByte => {
            let wish = Wish { first: Duration::from_secs(60), ..Wish::stream(9, 1) };
            let waiting = asking(stand.address(), wish, http2);
            until(|| machine.seen.asked.load(Relaxed) > asked).await;
            waiting.abort();
            Instant::now()
        }
        Phase::Stream | Phase::Whole => {
            let wish = Wish { stream: phase == Phase::Stream, ..Wish::stream(6000, 10) };
            let Ok(connection) = client::connect(stand.address(), http2).await else {
                return (Ended::Wrong("no connection".to_owned()), Duration::ZERO);
            };
            let Ok(mut stream) = connection.try_open(Ask::chat(&wish.body())).await else {
                return (Ended::Wrong("no answer".to_owned()), Duration::ZERO);
            };
            if wish.stream && !matches!(stream.next().await, Next::Event(_)) {
                return (Ended::Wrong("no first event".to_owned()), Duration::ZERO);
            }
            drop(connection);
            drop(stream);
            Instant::now()
        }
    };
    let machine_knows = until(|| machine.seen.running.load(Relaxed) == 0).await;
    let took = left.elapsed();
    let gateway_knows = until_metric(stand, "pointsman_endpoint_in_flight", 0.0).await;
    let expected = asked + u64::from(!matches!(phase, Phase::Head | Phase::Body));
    if machine.seen.asked.load(Relaxed) != expected {
        return (Ended::Wrong(format!("{phase:?}: the machine was asked for whom nobody waited")), took);
    }
    match machine_knows && gateway_knows && took <= LIMIT {
        true => (Ended::Ok, took),
        false => (Ended::Wrong(format!("{phase:?}: worked on")), took),
    }
}

fn part(phase: Phase) -> &'static [u8] {
    match phase {
        Phase::Head => b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n",
        _ => b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{\"mo",
    }
}

fn asking(address: SocketAddr, wish: Wish, http2: bool) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        if let Ok(connection) = client::connect(address, http2).await {
            let _ = connection.try_open(Ask::chat(&wish.body())).await;
        }
    })
}

/// Whether it came to be within a few seconds.
async fn until(condition: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() > 5 * LIMIT {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    true
}

async fn until_metric(stand: &Stand, name: &str, value: f64) -> bool {
    let began = Instant::now();
    while stand.metric(name).await != value {
        if began.elapsed() > 5 * LIMIT {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    true
}
