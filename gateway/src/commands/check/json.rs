//! What `check` found, as one JSON object of a stable shape.

use pointsman_policies::language::{DiagnosticRecord, Report};

use super::Counts;

/// Grows when a key goes or changes its meaning, not when one is added.
const VERSION: u32 = 1;

#[derive(serde::Serialize)]
struct Found<'a> {
    version: u32,
    #[serde(flatten)]
    counts: Counts,
    files: Vec<&'a str>,
    diagnostics: Vec<DiagnosticRecord>,
}

/// The object as text; ends with a newline.
pub(super) fn text(reports: &[Report]) -> serde_json::Result<String> {
    let found = Found {
        version: VERSION,
        counts: Counts::of(reports),
        files: reports.iter().map(|report| report.source().name.as_str()).collect(),
        diagnostics: reports.iter().flat_map(Report::records).collect(),
    };
    Ok(serde_json::to_string_pretty(&found)? + "\n")
}
