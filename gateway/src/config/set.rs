//! The three files as one set: read, checked, hashed.

use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pointsman_backends::portfolio::{self, Portfolio, Secrets};
use pointsman_policies::fleet::PoolFacts;
use pointsman_policies::language::{Diagnostic, Report, Source, compile, read, without_secrets};
use pointsman_policies::policy::Policy;
use toml::de::DeTable;
use xxhash_rust::xxh3::Xxh3Default;

use super::candidate::{self, Candidate, Named};
use super::process::{Process, ProcessShape};
pub use super::source::read_source;

/// Narrower terminals break lines; an excerpt cut to so few characters shows nothing.
const MIN_COLUMNS: usize = 40;

/// A checked set.
#[derive(Debug)]
pub struct ConfigSet {
    /// The process.
    pub process: Process,
    /// The machines.
    pub portfolio: Arc<Portfolio>,
    /// The rules.
    pub policy: Arc<Policy>,
    /// The candidate on trial that the policy names.
    pub candidate: Option<Candidate>,
    /// What they were read from.
    pub texts: Texts,
    /// Hash of all texts, the candidate's included, 16 hexadecimal digits.
    pub hash: String,
}

/// The files as they were read. Secrets are references, so there are none in here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    /// `pointsman.toml`
    pub process: Text,
    /// `portfolio.toml`
    pub portfolio: Text,
    /// `policy.toml`
    pub policy: Text,
    /// The candidate that the policy names.
    pub candidate: Option<Text>,
}

impl Texts {
    /// Hash of all of them, the same as a set's that was read from them, 16 hexadecimal digits.
    pub fn hash(&self) -> String {
        let mut hasher = Xxh3Default::new();
        for text in [&self.process, &self.portfolio, &self.policy].into_iter().chain(&self.candidate) {
            hash_text(&mut hasher, text.text.as_bytes());
        }
        format!("{:016x}", hasher.digest())
    }

    /// Without what may be a secret. Texts that were accepted hold references to secrets; others may hold one by mistake.
    pub fn masked(&self) -> Texts {
        let mask = |text: &Text| Text { path: text.path.clone(), text: without_secrets(&text.text).into() };
        Texts {
            process: mask(&self.process),
            portfolio: mask(&self.portfolio),
            policy: mask(&self.policy),
            candidate: self.candidate.as_ref().map(mask),
        }
    }
}

/// A file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Where it is.
    pub path: PathBuf,
    /// What stands there; empty where it could not be read.
    pub text: Arc<str>,
}

impl Text {
    fn of(path: &Path, source: Option<&Source>) -> Text {
        Text { path: path.to_owned(), text: source.map_or("", |source| source.text.as_str()).into() }
    }

    /// Hash of the text alone, 16 hexadecimal digits.
    pub fn hash(&self) -> String {
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(self.text.as_bytes()))
    }
}

/// What reading the files gave: the set if there is no error, the reports in any case.
#[derive(Debug)]
pub struct Loaded {
    /// The set.
    pub set: Option<ConfigSet>,
    /// One report for each file that was read.
    pub reports: Vec<Report>,
    /// The texts, as far as the process file could be understood.
    pub texts: Option<Texts>,
}

impl Loaded {
    /// All diagnostics as text.
    pub fn render(&self, color: bool) -> String {
        render(&self.reports, color)
    }
}

/// The diagnostics of several files as text, with a blank line between files.
pub fn render(reports: &[Report], color: bool) -> String {
    let texts: Vec<String> =
        reports.iter().map(|report| rendered(report, color)).filter(|text| !text.is_empty()).collect();
    texts.join("\n")
}

fn rendered(report: &Report, color: bool) -> String {
    let columns = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    if color && columns >= MIN_COLUMNS { report.render_within(color, columns) } else { report.render(color) }
}

/// Reads and checks the process file, the two files it names, and the candidate that the policy names.
pub fn load(process_file: &Path, secrets: Secrets) -> Loaded {
    load_with(process_file, secrets, None)
}

