//! What a decision takes in the gateway itself: a process of its own, before many simulated machines, under load over HTTP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use pointsman_backends::simulators::server::RunningSimulator;
use pointsman_tests::client::{self, Ask, Connection};
use pointsman_tests::files::{Files, PROCESS};
use pointsman_tests::machines;
use pointsman_tests::process::Served;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::large::{portfolio, twenty_rules};

/// Requests a second, of which every other streams: enough that all machines are busy, and cores are left.
const RATE: u32 = 1000;
/// Connections they come on.
const CLIENTS: u32 = 50;
/// Not counted: caches and models become warm.
const WARM_UP: Duration = Duration::from_secs(3);
/// Counted.
const COUNTED: Duration = Duration::from_secs(15);
/// Tokens of each answer.
const TOKENS: u64 = 32;
/// The histogram that is read.
const HISTOGRAM: &str = "pointsman_decide_seconds_bucket";

/// Measures it for a fleet of so many pools with so many endpoints each.
pub(crate) fn deciding(pools: usize, each: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measured(pools, each));
    runtime.shutdown_background();
}

async fn measured(pools: usize, each: usize) {
    let (machines, files) = stage(pools, each).await;
    let served = Served::start(files.folder(), &[]).await;
    let began = Instant::now();
    let end = began + WARM_UP + COUNTED;
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(served.address, number, began, end));
    }
    sleep_until(began + WARM_UP).await;
    let before = Moment::of(&served).await;
    sleep_until(end).await;
    let during = Moment::of(&served).await.since(&before);
    let mut failed = 0;
    while let Some(ended) = clients.join_next().await {
        failed += ended.expect("a client that ends well");
    }
    drop(machines);
    println!("in the gateway, {} endpoints, {RATE} requests a second: {during}, {failed} failed", pools * each);
}

/// Machines without limits of their own, ten times as fast as real ones, and the files of a gateway before them.
async fn stage(pools: usize, each: usize) -> (Vec<RunningSimulator>, Files) {
    let mut text = portfolio(pools, each);
    let mut running = Vec::new();
    for pool in 0..pools {
        let hardware = ["h100", "cs3", "h200", "groq-lpu"][pool % 4];
        for machine in 0..each {
            let simulator = machines::start(hardware).await;
            let planned = format!("\"http://10.0.{pool}.{machine}:8000\"");
            text = text.replace(&planned, &format!("\"{}\"", machines::url(&simulator)));
            running.push(simulator);
        }
    }
    (running, Files::new(PROCESS, &text, &twenty_rules("cheapest-that-meets-slo")))
}

/// Sends requests evenly until the end and tells how many were not answered.
async fn client(gateway: SocketAddr, number: u32, began: Instant, end: Instant) -> u32 {
    let mut connection = Connection::http1(gateway).await;
    let (mut failed, every) = (0, Duration::from_secs(1) * CLIENTS / RATE);
    for place in 0.. {
        let due = began + every * place + every * number / CLIENTS;
        if due > end {
            break;
        }
        sleep_until(due).await;
        let ask = Ask::chat(&machines::chat(TOKENS, place % 2 == 0));
        let answered = match connection.try_open(ask).await {
            Ok(stream) => stream.whole().await.is_ok_and(|reply| reply.status == 200),
            Err(_) => false,
        };
        if !answered {
            failed += 1;
            connection = Connection::http1(gateway).await;
        }
    }
    failed
}

/// What the gateway and the system say at one moment, or between two.
struct Moment {
    /// Decisions by the upper bound of their bucket, nanoseconds; sums from the first on.
    buckets: BTreeMap<u64, u64>,
    /// Time on a core.
    ran: Duration,
    /// Time in which it wanted a core and others had it.
    waited: Duration,
}

impl Moment {
    async fn of(served: &Served) -> Moment {
        let text = client::send(served.admin, Ask::get("/metrics")).await.text();
        let lines =
            text.lines().filter_map(|line| line.strip_prefix(HISTOGRAM)?.split_once("le=\"")?.1.split_once("\"} "));
        let bound = |bound: &str| {
            if bound == "+Inf" { u64::MAX } else { (bound.parse::<f64>().expect("a bound") * 1e9).round() as u64 }
        };
        let buckets = lines.map(|(le, count)| (bound(le), count.parse().expect("a count"))).collect();
        let (ran, waited) = scheduled(served.process.id());
        Moment { buckets, ran, waited }
    }

    fn since(&self, before: &Moment) -> Moment {
        let count = |bound: &u64, count: &u64| count - before.buckets.get(bound).unwrap_or(&0);
        let buckets = self.buckets.iter().map(|(bound, all)| (*bound, count(bound, all))).collect();
        Moment { buckets, ran: self.ran.saturating_sub(before.ran), waited: self.waited.saturating_sub(before.waited) }
    }

    fn all(&self) -> u64 {
        self.buckets.values().copied().max().unwrap_or(0)
    }

    /// A quantile, linear within its bucket, microseconds.
    fn quantile_us(&self, part: f64) -> f64 {
        let wanted = self.all() as f64 * part;
        let (mut low, mut below) = (0, 0);
        for (bound, count) in &self.buckets {
            if *count as f64 >= wanted {
                let within = (wanted - below as f64) / (count - below).max(1) as f64;
                return (low as f64 + within * (bound - low) as f64) / 1e3;
            }
            (low, below) = (*bound, *count);
        }
        f64::INFINITY
    }

    /// The part of decisions that took longer.
    fn longer_than(&self, ns: u64) -> f64 {
        let within = self.buckets.range(..=ns).next_back().map_or(0, |(_, count)| *count);
        1.0 - within as f64 / self.all().max(1) as f64
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = self.all().max(1);
        let percent = |part: f64| part * 100.0;
        write!(
            f,
            "{all} decisions, p50 {:.1} µs, p90 {:.1} µs, p99 {:.1} µs; {:.2} % above 20 µs, {:.2} % above 100 µs; a request \
             takes {:.0} µs of a core, and the gateway waits for one {:.1} % of the time that it wants one",
            self.quantile_us(0.5),
            self.quantile_us(0.9),
            self.quantile_us(0.99),
            percent(self.longer_than(20_000)),
            percent(self.longer_than(100_000)),
            self.ran.as_secs_f64() * 1e6 / all as f64,
            percent(self.waited.as_secs_f64() / (self.ran + self.waited).as_secs_f64().max(1e-9)),
        )
    }
}

/// How long the threads of a process have run and waited for a core.
fn scheduled(process: u32) -> (Duration, Duration) {
    let tasks = std::fs::read_dir(Path::new("/proc").join(process.to_string()).join("task")).expect("it runs");
    let mut sum = (Duration::ZERO, Duration::ZERO);
    for task in tasks.flatten() {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let mut figures = text.split_whitespace().map_while(|figure| figure.parse().ok());
        sum.0 += Duration::from_nanos(figures.next().unwrap_or(0));
        sum.1 += Duration::from_nanos(figures.next().unwrap_or(0));
    }
    sum
}
