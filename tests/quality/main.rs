//! The bench of decision quality: policies on the same traces, machines and promises, in virtual time.
//!
//! ```text
//! cargo run --release -p pointsman-tests --bin quality -- --trace FILE [--trace FILE] [--load 0.7,1.0,1.3,1.6]
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench may stop where its own assumptions break"
)]
#![allow(unreachable_pub, reason = "modules tell what they offer one another")]

/// What it is told.
mod arguments;
/// The machines and rules.
mod reference;
/// What happens meanwhile.
mod scenarios;
/// What people can pick today.
mod baselines;
/// What the best router could reach.
mod oracle;
/// What baselines are set to.
mod tuning;
/// Who is compared.
mod policies;
/// All runs.
mod matrix;
/// How near they come to what is possible.
mod verdict;
/// The figures of a policy.
mod summary;
/// How sure they are.
mod intervals;
/// As a table.
mod table;
/// As JSON.
mod json;
/// As a page.
mod page;

use std::io::{IsTerminal, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use pointsman::simulation::workload::Shape;
use pointsman::simulation::workload::trace::Trace;
use pointsman_policies::language::nearest;

use arguments::Arguments;
use matrix::{Cell, Plan};
use policies::Candidate;
use reference::Fleet;
use scenarios::Scenario;
use summary::Summary;

/// Tries of the oracle where figures are kept and nothing else is said.
const ORACLE_TRIES: usize = 20;

fn main() -> ExitCode {
    match bench(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> Result<(), String> {
    if arguments.list {
        return list();
    }
    let traces: Vec<Trace> = arguments
        .traces
        .iter()
        .map(|file| Trace::load(file).map_err(|error| error.to_string()))
        .collect::<Result<_, _>>()?;
    if let Some(load) = arguments.load.iter().find(|load| !(load.is_finite() && **load > 0.0)) {
        return Err(format!("--load {load} is not above zero; give factors such as 0.7,1.0,1.3"));
    }
    let fleet = arguments.fleet.as_deref().map_or_else(Fleet::reference, Fleet::load)?;
    let mut candidates = policies::named(&arguments.policies).map_err(|name| unknown_policy(&name))?;
    candidates.extend(arguments.without.iter().copied().map(Candidate::Without));
    let plan = Plan {
        fleet: &fleet,
        traces: &traces,
        slice: Shape { from_s: arguments.from, for_s: arguments.length, ..Shape::default() },
        scenarios: scenarios_named(&arguments.scenario)?,
        loads: arguments.load.clone(),
        candidates,
        seeds: arguments.seeds,
        threads: arguments.threads,
    };
    if let Some(file) = &arguments.tune {
        let names: Vec<&str> = traces.iter().map(|trace| trace.name.as_str()).collect();
        return tuning::tune(&plan, &names.join("+"), file, |line| println!("{line}"));
    }
    let shown = std::io::stderr().is_terminal();
    let progress = |what: &str, done, of| {
        if shown {
            eprint!("\r{done} of {of} {what} ");
        }
    };
    let mut cells = plan.run(|done, of| progress("runs", done, of));
    let figures_kept = arguments.json.is_some() || arguments.html.is_some();
    let tries = arguments.oracle.unwrap_or(if figures_kept { ORACLE_TRIES } else { 0 });
    if tries > 0 {
        plan.judge(&mut cells, tries, |done, of| progress("bounds and schedules", done, of));
    }
    if shown {
        eprintln!();
    }
    let summed = |cell: Cell| {
        let each = plan.candidates.iter().zip(&cell.reports);
        let summaries = each.map(|(candidate, reports)| Summary::of(candidate.name(), reports)).collect();
        (cell, summaries)
    };
    let cells: Vec<(Cell, Vec<Summary>)> = cells.into_iter().map(summed).collect();
    let mut out = std::io::stdout().lock();
    for (cell, summaries) in &cells {
        writeln!(out, "{}", table::table(cell, summaries, arguments.seeds)).map_err(|error| error.to_string())?;
        if let Some(verdict) = &cell.oracle {
            writeln!(out, "{}", verdict.text()).map_err(|error| error.to_string())?;
        }
    }
    let names: Vec<&str> = traces.iter().map(|trace| trace.name.as_str()).collect();
    let trace = names.join("+");
    if let Some(file) = &arguments.json {
        let figures = json::json(&trace, arguments.seeds, &cells);
        let text = serde_json::to_string_pretty(&figures).map_err(|error| error.to_string())?;
        write(file, &(text + "\n"))?;
    }
    if let Some(file) = &arguments.html {
        write(file, &page::page(&trace, arguments.seeds, &cells))?;
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))
}

fn list() -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    let baselines =
        baselines::all().iter().map(|one| format!("{:22} {}\n{:22} {}\n", one.name, one.formula, "", one.source));
    let scenarios = scenarios::ALL.iter().map(|one| format!("{:22} {}\n", one.name, one.about));
    let text: String = baselines.chain(["\n".to_owned()]).chain(scenarios).collect();
    out.write_all(text.as_bytes()).map_err(|error| error.to_string())
}

fn scenarios_named(names: &[String]) -> Result<Vec<&'static Scenario>, String> {
    if names.iter().any(|name| name == "all") {
        return Ok(scenarios::ALL.iter().collect());
    }
    let all = || scenarios::ALL.iter().map(|scenario| scenario.name);
    let unknown = |name: &String| match nearest(name, all()) {
        Some(near) => format!("unknown scenario `{name}`; did you mean `{near}`?"),
        None => format!("unknown scenario `{name}`; there are {}", all().collect::<Vec<_>>().join(", ")),
    };
    names.iter().map(|name| scenarios::find(name).ok_or_else(|| unknown(name))).collect()
}

fn unknown_policy(name: &str) -> String {
    let all = policies::names;
    match nearest(name, all()) {
        Some(near) => format!("unknown policy `{name}`; did you mean `{near}`?"),
        None => format!("unknown policy `{name}`; there are {}", all().collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests;
