//! Where in the file a character of a TOML string stands, through quotes, escapes and folded lines.

use std::ops::Range;

/// For every byte of the value, where in the raw literal it was written, and one more for the end of the value. `None`
/// where the raw text is not the literal of the value.
pub(super) fn map(raw: &str, value: &str) -> Option<Vec<usize>> {
    let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| raw.starts_with(quote))?;
    let basic = quote.starts_with('"');
    let mut at = quote.len();
    if quote.len() == 3 {
        let rest = raw.get(at..)?;
        at += if rest.starts_with("\r\n") { 2 } else { usize::from(rest.starts_with('\n')) };
    }
    let mut places = Vec::with_capacity(value.len() + 1);
    for c in value.chars() {
        at = skip_folds(raw, at, basic)?;
        places.extend(std::iter::repeat_n(at, c.len_utf8()));
        at += written_length(raw.get(at..)?, c, basic)?;
    }
    places.push(at);
    Some(places)
}

/// The place in the file of a span of the value; `start` is where the literal starts.
pub(super) fn place(map: &[usize], span: Range<usize>, start: usize) -> Range<usize> {
    let last = map.last().copied().unwrap_or_default();
    let at = |offset: usize| start + map.get(offset).copied().unwrap_or(last);
    at(span.start)..at(span.end.max(span.start))
}

/// A backslash at the end of a line folds it: neither it nor the white space after it is in the value.
fn skip_folds(raw: &str, mut at: usize, basic: bool) -> Option<usize> {
    while basic && let Some(rest) = raw.get(at..)?.strip_prefix('\\') {
        let blank = rest.trim_start_matches([' ', '\t']);
        if !blank.starts_with(['\n', '\r']) {
            break;
        }
        at += 1 + rest.len() - blank.trim_start().len();
    }
    Some(at)
}

/// How many bytes of the literal write one character; `None` where they do not write this one.
fn written_length(rest: &str, c: char, basic: bool) -> Option<usize> {
    if basic && let Some(escape) = rest.strip_prefix('\\') {
        return Some(match escape.chars().next()? {
            'x' => 4,
            'u' => 6,
            'U' => 10,
            _ => 2,
        });
    }
    if c == '\n' && rest.starts_with("\r\n") {
        return Some(2);
    }
    rest.starts_with(c).then(|| c.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that `X` of the value is found at `X` of the file, whatever stands before it.
    fn check(text: &str) {
        #[derive(serde::Deserialize)]
        struct File {
            v: toml::Spanned<String>,
        }
        let file: File = toml::from_str(text).unwrap();
        let (span, value) = (file.v.span(), file.v.into_inner());
        let map = map(&text[span.clone()], &value).unwrap();
        let at = value.find('X').unwrap();
        assert_eq!(&text[place(&map, at..at + 1, span.start)], "X", "{text}");
        let end = place(&map, value.len()..value.len(), span.start);
        assert!(text[end.start..].starts_with(['"', '\'']), "{text}");
    }

    #[test]
    fn places_survive_every_kind_of_string() {
        check("v = 'abX'");
        check("v = \"a\\\"b\\u00e9\\t\\U0001F600é X\"");
        check("v = '''\n a\n'b' X'''");
        check("v = '''\r\na\r\nX'''");
        check("v = \"\"\"\na \\\n   b \\\n\n  X\\\n \"\"\"".replace("X\\\n ", "X").as_str());
        check("v = \"\"\"\\\n  X\"\"\"");
    }
}
