//! What a decision takes in the gateway itself: a process of its own, before many simulated machines, under load over HTTP.
//!
//! Where there are two cores or more, the gateway has one and the load and the machines have another, as whoever runs a
//! gateway beside other work would give it one. Figures are of the clock; how long
//! the gateway waited for its core is told besides.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use pointsman_backends::simulators::server::RunningSimulator;
use pointsman_tests::client::{self, Ask, Connection};
use pointsman_tests::files::{Files, PROCESS};
use pointsman_tests::machines;
use pointsman_tests::process::Served;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::large::{portfolio, twenty_rules};

/// Connections that requests come on.
const CLIENTS: u32 = 50;
/// Not counted: caches and models become warm.
const WARM_UP: Duration = Duration::from_secs(3);
/// Counted.
const COUNTED: Duration = Duration::from_secs(15);
/// Tokens of each answer.
const TOKENS: u64 = 32;
/// The histogram that is read.
const HISTOGRAM: &str = "pointsman_decide_seconds_bucket";
/// Conversations that long prompts belong to.
const CONVERSATIONS: u32 = 500;

/// What is asked.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    name: &'static str,
    /// Requests a second, of which every other streams: enough that all machines are busy, and cores are left.
    rate: u32,
    /// Text that all prompts begin with, bytes.
    shared: usize,
    /// Text that those of one conversation begin with after that, bytes.
    own: usize,
}

/// One sentence.
pub(crate) const SHORT: Load = Load { name: "short prompts", rate: 1_000, shared: 0, own: 0 };
/// The same, as many as keep the core busy most of the time: whatever else runs there has less time to empty its caches.
pub(crate) const BUSY: Load = Load { name: "short prompts, busy", rate: 3_000, shared: 0, own: 0 };
/// Instructions and documents that everybody's prompt begins with, and a conversation.
pub(crate) const LONG: Load =
    Load { name: "prompts of 100 kB, of which all share 64", rate: 200, shared: 64 << 10, own: 36 << 10 };

/// Measures it for a fleet of so many pools with so many endpoints each.
pub(crate) fn deciding(pools: usize, each: usize, load: Load) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measured(pools, each, load));
    runtime.shutdown_background();
}

async fn measured(pools: usize, each: usize, load: Load) {
    let before = sched_getaffinity(None).expect("a kernel that tells");
    let cores = two_cores(&before);
    let (machines, files) = stage(pools, each).await;
    if let Some((own, _)) = &cores {
        sched_setaffinity(None, own).expect("one of our cores"); // what we start inherits it
    }
    let served = Served::start(files.folder(), &[]).await;
    if let Some((_, others)) = &cores {
        sched_setaffinity(None, others).expect("the others of our cores");
    }
    let began = Instant::now();
    let end = began + WARM_UP + COUNTED;
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(served.address, number, load, began, end));
    }
    sleep_until(began + WARM_UP).await;
    let first = Moment::of(&served).await;
    sleep_until(end).await;
    let during = Moment::of(&served).await.since(&first);
    let mut failed = 0;
    while let Some(ended) = clients.join_next().await {
        failed += ended.expect("a client that ends well");
    }
    drop(machines);
    sched_setaffinity(None, &before).expect("as it was");
    let place = if cores.is_some() { "on a core of its own" } else { "sharing one core with its load" };
    let Load { name, rate, .. } = load;
    println!("in the gateway, {place}, {} endpoints, {rate} requests a second, {name}:", pools * each);
    println!("{during}, {failed} failed");
}

