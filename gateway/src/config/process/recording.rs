//! Whether and where decisions are recorded.

use std::path::Path;

use pointsman_policies::language::{Diagnostic, Located, Report};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::decision_log::entry::is_credential;
use crate::decision_log::writer::LogFiles;

/// `[record]`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordShape {
    /// Record every decision into this file, relative to this one, from the start on; `pointsman replay` reads it. Not
    /// recorded from the start where not given; `POST /api/v1/record` begins later.
    #[schemars(example = &"state/decisions.log")]
    pub file: Option<String>,
    /// A file is moved aside (`FILE.1`, `FILE.2`, ...) before it is larger, bytes; 268435456 (256 MiB) where not given.
    #[schemars(range(min = 1_048_576))]
    #[schemars(example = 268_435_456)]
    pub max_bytes: Option<u64>,
    /// Files kept, the one being written included; 4 where not given.
    #[schemars(range(min = 1, max = 1000))]
    #[schemars(example = 3)]
    pub keep: Option<u32>,
    /// Headers that are recorded besides those that the policy reads, so that a candidate may read them. Values of
    /// headers that carry credentials, such as `authorization`, are never recorded.
    #[serde(default)]
    #[schemars(example = serde_json::json!(["x-agent"]))]
    pub headers: Vec<Located<String>>,
}

/// Whether and where decisions are recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// From the start on.
    pub from_start: bool,
    /// Where; the bounds hold for recordings that begin later, too.
    pub files: LogFiles,
    /// Headers recorded besides those that the policy reads, in lower case.
    pub headers: Vec<String>,
}

/// The file where none is named.
const DEFAULT_FILE: &str = "decisions.log";
const DEFAULT_MAX_BYTES: u64 = 256 << 20;
const DEFAULT_KEEP: u32 = 4;

impl Record {
    pub(super) fn new(shape: &RecordShape, folder: &Path, state: &Path, report: &mut Report) -> Record {
        let file = shape.file.as_ref().map_or_else(|| state.join(DEFAULT_FILE), |file| folder.join(file));
        let max_bytes = shape.max_bytes.unwrap_or(DEFAULT_MAX_BYTES);
        let files = LogFiles { file, max_bytes, keep: shape.keep.unwrap_or(DEFAULT_KEEP) };
        let headers = shape.headers.iter().filter_map(|name| header(name, report)).collect();
        Record { from_start: shape.file.is_some(), files, headers }
    }
}

fn header(name: &Located<String>, report: &mut Report) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    let problem = if http::HeaderName::from_bytes(lower.as_bytes()).is_err() {
        Diagnostic::error("bad-header", format!("`{}` cannot be the name of a header", name.value))
    } else if is_credential(&lower) {
        let refused = Diagnostic::error("credential-header", format!("`{}` carries credentials", name.value));
        refused.help("such values are never recorded; let the gateway's caller name its tenant in `x-pointsman-tenant`")
    } else {
        return Some(lower);
    };
    report.push(problem.at(name.span.clone()));
    None
}
