//! A long time: a mixed load, and the slope of memory with the interval in which it lies.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::Scale;
use crate::client::Load;
use crate::machine::{Machine, Wish};
use crate::report::{Promise, Report};
use crate::slope;
use crate::stand::{Stand, pool};

/// Growth that can be told from none, KiB a minute: what the allocator keeps by and by. A request that leaked a hundred bytes
/// would show ten times as much.
const LEAST_TOLD_KIB: f64 = 64.0;

/// Little room for what is remembered of requests, so that it is full soon: a default gateway fills 50 MiB over 200,000 of
/// them, and that is no leak.
const ROOM: &str = "[telemetry]\nkept_rows = 1000\nkept_detail_bytes = 1048576\n";
/// Requests after which all of that is full.
const KEPT: u64 = 6_000;
/// However slow the host is, no longer than this is spent on it.
const FILLED: Duration = Duration::from_secs(25);

/// Streams and whole answers, HTTP/1 and 2, clients that stay and clients that leave.
pub(super) async fn run(scale: Scale) -> Report {
    let warm = scale.of(Duration::from_secs(1), Duration::from_secs(60));
    let long = scale.of(Duration::from_secs(6), Duration::from_secs(600));
    let machines = Machine::several(2).await;
    let pools = [pool("gpu", "h1", [machines[0].url()]), pool("more", "h2", [machines[1].url()])];
    let stand = Stand::start(ROOM, &pools).await;
    let whole = Wish { stream: false, ..Wish::stream(3, 1) };
    let streams = Load::start(stand.address(), 16, Wish::stream(20, 4), Duration::ZERO);
    let answers = Load::start(stand.address(), 16, whole, scale.of(Duration::ZERO, Duration::from_millis(10)));
    let leavers = leave_again_and_again(&stand);
    let began = Instant::now();
    // What is kept of the last requests has to be full before it can be told whether anything grows.
    let answered = || machines.iter().map(|machine| machine.seen.answered.load(Relaxed)).sum::<u64>();
    while began.elapsed() < warm || (answered() < KEPT && began.elapsed() < FILLED) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let watch = stand.watch_memory(Duration::from_millis(50));
    tokio::time::sleep(long).await;
    let samples = watch.stop().await;
    leavers.abort();
    let mut ledger = streams.stop().await;
    ledger.add(answers.stop().await);
    let mut report = Report::default();
    let answers = ledger.sent;
    report.book(ledger);
    let slope = slope::of(&samples).expect("enough samples");
    // Seconds are too few to tell a slope well: the quick run tells of half a kilobyte a request.
    let most = scale.of(16.0 * 1024.0, LEAST_TOLD_KIB);
    report.figure("slope of memory, KiB a minute", slope.rate * 60.0, Promise::None);
    report.figure("95 % interval from", slope.low * 60.0, Promise::AtMost(most));
    report.figure("95 % interval to", slope.high * 60.0, Promise::None);
    report.figure("requests a second", answers as f64 / began.elapsed().as_secs_f64(), Promise::None);
    report.figure("memory at most, MiB", stand.most_resident_kib() / 1024.0, Promise::None);
    report
}

fn leave_again_and_again(stand: &Stand) -> tokio::task::JoinHandle<()> {
    let address = stand.address();
    tokio::spawn(async move {
        loop {
            let leaving = crate::client::once(address, Wish::stream(1000, 50));
            let _ = tokio::time::timeout(Duration::from_millis(30), leaving).await;
        }
    })
}
