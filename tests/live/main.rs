//! Live against simulated: the same stretch of a trace through the real gateway and simulated machines over HTTP, in real
//! time, and through the simulation. Exits 1 where they do not agree.
//!
//! ```text
//! cargo run --release -p pointsman-tests --bin live -- --trace gateway/demo/azure2023-10min.csv [--for 600] [--load 1.0]
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench may stop where its own assumptions break"
)]

/// Both sides request by request.
mod requests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use pointsman::simulation::workload::trace::Trace;
use pointsman::simulation::workload::{Shape, Workload};
use pointsman_tests::live::told::Told;
use pointsman_tests::live::{Side, Stage};
use serde_json::{Value, json};

/// Live against simulated: the same requests over HTTP in real time, and in virtual time.
#[derive(Debug, Parser)]
#[command(name = "live")]
struct Arguments {
    /// A trace; several are merged.
    #[arg(long = "trace", value_name = "FILE", required = true)]
    traces: Vec<PathBuf>,
    /// The folder of a fleet: its `portfolio.toml` and `policy.toml`; the quality bench's where not given.
    #[arg(long, value_name = "FOLDER")]
    fleet: Option<PathBuf>,
    /// What multiplies the rate of requests.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    load: f64,
    /// Leave out what comes before this time of the traces, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    from: f64,
    /// Only so much of the traces, seconds.
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 600.0)]
    length: f64,
    /// Seeds of the simulation.
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    seeds: u64,
    /// Only simulate; another seed stands in for the live run.
    #[arg(long)]
    only_simulated: bool,
    /// Write what became of every request on both sides, as CSV.
    #[arg(long, value_name = "FILE")]
    requests: Option<PathBuf>,
    /// Write the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut traces = Vec::new();
    for file in &arguments.traces {
        match Trace::load(file) {
            Ok(trace) => traces.push(trace),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
    }
    let shape = Shape { load: arguments.load, from_s: arguments.from, for_s: arguments.length, ..Shape::default() };
    let workload = Workload::build(&traces, &shape);
    let folder = arguments.fleet.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("quality/fleet"));
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("the fleet's folder has both files");
    let (portfolio, policy) = (read("portfolio.toml"), read("policy.toml"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (live, simulated) = runtime.block_on(async {
        let stage = Stage::start(&portfolio, &policy).await;
        let simulated = |seed| stage.simulated_told(&workload, seed);
        if arguments.only_simulated {
            return (simulated(arguments.seeds + 1), (1..=arguments.seeds).map(simulated).collect::<Vec<_>>());
        }
        eprintln!("{} requests in {:.0} s, in real time", workload.requests.len(), workload.span.as_secs());
        let live = stage.live_told(&workload).await;
        let simulated = (1..=arguments.seeds).map(simulated).collect::<Vec<_>>();
        (live, simulated)
    });
    if let Some(file) = &arguments.requests {
        let sides = simulated.iter().map(|(_, told)| told).enumerate().map(|(seed, told)| (seed + 1, told));
        let text = requests::csv(&workload, std::iter::once((0, &live.1)).chain(sides));
        std::fs::write(file, text).expect("the file can be written");
    }
    let ((live, each), simulated) = (live, simulated.into_iter().map(|(side, _)| side).collect::<Vec<_>>());
    let mean = Side::mean(&simulated);
    print!("{}", table(&live, &mean, &simulated));
    if !arguments.only_simulated {
        print!("{}", strain(&each));
    }
    if let Some(file) = &arguments.json {
        let sides = json!({
            "requests": workload.requests.len(),
            "load": arguments.load,
            "live": json_of(&live),
            "simulated": simulated.iter().map(json_of).collect::<Vec<_>>(),
        });
        std::fs::write(file, format!("{sides:#}\n")).expect("the file can be written");
    }
    if agree(&live, &mean) {
        println!("they agree: each class within {MOST_POINTS} points, the cost within {} %", MOST_COST * 100.0);
        return ExitCode::SUCCESS;
    }
    println!(
        "they do not agree: a class differs by more than {MOST_POINTS} points or the cost by {} %",
        MOST_COST * 100.0
    );
    ExitCode::FAILURE
}

/// Live and simulated may differ by so many points of the promises kept of any class.
const MOST_POINTS: f64 = 3.0;
/// The same of the cost, as a part of it.
const MOST_COST: f64 = 0.05;

fn agree(live: &Side, mean: &Side) -> bool {
    let classes = live.classes.iter().zip(&mean.classes);
    let mut points = classes.map(|(real, drawn)| (real.kept() - drawn.kept()).abs() * 100.0);
    points.all(|points| points <= MOST_POINTS) && (live.usd / mean.usd - 1.0).abs() <= MOST_COST
}

fn table(live: &Side, mean: &Side, each: &[Side]) -> String {
    let mut text = format!(
        "{:12} {:>8}  {:>8} {:>9} {:>16} {:>8}   {:>15} {:>15} {:>11}\n",
        "", "requests", "live", "simulated", "over seeds", "points", "TTFT p50 ms", "p99 ms", "lost"
    );
    let percent = |part: f64| format!("{:.2} %", part * 100.0);
    for (index, (real, drawn)) in live.classes.iter().zip(&mean.classes).enumerate() {
        let over: Vec<f64> = each.iter().map(|side| side.classes[index].kept() * 100.0).collect();
        let (low, high) = over.iter().fold((f64::MAX, f64::MIN), |(low, high), one| (low.min(*one), high.max(*one)));
        text += &format!(
            "{:12} {:>8}  {:>8} {:>9} {:>16} {:>+8.2}   {:>15} {:>15} {:>11}\n",
            real.name,
            real.all,
            percent(real.kept()),
            percent(drawn.kept()),
            format!("{low:.1} to {high:.1}"),
            (real.kept() - drawn.kept()) * 100.0,
            format!("{:.0} / {:.0}", real.ttft_p50_ms, drawn.ttft_p50_ms),
            format!("{:.0} / {:.0}", real.ttft_p99_ms, drawn.ttft_p99_ms),
            format!("{} / {:.1}", real.lost, drawn.lost as f64 / each.len().max(1) as f64),
        );
    }
    let all: u64 = live.classes.iter().map(|class| class.all).sum();
    text += &format!(
        "{:12} {all:>8}  {:>8} {:>9} {:>16} {:>+8.2}\n",
        "all",
        percent(live.kept()),
        percent(mean.kept()),
        "",
        (live.kept() - mean.kept()) * 100.0
    );
    text += &format!(
        "cost         live ${:.4}, simulated ${:.4}, {:+.2} %\nanswers by pool: live {:?}, simulated {:?}\n",
        live.usd,
        mean.usd,
        (live.usd / mean.usd - 1.0) * 100.0,
        live.by_pool,
        mean.by_pool
    );
    text
}

/// Whether the host kept up: a live run on one that does not says nothing.
fn strain(each: &[Told]) -> String {
    let mut late_ms: Vec<f64> = each.iter().map(|told| told.late_ms).collect();
    late_ms.sort_by(f64::total_cmp);
    let at = |part: f64| late_ms.get((late_ms.len() as f64 * part) as usize).copied().unwrap_or(0.0);
    format!(
        "requests sent late by {:.1} ms in the median, {:.1} ms at p99, {:.1} ms at most\n",
        at(0.5),
        at(0.99),
        at(1.0 - 1e-9)
    )
}

fn json_of(side: &Side) -> Value {
    let classes = side.classes.iter().map(|class| {
        json!({
            "name": class.name, "requests": class.all, "attainment": class.kept(), "lost": class.lost,
            "ttft_ms": { "p50": class.ttft_p50_ms, "p99": class.ttft_p99_ms },
        })
    });
    json!({
        "attainment": side.kept(), "usd": side.usd, "answers_by_pool": side.by_pool, "classes": classes.collect::<Vec<_>>(),
    })
}
