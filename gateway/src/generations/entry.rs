//! What is told of a generation, or of an attempt that was refused.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::set::Texts;
use crate::snapshot::Snapshot;

/// Shape of the files in which entries are kept; of others, nothing is known.
pub const FORMAT: u32 = 1;

/// How a change came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The process started with other files than it ended with.
    Start,
    /// Somebody changed a file.
    File,
    /// SIGHUP.
    Signal,
    /// The admin API, a new text.
    Api,
    /// The admin API, back to an earlier text.
    Rollback,
    /// A candidate took the place of the policy that it was tried against.
    Promote,
    /// A candidate did worse and was taken back.
    CanaryRollback,
}

impl Origin {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Start => "start",
            Origin::File => "file",
            Origin::Signal => "signal",
            Origin::Api => "api",
            Origin::Rollback => "rollback",
            Origin::Promote => "promote",
            Origin::CanaryRollback => "canary-rollback",
        }
    }
}

/// Who wants what is in force changed, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// How.
    pub origin: Origin,
    /// Who, as they call themselves.
    pub who: String,
    /// Where they asked from.
    pub from: Option<SocketAddr>,
}

impl Change {
    /// The process starts.
    pub fn start() -> Change {
        Change::of_itself(Origin::Start)
    }

    /// A file has changed.
    pub fn file() -> Change {
        Change::of_itself(Origin::File)
    }

    /// A signal asks for it.
    pub fn signal() -> Change {
        Change::of_itself(Origin::Signal)
    }

    /// Nobody in particular.
    pub fn of_itself(origin: Origin) -> Change {
        Change { origin, who: "-".to_owned(), from: None }
    }
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It came into force.
    Accepted,
    /// It did not.
    Refused,
}

/// The name of an entry: a generation's number, or `r` and the number of a refused attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id {
    /// It was in force.
    Generation(u64),
    /// It was refused.
    Refused(u64),
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Generation(number) => write!(f, "{number}"),
            Id::Refused(number) => write!(f, "r{number}"),
        }
    }
}

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Id, String> {
        let wrong = |_| format!("`{text}` names no generation");
        match text.strip_prefix('r') {
            Some(number) => number.parse().map(Id::Refused).map_err(wrong),
            None => text.parse().map(Id::Generation).map_err(wrong),
        }
    }
}

/// A generation, or an attempt that was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Shape of the file.
    pub format: u32,
    /// Its number among those in force or among those refused.
    pub number: u64,
    /// What came of it.
    pub result: Outcome,
    /// When, RFC 3339.
    pub at: String,
    /// When, milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Who.
    pub who: String,
    /// Where they asked from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// How.
    pub source: Origin,
    /// Hash of the three texts.
    pub hash: String,
    /// Name of the policy; empty where it could not be understood.
    pub policy: String,
    /// Hash of the policy's text.
    pub policy_hash: String,
    /// What it changes, or why it was refused, in one line.
    pub summary: String,
    /// Of a refused attempt, the generation that stayed in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stayed: Option<u64>,
    /// What was wrong or doubtful.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Value>,
}

impl Entry {
    /// The same as a name.
    pub fn id(&self) -> Id {
        match self.result {
            Outcome::Accepted => Id::Generation(self.number),
            Outcome::Refused => Id::Refused(self.number),
        }
    }

    pub(super) fn accepted(number: u64, policy: &str, hash: &str, texts: &Texts, change: &Change) -> Entry {
        let now = SystemTime::now();
        let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Entry {
            format: FORMAT,
            number,
            result: Outcome::Accepted,
            at: humantime::format_rfc3339_millis(now).to_string(),
            at_unix_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
            who: change.who.clone(),
            from: change.from.map(|from| from.to_string()),
            source: change.origin,
            hash: hash.to_owned(),
            policy: policy.to_owned(),
            policy_hash: texts.policy.hash(),
            summary: String::new(),
            stayed: None,
            diagnostics: Vec::new(),
        }
    }

    pub(super) fn refused(number: u64, current: &Snapshot, hash: &str, texts: &Texts, change: &Change) -> Entry {
        let entry = Entry::accepted(number, "", hash, texts, change);
        Entry { result: Outcome::Refused, stayed: Some(current.generation), ..entry }
    }
}
