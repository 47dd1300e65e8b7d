//! Lines: blank ones between tables, none at the ends; indentation inside brackets only.

use toml_parser::lexer::TokenKind;

use super::spacing::{Line, Spacing};
use super::{Token, tokens};

/// The text, line by line as it should be.
pub(super) fn formatted(text: &str) -> String {
    let tokens = tokens(text);
    let first = tokens.iter().find(|token| token.kind == TokenKind::Newline);
    let newline = if first.is_some_and(|token| token.text == "\r\n") { "\r\n" } else { "\n" };
    let mut lines = Lines { newline, ..Lines::default() };
    for statement in statements(&tokens) {
        lines.push(&statement);
    }
    lines.finish()
}

/// A key with its value, the head of a table, a comment, or a blank line.
enum Statement {
    Blank,
    Comment(String),
    Head { text: String, path: Vec<String> },
    Pair(String),
}

/// Cuts tokens at the ends of lines that are in no brackets.
fn statements(tokens: &[Token<'_>]) -> Vec<Statement> {
    let mut found = Vec::new();
    let mut rest = tokens;
    while !rest.is_empty() {
        let length = statement_length(rest);
        let (line, after) = rest.split_at(length);
        found.push(statement(line));
        rest = after.get(1..).unwrap_or_default(); // without the end of the line
    }
    found
}

fn statement_length(tokens: &[Token<'_>]) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => depth += 1,
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => depth = depth.saturating_sub(1),
            TokenKind::Newline if depth == 0 => return index,
            _ => {}
        }
    }
    tokens.len()
}

fn statement(line: &[Token<'_>]) -> Statement {
    let first = line.iter().find(|token| token.kind != TokenKind::Whitespace);
    match first.map(|token| token.kind) {
        None => Statement::Blank,
        Some(TokenKind::Comment) => Statement::Comment(Spacing::default().written(Line::Pair, line)),
        Some(TokenKind::LeftSquareBracket) => {
            Statement::Head { text: Spacing::default().written(Line::Head, line), path: path(line) }
        }
        Some(_) => Statement::Pair(Spacing::default().written(Line::Pair, line)),
    }
}

/// The keys of a table's head, as they are written.
fn path(head: &[Token<'_>]) -> Vec<String> {
    let is_key =
        |token: &&Token<'_>| matches!(token.kind, TokenKind::Atom | TokenKind::BasicString | TokenKind::LiteralString);
    head.iter().filter(is_key).map(|token| token.text.to_owned()).collect()
}

/// What has been written, and what waits to see what follows.
#[derive(Default)]
struct Lines {
    text: String,
    newline: &'static str,
    /// Comments with no blank line after them yet; they belong to what follows.
    comments: Vec<String>,
    /// Whether a blank line stands before the comments that wait.
    blank: bool,
    /// The head of the table that is being written.
    table: Vec<String>,
}

impl Lines {
    fn push(&mut self, statement: &Statement) {
        match statement {
            Statement::Comment(text) => self.comments.push(text.clone()),
            Statement::Blank => {
                self.write_comments();
                self.blank = true;
            }
            Statement::Pair(text) => {
                self.write_comments();
                self.write(text);
            }
            Statement::Head { text, path } => {
                self.blank |= !is_of(path, &self.table);
                self.write_comments();
                self.write(text);
                self.table.clone_from(path);
            }
        }
    }

    fn write_comments(&mut self) {
        for comment in std::mem::take(&mut self.comments) {
            self.write(&comment);
        }
    }

    fn write(&mut self, line: &str) {
        if std::mem::take(&mut self.blank) && !self.text.is_empty() {
            self.text.push_str(self.newline);
        }
        self.text.push_str(line);
        self.text.push_str(self.newline);
    }

    fn finish(mut self) -> String {
        self.write_comments();
        self.text
    }
}

/// Whether a table is a part of what the one before it describes, so that it may follow at once: `[pool.a.model.x]`
/// after `[pool.a]` or after `[pool.a.model.y]`.
fn is_of(path: &[String], before: &[String]) -> bool {
    let part = path.len() > before.len() && !before.is_empty() && path.starts_with(before);
    let same = path.len() > 2 && path.get(..2) == before.get(..2);
    part || same
}
