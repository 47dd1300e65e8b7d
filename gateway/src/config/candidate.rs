//! The policy on trial: a file that the policy file names in `[shadow]` or `[canary]`, read and checked with it.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pointsman_policies::fleet::PoolFacts;
use pointsman_policies::language::{Diagnostic, Report, Source, compile};
use pointsman_policies::policy::{Policy, Trial, TrialMode};
use toml::de::DeTable;
use xxhash_rust::xxh3::xxh3_64;

use super::set::folder_of;
use super::source::read_source;

/// The tables that name a candidate.
pub const TABLES: [&str; 2] = ["shadow", "canary"];

/// A checked candidate.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its file.
    pub file: PathBuf,
    /// Its text.
    pub text: Arc<str>,
    /// Hash of its text, 16 hexadecimal digits.
    pub hash: String,
    /// Its rules.
    pub policy: Arc<Policy>,
}

/// A candidate's file as a policy file names it.
pub struct Named {
    /// Its path.
    pub file: PathBuf,
    /// Where the policy file names it, in bytes.
    pub place: Range<usize>,
    /// Its text, or why there is none.
    pub read: Result<Source, Report>,
}

/// The candidate's path, by the text of a policy file, however wrong the rest of that text is.
pub fn path(policy_file: &Path, text: &str) -> Option<PathBuf> {
    named(policy_file, text).map(|(path, _)| path)
}

fn named(policy_file: &Path, text: &str) -> Option<(PathBuf, Range<usize>)> {
    let tables = DeTable::parse(text).ok()?.into_inner();
    let value = TABLES.iter().find_map(|table| tables.get(*table)?.get_ref().get("policy"))?;
    Some((folder_of(policy_file).join(value.get_ref().as_str()?), value.span()))
}

impl Named {
    /// Reads the candidate that the text of a policy file names.
    pub fn find(policy_file: &Path, text: &str) -> Option<Named> {
        let (file, place) = named(policy_file, text)?;
        Some(Named { read: read_source(&file), file, place })
    }

    /// Checks it. Problems of the naming go into the policy's report, problems of the candidate into its own, which is
    /// returned.
    pub fn check(
        self,
        policy_file: &Path,
        (policy, policy_report): (Option<&Policy>, &mut Report),
        pools: &[PoolFacts],
    ) -> (Option<Candidate>, Option<Report>) {
        let trial = policy.and_then(|policy| policy.trial.as_ref());
        let place = self.place;
        if is_same(policy_file, &self.file) {
            let itself = Diagnostic::error("candidate-is-itself", "a policy cannot be its own candidate");
            policy_report.push(itself.at(place).help("copy the file under another name and change the copy"));
            return (None, None);
        }
        let source = match self.read {
            Ok(source) => source,
            Err(report) => {
                let message = report.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; ");
                let unreadable = Diagnostic::error("unreadable-candidate", message).at(place);
                policy_report.push(unreadable.help("its name is relative to the folder of this file"));
                return (None, None);
            }
        };
        let (candidate, report) = compile_candidate(source, self.file, pools);
        if let Some((candidate, (policy, trial))) = candidate.as_ref().zip(policy.zip(trial)) {
            warn_of_unguarded(policy, trial, &candidate.policy, policy_report);
        }
        (candidate, Some(report))
    }
}

/// Compiles a policy that is to be a candidate.
pub fn compile_candidate(source: Source, file: PathBuf, pools: &[PoolFacts]) -> (Option<Candidate>, Report) {
    let text: Arc<str> = source.text.as_str().into();
    let (compiled, mut report) = compile(source, pools);
    if let Some(own) = compiled.as_ref().and_then(|compiled| compiled.trial.as_ref()) {
        let nested = Diagnostic::error("trial-in-candidate", "a candidate cannot have a candidate of its own");
        report.push(nested.at(own.span.clone()).help("remove `[shadow]` and `[canary]` from this file"));
    }
    let usable = compiled.filter(|_| !report.has_errors());
    let hash = hash(&text);
    (usable.map(|policy| Candidate { file, text, hash, policy: Arc::new(policy) }), report)
}

/// Hash of a candidate's text, 16 hexadecimal digits.
pub fn hash(text: &str) -> String {
    format!("{:016x}", xxh3_64(text.as_bytes()))
}

fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    real(one).is_some_and(|one| real(other) == Some(one))
}

/// A class that only one of both has is compared with nothing.
fn warn_of_unguarded(policy: &Policy, trial: &Trial, candidate: &Policy, report: &mut Report) {
    if !matches!(trial.mode, TrialMode::Canary(_)) {
        return;
    }
    let only = |of: &Policy, other: &Policy| -> Vec<String> {
        let lone = of.classes.iter().filter(|class| other.class_by_name(&class.name).is_none());
        lone.map(|class| format!("`{}`", class.name)).collect()
    };
    for (names, has, lacks) in [
        (only(policy, candidate), "this policy", "the candidate"),
        (only(candidate, policy), "the candidate", "this policy"),
    ] {
        if names.is_empty() {
            continue;
        }
        let (noun, verb) = if names.len() == 1 { ("class", "is") } else { ("classes", "are") };
        let message = format!("{noun} {} {verb} not guarded: {has} has what {lacks} has not", names.join(", "));
        let warning = Diagnostic::warning("unguarded-class", message).at(trial.span.clone());
        report.push(warning.help("attainment is compared by class name; give both policies the same classes"));
    }
}
