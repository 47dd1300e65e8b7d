//! A rough cut of CEL text into tokens, never wrong about where a string ends: bounds before parsing, places after it.

use std::ops::Range;

/// A piece of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    /// Where it starts, bytes.
    pub(super) start: usize,
    /// What it is.
    pub(super) text: &'a str,
}

impl Token<'_> {
    /// Where it stands.
    pub(super) fn span(&self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }
}

/// Operators of two characters; the second of each would otherwise look like a mistake of its own.
const PAIRS: [&str; 6] = ["&&", "||", "==", "!=", "<=", ">="];

/// Cuts a text into words, numbers, strings and operators; white space and comments are left out.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut start = 0;
    while let Some(rest) = text.get(start..).filter(|rest| !rest.is_empty()) {
        let length = length(rest);
        let token = rest.get(..length).unwrap_or(rest);
        if !token.starts_with(char::is_whitespace) && !token.starts_with("//") {
            found.push(Token { start, text: token });
        }
        start += token.len();
    }
    found
}

/// The first place that is nested deeper than allowed, and the limit it breaks: one for brackets, one for brackets and
/// `?` together. A `?` nests to its right until the bracket around it closes.
pub(super) fn too_deep(tokens: &[Token<'_>], brackets: usize, all: usize) -> Option<(Range<usize>, usize)> {
    let mut open: Vec<usize> = Vec::new();
    let mut depth = 0;
    for token in tokens {
        match token.text {
            "(" | "[" | "{" => {
                open.push(depth);
                depth += 1;
            }
            ")" | "]" | "}" => depth = open.pop().unwrap_or_default(),
            "?" => depth += 1,
            _ => continue,
        }
        if open.len() > brackets {
            return Some((token.span(), brackets));
        }
        if depth > all {
            return Some((token.span(), all));
        }
    }
    None
}

/// Where the bracket that opens at a place closes: just past its partner, or the end of the text.
pub(super) fn closing(tokens: &[Token<'_>], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for token in tokens.iter().filter(|token| token.start >= open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return Some(token.span().end);
        }
    }
    tokens.last().map(|token| token.span().end)
}

/// Widens a span until its round brackets are in pairs.
pub(super) fn balanced(tokens: &[Token<'_>], span: Range<usize>) -> Range<usize> {
    let (mut missing_left, mut depth) = (0_usize, 0_usize);
    for token in tokens.iter().filter(|token| span.contains(&token.start)) {
        match token.text {
            "(" => depth += 1,
            ")" if depth == 0 => missing_left += 1,
            ")" => depth -= 1,
            _ => {}
        }
    }
    let before = tokens.iter().rev().filter(|token| token.start < span.start);
    let after = tokens.iter().filter(|token| token.start >= span.end);
    let left = before.take_while(|token| token.text == "(").take(missing_left).last();
    let right = after.take_while(|token| token.text == ")").take(depth).last();
    left.map_or(span.start, |token| token.start)..right.map_or(span.end, |token| token.span().end)
}

/// Length of the first token, bytes; at least one character.
fn length(rest: &str) -> usize {
    let first = rest.chars().next().unwrap_or_default();
    let run = |accept: fn(char) -> bool| rest.find(|c| !accept(c)).unwrap_or(rest.len());
    if first.is_whitespace() {
        return run(char::is_whitespace);
    }
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    let quote = rest.trim_start_matches(['r', 'R', 'b', 'B']);
    let prefix = rest.len() - quote.len();
    if prefix <= 2 && quote.starts_with(['"', '\'']) {
        let raw = rest.get(..prefix).is_some_and(|prefix| prefix.contains(['r', 'R']));
        return prefix + string_length(quote, raw);
    }
    if first.is_ascii_digit() {
        return run(|c| c.is_ascii_alphanumeric() || c == '.');
    }
    if first.is_alphabetic() || first == '_' {
        return run(|c| c.is_alphanumeric() || c == '_');
    }
    if PAIRS.iter().any(|pair| rest.starts_with(pair)) { 2 } else { first.len_utf8() }
}

/// Length of a string with its quotes; to the end of the text where it is not closed.
fn string_length(text: &str, raw: bool) -> usize {
    let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| text.starts_with(quote)).unwrap_or("\"");
    let mut at = quote.len();
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with(quote) {
            return at + quote.len();
        }
        let escaped = !raw && rest.starts_with('\\');
        at += rest.chars().take(1 + usize::from(escaped)).map(char::len_utf8).sum::<usize>();
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_one_token_whatever_they_hold() {
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(tokens(text).iter().map(|token| token.text).collect::<Vec<_>>(), expected, "{text}");
        };
        check("a.b==\"x)\\\"(\"", &["a", ".", "b", "==", "\"x)\\\"(\""]);
        check("r'\\' 1.5 // c", &["r'\\'", "1.5"]);
        check("'''a'b''' in [x]", &["'''a'b'''", "in", "[", "x", "]"]);
        check("a = 'open", &["a", "=", "'open"]);
        check("rb && é", &["rb", "&&", "é"]);
        check("", &[]);
    }

    #[test]
    fn spans_widen_to_whole_brackets() {
        let text = "(a || b) && (c)";
        assert_eq!(balanced(&tokens(text), 1..15), 0..15);
        assert_eq!(closing(&tokens(text), 0), Some(8));
        assert_eq!(too_deep(&tokens("((a))"), 1, 9), Some((1..2, 1)));
        assert_eq!(too_deep(&tokens("a ? b : c ? d : e"), 9, 1), Some((10..11, 1)));
        assert_eq!(too_deep(&tokens("(a) + (b ? c : d)"), 1, 2), None);
    }
}
