//! What is told to the operator about a file: code, place, message, advice; all of a file's problems at once.

use std::ops::Range;

/// All there is to say about one file.
mod report;
/// What each code stands for.
mod codes;

pub use codes::CODES;
pub use report::{DiagnosticRecord, Place, PlaceRecord, Report};

/// Names shorter than this are too short to guess at by more than one letter.
const SHORT_NAME_CHARS: usize = 5;

/// A text and the name under which the operator knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// File path as shown.
    pub name: String,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// A text under a name.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Source {
        Source { name: name.into(), text: text.into() }
    }
}

/// How bad it is: the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, though hardly as meant.
    Warning,
    /// The file can be used as meant; this is good to know.
    Note,
}

/// One problem of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it stops the file from being used.
    pub severity: Severity,
    /// Stable name of the kind of problem, kebab-case.
    pub code: &'static str,
    /// Where, in bytes of the source; `None` where no place is to blame.
    pub span: Option<Range<usize>>,
    /// What is wrong: lower case, one fact, no full stop.
    pub message: String,
    /// A few words under the excerpt.
    pub label: Option<String>,
    /// Other places that have to do with it, each with a few words.
    pub also: Vec<(Range<usize>, String)>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A problem that stops the file from being used.
    pub fn error(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            code,
            span: None,
            message: message.into(),
            label: None,
            also: Vec::new(),
            help: None,
        }
    }

    /// A problem that does not stop the file from being used.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, message) }
    }

    /// Something good to know.
    pub fn note(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Note, ..Diagnostic::error(code, message) }
    }

    /// Points at a place, in bytes of the source.
    pub fn at(mut self, span: Range<usize>) -> Diagnostic {
        self.span = Some(span);
        self
    }

    /// Adds a few words under the excerpt.
    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = Some(label.into());
        self
    }

    /// Points at another place that has to do with it.
    pub fn also(mut self, span: Range<usize>, text: impl Into<String>) -> Diagnostic {
        self.also.push((span, text.into()));
        self
    }

    /// Adds advice.
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// Adds advice where there is some.
    pub fn maybe_help(mut self, help: Option<String>) -> Diagnostic {
        self.help = help.or(self.help);
        self
    }
}

/// Longer names are nobody's misspelling, bytes.
const LONGEST_NAME: usize = 128;

/// The candidate that a misspelt name most likely means; `None` where nothing is near.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > LONGEST_NAME {
        return None;
    }
    let chars = name.chars().count();
    let allowed = if chars < SHORT_NAME_CHARS { 1 } else { (chars / 3).max(2) };
    let folded = name.to_lowercase();
    let distance = |candidate: &str| strsim::osa_distance(&folded, &candidate.to_lowercase());
    candidates
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed && *distance < chars.max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The offset, moved back to where its character starts.
fn floor_char(text: &str, offset: usize) -> usize {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_guesses_only_what_is_near() {
        let check = |name: &str, expected: Option<&str>| {
            let candidates = ["ttft_ms", "itl_ms", "deadline_s", "target", "gpu", "cpu"];
            assert_eq!(nearest(name, candidates), expected, "{name}");
        };
        check("ttft_mss", Some("ttft_ms"));
        check("tftt_ms", Some("ttft_ms"));
        check("TARGET", Some("target"));
        check("gppu", Some("gpu"));
        check("tpu", Some("gpu"));
        check("colour", None);
        check("", None);
        check("x", None);
    }
}