/// The same, with another text in the place of the policy file's.
pub fn load_with(process_file: &Path, secrets: Secrets, policy_text: Option<&str>) -> Loaded {
    let mut hasher = Xxh3Default::new();
    let mut reports = Vec::new();
    let Some(source) = source(process_file, &mut hasher, &mut reports) else {
        return Loaded { set: None, reports, texts: None };
    };
    let process_text = Text::of(process_file, Some(&source));
    let Some(process) = read_process(source, folder_of(process_file), secrets, &mut reports) else {
        check_others(process_file, &process_text.text, secrets, &mut reports);
        return Loaded { set: None, reports, texts: None };
    };
    let mut named = |path: &Path, key: &str, reports: &mut Vec<Report>| {
        let place = named_at(&process_text.text, key).map(|(_, place)| place);
        named_source(path, place, &mut hasher, reports)
    };
    let portfolio_source = named(&process.portfolio, "portfolio", &mut reports);
    let portfolio_text = Text::of(&process.portfolio, portfolio_source.as_ref());
    let portfolio = portfolio_source.and_then(|source| {
        let (portfolio, report) = portfolio::load(source, folder_of(&process.portfolio), secrets);
        reports.push(report);
        portfolio
    });
    let policy_source = match policy_text {
        Some(text) => {
            hash_text(&mut hasher, text.as_bytes());
            Some(Source::new(process.policy.display().to_string(), text))
        }
        None => named(&process.policy, "policy", &mut reports),
    };
    let policy_text = Text::of(&process.policy, policy_source.as_ref());
    let pools = portfolio.as_ref().map(|portfolio| portfolio.facts.as_slice()).unwrap_or_default();
    let named = policy_source.as_ref().and_then(|source| Named::find(&process.policy, &source.text));
    let candidate_text = named.as_ref().map(|named| Text::of(&named.file, named.read.as_ref().ok()));
    if let Some(Ok(source)) = named.as_ref().map(|named| &named.read) {
        hash_text(&mut hasher, source.text.as_bytes());
    }
    let compiled = policy_source.map(|source| check_policy(&process.policy, source, named, pools, &mut reports));
    let (policy, candidate) = compiled.unwrap_or_default();
    let failed = reports.iter().any(Report::has_errors);
    let hash = format!("{:016x}", hasher.digest());
    let texts =
        Texts { process: process_text, portfolio: portfolio_text, policy: policy_text, candidate: candidate_text };
    let set = portfolio.zip(policy).filter(|_| !failed).map(|(portfolio, policy)| ConfigSet {
        process,
        portfolio: Arc::new(portfolio),
        policy: Arc::new(policy),
        candidate,
        texts: texts.clone(),
        hash,
    });
    Loaded { set, reports, texts: Some(texts) }
}

/// Compiles a policy and the candidate that it names; their reports follow one another.
pub fn check_policy(
    file: &Path,
    source: Source,
    named: Option<Named>,
    pools: &[PoolFacts],
    reports: &mut Vec<Report>,
) -> (Option<Policy>, Option<Candidate>) {
    let (policy, mut report) = compile(source, pools);
    let tried = named.map(|named| named.check(file, (policy.as_ref(), &mut report), pools));
    let (candidate, candidate_report) = tried.unwrap_or_default();
    reports.push(report);
    reports.extend(candidate_report);
    (policy, candidate)
}

/// The files as they are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Hash of their texts, the same as a set's that was loaded from them.
    pub hash: String,
    /// Which files they are, whatever they are called.
    pub inodes: Vec<u64>,
}

/// Looks at the files of a set without reading anything into them.
pub fn look(process_file: &Path, process: &Process) -> Look {
    let mut hasher = Xxh3Default::new();
    let mut inodes = Vec::with_capacity(4);
    for file in files(process_file, Some(process)) {
        match std::fs::read(&file) {
            Ok(text) => hash_text(&mut hasher, &text),
            Err(_) => hash_text(&mut hasher, &[0xfe]), // gone is not empty
        }
        inodes.push(std::fs::metadata(&file).map_or(0, |found| found.ino()));
    }
    Look { hash: format!("{:016x}", hasher.digest()), inodes }
}

fn hash_text(hasher: &mut Xxh3Default, text: &[u8]) {
    hasher.update(text);
    hasher.update(&[0xff]); // ends it
}

/// The folder that a file's relative paths start from; empty for the current one.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new(""))
}

