//! Files that change all the time: a thousand policies a minute, a fifth of them invalid, under load.

use std::time::Duration;

use pointsman_tests::client::{Ask, send};
use pointsman_tests::files::portfolio;
use rustix::process::Signal;
use tokio::time::Instant;

use super::Scale;
use crate::client::Load;
use crate::machine::{Machine, Wish};
use crate::report::{Promise, Report};
use crate::stand::{ANYTHING, Stand, pool};

/// From one change to the next: a thousand a minute.
const EVERY: Duration = Duration::from_millis(60);

fn policy(number: u64) -> String {
    let objective = ["cheapest", "fastest", "greenest", "cheapest-that-meets-slo"][(number % 4) as usize];
    let nonsense = if number.is_multiple_of(5) { "nonsense" } else { "" };
    format!("name = \"edit-{number}\"\n{ANYTHING}[[route]]\nname = \"all\"\nobjective = \"{objective}\"\n{nonsense}")
}

/// Writes a policy and says so by a signal, again and again.
pub(super) async fn run(scale: Scale) -> Report {
    let edits: u64 = scale.of(100, 3000);
    let machines = Machine::several(2).await;
    let pools = [pool("gpu", "h1", [machines[0].url()]), pool("wafer", "h2", [machines[1].url()]).hardware("cs3")];
    let stand = Stand::with("", &portfolio(&pools), &policy(1), &[]).await;
    let load = Load::start(stand.address(), 12, Wish::stream(10, 5), Duration::from_millis(5));
    let (reloads_before, began) = (stand.metric("pointsman_reloads_total").await, Instant::now());
    for number in 2..edits + 2 {
        stand.files.replace("policy.toml", &policy(number));
        stand.served.process.signal(Signal::HUP);
        tokio::time::sleep_until(began + EVERY * (number - 1) as u32).await;
    }
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    let last = edits + 6 - (edits + 6) % 5 + 1; // a valid one
    stand.files.replace("policy.toml", &policy(last));
    stand.served.process.signal(Signal::HUP);
    let last = format!("edit-{last}");
    let mut in_force = false;
    for _ in 0..100 {
        in_force = send(stand.served.admin, Ask::get("/api/v1/status")).await.text().contains(&last);
        if in_force {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut report = Report::default();
    report.book(load.stop().await);
    let reloads = stand.metric("pointsman_reloads_total").await - reloads_before;
    let refused = stand.metric("pointsman_reloads_total{result=\"refused\"}").await;
    report.figure("changes a minute", edits as f64 / minutes, Promise::AtLeast(950.0));
    report.figure("reloads", reloads, Promise::AtLeast(edits as f64 * 0.8));
    report.figure("reloads refused", refused, Promise::AtLeast(edits as f64 * 0.1));
    report.none("the last good policy is not in force", u64::from(!in_force));
    report.figure("memory at most, MiB", stand.most_resident_kib() / 1024.0, Promise::AtMost(256.0));
    report
}
