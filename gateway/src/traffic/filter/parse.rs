//! From the text of a filter to its terms, or to everything that is wrong with it, each with its place.

use std::ops::Range;

use pointsman_policies::language::{Diagnostic, Report, Source, nearest};

use super::field::{BEINGS, COMPARISONS, Field, Unit, factor, field, field_names, synonym, units, words};
use super::{Comparison, Figure, Filter, Like, MOST_BYTES, MOST_TERMS, Term, Test, Worded};

/// What a filter is called where its text is shown.
const NAME: &str = "filter";
/// What is told of everything that cannot be read.
const CODE: &str = "bad-filter";

/// What is wrong with one term.
type Wrong = Box<Diagnostic>;

fn wrong(what: impl Into<String>, at: Range<usize>, help: impl Into<String>) -> Wrong {
    Box::new(Diagnostic::error(CODE, what).at(at).help(help))
}

/// Reads a filter; the report says what is wrong, all of it.
pub fn parse(text: &str) -> Result<Filter, Report> {
    let mut report = Report::new(Source::new(NAME, text));
    let mut terms = Vec::new();
    if text.len() > MOST_BYTES {
        let long = format!("a filter has at most {MOST_BYTES} bytes, this one has {}", text.len());
        report.push(Diagnostic::error(CODE, long));
        return Err(report);
    }
    for token in tokens(text) {
        match term(&token) {
            Ok(_) if terms.len() == MOST_TERMS => {
                let many = Diagnostic::error(CODE, format!("a filter has at most {MOST_TERMS} terms"));
                report.push(many.at(token.span()));
                break;
            }
            Ok(term) => terms.push(term),
            Err(wrong) => report.push(*wrong),
        }
    }
    if report.has_errors() { Err(report) } else { Ok(Filter { terms }) }
}

/// A piece of the text between spaces that stand in no quotes.
struct Token<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Token<'t> {
    fn span(&self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }

    fn from(&self, offset: usize) -> Token<'t> {
        Token { text: self.text.get(offset..).unwrap_or_default(), at: self.at + offset }
    }
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let (mut tokens, mut start, mut quoted) = (Vec::new(), None, false);
    for (at, letter) in text.char_indices() {
        if letter == '"' {
            quoted = !quoted;
        }
        if letter.is_whitespace() && !quoted {
            if let Some(from) = start.take() {
                tokens.push(Token { text: text.get(from..at).unwrap_or_default(), at: from });
            }
        } else if start.is_none() {
            start = Some(at);
        }
    }
    if let Some(from) = start {
        tokens.push(Token { text: text.get(from..).unwrap_or_default(), at: from });
    }
    tokens
}

fn term(token: &Token<'_>) -> Result<Term, Wrong> {
    let (negated, body) = match token.text.strip_prefix('-') {
        Some(rest) if !rest.is_empty() => (true, token.from(1)),
        _ => (false, token.from(0)),
    };
    Ok(Term { negated, test: test(&body)? })
}

fn test(token: &Token<'_>) -> Result<Test, Wrong> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let length = token.text.find(|c| !is_name(c)).unwrap_or(token.text.len());
    let (name, rest) = token.text.split_at_checked(length).unwrap_or((token.text, ""));
    let compared = COMPARISONS.into_iter().find(|(sign, _)| rest.starts_with(sign));
    let is_field = rest.starts_with(':') || compared.is_some();
    if name.is_empty() || !is_field {
        let text = unquoted(token)?;
        return Ok(Test::Free(text.to_lowercase()));
    }
    let name_span = token.at..token.at + length;
    let known = field(&name.to_ascii_lowercase()).ok_or_else(|| no_field(name, name_span.clone()))?;
    let value = |sign: usize| token.from(length + sign);
    match (known, compared) {
        (Field::Figure(figure, unit), Some((sign, comparison))) => {
            Ok(Test::Compared(figure, comparison, number(&value(sign.len()), unit)?))
        }
        (Field::Figure(Figure::Status, _), None) => statuses(&value(1)),
        (Field::Figure(figure, unit), None) => Ok(Test::Compared(figure, Comparison::Equal, number(&value(1), unit)?)),
        (_, Some((sign, _))) => {
            let help = format!("write `{name}:VALUE` instead of `{name}{sign}`");
            Err(wrong(format!("`{name}` is no number to compare"), token.span(), help))
        }
        (Field::Named(columns), None) => Ok(Test::Named(columns, likes(&value(1))?)),
        (Field::Word(worded), None) => word(worded, name, &value(1)),
        (Field::Is, None) => being(&value(1)),
    }
}