fn read_process(source: Source, folder: &Path, secrets: Secrets, reports: &mut Vec<Report>) -> Option<Process> {
    let mut report = Report::new(source);
    let shape: Option<ProcessShape> = read(&mut report);
    let process = shape.map(|shape| Process::new(&shape, folder, secrets, &mut report));
    reports.push(report);
    process
}

/// A process file, the files it names, the candidate and the scenarios of its policy, as far as its text can be understood; those that are not there are left out.
pub fn named_files(process_file: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(process_file).unwrap_or_default();
    let named = |key: &str, default: &str| {
        let name = named_at(&text, key).map_or_else(|| default.to_owned(), |(name, _)| name);
        Some(folder_of(process_file).join(name)).filter(|path| path.exists())
    };
    let policy = named("policy", "policy.toml");
    let rules = policy.as_ref().map(|file| std::fs::read_to_string(file).unwrap_or_default());
    let candidate = policy.as_ref().zip(rules).and_then(|(file, rules)| candidate::path(file, &rules));
    let scenarios = policy.as_ref().map(|file| file.with_extension("scenarios.toml"));
    let beside = [scenarios, candidate].into_iter().flatten().filter(|path| path.exists());
    let named = [named("portfolio", "portfolio.toml"), policy].into_iter().flatten();
    std::iter::once(process_file.to_owned()).chain(named).chain(beside).collect()
}

/// What a key of the process file names, and where; as far as its text can be understood.
fn named_at(process_text: &str, key: &str) -> Option<(String, Range<usize>)> {
    let table = DeTable::parse_recoverable(process_text).0.into_inner();
    let value = table.get(key)?;
    Some((value.get_ref().as_str()?.to_owned(), value.span()))
}

/// Reads a file that the process file names. One that cannot be opened is told where it is named.
fn named_source(
    path: &Path,
    place: Option<Range<usize>>,
    hasher: &mut Xxh3Default,
    reports: &mut Vec<Report>,
) -> Option<Source> {
    let known = reports.len();
    let found = source(path, hasher, reports);
    let unopened = reports.get(known).filter(|unread| unread.source().text.is_empty());
    if let Some((place, unopened)) = place.zip(unopened) {
        let problems: Vec<Diagnostic> = unopened.iter().cloned().collect();
        reports.truncate(known);
        for problem in problems {
            reports.first_mut()?.push(problem.at(place.clone()));
        }
    }
    found
}

/// Checks the two other files of a process file that cannot be understood, so that all is told at once.
fn check_others(process_file: &Path, process_text: &str, secrets: Secrets, reports: &mut Vec<Report>) {
    let source = |key: &str, default: &str| {
        let name = named_at(process_text, key).map_or_else(|| default.to_owned(), |(name, _)| name);
        let path = folder_of(process_file).join(name);
        Some((read_source(&path).ok()?, path))
    };
    let portfolio = source("portfolio", "portfolio.toml").and_then(|(source, path)| {
        let (portfolio, report) = portfolio::load(source, folder_of(&path), secrets);
        reports.push(report);
        portfolio
    });
    let pools = portfolio.as_ref().map(|portfolio| portfolio.facts.as_slice()).unwrap_or_default();
    if let Some((source, path)) = source("policy", "policy.toml") {
        let named = Named::find(&path, &source.text);
        check_policy(&path, source, named, pools, reports);
    }
}

fn source(path: &Path, hasher: &mut Xxh3Default, reports: &mut Vec<Report>) -> Option<Source> {
    match read_source(path) {
        Ok(source) => {
            hash_text(hasher, source.text.as_bytes());
            Some(source)
        }
        Err(report) => {
            reports.push(report);
            None
        }
    }
}

/// The files that a process file's set consists of, for watching; those that cannot be known yet are left out.
pub fn files(process_file: &Path, process: Option<&Process>) -> Vec<PathBuf> {
    let mut files = vec![process_file.to_owned()];
    if let Some(process) = process {
        files.extend([process.portfolio.clone(), process.policy.clone()]);
        let policy = std::fs::read_to_string(&process.policy).unwrap_or_default();
        files.extend(candidate::path(&process.policy, &policy));
    }
    files
}
