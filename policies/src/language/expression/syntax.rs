//! What the parser says, in the operator's words. Only the first stumble is told: the rest are its echoes. Operators of
//! other languages are no echoes, so each of them is told.

use cel::ParseErrors;

use super::super::diagnostic::Diagnostic;
use super::tokens::Token;
use super::{MAX_EXPRESSION_DEPTH, too_deep};

/// Words and operators of other languages.
const FOREIGN: [(&str, &str); 8] =
    [("=", "=="), ("&", "&&"), ("|", "||"), ("and", "&&"), ("or", "||"), ("not", "!"), ("AND", "&&"), ("OR", "||")];

/// Operators of other languages that are told of one expression.
const MAX_FOREIGN: usize = 8;

/// What is wrong with a text that is not an expression.
pub(super) fn told(text: &str, tokens: &[Token<'_>], errors: &ParseErrors) -> Vec<Diagnostic> {
    let first = first(text, tokens, errors);
    let is_foreign = |token: &&Token<'_>| FOREIGN.iter().any(|(word, _)| *word == token.text);
    let mut others: Vec<&Token<'_>> = tokens.iter().filter(is_foreign).take(MAX_FOREIGN).collect();
    if !others.iter().any(|token| Some(token.span()) == first.span) {
        return vec![first];
    }
    others.retain(|token| Some(token.span()) != first.span);
    std::iter::once(first).chain(others.into_iter().map(unexpected)).collect()
}

fn unexpected(token: &Token<'_>) -> Diagnostic {
    let foreign = FOREIGN.iter().find(|(word, _)| *word == token.text);
    let help = foreign.map(|(_, ours)| format!("did you mean `{ours}`?"));
    let problem = Diagnostic::error("expression-syntax", format!("unexpected `{}`", token.text));
    problem.at(token.span()).maybe_help(help)
}

/// The first stumble.
fn first(text: &str, tokens: &[Token<'_>], errors: &ParseErrors) -> Diagnostic {
    let placed = errors.errors.iter().filter(|error| error.pos.0 > 0).min_by_key(|error| error.pos);
    let Some(error) = placed else {
        // The parser gives no place for one thing only: it has gone too deep.
        return too_deep(0..text.len(), MAX_EXPRESSION_DEPTH);
    };
    if let Some(open) = tokens.iter().find(|token| is_open_string(token.text)) {
        return Diagnostic::error("expression-syntax", "the string is not closed").at(open.span());
    }
    let offset = offset(text, error.pos);
    // Words the parser tolerates for a while are blamed first: `a and b` stumbles at `and`, `a = b` at `=`.
    let at = tokens.iter().find(|token| token.span().end > offset);
    let Some(token) = at else {
        let end = tokens.last().map_or(0..0, Token::span);
        let problem = Diagnostic::error("expression-syntax", "the expression ends too early");
        let after = tokens.last().map(|last| format!("something is missing after `{}`", last.text));
        return problem.at(end).maybe_help(missing(&error.msg).or(after));
    };
    let mut problem = unexpected(token);
    if !error.msg.starts_with("Syntax error: ") {
        problem.message = plain(&error.msg);
    }
    let help = problem.help.take().or_else(|| missing(&error.msg));
    problem.maybe_help(help)
}

/// Byte offset of a line and column, both from 1; the column counts characters.
fn offset(text: &str, (line, column): (isize, isize)) -> usize {
    let skipped = usize::try_from(line - 1).unwrap_or_default();
    let start: usize = text.split_inclusive('\n').take(skipped).map(str::len).sum();
    let rest = text.get(start..).unwrap_or_default();
    let column = usize::try_from(column - 1).unwrap_or_default();
    start + rest.chars().take(column).map(char::len_utf8).sum::<usize>()
}

/// `missing ')' at '<EOF>'` tells which sign is wanted.
fn missing(message: &str) -> Option<String> {
    let wanted = message.split_once("missing '")?.1.split('\'').next()?;
    Some(format!("a `{wanted}` is missing"))
}

/// A message of the parser's own second pass, such as `reserved identifier: if`.
fn plain(message: &str) -> String {
    let message = message.split(": ").collect::<Vec<_>>();
    match message.as_slice() {
        [fact, name] if fact.starts_with("reserved") => format!("`{name}` is a reserved word"),
        [fact, ..] => fact.to_lowercase().replace('`', ""),
        [] => "not an expression".to_owned(),
    }
}

fn is_open_string(token: &str) -> bool {
    let body = token.trim_start_matches(['r', 'R', 'b', 'B']);
    let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| body.starts_with(quote));
    quote.is_some_and(|quote| body.len() < 2 * quote.len() || !body.ends_with(quote) || ends_escaped(body))
}

/// Whether the last quote is escaped, so that it closes nothing.
fn ends_escaped(body: &str) -> bool {
    let before = body.get(..body.len().saturating_sub(1)).unwrap_or_default();
    (before.len() - before.trim_end_matches('\\').len()) % 2 == 1
}
