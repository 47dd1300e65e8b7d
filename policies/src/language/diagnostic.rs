//! What is told to the operator about a file: code, place, message, advice; all of a file's problems at once.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::masked::without_secrets;

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

    /// Line and column of a byte offset, both from 1; the column counts characters.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..floor_char(&self.text, offset)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}

/// Whether a diagnostic stops the file from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, though hardly as meant.
    Warning,
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

/// A diagnostic as the admin API shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DiagnosticRecord {
    /// File path as shown.
    pub file: String,
    /// Line, from 1; absent where no place is to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Column in characters, from 1; absent where no place is to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// Whether it stops the file from being used.
    pub severity: Severity,
    /// Stable name of the kind of problem.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// Everything there is to say about one file, in the order of the file.
#[derive(Clone, Debug)]
pub struct Report {
    source: Arc<Source>,
    diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// Nothing to say yet.
    pub fn new(source: Source) -> Report {
        Report { source: Arc::new(source), diagnostics: Vec::new() }
    }

    /// The text the report is about.
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// Adds a diagnostic at its place in the order of the file.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let start = |one: &Diagnostic| one.span.as_ref().map(|span| span.start);
        let at = self.diagnostics.partition_point(|other| start(other) <= start(&diagnostic));
        self.diagnostics.insert(at, diagnostic);
    }

    /// Adds an error that needs no label and no help.
    pub fn error(&mut self, code: &'static str, span: Range<usize>, message: impl Into<String>) {
        self.push(Diagnostic::error(code, message).at(span));
    }

    /// Adds a warning that needs no label and no help.
    pub fn warning(&mut self, code: &'static str, span: Range<usize>, message: impl Into<String>) {
        self.push(Diagnostic::warning(code, message).at(span));
    }

    /// Whether the file cannot be used.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|one| one.severity == Severity::Error)
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// How many diagnostics there are.
    pub fn len(&self) -> usize {
        self.diagnostics.len()
    }

    /// The diagnostics, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.diagnostics.iter()
    }

    /// The diagnostics as the admin API shows them.
    pub fn records(&self) -> Vec<DiagnosticRecord> {
        self.diagnostics.iter().map(|one| self.record(one)).collect()
    }

    /// The diagnostics as a terminal shows them, each with its excerpt; empty where there is nothing to say.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let shown = without_secrets(&self.source.text);
        let mut text = String::new();
        for diagnostic in &self.diagnostics {
            text.push_str(&renderer.render(&[self.group(diagnostic, &shown)]));
            text.push_str("\n\n");
        }
        text.truncate(text.trim_end().len());
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }

    fn record(&self, diagnostic: &Diagnostic) -> DiagnosticRecord {
        let place = diagnostic.span.as_ref().map(|span| self.source.line_column(span.start));
        DiagnosticRecord {
            file: self.source.name.clone(),
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
            severity: diagnostic.severity,
            code: diagnostic.code,
            message: diagnostic.message.clone(),
            help: diagnostic.help.clone(),
        }
    }

    fn group<'a>(&'a self, diagnostic: &'a Diagnostic, shown: &'a str) -> Group<'a> {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(diagnostic.message.as_str()).id(diagnostic.code);
        let mut group = match &diagnostic.span {
            Some(span) => {
                let span = clamp(&self.source.text, span);
                let annotation = AnnotationKind::Primary.span(span).label(diagnostic.label.as_deref());
                let also = diagnostic.also.iter().map(|(span, text)| {
                    AnnotationKind::Context.span(clamp(&self.source.text, span)).label(text.as_str())
                });
                let snippet = Snippet::source(shown).path(self.source.name.as_str());
                title.element(snippet.annotation(annotation).annotations(also))
            }
            None => title.element(Origin::path(self.source.name.as_str())),
        };
        if let Some(help) = &diagnostic.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        group
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl<'a> IntoIterator for &'a Report {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
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

/// A span made safe to show: inside the text, on character boundaries, not past the end of its first line.
fn clamp(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = floor_char(text, span.start);
    let end = floor_char(text, span.end).max(start);
    let line = text.get(start..end).unwrap_or_default().lines().next().unwrap_or_default();
    start..start + line.len()
}

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

    #[test]
    fn columns_count_characters() {
        let source = Source::new("a.toml", "é = 1\nnaïve = x\n");
        let at = source.text.find('x').unwrap();
        assert_eq!(source.line_column(0), (1, 1));
        assert_eq!(source.line_column(at), (2, 9));
        assert_eq!(source.line_column(1), (1, 1), "inside a character is its start");
        assert_eq!(source.line_column(9999), (3, 1));
    }

    #[test]
    fn any_span_renders() {
        let text = "é = 1\r\n\r\nb = \"ü\"\n";
        for start in 0..text.len() + 3 {
            for end in 0..text.len() + 3 {
                let mut report = Report::new(Source::new("a.toml", text));
                report.error("some-code", start..end, "a message");
                assert!(report.render(false).contains("some-code"));
            }
        }
        let mut empty = Report::new(Source::new("a.toml", ""));
        empty.error("some-code", 0..0, "a message");
        assert!(empty.render(true).contains("some-code"));
    }

    #[test]
    fn records_serialise_with_place_and_help() {
        let mut report = Report::new(Source::new("a.toml", "a = 1\nb = 2\n"));
        report.warning("second", 6..7, "two");
        report.push(Diagnostic::error("first", "one").at(0..1).help("do this"));
        report.push(Diagnostic::error("nowhere", "zero"));
        let json = serde_json::to_string(&report.records()).unwrap();
        insta::assert_snapshot!(json, @r#"[{"file":"a.toml","severity":"error","code":"nowhere","message":"zero"},{"file":"a.toml","line":1,"column":1,"severity":"error","code":"first","message":"one","help":"do this"},{"file":"a.toml","line":2,"column":1,"severity":"warning","code":"second","message":"two"}]"#);
        assert!(report.has_errors());
    }
}
