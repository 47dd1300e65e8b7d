//! All there is to say about one file, for terminals and for programs.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::super::masked::without_secrets;
use super::{Diagnostic, Severity, Source, floor_char};

/// A diagnostic as programs read it: in the admin API and in the output of `check`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DiagnosticRecord {
    /// File path as shown.
    pub file: String,
    /// Where; absent where no place is to blame.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// How bad it is.
    pub severity: Severity,
    /// Stable name of the kind of problem.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// A few words about the place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Other places of the file that have to do with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<PlaceRecord>,
}

/// From a first character to the one after the last: lines from 1, columns in characters from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Place {
    /// Line of the first character.
    pub line: usize,
    /// Column of the first character.
    pub column: usize,
    /// Line of the character after the last.
    pub end_line: usize,
    /// Column of the character after the last.
    pub end_column: usize,
}

/// Another place that has to do with a diagnostic.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PlaceRecord {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What it has to do with it.
    pub message: String,
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
        self.count(Severity::Error) > 0
    }

    /// How many diagnostics of a severity there are.
    pub fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|one| one.severity == severity).count()
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

    /// The diagnostics as programs read them.
    pub fn records(&self) -> Vec<DiagnosticRecord> {
        let lines = Lines::of(&self.source.text);
        self.diagnostics.iter().map(|one| self.record(one, &lines)).collect()
    }

    /// The diagnostics as a terminal shows them, each with its excerpt; empty where there is nothing to say.
    pub fn render(&self, color: bool) -> String {
        self.render_with(&if color { Renderer::styled() } else { Renderer::plain() })
    }

    /// As [`Report::render`], with longer lines cut around what is wrong to so many characters.
    pub fn render_within(&self, color: bool, columns: usize) -> String {
        self.render_with(&if color { Renderer::styled() } else { Renderer::plain() }.term_width(columns))
    }

    fn render_with(&self, renderer: &Renderer) -> String {
        let shown = without_secrets(&self.source.text);
        let lines = Lines::of(&shown);
        let mut text = String::new();
        for diagnostic in &self.diagnostics {
            text.push_str(&renderer.render(&[self.group(diagnostic, &shown, &lines)]));
            text.push_str("\n\n");
        }
        text.truncate(text.trim_end().len());
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }

    fn record(&self, diagnostic: &Diagnostic, lines: &Lines<'_>) -> DiagnosticRecord {
        let also = |(span, message): &(Range<usize>, String)| PlaceRecord {
            place: lines.place(span.clone()),
            message: message.clone(),
        };
        DiagnosticRecord {
            file: self.source.name.clone(),
            place: diagnostic.span.clone().map(|span| lines.place(span)),
            severity: diagnostic.severity,
            code: diagnostic.code,
            message: diagnostic.message.clone(),
            label: diagnostic.label.clone(),
            help: diagnostic.help.clone(),
            also: diagnostic.also.iter().map(also).collect(),
        }
    }

    fn group<'a>(&'a self, diagnostic: &'a Diagnostic, shown: &'a str, lines: &Lines<'_>) -> Group<'a> {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let title = level.primary_title(diagnostic.message.as_str()).id(diagnostic.code);
        let mut group = match &diagnostic.span {
            Some(span) => {
                let spans = std::iter::once(span).chain(diagnostic.also.iter().map(|(span, _)| span));
                let excerpt = lines.around(spans);
                let inside = |span: &Range<usize>| {
                    let span = first_line(shown, span);
                    span.start.saturating_sub(excerpt.start)..span.end.saturating_sub(excerpt.start)
                };
                let annotation = AnnotationKind::Primary.span(inside(span)).label(diagnostic.label.as_deref());
                let also = diagnostic.also.iter();
                let also = also.map(|(span, text)| AnnotationKind::Context.span(inside(span)).label(text.as_str()));
                let snippet = Snippet::source(shown.get(excerpt.clone()).unwrap_or_default())
                    .line_start(lines.number(excerpt.start))
                    .path(self.source.name.as_str());
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

/// Where the lines of a text start, so that each of many places is found at once.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Lines<'a> {
        // A byte order mark is no character of the first line.
        let first = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let after = text.match_indices('\n').map(|(at, _)| at + 1);
        Lines { text, starts: std::iter::once(first).chain(after).collect() }
    }

    /// The line of a byte, from 1.
    fn number(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset).max(1)
    }

    fn start(&self, number: usize) -> usize {
        self.starts.get(number.saturating_sub(1)).copied().unwrap_or(self.text.len())
    }

    fn position(&self, offset: usize) -> (usize, usize) {
        let offset = floor_char(self.text, offset);
        let line = self.number(offset);
        let before = self.text.get(self.start(line)..offset).unwrap_or_default();
        (line, before.chars().count() + 1)
    }

    fn place(&self, span: Range<usize>) -> Place {
        let (line, column) = self.position(span.start);
        let (end_line, end_column) = self.position(span.end.max(span.start));
        Place { line, column, end_line, end_column }
    }

    /// The whole lines from the first of some places to the last.
    fn around<'s>(&self, spans: impl Iterator<Item = &'s Range<usize>>) -> Range<usize> {
        let starts = spans.map(|span| floor_char(self.text, span.start));
        let (first, last) = starts.fold((usize::MAX, 0), |(first, last), at| (at.min(first), at.max(last)));
        self.start(self.number(first.min(last)))..self.start(self.number(last) + 1)
    }
}

