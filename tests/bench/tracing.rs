//! What keeping and sending what passes takes of a core: a gateway that keeps rows, sums and decisions as it does by default
//! and sends traces to a receiver, beside one that does nothing of it, in turns under the same load.

use std::net::SocketAddr;
use std::time::Duration;

use pointsman_backends::simulators::server::RunningSimulator;
use pointsman_tests::client::{Ask, Connection};
use pointsman_tests::files::{CHEAPEST, Files, PROCESS, PoolText, portfolio};
use pointsman_tests::machines;
use pointsman_tests::process::Served;
use pointsman_tests::receiver;
use rustix::thread::{sched_getaffinity, sched_setaffinity};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::gateway::{scheduled, two_cores};

/// Connections that requests come on.
const CLIENTS: u32 = 20;
/// How long each has the load before the other does.
const ROUND: Duration = Duration::from_millis(1_500);
/// What is behind the path, such as entering books, has this long to be done and counted.
const AFTER: Duration = Duration::from_millis(500);
/// Pairs of rounds, after one that is not counted.
const PAIRS: usize = 12;
/// Answers whole, and answers that stream: requests a second, tokens.
const LOADS: [(u32, u64, bool); 2] = [(1_500, 8, false), (120, 400, true)];

/// Prints it.
pub(crate) fn costs() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let before = sched_getaffinity(None).expect("a kernel that tells");
        let cores = two_cores(&before);
        let machine = machines::start("cs3").await;
        let receiver = receiver::start().await;
        let keeping = format!("{PROCESS}[telemetry]\notlp_endpoint = \"{}\"\n", receiver.url());
        let without = format!("{PROCESS}[telemetry]\nkept_rows = 0\n");
        if let Some((own, _)) = &cores {
            sched_setaffinity(None, own).expect("one of our cores");
        }
        let (on, off) = (served(&keeping, &machine).await, served(&without, &machine).await);
        if let Some((_, others)) = &cores {
            sched_setaffinity(None, others).expect("the others of our cores");
        }
        let mut added = Vec::new();
        for (rate, tokens, stream) in LOADS {
            let name = if stream { format!("streams of {tokens} tokens") } else { "whole answers".to_owned() };
            let differences = paired(&on, &off, (rate, tokens, stream)).await;
            println!("keeping and tracing, {name}, {rate} requests a second, µs of a core a request: {differences}");
            added.push((differences.middle, tokens));
        }
        if let [(whole, _), (streamed, tokens)] = added[..] {
            println!("keeping and tracing, an event: {:.3} µs more", (streamed - whole) / tokens as f64);
        }
        println!("spans that arrived meanwhile: {}", receiver::spans(&receiver).len());
        sched_setaffinity(None, &before).expect("as it was");
    });
    runtime.shutdown_background();
}

async fn served(process: &str, machine: &RunningSimulator) -> (Served, Files) {
    let files = Files::new(process, &portfolio(&[PoolText::new("wafer", [machines::url(machine)])]), CHEAPEST);
    (Served::start(files.folder(), &[]).await, files)
}

/// Differences of pairs, microseconds: the middle one, the quarters, and what both take.
struct Differences {
    middle: f64,
    quarters: (f64, f64),
    on: f64,
    off: f64,
}

impl std::fmt::Display for Differences {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Differences { middle, quarters: (low, high), on, off } = self;
        write!(f, "{middle:+.2} (quarters {low:+.2} to {high:+.2}) of {on:.1} with, {off:.1} without")
    }
}

async fn paired(on: &(Served, Files), off: &(Served, Files), load: (u32, u64, bool)) -> Differences {
    let (mut differences, mut with, mut without) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..=PAIRS {
        let (one, other);
        if pair % 2 == 0 {
            (one, other) = (round(&on.0, load).await, round(&off.0, load).await);
        } else {
            let first = round(&off.0, load).await;
            (one, other) = (round(&on.0, load).await, first);
        }
        if pair > 0 {
            differences.push(one - other);
            with.push(one);
            without.push(other);
        }
    }
    let at = |values: &mut Vec<f64>, part: f64| {
        values.sort_by(f64::total_cmp);
        values[((values.len() - 1) as f64 * part) as usize]
    };
    Differences {
        middle: at(&mut differences, 0.5),
        quarters: (at(&mut differences, 0.25), at(&mut differences, 0.75)),
        on: at(&mut with, 0.5),
        off: at(&mut without, 0.5),
    }
}

/// One gateway has the load; what a request took of a core, microseconds.
async fn round(served: &Served, (rate, tokens, stream): (u32, u64, bool)) -> f64 {
    let (before, began) = (scheduled(served.process.id()).0, Instant::now());
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(served.address, (number, rate), machines::chat(tokens, stream), began));
    }
    let mut answered = 0;
    while let Some(ended) = clients.join_next().await {
        answered += ended.expect("a client that ends well");
    }
    sleep_until(Instant::now() + AFTER).await;
    let ran = scheduled(served.process.id()).0.saturating_sub(before);
    ran.as_secs_f64() * 1e6 / f64::from(answered.max(1))
}

/// Sends requests evenly for a round and tells how many were answered.
async fn client(gateway: SocketAddr, (number, rate): (u32, u32), body: serde_json::Value, began: Instant) -> u32 {
    let connection = Connection::http1(gateway).await;
    let every = Duration::from_secs(1) * CLIENTS / rate;
    let mut answered = 0;
    for place in 0.. {
        let due = began + every * place + every * number / CLIENTS;
        if due > began + ROUND {
            break;
        }
        sleep_until(due).await;
        let Ok(stream) = connection.try_open(Ask::chat(&body)).await else { break };
        answered += u32::from(stream.whole().await.is_ok_and(|reply| reply.status == 200));
    }
    answered
}
