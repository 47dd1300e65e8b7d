//! `pointsman replay`: recorded decisions, made again. Without a candidate they must come out as they were, to the last
//! bit; with one, the difference is told by class, by flow and by kind of request.

/// What decides again.
mod ground;
/// One frame of decisions, decided again.
mod again;
/// What is counted.
mod tally;
/// What predictions were worth.
mod experience;
/// Files in, counts out, on all cores and always the same.
mod stream;
/// Commands for people.
mod command;
/// The result for people.
mod text;
/// The result for tools.
mod json;
/// The result as a page.
mod html;
/// Its charts.
mod chart;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use pointsman_backends::portfolio::{self, Secrets};
use pointsman_policies::fleet::PoolFacts;
use pointsman_policies::language::{Report, Source};

use crate::config::set::{folder_of, render};
use crate::config::source::read_source;
use stream::Outcome;

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A log that `serve --record` or `demo --record` wrote; several, the oldest first (`FILE.2 FILE.1 FILE`).
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    log: Vec<PathBuf>,
    /// A candidate: what would have been different under it? Without one, what was decided is decided again and must
    /// come out the same.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Compare the candidate with this policy instead of what was in force.
    #[arg(long, value_name = "FILE", requires = "policy")]
    against: Option<PathBuf>,
    /// Let the candidate choose among these machines instead of the recorded ones; those that were not there then are
    /// taken as idle.
    #[arg(long, value_name = "FILE")]
    portfolio: Option<PathBuf>,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
    /// Also write the result as a page with charts, complete in itself.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// How many kinds of request, flows and differing decisions are listed.
    #[arg(long, default_value_t = 10, value_name = "NUMBER")]
    limit: usize,
}

/// What is asked of a log.
#[derive(Debug, Default)]
struct Question {
    candidate: Option<Source>,
    against: Option<Source>,
    pools: Option<Vec<PoolFacts>>,
    limit: usize,
}

impl Question {
    /// Whether anything is compared, or only decided again.
    fn compares(&self) -> bool {
        self.candidate.is_some() || self.pools.is_some()
    }
}

/// Replays; exit status 1 if decisions did not come out as they were, or could not be made again at all.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Some(question) = question(arguments) else { return Ok(ExitCode::FAILURE) };
    let outcome = match stream::replay(&arguments.log, &question)? {
        Ok(outcome) => outcome,
        Err(reports) => {
            anstream::eprint!("{}", render(&reports, true));
            bail!("the candidate cannot be used, so nothing was replayed");
        }
    };
    anstream::eprint!("{}", render(&outcome.warnings, true));
    if let Some(file) = &arguments.html {
        let page = html::page(&outcome, arguments);
        std::fs::write(file, page).with_context(|| format!("cannot write `{}`", file.display()))?;
    }
    let text = match arguments.json {
        true => format!("{}\n", json::json(&outcome, arguments)),
        false => text::text(&outcome, arguments),
    };
    super::print(&text)?;
    Ok(exit(&outcome, &question))
}

/// A comparison has succeeded when there was something to compare; a reproduction when everything came out the same.
fn exit(outcome: &Outcome, question: &Question) -> ExitCode {
    let tally = &outcome.tally;
    let good = match question.compares() {
        true => tally.difference.decisions > 0,
        false => tally.decisions > 0 && tally.same == tally.decisions,
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Reads the files that are named; `None` after telling what is wrong with them.
fn question(arguments: &Arguments) -> Option<Question> {
    let mut reports: Vec<Report> = Vec::new();
    let mut source = |path: &Option<PathBuf>| match path.as_ref().map(|path| read_source(path)) {
        Some(Ok(source)) => Some(source),
        Some(Err(report)) => {
            reports.push(report);
            None
        }
        None => None,
    };
    let (candidate, against) = (source(&arguments.policy), source(&arguments.against));
    let portfolio_source = source(&arguments.portfolio);
    let pools = portfolio_source.zip(arguments.portfolio.as_deref()).and_then(|(source, path)| {
        let (portfolio, report) = portfolio::load(source, folder_of(path), Secrets::Optional);
        reports.push(report);
        portfolio.map(|portfolio| portfolio.facts)
    });
    anstream::eprint!("{}", render(&reports, true));
    let failed = reports.iter().any(Report::has_errors);
    (!failed).then_some(Question { candidate, against, pools, limit: arguments.limit })
}
