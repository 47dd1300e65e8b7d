//! Scenarios beside a policy: `NAME.scenarios.toml` beside `NAME.toml`, run against its portfolio.

use std::path::{Path, PathBuf};

use pointsman_backends::portfolio::{self, Portfolio, Secrets};
use pointsman_policies::fleet::Fleet;
use pointsman_policies::language::{Diagnostic, Located, Report, Source, compile};
use pointsman_policies::scenario::{self, Ran, ScenarioFile};

use crate::config::set::{folder_of, read_source};

/// End of the names of such files.
const ENDING: &str = ".scenarios.toml";

/// A file that has been checked.
pub(super) struct Checked {
    /// What is wrong with it.
    pub(super) report: Report,
    /// How many of its scenarios hold, where it could be run.
    pub(super) note: Option<String>,
}

/// Whether a file is called as scenarios are.
pub(super) fn are(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ENDING))
}

/// The policy that scenarios stand beside.
pub(in crate::commands) fn policy_of(scenarios: &Path) -> PathBuf {
    let name = scenarios.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    scenarios.with_file_name(format!("{}.toml", name.strip_suffix(ENDING).unwrap_or(&name)))
}

/// Runs the scenarios beside a policy; `None` where there are none.
pub(super) fn beside(policy_file: &Path, policy: &Source, portfolio: Option<&Portfolio>) -> Option<Checked> {
    let file = policy_file.with_extension("scenarios.toml");
    if !file.exists() {
        return None;
    }
    let source = match read_source(&file) {
        Ok(source) => source,
        Err(report) => return Some(Checked { report, note: None }),
    };
    let (scenarios, mut report) = scenario::parse(source);
    let Some(scenarios) = scenarios else { return Some(Checked { report, note: None }) };
    let own = match &scenarios.portfolio {
        Some(name) => match named(&file, name, &mut report) {
            Some(portfolio) => Some(portfolio),
            None => return Some(Checked { report, note: None }),
        },
        None => None,
    };
    let Some(portfolio) = own.as_ref().or(portfolio) else {
        let problem = Diagnostic::error("no-portfolio", "there is no sound portfolio to run these scenarios with");
        report.push(problem.help("name one with `portfolio = \"FILE\"`, or put `portfolio.toml` beside this file"));
        return Some(Checked { report, note: None });
    };
    Some(run(&scenarios, report, policy, portfolio))
}

fn run(scenarios: &ScenarioFile, report: Report, policy: &Source, portfolio: &Portfolio) -> Checked {
    let name = report.source().name.clone();
    // Which pools a selector means is settled for one portfolio, so the policy is compiled for this one.
    let (compiled, _) = compile(policy.clone(), &portfolio.facts);
    let Some(compiled) = compiled else {
        let note = format!("{name}: not run, `{}` has errors", policy.name);
        return Checked { report, note: Some(note) };
    };
    let endpoints = portfolio.idle();
    let fleet = Fleet::new(&portfolio.facts, &endpoints);
    let Ran { report, scenarios, held } = scenario::run(scenarios, report, &compiled, fleet);
    let note = match (held, scenarios) {
        (1, 1) => "1 scenario holds".to_owned(),
        (held, scenarios) if held == scenarios => format!("{scenarios} scenarios hold"),
        (held, scenarios) => format!("{held} of {scenarios} scenarios hold"),
    };
    Checked { report, note: Some(format!("{name}: {note}")) }
}

/// The portfolio that a scenario file names.
fn named(file: &Path, name: &Located<String>, report: &mut Report) -> Option<Portfolio> {
    let path = folder_of(file).join(&name.value);
    let loaded = read_source(&path).map(|source| portfolio::load(source, folder_of(&path), Secrets::Optional));
    let (problem, help) = match loaded {
        Ok((Some(portfolio), _)) => return Some(portfolio),
        Ok((None, _)) => ("has errors".to_owned(), format!("see them: pointsman check {}", path.display())),
        Err(unreadable) => {
            let why = unreadable.iter().next().map_or_else(String::new, |problem| problem.message.clone());
            (format!("is no use: {why}"), "it is looked for beside this file".to_owned())
        }
    };
    let problem = Diagnostic::error("bad-portfolio", format!("the portfolio `{}` {problem}", name.value));
    report.push(problem.at(name.span.clone()).help(help));
    None
}
