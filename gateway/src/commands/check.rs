//! `pointsman check`: every problem of the files, with its place, before anything runs; and the scenarios beside policies.

/// Scenarios beside a policy.
mod scenarios;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pointsman_backends::portfolio::{self, Portfolio, Secrets};
use pointsman_policies::language::{Report, Severity, Source, read};

use crate::cli::CheckArguments;
use crate::config::candidate::Named;
use crate::config::process::{Process, ProcessShape};
use crate::config::set::{self, folder_of, read_source};

/// Checks, prints the diagnostics on stderr; exit status 1 if there is an error.
pub fn run(arguments: &CheckArguments) -> ExitCode {
    let given = &arguments.files;
    let files = if given.is_empty() { vec![PathBuf::from("pointsman.toml")] } else { given.clone() };
    let Checked { reports, notes } = check(&files);
    anstream::eprint!("{}", set::render(&reports, true));
    let count = |severity| reports.iter().map(|report| report.count(severity)).sum::<usize>();
    let errors = count(Severity::Error);
    let names: Vec<&str> = reports.iter().map(|report| report.source().name.as_str()).collect();
    let of = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let mut counts = vec![of(errors, "error"), of(count(Severity::Warning), "warning")];
    counts.extend(Some(count(Severity::Note)).filter(|notes| *notes > 0).map(|notes| of(notes, "note")));
    let gap = if reports.iter().all(Report::is_empty) { "" } else { "\n" };
    if !notes.is_empty() {
        anstream::eprintln!("{gap}{}", notes.join("\n"));
    }
    let gap = if notes.is_empty() { gap } else { "" };
    anstream::eprintln!("{gap}checked {}: {}", names.join(", "), counts.join(", "));
    if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a check found.
#[derive(Debug, Default)]
pub struct Checked {
    /// One report for each file.
    pub reports: Vec<Report>,
    /// What went well, a line each.
    pub notes: Vec<String>,
}

impl Checked {
    fn scenarios(&mut self, checked: Option<scenarios::Checked>) {
        if let Some(scenarios::Checked { report, note }) = checked {
            self.reports.push(report);
            self.notes.extend(note);
        }
    }
}

/// The reports of files in any order. A process file brings the two it names; a policy is checked against the portfolio
/// that is given, else against `portfolio.toml` beside it; scenarios are run with the policy they stand beside.
pub fn check(files: &[PathBuf]) -> Checked {
    let mut checked = Checked::default();
    let mut policies = Vec::new();
    let mut portfolio = None;
    for file in files {
        let file = if scenarios::are(file) { scenarios::policy_of(file) } else { file.clone() };
        if policies.iter().any(|(known, _)| *known == file) {
            continue;
        }
        let source = match read_source(&file) {
            Ok(source) => source,
            Err(report) => {
                checked.reports.push(report);
                continue;
            }
        };
        match kind(&file, &source) {
            Kind::Process if files.len() == 1 => return check_set(&file),
            Kind::Process => checked.reports.push(check_process(&file, source)),
            Kind::Portfolio => {
                let (loaded, report) = portfolio::load(source, folder_of(&file), Secrets::Optional);
                checked.reports.push(report);
                portfolio = loaded;
            }
            Kind::Policy => policies.push((file, source)),
        }
    }
    for (file, source) in policies {
        let beside = if portfolio.is_some() { None } else { portfolio_beside(&file) };
        let portfolio = portfolio.as_ref().or(beside.as_ref());
        let facts = portfolio.map(|portfolio| portfolio.facts.as_slice());
        let named = Named::find(&file, &source.text);
        let text = source.clone();
        set::check_policy(&file, source, named, facts.unwrap_or_default(), &mut checked.reports);
        checked.scenarios(scenarios::beside(&file, &text, portfolio));
    }
    checked
}

/// A process file with the files it names.
fn check_set(file: &Path) -> Checked {
    let loaded = set::load(file, Secrets::Optional);
    let mut checked = Checked { reports: loaded.reports, notes: Vec::new() };
    if let Some(texts) = loaded.texts {
        let policy = Source::new(texts.policy.path.display().to_string(), &*texts.policy.text);
        let portfolio = Source::new(texts.portfolio.path.display().to_string(), &*texts.portfolio.text);
        let (portfolio, _) = portfolio::load(portfolio, folder_of(&texts.portfolio.path), Secrets::Optional);
        checked.scenarios(scenarios::beside(&texts.policy.path, &policy, portfolio.as_ref()));
    }
    checked
}

fn check_process(file: &Path, source: Source) -> Report {
    let mut report = Report::new(source);
    let shape: Option<ProcessShape> = read(&mut report);
    if let Some(shape) = shape {
        Process::new(&shape, folder_of(file), Secrets::Optional, &mut report);
    }
    report
}

fn portfolio_beside(file: &Path) -> Option<Portfolio> {
    let path = folder_of(file).join("portfolio.toml");
    let source = read_source(&path).ok()?;
    portfolio::load(source, folder_of(&path), Secrets::Optional).0
}

enum Kind {
    Process,
    Portfolio,
    Policy,
}

/// By what the file is called, else by what only such a file has in it.
fn kind(file: &Path, source: &Source) -> Kind {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let has = |start: &str| source.text.lines().any(|line| line.trim_start().starts_with(start));
    if name.contains("portfolio") {
        Kind::Portfolio
    } else if name.contains("policy") || name.contains("policies") {
        Kind::Policy
    } else if name == "pointsman.toml" {
        Kind::Process
    } else if has("[pool.") || has("[site.") {
        Kind::Portfolio
    } else if has("listen") || has("admin_listen") || has("[telemetry") || has("[limits") || has("[timeouts") {
        Kind::Process
    } else {
        Kind::Policy
    }
}
