//! Machines that are killed with SIGKILL under load and come back: no client sees an error before its first byte, and
//! each stream that was cut is told so within a second.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::Scale;
use crate::client;
use crate::ledger::{Ended, Ledger};
use crate::machine::Wish;
use crate::report::{Promise, Report};
use crate::stand::{Stand, pool};

/// Clients, each with one stream after the other.
const CLIENTS: usize = 40;

/// A machine that is a process.
struct Killable {
    child: Child,
    address: SocketAddr,
}

impl Killable {
    fn start(listen: &str) -> Killable {
        let this = std::env::current_exe().expect("the path of this program");
        let mut child =
            Command::new(this).args(["--machine", listen]).stdout(Stdio::piped()).spawn().expect("it can be started");
        let mut line = String::new();
        let printed = child.stdout.take().expect("its output");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(printed), &mut line).expect("a line");
        let address = line.trim().trim_start_matches("numbered on ").parse().expect("an address");
        Killable { child, address }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Kills one machine after the other, each on its port again soon after.
pub(super) async fn run(scale: Scale) -> Report {
    let mut report = Report::default();
    let mut slowest = Duration::ZERO;
    let mut told = 0;
    for http in ["h1", "h2"] {
        let kills = scale.of(2, 15);
        let mut machines: Vec<Killable> = (0..3).map(|_| Killable::start("127.0.0.1:0")).collect();
        let urls: Vec<String> = machines.iter().map(|machine| format!("http://{}", machine.address)).collect();
        let stand = Stand::start("", &[pool("gpu", http, urls)]).await;
        let (stop, last_kill_us) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let began = Instant::now();
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (stop, last_kill_us) = (Arc::clone(&stop), Arc::clone(&last_kill_us));
            clients.spawn(client_of(stand.address(), began, stop, last_kill_us));
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
        for kill in 0..kills {
            let victim = &mut machines[kill % 3];
            last_kill_us.store(began.elapsed().as_micros() as u64, Relaxed);
            victim.kill();
            tokio::time::sleep(scale.of(Duration::from_millis(600), Duration::from_secs(2))).await;
            *victim = Killable::start(&victim.address.to_string());
            tokio::time::sleep(scale.of(Duration::from_millis(400), Duration::from_secs(4))).await;
        }
        stop.store(true, Relaxed);
        let ledger = client::sum(clients).await;
        slowest = slowest.max(ledger.slowest_told);
        told += ledger.told;
        report.none(&format!("refused before the first byte, {http}"), ledger.refused);
        report.book(ledger);
    }
    report.figure("streams that were cut and told so", told as f64, Promise::AtLeast(1.0));
    report.figure("slowest to be told, ms", slowest.as_secs_f64() * 1e3, Promise::AtMost(1000.0));
    report
}

async fn client_of(address: SocketAddr, began: Instant, stop: Arc<AtomicBool>, last_kill_us: Arc<AtomicU64>) -> Ledger {
    let mut ledger = Ledger::default();
    while !stop.load(Relaxed) {
        let ended = client::once(address, Wish::stream(40, 10)).await;
        if ended == Ended::Told {
            let after = began.elapsed().saturating_sub(Duration::from_micros(last_kill_us.load(Relaxed)));
            ledger.slowest_told = ledger.slowest_told.max(after);
        }
        ledger.book(&ended);
    }
    ledger
}