fn no_field(name: &str, span: Range<usize>) -> Wrong {
    let help = match nearest(name, field_names()) {
        Some(guess) => format!("did you mean `{guess}`?"),
        None => format!("there are: {}", field_names().collect::<Vec<_>>().join(", ")),
    };
    wrong(format!("there is no field `{name}`"), span, help)
}

/// The text without the quotes around it.
fn unquoted<'t>(token: &Token<'t>) -> Result<&'t str, Wrong> {
    let Some(rest) = token.text.strip_prefix('"') else {
        return match token.text {
            "" => {
                Err(wrong("nothing stands where a value should", token.span(), "write a value, or take the field out"))
            }
            text => Ok(text),
        };
    };
    rest.strip_suffix('"').ok_or_else(|| wrong("a quotation has no end", token.span(), "close it with `\"`"))
}

fn values<'t>(token: &Token<'t>) -> Vec<Token<'t>> {
    if token.text.starts_with('"') {
        return vec![token.from(0)];
    }
    let mut at = token.at;
    let pieces = token.text.split(',').map(|text| {
        let piece = Token { text, at };
        at += text.len() + 1;
        piece
    });
    pieces.collect()
}

fn likes(token: &Token<'_>) -> Result<Vec<Like>, Wrong> {
    let like = |piece: Token<'_>| {
        let text = unquoted(&piece)?;
        let beginning = text.strip_suffix('*').filter(|_| !piece.text.starts_with('"'));
        Ok(Like { text: beginning.unwrap_or(text).to_lowercase(), beginning: beginning.is_some() })
    };
    values(token).into_iter().map(like).collect()
}

fn word(worded: Worded, field: &str, token: &Token<'_>) -> Result<Test, Wrong> {
    let mut bits = 0;
    for piece in values(token) {
        let written = unquoted(&piece)?.to_lowercase();
        let all = words(worded);
        let place = all.iter().position(|word| !word.is_empty() && *word == synonym(worded, &written));
        let Some(place) = place else {
            let also = (worded == Worded::Slo).then_some("miss");
            return Err(no_word(field, &written, all.iter().copied().chain(also), piece.span()));
        };
        bits |= 1 << place;
    }
    Ok(Test::Word(worded, bits))
}

fn no_word(field: &str, written: &str, all: impl Iterator<Item = &'static str> + Clone, at: Range<usize>) -> Wrong {
    let help = match nearest(written, all.clone()) {
        Some(guess) => format!("did you mean `{guess}`?"),
        None => {
            let all: Vec<&str> = all.filter(|word| !word.is_empty()).collect();
            format!("it is one of {}", all.join(", "))
        }
    };
    wrong(format!("`{field}` is never `{written}`"), at, help)
}

fn being(token: &Token<'_>) -> Result<Test, Wrong> {
    let written = unquoted(token)?.to_lowercase();
    match BEINGS.iter().find(|(word, _)| *word == written) {
        Some((_, Ok(mark))) => Ok(Test::Marked(*mark)),
        Some((_, Err(being))) => Ok(Test::Is(*being)),
        None => Err(no_word("is", &written, BEINGS.iter().map(|(word, _)| *word), token.span())),
    }
}

fn statuses(token: &Token<'_>) -> Result<Test, Wrong> {
    let range = |piece: &Token<'_>| {
        let hundreds = piece.text.strip_suffix("xx").and_then(|digit| digit.parse::<u16>().ok());
        match (hundreds.filter(|digit| (1..=9).contains(digit)), piece.text.parse::<u16>()) {
            (Some(digit), _) => Ok((digit * 100, digit * 100 + 99)),
            (None, Ok(status)) => Ok((status, status)),
            (None, Err(_)) => {
                let help = "write it like `503`, or `5xx` for all from 500 to 599";
                Err(wrong(format!("`{}` is no status", piece.text), piece.span(), help))
            }
        }
    };
    Ok(Test::Status(values(token).iter().map(range).collect::<Result<_, _>>()?))
}

fn number(token: &Token<'_>, unit: Unit) -> Result<f64, Wrong> {
    let length = token.text.find(|c: char| c.is_alphabetic()).unwrap_or(token.text.len());
    let (digits, written) = token.text.split_at_checked(length).unwrap_or((token.text, ""));
    let figure = digits.parse::<f64>().ok().filter(|figure| figure.is_finite());
    let what = match (figure, factor(unit, written)) {
        (Some(figure), Some(factor)) => return Ok(figure * factor),
        (None, _) => format!("`{}` is no number", token.text),
        (_, None) => format!("`{written}` is no unit here"),
    };
    Err(wrong(what, token.span(), units(unit)))
}
