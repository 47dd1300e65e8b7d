//! Very many streams at once: HTTP/1 clients onto HTTP/2 machines, every event counted.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Scale;
use crate::client;
use crate::ledger::Ledger;
use crate::machine::{Machine, Wish};
use crate::report::{Promise, Report};
use crate::stand::{Stand, pool};

/// Machines behind the gateway.
const MACHINES: usize = 8;
/// A stream that is open may cost this much memory, KiB.
const MOST_KIB: f64 = 48.0;

/// Opens streams over a while, keeps all of them open at once, and reads each to its end.
pub(super) async fn run(scale: Scale) -> Report {
    let streams = scale.of(500, 10_000);
    let ramp = scale.of(Duration::from_secs(1), Duration::from_secs(40));
    let wish = scale.of(Wish::stream(45, 200), Wish::stream(600, 1000));
    let machines = Machine::several(MACHINES).await;
    let pools = [pool("gpu", "h2", machines.iter().map(Machine::url))];
    let stand = Stand::start(&super::limits(streams + 1000), &pools).await;
    for _ in 0..20 {
        client::once(stand.address(), Wish::stream(3, 1)).await; // connections to machines, learned state
    }
    let before = stand.resident_kib();
    let (began, address) = (Instant::now(), stand.address());
    let mut clients = JoinSet::new();
    for place in 0..streams {
        let starts = began + ramp.mul_f64(place as f64 / streams as f64);
        clients.spawn(async move {
            tokio::time::sleep_until(starts).await;
            let mut ledger = Ledger::default();
            ledger.book(&client::once(address, wish).await);
            ledger
        });
    }
    tokio::time::sleep_until(began + ramp + Duration::from_secs(1)).await;
    let (mut open, mut most) = (0, 0.0_f64);
    while !clients.is_empty() {
        let running: i64 =
            machines.iter().map(|machine| machine.seen.running.load(std::sync::atomic::Ordering::Relaxed)).sum();
        (open, most) = (open.max(running), most.max(stand.resident_kib()));
        if running < open {
            break; // the first of them have ended
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut report = Report::default();
    report.book(client::sum(clients).await);
    report.figure("streams open at once", open as f64, Promise::AtLeast(streams as f64));
    report.figure("seconds from first to last", began.elapsed().as_secs_f64(), Promise::None);
    report.figure("events checked, thousands", (streams as u64 * wish.events) as f64 / 1e3, Promise::None);
    report.figure("KiB a stream", (most - before) / streams as f64, Promise::AtMost(MOST_KIB));
    report.figure("memory before, MiB", before / 1024.0, Promise::None);
    report.figure("memory at most, MiB", stand.most_resident_kib() / 1024.0, Promise::None);
    report
}