/// A span made safe to show: inside the text, on character boundaries, not past the end of its first line.
fn first_line(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = floor_char(text, span.start);
    let end = floor_char(text, span.end).max(start);
    let line = text.get(start..end).unwrap_or_default().lines().next().unwrap_or_default();
    start..start + line.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let text = "é = 1\nnaïve = x\n";
        let lines = Lines::of(text);
        assert_eq!(lines.position(0), (1, 1));
        assert_eq!(lines.position(text.find('x').unwrap()), (2, 9));
        assert_eq!(lines.position(1), (1, 1), "inside a character is its start");
        assert_eq!(lines.position(9999), (3, 1));
        assert_eq!(Lines::of("\u{feff}a").position(3), (1, 1), "a byte order mark is no character");
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
        let mut marked = Report::new(Source::new("a.toml", "\u{feff}a = 1\n"));
        marked.error("some-code", 3..4, "a message");
        marked.error("some-code", 0..0, "a message");
        assert_eq!(marked.render(false).matches(" --> a.toml:1:1\n").count(), 2, "{marked}");
        assert!(marked.records().iter().all(|one| one.place.is_some_and(|place| place.column == 1)));
        let mut empty = Report::new(Source::new("a.toml", ""));
        empty.error("some-code", 0..0, "a message");
        assert!(empty.render(true).contains("some-code"));
    }

    #[test]
    fn records_serialise_with_place_and_help() {
        let mut report = Report::new(Source::new("a.toml", "a = 1\nb = 2\n"));
        report.warning("second", 6..7, "two");
        let first = Diagnostic::error("first", "one").at(0..1).label("here").help("do this");
        report.push(first.also(4..7, "and here"));
        report.push(Diagnostic::note("third", "three").at(10..11));
        report.push(Diagnostic::error("nowhere", "zero"));
        let json = serde_json::to_string(&report.records()).unwrap();
        insta::assert_snapshot!(json, @r#"[{"file":"a.toml","severity":"error","code":"nowhere","message":"zero"},{"file":"a.toml","line":1,"column":1,"end_line":1,"end_column":2,"severity":"error","code":"first","message":"one","label":"here","help":"do this","also":[{"line":1,"column":5,"end_line":2,"end_column":2,"message":"and here"}]},{"file":"a.toml","line":2,"column":1,"end_line":2,"end_column":2,"severity":"warning","code":"second","message":"two"},{"file":"a.toml","line":2,"column":5,"end_line":2,"end_column":6,"severity":"note","code":"third","message":"three"}]"#);
        assert!(report.has_errors());
        let counts = [Severity::Error, Severity::Warning, Severity::Note].map(|severity| report.count(severity));
        assert_eq!(counts, [2, 1, 1]);
    }

    #[test]
    fn places_far_apart_are_shown_together() {
        let text = "a = 1\n\n\n\n\n\n\n\nb = 2\n";
        let mut report = Report::new(Source::new("a.toml", text));
        let twice = Diagnostic::warning("twice", "`b` says what `a` says").at(13..18).label("the same");
        report.push(twice.also(0..5, "said here").help("take one out"));
        report.push(Diagnostic::note("fact", "this is known").at(13..14));
        insta::assert_snapshot!(report.render(false), @r"
        warning[twice]: `b` says what `a` says
         --> a.toml:9:1
          |
        1 | a = 1
          | ----- said here
        ...
        9 | b = 2
          | ^^^^^ the same
          |
          = help: take one out

        note[fact]: this is known
         --> a.toml:9:1
          |
        9 | b = 2
          | ^
        ");
    }
}
