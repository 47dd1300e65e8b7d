//! A TOML text in the form in which it reads best: one space around `=`, one blank line between tables, expressions in
//! quotes that need no escapes. Comments, key order and meaning stay.

use std::sync::Arc;

use toml_parser::lexer::TokenKind;

use super::diagnostic::{Diagnostic, Report, Source};
use super::document;

/// Lines, of a file and inside brackets.
mod lines;
/// Spaces between the tokens of a line.
mod spacing;

/// The text as it should be written. A file that is no TOML is told and left alone.
pub fn format(source: Source) -> Result<String, Report> {
    let mut report = Report::new(source);
    if !document::is_toml(&mut report) {
        return Err(report);
    }
    let source = Arc::clone(report.source());
    let formatted = lines::formatted(&source.text);
    if meaning(&formatted) == meaning(&source.text) && comments(&formatted) == comments(&source.text) {
        return Ok(formatted);
    }
    let problem = Diagnostic::error("format-changes-meaning", "formatting would change what the file says");
    report.push(problem.help("it is left as it is"));
    Err(report)
}

/// What a text says, in a form that can be compared, numbers that are none included.
fn meaning(text: &str) -> Option<String> {
    let table: toml::Table = toml::from_str(text).ok()?;
    Some(format!("{table:?}"))
}

/// The comments of a text, in order.
fn comments(text: &str) -> Vec<&str> {
    let tokens = tokens(text).into_iter().filter(|token| token.kind == TokenKind::Comment);
    tokens.map(|token| token.text.trim_end()).collect()
}

/// A piece of the text.
#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: TokenKind,
    text: &'a str,
}

/// Cuts a text into pieces that together are all of it, but for the byte order mark.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let found = toml_parser::Source::new(text).lex();
    let token = |token: toml_parser::lexer::Token| {
        let span = token.span();
        Some(Token { kind: token.kind(), text: text.get(span.start()..span.end())? })
    };
    found.filter_map(token).filter(|token| token.kind != TokenKind::Eof).collect()
}

#[cfg(test)]
mod tests;
