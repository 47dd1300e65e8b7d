//! `pointsman check`: every problem of the files, with its place, before anything runs; and the scenarios beside policies.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pointsman_backends::portfolio::{self, Portfolio, Secrets};
use pointsman_policies::language::{Report, Severity, Source, read};

use crate::cli::CheckArguments;
use crate::config::candidate::Named;
use crate::config::process::{Process, ProcessShape};
use crate::config::set::{self, folder_of};
use crate::config::source::read_source;

/// Scenarios beside a policy.
pub(super) mod scenarios;
/// As one JSON object.
mod json;
/// As SARIF.
mod sarif;

/// How the diagnostics are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people, on stderr.
    #[default]
    Text,
    /// One JSON object, on stdout.
    Json,
    /// SARIF 2.1.0, on stdout: for code hosts and editors.
    Sarif,
}

/// What is as bad as an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Deny {
    /// Warnings.
    Warnings,
}

/// How many diagnostics there are of each severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
struct Counts {
    errors: usize,
    warnings: usize,
    notes: usize,
}

impl Counts {
    fn of(reports: &[Report]) -> Counts {
        let count = |severity| reports.iter().map(|report| report.count(severity)).sum();
        Counts { errors: count(Severity::Error), warnings: count(Severity::Warning), notes: count(Severity::Note) }
    }
}

/// Checks and prints the diagnostics; exit status 1 if there is an error.
pub fn run(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    let given = &arguments.files;
    let files = if given.is_empty() { vec![PathBuf::from("pointsman.toml")] } else { once_each(given) };
    let Checked { reports, notes } = check(&files);
    let counts = Counts::of(&reports);
    match arguments.format {
        Format::Text => tell(&reports, &notes, counts),
        Format::Json => super::print(&json::text(&reports)?)?,
        Format::Sarif => super::print(&sarif::text(&reports, &std::env::current_dir()?)?)?,
    }
    let denied = arguments.deny == Some(Deny::Warnings) && counts.warnings > 0;
    Ok(if counts.errors == 0 && !denied { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(reports: &[Report], notes: &[String], counts: Counts) {
    anstream::eprint!("{}", set::render(reports, true));
    let names: Vec<&str> = reports.iter().map(|report| report.source().name.as_str()).collect();
    let of = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let mut told = vec![of(counts.errors, "error"), of(counts.warnings, "warning")];
    if counts.notes > 0 {
        told.push(of(counts.notes, "note"));
    }
    let gap = if reports.iter().all(Report::is_empty) { "" } else { "\n" };
    if !notes.is_empty() {
        anstream::eprintln!("{gap}{}", notes.join("\n"));
    }
    let gap = if notes.is_empty() { gap } else { "" };
    anstream::eprintln!("{gap}checked {}: {}", names.join(", "), told.join(", "));
}

/// The files, without those given before under another name.
fn once_each(files: &[PathBuf]) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let is_new = |file: &&PathBuf| seen.insert(file.canonicalize().unwrap_or_else(|_| file.to_path_buf()));
    files.iter().filter(is_new).cloned().collect()
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
