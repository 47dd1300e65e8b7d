//! A change of the policy by command: checked first, then written to the policy file and put in force; put back where
//! that fails. What is in force is always what stands in the file.

use std::path::Path;
use std::sync::Arc;

use axum::http::StatusCode;
use pointsman_backends::portfolio::Secrets;
use pointsman_policies::language::{DiagnosticRecord, Report};

use crate::admin::problem::Problem;
use crate::config::set::{self, Loaded, Text};
use crate::config::write;
use crate::gateway::Gateway;
use crate::generations::comparison::FileComparison;
use crate::generations::entry::Change;
use crate::reload::{self, Reloaded};
use crate::snapshot::Snapshot;

/// Which policy a change is meant to replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Whichever is in force.
    Any,
    /// The one whose text has one of these hashes.
    OneOf(Vec<String>),
}

/// What came of a change.
#[derive(Debug)]
pub struct Applied {
    /// What was in force before.
    pub before: Arc<Snapshot>,
    /// What is in force now; the same generation where the text was in force already.
    pub after: Arc<Snapshot>,
}

/// What would come of a change.
#[derive(Debug)]
pub struct Rehearsal {
    /// Whether it would come into force.
    pub good: bool,
    /// What is wrong or doubtful with it.
    pub diagnostics: Vec<DiagnosticRecord>,
    /// What it changes in the policy.
    pub comparison: FileComparison,
    /// Why a command could not put it in force, however good it is: the file is to be changed where it comes from.
    pub hindrance: Option<Problem>,
}

/// Puts a text in force as the policy. Waits while files are being read; reads and writes files itself.
pub fn apply(gateway: &Gateway, text: &str, expected: &Expected, change: &Change) -> Result<Applied, Problem> {
    let _one_at_a_time = gateway.reloading();
    let before = gateway.snapshot();
    let done = replace(gateway, &before, text, expected, change);
    if let Err(problem) = &done
        && problem.code != REFUSED
    {
        gateway.history().turned_away(&before, change, problem.code, &problem.message);
    }
    done.map(|after| Applied { before, after })
}

/// Says what would come of it, and does nothing.
pub fn rehearse(gateway: &Gateway, text: &str) -> Rehearsal {
    let current = gateway.snapshot();
    let loaded = check(&current, text);
    let new = Text { path: current.texts.policy.path.clone(), text: text.into() };
    Rehearsal {
        good: loaded.set.is_some(),
        diagnostics: loaded.reports.iter().flat_map(Report::records).collect(),
        comparison: FileComparison::of(&current.texts.policy, &new),
        hindrance: unlocked(&current).and_then(|()| writable(&current.texts.policy.path)).err(),
    }
}

/// Where only the files change anything, no command does.
pub fn unlocked(current: &Snapshot) -> Result<(), Problem> {
    if !current.process.generations.locked {
        return Ok(());
    }
    let problem = Problem::new(StatusCode::LOCKED, "locked", "the gateway is locked: only its files change anything");
    let policy = current.texts.policy.path.display();
    Err(problem.help(format!("change `{policy}` where it is kept, or set `generations.locked = false`")))
}

/// Code of a change whose text is refused; the history keeps the attempt.
const REFUSED: &str = "refused";

fn replace(
    gateway: &Gateway,
    before: &Arc<Snapshot>,
    text: &str,
    expected: &Expected,
    change: &Change,
) -> Result<Arc<Snapshot>, Problem> {
    let (process_file, policy) = (&before.texts.process.path, &before.texts.policy);
    expect(expected, policy)?;
    let on_disk = std::fs::read(&policy.path).ok();
    let written = on_disk.as_deref() == Some(text.as_bytes());
    if written && *text == *policy.text {
        return Ok(Arc::clone(before));
    }
    if set::look(process_file, &before.process).hash != gateway.reload_status().seen {
        let problem =
            Problem::new(StatusCode::CONFLICT, "files-changed", "the files have just changed and are not read yet");
        return Err(problem.help("ask again in a second; what changed them is seen by then"));
    }
    let loaded = check(before, text);
    if loaded.set.is_none() {
        return Err(refuse(gateway, before, &loaded, change));
    }
    writable(&policy.path)?;
    let write = |bytes: &[u8]| {
        write::replace(&policy.path, bytes).map_err(|error| {
            let message = format!("cannot write `{}`: {error}", policy.path.display());
            Problem::new(StatusCode::CONFLICT, "file-not-writable", message).help(READ_ONLY_HELP)
        })
    };
    write(text.as_bytes())?;
    match reload::read_again(gateway, process_file, change) {
        Reloaded::Swapped(after) => Ok(after),
        Reloaded::Same => Ok(gateway.snapshot()),
        Reloaded::Refused(why) => {
            tracing::error!("a policy that was good a moment ago is refused, the file is put back\n{why}");
            write(on_disk.as_deref().unwrap_or(policy.text.as_bytes()))?;
            reload::read_again(gateway, process_file, &Change::file());
            Err(refused(Vec::new()).help("another file changed at the same time; see /api/v1/config"))
        }
    }
}

/// Refuses a change that is meant for another policy.
pub fn expect(expected: &Expected, policy: &Text) -> Result<(), Problem> {
    let hash = policy.hash();
    match expected {
        Expected::OneOf(hashes) if !hashes.contains(&hash) => {
            let message = format!("the policy in force has changed: its hash is {hash}");
            let stale = Problem::new(StatusCode::PRECONDITION_FAILED, "stale", message);
            Err(stale
                .help("read it again (GET /api/v1/policy), make the change to that text, send it with the new ETag"))
        }
        _ => Ok(()),
    }
}

/// The set as it would be read with another policy.
fn check(current: &Snapshot, text: &str) -> Loaded {
    let process_file = &current.texts.process.path;
    let mut loaded = set::load_with(process_file, Secrets::Required, Some(text));
    reload::refuse_fixed_keys(&mut loaded, process_file, current);
    loaded
}

fn refuse(gateway: &Gateway, current: &Snapshot, loaded: &Loaded, change: &Change) -> Problem {
    if let Some(texts) = &loaded.texts {
        gateway.history().refused(current, &texts.hash(), texts, &loaded.reports, change);
    }
    refused(loaded.reports.iter().flat_map(Report::records).collect())
}

fn refused(diagnostics: Vec<DiagnosticRecord>) -> Problem {
    let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, REFUSED, "the policy is refused; nothing has changed");
    problem.help("mend what the diagnostics say; `?dry_run=true` tells without consequence").diagnostics(diagnostics)
}

/// What to do about a file that is not the gateway's to write.
const READ_ONLY_HELP: &str = "change the policy where the file comes from, such as the ConfigMap or the repository";

/// A link is somebody else's way to keep the file up to date, and a write through it would be undone.
fn writable(path: &Path) -> Result<(), Problem> {
    let refuse = |code, message| Err(Problem::new(StatusCode::CONFLICT, code, message).help(READ_ONLY_HELP));
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => {
            refuse("file-is-a-link", format!("`{}` is a link, as in a mounted ConfigMap", path.display()))
        }
        Ok(found) if found.permissions().readonly() => {
            refuse("file-not-writable", format!("`{}` is read-only", path.display()))
        }
        _ => Ok(()),
    }
}
