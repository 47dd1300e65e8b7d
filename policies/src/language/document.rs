//! TOML text → any shape: every problem of the text is told at once, and whatever is sound is returned even so, so that
//! checks of meaning can run in the same pass.

use std::sync::Arc;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Report};
use super::schema;

/// Slips that are told better than the parser does.
mod syntax;

/// Files larger than this are refused unread, bytes. A thousand pools fit many times over.
pub const MAX_TEXT_BYTES: usize = 1 << 20;

/// Syntax errors told of one file; past these the parser is guessing.
const MAX_SYNTAX_ERRORS: usize = 10;

/// Reads a text as a shape. The text is checked against the JSON Schema of `T`, so what [`schema_text`] promises is what
/// is enforced. Every problem goes to the report; what is sound is returned even so: a wrong optional key as if it were
/// absent, a table that lacks a required key as if it were not there. `None` where nothing sound is left, and after any
/// syntax error, because what follows one is a guess.
///
/// Not understood, and not to be used in `T`: `#[serde(flatten)]`.
pub fn read<T: DeserializeOwned + JsonSchema>(report: &mut Report) -> Option<T> {
    let source = Arc::clone(report.source());
    let text = source.text.as_str();
    if text.len() > MAX_TEXT_BYTES {
        let message = format!("the file has {} bytes, more than the {MAX_TEXT_BYTES} that are read", text.len());
        report.push(Diagnostic::error("too-large", message));
        return None;
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    let syntax_end = report_syntax(report, text, &errors);

    let shape = schema_value::<T>();
    let mut document = Spanned::new(table.span(), DeValue::Table(table.into_inner()));
    let found = schema::check(&shape, text, &mut document);
    let sound = found.sound && errors.is_empty();
    for diagnostic in found.diagnostics {
        // A key that seems missing may hide behind the syntax error, and past the error all is guesswork.
        let start = diagnostic.span.as_ref().map_or(0, |span| span.start);
        if syntax_end.is_none_or(|end| start < end && diagnostic.code != schema::MISSING_KEY) {
            report.push(diagnostic);
        }
    }
    if !sound {
        return None;
    }
    match document.into_inner() {
        DeValue::Table(table) => deserialize(report, Spanned::new(0..text.len(), table)),
        _ => None,
    }
}

/// Whether the text is TOML; every error of its syntax goes to the report.
pub(super) fn is_toml(report: &mut Report) -> bool {
    let source = Arc::clone(report.source());
    let (_, errors) = DeTable::parse_recoverable(&source.text);
    report_syntax(report, &source.text, &errors);
    errors.is_empty()
}

/// The JSON Schema of a shape as pretty text, for editors; ends with a newline.
pub fn schema_text<T: JsonSchema>(title: &str) -> String {
    let mut shape = schema_value::<T>();
    if let Value::Object(members) = &mut shape {
        members.insert("title".to_owned(), Value::String(title.to_owned()));
    }
    format!("{shape:#}\n")
}

/// Draft 7, because that is what TOML editors understand.
pub(super) fn schema_value<T: JsonSchema>() -> Value {
    let generator = SchemaSettings::draft07().for_deserialize().into_generator();
    let mut shape = generator.into_root_schema_for::<T>().to_value();
    schema::remove_null(&mut shape);
    shape
}

/// Tells the syntax errors; returns where the first line that has one starts.
fn report_syntax(report: &mut Report, text: &str, errors: &[toml::de::Error]) -> Option<usize> {
    let mut first: Option<usize> = None;
    let mut last_line = None;
    let mut told = 0;
    let mut sorted: Vec<_> = errors.iter().map(|error| (error.span().unwrap_or(0..0), error.message())).collect();
    sorted.sort_by_key(|(span, _)| span.start);
    for (span, message) in sorted {
        let line_start = text.get(..span.start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
        first = Some(first.map_or(line_start, |start| start.min(line_start)));
        // The parser stumbles several times over one slip; the first stumble is the slip.
        if last_line == Some(line_start) || told == MAX_SYNTAX_ERRORS {
            continue;
        }
        last_line = Some(line_start);
        told += 1;
        let after = text.get(span.start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let before = text.get(line_start..span.start).unwrap_or_default();
        if before.trim_end().ends_with('=') && (after.trim().is_empty() || after.trim_start().starts_with('#')) {
            report.push(Diagnostic::error("toml-syntax", "key with no value").at(span));
            continue;
        }
        if let Some(problem) = syntax::told(text, &span, message) {
            report.push(problem);
            continue;
        }
        let (fact, expected) = message.split_once(", expected ").unwrap_or((message, ""));
        let help = (!expected.is_empty()).then(|| format!("expected {expected}"));
        report.push(Diagnostic::error("toml-syntax", fact).at(span).maybe_help(help));
    }
    first
}

/// What the schema does not say is said by the shape's own deserialization.
fn deserialize<T: DeserializeOwned>(report: &mut Report, table: Spanned<DeTable<'_>>) -> Option<T> {
    match T::deserialize(toml::de::Deserializer::from(table)) {
        Ok(value) => Some(value),
        Err(error) => {
            let mut diagnostic = Diagnostic::error("invalid-value", error.message());
            diagnostic.span = error.span();
            report.push(diagnostic);
            None
        }
    }
}

#[cfg(test)]
mod tests;
