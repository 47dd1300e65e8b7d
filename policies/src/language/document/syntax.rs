//! Slips of TOML that are told better than the parser does: texts without quotes, things given twice.

use std::collections::BTreeMap;
use std::ops::Range;

use toml_parser::lexer::TokenKind as Kind;

use super::super::diagnostic::Diagnostic;

/// What other formats write for true and false.
const TRUTHS: [(&str, &str); 6] =
    [("yes", "true"), ("on", "true"), ("true", "true"), ("no", "false"), ("off", "false"), ("false", "false")];

/// A better diagnostic for what the parser stumbles over at a place; `None` where its own is as good.
pub(super) fn told(text: &str, span: &Range<usize>, message: &str) -> Option<Diagnostic> {
    if message.starts_with("duplicate key") {
        return twice(text, span);
    }
    unclosed(span, message).or_else(|| unquoted(text, span))
}

/// A string without its last quote.
fn unclosed(span: &Range<usize>, message: &str) -> Option<Diagnostic> {
    let quote =
        ["\"\"\"", "\'\'\'", "\"", "\'"].into_iter().find(|quote| message.ends_with(&format!("expected `{quote}`")))?;
    let problem = Diagnostic::error("toml-syntax", "the string is not closed").at(span.clone());
    Some(problem.help(format!("a `{quote}` is missing")))
}

/// A value that is a bare word, such as `batch` or `300ms`.
fn unquoted(text: &str, span: &Range<usize>) -> Option<Diagnostic> {
    let wordy = |c: char| c.is_alphanumeric() || "_-./:".contains(c);
    let before = text.get(..span.start)?;
    let start = before.trim_end_matches(wordy).len();
    let rest = text.get(start..)?;
    let value = rest.get(..rest.find(|c| !wordy(c)).unwrap_or(rest.len()))?;
    let line = text.get(..start)?.rsplit('\n').next()?.trim_end();
    let is_value = line.ends_with('=') || (line.contains('=') && line.ends_with(['[', ',']));
    if !is_value || !value.contains(char::is_alphabetic) {
        return None;
    }
    let truth = TRUTHS.iter().find(|(word, _)| value.eq_ignore_ascii_case(word));
    let (message, help) = match truth {
        Some((_, ours)) => (format!("`{value}` is not how TOML says {ours}"), format!("write `{ours}`")),
        None => (format!("`{value}` stands without quotes"), format!("write `\"{value}\"`")),
    };
    Some(Diagnostic::error("toml-syntax", message).at(start..start + value.len()).help(help))
}

/// A key or a table that is there already.
fn twice(text: &str, span: &Range<usize>) -> Option<Diagnostic> {
    let Some((name, first, head)) = first_of(text, span.start) else {
        let problem = Diagnostic::error("toml-syntax", format!("`{}` is given twice", text.get(span.clone())?));
        return Some(problem.at(span.clone()).help("keep one of them"));
    };
    let shown = if head { format!("`[{name}]`") } else { format!("`{name}`") };
    let problem = Diagnostic::error("toml-syntax", format!("{shown} is given twice")).at(span.clone());
    let help = if head { "put its keys into one table" } else { "keep one of them" };
    Some(problem.label("again").also(first, "first given here").help(help))
}

/// The name of what stands at a place, where the same is given before, and whether it is the head of a table.
fn first_of(text: &str, place: usize) -> Option<(String, Range<usize>, bool)> {
    let mut seen: BTreeMap<(Vec<String>, String), Range<usize>> = BTreeMap::new();
    let mut table = Vec::new();
    let mut lists = 0_usize;
    for (start, line) in statements(text) {
        let tokens: Vec<_> = toml_parser::Source::new(line).lex().collect();
        let is_list = line.trim_start().starts_with("[[");
        let head = line.trim_start().starts_with('[');
        let keys = tokens.iter().take_while(|token| token.kind() != Kind::Equals && token.kind() != Kind::Comment);
        let keys = keys.filter(|token| matches!(token.kind(), Kind::Atom | Kind::BasicString | Kind::LiteralString));
        let spans: Vec<Range<usize>> = keys.map(|token| token.span().start()..token.span().end()).collect();
        let (Some(first), Some(last)) = (spans.first(), spans.last()) else { continue };
        let names: Vec<&str> = spans.iter().filter_map(|span| line.get(span.clone())).collect();
        let name = names.join(".");
        let whole = start + first.start..start + last.end;
        if head {
            lists += usize::from(is_list);
            table = if is_list { vec![name.clone(), lists.to_string()] } else { vec![name.clone()] };
        }
        let key = if head { (Vec::new(), table.join(" ")) } else { (table.clone(), name.clone()) };
        if whole.contains(&place) {
            return seen.get(&key).map(|first| (name, first.clone(), head));
        }
        seen.entry(key).or_insert(whole);
    }
    None
}

/// The lines of a text that begin a statement, with their places; what stands inside brackets and long strings is not
/// told apart, so that it may be taken for one.
fn statements(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split_inclusive('\n').map(move |line| {
        let start = at;
        at += line.len();
        (start, line.trim_end())
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::diagnostic::{Report, Source};
    use super::super::is_toml;

    #[test]
    fn slips_are_told_in_words() {
        let text = r#"[class.interactive]
deadline_s = 300ms
sheddable = True
[class.interactive]
[class.standard]
ttft_ms = 10
ttft_ms = 20
[[classify]]
class = batch   # x
[[classify]]
class = "a"
[[route]]
fallback = [{ pools = "a", pools = "b" }]
weights = { cost = 1, ttft = high }
name = 'unclosed
pin = ["a", b]
"#;
        let mut report = Report::new(Source::new("policy.toml", text));
        assert!(!is_toml(&mut report));
        insta::assert_snapshot!(report.render(false));
    }

    #[test]
    fn what_is_given_twice_is_found_in_any_table() {
        #[track_caller]
        fn check(text: &str, first: Option<usize>) {
            let mut report = Report::new(Source::new("policy.toml", text));
            assert!(!is_toml(&mut report));
            let problem = report.iter().next().expect("a problem");
            assert!(problem.message.ends_with("is given twice"), "{report}");
            assert_eq!(problem.also.first().map(|(span, _)| span.start), first, "{report}");
        }
        check("a = 1\na = 2\n", Some(0));
        check("[[x]]\na = 1\n[[x]]\nb = 1\na = 2\na = 3\n", Some(24));
        check("[t]\na.b = 1\n a.b = 2\n", Some(4));
        check("[ t . u ]\n[t]\n[t.u] # x\n", Some(2));
        check("a = { b = 1, b = 2 }\n", None);
    }
}
