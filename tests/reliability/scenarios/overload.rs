//! Five times the work that there is room for, most of it by nobody who waits: those who wait get nearly all of the room,
//! within their promise.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pointsman_tests::client::Ask;
use pointsman_tests::files::{PoolText, portfolio};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Scale;
use crate::client;
use crate::ledger::{Ended, Ledger};
use crate::machine::{Machine, Manners, Wish};
use crate::report::{Promise, Report};
use crate::stand::Stand;

/// Requests that the machine works on at once.
const SLOTS: usize = 8;
/// How long each takes.
const WORK: Duration = Duration::from_millis(100);
/// The promise to those who wait: the first event within this.
const PROMISE: Duration = Duration::from_secs(1);
/// What batches are promised is soon lost, so that they are refused rather than held to the end of the run.
const POLICY: &str = "name = \"overload\"\n[class.interactive]\nttft_ms = 1000\n[class.batch]\ndeadline_s = 3\nsheddable = true\n\
    [[classify]]\nwhen = 'true'\nclass = \"interactive\"\n[[route]]\nname = \"all\"\nobjective = \"cheapest\"\n";
/// Before figures are taken: the gateway learns what the machine can do.
const WARM: Duration = Duration::from_secs(3);

/// What interactive clients offer, of the capacity: what they cannot catch up with they would be late for to the end.
const INTERACTIVE: f64 = 0.95;

/// Offers nearly the whole capacity by interactive clients, and more than four times as much by batches.
pub(super) async fn run(scale: Scale) -> Report {
    let long = scale.of(Duration::from_secs(5), Duration::from_secs(60));
    let slots = Manners { slots: Some(Arc::new(Semaphore::new(SLOTS))), ..Manners::default() };
    let machine = Machine::start(slots).await;
    let pool = PoolText::new("gpu", [machine.url()]).key(&format!("limits = {{ slots = {SLOTS} }}"));
    let stand = Stand::with("", &portfolio(&[pool]), POLICY, &[]).await;
    let capacity = SLOTS as f64 / WORK.as_secs_f64();
    let began = Instant::now();
    let interactive = tokio::spawn(offer(stand.address(), "interactive", INTERACTIVE * capacity, began, WARM + long));
    let batch = tokio::spawn(offer(stand.address(), "batch", (5.0 - INTERACTIVE) * capacity, began, WARM + long));
    let (interactive, batch) = (interactive.await.expect("it ends"), batch.await.expect("it ends"));
    let good = interactive
        .iter()
        .filter(|(at, took, ended)| *at >= WARM && *at < WARM + long && *took <= PROMISE && *ended == Ended::Ok);
    let goodput = good.count() as f64 / long.as_secs_f64();
    let mut report = Report::default();
    let mut ledger = Ledger::default();
    interactive.iter().chain(&batch).for_each(|(_, _, ended)| ledger.book(ended));
    let served = |answers: &[(Duration, Duration, Ended)]| {
        answers.iter().filter(|(_, _, ended)| *ended == Ended::Ok).count() as f64
    };
    report.figure("offered, multiples of capacity", 5.0, Promise::None);
    report.figure("interactive goodput, % of capacity", goodput / capacity * 100.0, Promise::AtLeast(90.0));
    report.figure("interactive served, %", served(&interactive) / interactive.len() as f64 * 100.0, Promise::None);
    report.figure("batch served, %", served(&batch) / batch.len() as f64 * 100.0, Promise::None);
    report.figure("memory at most, MiB", stand.most_resident_kib() / 1024.0, Promise::AtMost(128.0));
    report.book(ledger);
    report
}

/// Sends so many requests a second, whatever becomes of those before; tells of each when it was sent, how long it took,
/// and how it ended.
async fn offer(
    address: SocketAddr,
    class: &'static str,
    rate: f64,
    began: Instant,
    long: Duration,
) -> Vec<(Duration, Duration, Ended)> {
    let mut sent = JoinSet::new();
    let count = (rate * long.as_secs_f64()) as u64;
    for number in 0..count {
        let at = Duration::from_secs_f64(number as f64 / rate);
        tokio::time::sleep_until(began + at).await;
        sent.spawn(async move {
            let sent = Instant::now();
            let wish = Wish { first: WORK, ..Wish::stream(1, 0) };
            let ask = Ask::chat(&wish.body()).header("x-pointsman-class", class);
            let ended = match client::connect(address, false).await {
                Ok(connection) => client::on(&connection, wish, ask).await,
                Err(wrong) => wrong,
            };
            (at, sent.elapsed(), ended)
        });
    }
    sent.join_all().await
}
