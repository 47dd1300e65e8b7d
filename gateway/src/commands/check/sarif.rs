//! What `check` found, as SARIF 2.1.0: what code hosts and editors show beside the lines of a change.

use std::path::{Component, Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pointsman_policies::language::{CODES, DiagnosticRecord, Place, PlaceRecord, Report, Severity};
use serde_json::{Value, json};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// Everything but what a path may have in a URI as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// The log as text; ends with a newline. `folder` is the current one.
pub(super) fn text(reports: &[Report], folder: &Path) -> serde_json::Result<String> {
    let rule = |(code, meaning): &(&str, &str)| json!({ "id": code, "shortDescription": { "text": meaning } });
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "pointsman",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": CODES.iter().map(rule).collect::<Vec<_>>(),
            } },
            "columnKind": "unicodeCodePoints",
            "originalUriBaseIds": { "ROOT": { "description": { "text": "The folder in which `pointsman check` ran." } } },
            "artifacts": reports.iter().map(|report| {
                json!({ "location": location(&report.source().name, folder), "mimeType": "application/toml" })
            }).collect::<Vec<_>>(),
            "results": reports.iter().flat_map(Report::records).map(|one| outcome(&one, folder)).collect::<Vec<_>>(),
        }],
    });
    Ok(serde_json::to_string_pretty(&log)? + "\n")
}

/// One diagnostic.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    rule_id: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_index: Option<usize>,
    level: Severity,
    message: Message,
    locations: [Location; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related_locations: Vec<Location>,
}

#[derive(serde::Serialize)]
struct Message {
    text: String,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<usize>,
    physical_location: PhysicalLocation,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message>,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct PhysicalLocation {
    artifact_location: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<Region>,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: usize,
    start_column: usize,
    end_line: usize,
    end_column: usize,
}

impl From<&Place> for Region {
    fn from(place: &Place) -> Region {
        Region {
            start_line: place.line,
            start_column: place.column,
            end_line: place.end_line,
            end_column: place.end_column,
        }
    }
}

fn outcome(one: &DiagnosticRecord, folder: &Path) -> Outcome {
    let help = one.help.iter().map(|help| format!("\nhelp: {help}"));
    let located = |id: Option<usize>, place: Option<&Place>, text: Option<&String>| Location {
        id,
        physical_location: PhysicalLocation {
            artifact_location: location(&one.file, folder),
            region: place.map(Region::from),
        },
        message: text.cloned().map(|text| Message { text }),
    };
    let related =
        |(index, also): (usize, &PlaceRecord)| located(Some(index + 1), Some(&also.place), Some(&also.message));
    Outcome {
        rule_id: one.code,
        rule_index: CODES.binary_search_by_key(&one.code, |(code, _)| code).ok(),
        level: one.severity,
        message: Message { text: std::iter::once(one.message.clone()).chain(help).collect() },
        locations: [located(None, one.place.as_ref(), one.label.as_ref())],
        related_locations: one.also.iter().enumerate().map(related).collect(),
    }
}

/// Relative to the current folder where the file is inside it, else absolute.
fn location(file: &str, folder: &Path) -> Value {
    let whole = plain(&folder.join(file));
    let (path, inside) = match whole.strip_prefix(plain(folder)) {
        Ok(inside) => (inside, true),
        Err(_) => (whole.as_path(), false),
    };
    let text = path.to_string_lossy();
    let encoded = utf8_percent_encode(&text, ESCAPED);
    if inside {
        json!({ "uri": encoded.to_string(), "uriBaseId": "ROOT" })
    } else {
        json!({ "uri": format!("file://{encoded}") })
    }
}

/// A path without `.` and `..`, by its text alone.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            _ => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_as_uris() {
        #[track_caller]
        fn check(file: &str, uri: &str, base: Option<&str>) {
            let found = location(file, Path::new("/srv/my work"));
            assert_eq!((found["uri"].as_str(), found["uriBaseId"].as_str()), (Some(uri), base), "{file}");
        }
        check("policy.toml", "policy.toml", Some("ROOT"));
        check("./a/../b é/100%.toml", "b%20%C3%A9/100%25.toml", Some("ROOT"));
        check("c:policy.toml", "c%3Apolicy.toml", Some("ROOT"));
        check("/srv/my work/x/policy.toml", "x/policy.toml", Some("ROOT"));
        check("/etc/pointsman/policy.toml", "file:///etc/pointsman/policy.toml", None);
        check("../other/policy.toml", "file:///srv/other/policy.toml", None);
        check("../my work/p#1?.toml", "p%231%3F.toml", Some("ROOT"));
    }
}