/// A core for the gateway, the others for all else; `None` where there is but one.
pub(crate) fn two_cores(all: &CpuSet) -> Option<(CpuSet, CpuSet)> {
    let last = (0..CpuSet::MAX_CPU).rev().find(|core| all.is_set(*core)).filter(|_| all.count() > 1)?;
    let (mut own, mut others) = (CpuSet::new(), *all);
    own.set(last);
    others.unset(last);
    Some((own, others))
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
async fn client(gateway: SocketAddr, number: u32, load: Load, began: Instant, end: Instant) -> u32 {
    let mut connection = Connection::http1(gateway).await;
    let (mut failed, every) = (0, Duration::from_secs(1) * CLIENTS / load.rate);
    for place in 0.. {
        let due = began + every * place + every * number / CLIENTS;
        if due > end {
            break;
        }
        sleep_until(due).await;
        let ask = Ask::chat(&chat(load, place * CLIENTS + number));
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

/// A request of the load, by its number.
fn chat(load: Load, number: u32) -> Value {
    let mut body = machines::chat(TOKENS, (number / CLIENTS).is_multiple_of(2));
    if load.shared > 0 {
        let conversation = number.wrapping_mul(2_654_435_761) % CONVERSATIONS;
        let own = format!("conversation {conversation}, as it was. ");
        let shared = "Whoever asks is told which track to take. ";
        let begun = shared.repeat(load.shared / shared.len()) + &own.repeat(load.own / own.len());
        let last = body["messages"].take();
        body["messages"] = serde_json::json!([{"role": "system", "content": begun}, last[0]]);
    }
    body
}

/// What the gateway and the system say at one moment, or between two.
struct Moment {
    decisions: Times,
    /// Time on a core.
    ran: Duration,
    /// Time in which it wanted a core and others had it.
    waited: Duration,
    /// How often it was put off a core that it still wanted.
    interrupted: u64,
}

impl Moment {
    async fn of(served: &Served) -> Moment {
        let text = client::send(served.admin, Ask::get("/metrics")).await.text();
        let (ran, waited) = scheduled(served.process.id());
        let interrupted = interrupted(served.process.id());
        Moment { decisions: Times::of(&text, HISTOGRAM), ran, waited, interrupted }
    }

    fn since(&self, before: &Moment) -> Moment {
        Moment {
            decisions: self.decisions.since(&before.decisions),
            ran: self.ran.saturating_sub(before.ran),
            waited: self.waited.saturating_sub(before.waited),
            interrupted: self.interrupted - before.interrupted,
        }
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = self.decisions.all().max(1);
        writeln!(f, "  {all} decisions: {}", self.decisions)?;
        write!(
            f,
            "  a request takes {:.0} µs of a core; the gateway waits for one {:.1} % of the time that it wants one and is put \
             off one {:.2} times a request",
            self.ran.as_secs_f64() * 1e6 / all as f64,
            100.0 * self.waited.as_secs_f64() / (self.ran + self.waited).as_secs_f64().max(1e-9),
            self.interrupted as f64 / all as f64,
        )
    }
}

/// Times by the upper bound of their bucket, nanoseconds; sums from the first on.
struct Times(BTreeMap<u64, u64>);

impl Times {
    /// What a page of metrics says.
    fn of(metrics: &str, histogram: &str) -> Times {
        let lines =
            metrics.lines().filter_map(|line| line.strip_prefix(histogram)?.split_once("le=\"")?.1.split_once("\"} "));
        let bound = |bound: &str| {
            if bound == "+Inf" { u64::MAX } else { (bound.parse::<f64>().expect("a bound") * 1e9).round() as u64 }
        };
        Times(lines.map(|(le, count)| (bound(le), count.parse().expect("a count"))).collect())
    }

    fn since(&self, before: &Times) -> Times {
        let count = |bound: &u64, count: &u64| count - before.0.get(bound).unwrap_or(&0);
        Times(self.0.iter().map(|(bound, all)| (*bound, count(bound, all))).collect())
    }

    fn all(&self) -> u64 {
        self.0.values().copied().max().unwrap_or(0)
    }

    /// A quantile, linear within its bucket, microseconds.
    fn quantile_us(&self, part: f64) -> f64 {
        let wanted = self.all() as f64 * part;
        let (mut low, mut below) = (0, 0);
        for (bound, count) in &self.0 {
            if *count as f64 >= wanted {
                let within = (wanted - below as f64) / (count - below).max(1) as f64;
                return (low as f64 + within * (bound - low) as f64) / 1e3;
            }
            (low, below) = (*bound, *count);
        }
        f64::INFINITY
    }

    /// The part that took longer.
    fn longer_than(&self, ns: u64) -> f64 {
        let within = self.0.range(..=ns).next_back().map_or(0, |(_, count)| *count);
        1.0 - within as f64 / self.all().max(1) as f64
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [half, most, nearly_all] = [0.5, 0.9, 0.99].map(|part| self.quantile_us(part));
        let [long, longer] = [20_000, 100_000].map(|ns| 100.0 * self.longer_than(ns));
        write!(f, "p50 {half:.1} µs, p90 {most:.1} µs, p99 {nearly_all:.1} µs; ")?;
        write!(f, "{long:.2} % above 20 µs, {longer:.2} % above 100 µs")
    }
}

/// What the system says of each thread of a process, in one of its files.
fn told_of_threads(process: u32, file: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(Path::new("/proc").join(process.to_string()).join("task")).expect("it runs");
    tasks.flatten().map(|task| std::fs::read_to_string(task.path().join(file)).unwrap_or_default()).collect()
}

/// How long the threads of a process have run and waited for a core.
pub(crate) fn scheduled(process: u32) -> (Duration, Duration) {
    let mut sum = (Duration::ZERO, Duration::ZERO);
    for text in told_of_threads(process, "schedstat") {
        let mut figures = text.split_whitespace().map_while(|figure| figure.parse().ok());
        sum.0 += Duration::from_nanos(figures.next().unwrap_or(0));
        sum.1 += Duration::from_nanos(figures.next().unwrap_or(0));
    }
    sum
}

/// How often they were put off a core without wanting to.
fn interrupted(process: u32) -> u64 {
    let texts = told_of_threads(process, "status");
    let lines = texts.iter().flat_map(|text| text.lines());
    lines.filter_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:")?.trim().parse::<u64>().ok()).sum()
}
