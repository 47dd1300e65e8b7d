//! Spaces between the tokens of a line, and lines inside brackets.

use toml::de::DeValue;
use toml_parser::lexer::TokenKind;

use super::Token;

/// Inside brackets, for each that is open.
const INDENT: &str = "    ";

/// Keys whose value is an expression, which is full of quotes.
const EXPRESSIONS: [&str; 3] = ["when", "pools", "exclude"];

/// What kind of line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// `[table]`
    Head,
    /// `key = value`
    Pair,
}

/// A line that is being written.
#[derive(Debug, Default)]
pub(super) struct Spacing {
    text: String,
    depth: usize,
    /// The last token but for spaces.
    last: Option<TokenKind>,
    /// The key whose value follows.
    key: String,
    /// Spaces since the last token.
    gap: String,
    /// Whether the last line inside the brackets was blank.
    blank: bool,
}

impl Spacing {
    /// The tokens with the spaces that should be between them.
    pub(super) fn written(mut self, line: Line, tokens: &[Token<'_>]) -> String {
        for token in tokens {
            match token.kind {
                TokenKind::Whitespace => token.text.clone_into(&mut self.gap),
                TokenKind::Newline => self.end_line(token.text),
                _ => self.token(line, *token),
            }
        }
        self.text.truncate(self.text.trim_end().len());
        self.text
    }

    fn token(&mut self, line: Line, token: Token<'_>) {
        use TokenKind as Kind;
        let closes = matches!(token.kind, Kind::RightSquareBracket | Kind::RightCurlyBracket);
        if closes {
            self.depth = self.depth.saturating_sub(1);
            if self.last == Some(Kind::Comma) && line == Line::Pair {
                self.text.truncate(self.text.trim_end_matches(',').len());
            }
        }
        match self.last {
            Some(Kind::Newline) => self.text.push_str(&INDENT.repeat(self.depth)),
            Some(last) => self.space(line, last, token.kind),
            None => {}
        }
        match token.kind {
            Kind::LeftSquareBracket | Kind::LeftCurlyBracket => self.depth += 1,
            Kind::Atom | Kind::BasicString | Kind::LiteralString if self.last != Some(Kind::Equals) => {
                token.text.clone_into(&mut self.key);
            }
            _ => {}
        }
        match unescaped(token).filter(|_| self.last == Some(Kind::Equals) && EXPRESSIONS.contains(&&*self.key)) {
            Some(literal) => self.text.push_str(&literal),
            None if token.kind == Kind::Comment => self.text.push_str(token.text.trim_end()),
            None => self.text.push_str(token.text),
        }
        self.last = Some(token.kind);
        self.gap.clear();
        self.blank = false;
    }

    /// What stands between two tokens of one line.
    fn space(&mut self, line: Line, before: TokenKind, next: TokenKind) {
        use TokenKind as Kind;
        let space = match (before, next) {
            (_, Kind::Comment) if !self.gap.is_empty() => return self.text.push_str(&self.gap.replace('\t', " ")),
            (_, Kind::Comment) => true,
            _ if line == Line::Head => false,
            (Kind::LeftCurlyBracket, Kind::RightCurlyBracket) => false,
            (Kind::LeftCurlyBracket, _) | (_, Kind::RightCurlyBracket) | (Kind::Equals, _) | (_, Kind::Equals) => true,
            (Kind::Comma, next) => !matches!(next, Kind::Comma | Kind::RightSquareBracket),
            // Between a date and a time.
            (Kind::Atom, Kind::Atom) => !self.gap.is_empty(),
            _ => false,
        };
        if space {
            self.text.push(' ');
        }
    }

    /// Lines inside brackets stay as they were cut; of several blank ones, one.
    fn end_line(&mut self, newline: &str) {
        self.gap.clear();
        if self.last == Some(TokenKind::Newline) {
            if !std::mem::replace(&mut self.blank, true) {
                self.text.push_str(newline);
            }
            return;
        }
        self.text.push_str(newline);
        self.last = Some(TokenKind::Newline);
    }
}

/// A string in quotes that need no escapes, where it has some and can do without.
fn unescaped(token: Token<'_>) -> Option<String> {
    if token.kind != TokenKind::BasicString {
        return None;
    }
    let parsed = DeValue::parse(token.text).ok()?;
    let value = parsed.get_ref().as_str()?;
    let plain = !value.contains('\'') && !value.chars().any(char::is_control);
    plain.then(|| format!("'{value}'"))
}
