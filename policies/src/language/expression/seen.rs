//! What a condition saw: the fields that its text names, with their values for one request. For people who ask why a
//! rule did not apply.

use super::fields::{FIELDS, Get};
use crate::policy::Env;

/// Fields told of one condition; who reads more of them has lost the thread.
const MOST_FIELDS: usize = 8;
/// Longest value told, characters.
const LONGEST_VALUE: usize = 80;
/// Parts of names of headers whose values are nobody's business.
const SECRETS: [&str; 6] = ["authorization", "cookie", "key", "token", "secret", "password"];

/// Each field of `request` or `pool` that a condition names, once, with its value as it would be written in CEL.
pub fn seen(text: &str, env: &Env<'_>) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut rest = text;
    let mut before = None;
    while let Some(first) = rest.chars().next() {
        let name = ["request.", "pool."].iter().any(|root| rest.starts_with(root)) && !before.is_some_and(is_word);
        let taken = if first == '"' || first == '\'' {
            literal_bytes(rest)
        } else if let Some((written, field)) = name.then(|| field(rest, env)).flatten() {
            if !found.iter().any(|(known, _)| *known == field.0) && found.len() < MOST_FIELDS {
                found.push(field);
            }
            written
        } else {
            first.len_utf8()
        };
        let (done, after) = rest.split_at_checked(taken.max(1)).unwrap_or((rest, ""));
        (before, rest) = (done.chars().next_back(), after);
    }
    found
}

/// Whether the value of a header is not to be shown.
pub fn is_secret(header: &str) -> bool {
    let header = header.to_ascii_lowercase();
    SECRETS.iter().any(|part| header.contains(part))
}

/// The field at the start of a text, how many bytes name it, and its value.
fn field(text: &str, env: &Env<'_>) -> Option<(usize, (String, String))> {
    let end = text.find(|c: char| !is_word(c) && c != '.').unwrap_or(text.len());
    let path = text.get(..end)?;
    let named = FIELDS.iter().filter(|field| path == field.name || path.starts_with(&format!("{}.", field.name)));
    let field = named.max_by_key(|field| field.name.len())?;
    let whole = |value: String| Some((field.name.len(), (field.name.to_owned(), value)));
    match field.get {
        Get::Text(get) => whole(quoted(get(env))),
        Get::Int(get) => whole(get(env).to_string()),
        Get::Double(get) => whole(get(env).to_string()),
        Get::Bool(get) => whole(get(env).to_string()),
        Get::Map(map) => {
            let (written, member) = member(text.get(field.name.len()..)?)?;
            let value = map.member(env, &member.to_ascii_lowercase());
            let hidden = is_secret(member) && value.is_some();
            let shown = if hidden { "\"…\"".to_owned() } else { quoted(value.unwrap_or_default()) };
            Some((field.name.len() + written, (format!("{}[\"{member}\"]", field.name), shown)))
        }
    }
}

/// The member that `["name"]` or `.name` asks for, and how many bytes that takes.
fn member(text: &str) -> Option<(usize, &str)> {
    if let Some(name) = text.strip_prefix('.') {
        let end = name.find(|c: char| !is_word(c)).unwrap_or(name.len());
        return Some((end + 1, name.get(..end)?));
    }
    let inside = text.strip_prefix('[')?;
    let quoted = inside.trim_start();
    let quote = quoted.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let name = quoted.get(1..)?.split(quote).next()?;
    Some((text.len() - quoted.len() + name.len() + 2, name))
}

/// Bytes of the string literal at the start of a text.
fn literal_bytes(text: &str) -> usize {
    let mut characters = text.char_indices();
    let Some((_, quote)) = characters.next() else { return 0 };
    let mut escaped = false;
    for (at, c) in characters {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn quoted(text: &str) -> String {
    match text.char_indices().nth(LONGEST_VALUE) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Api, Facts};

    #[test]
    fn fields_are_found_outside_strings_and_told_once() {
        let headers = vec![("x-agent".to_owned(), "voice".to_owned()), ("x-api-key".to_owned(), "sk".to_owned())];
        let plain = Facts::plain(Api::ChatCompletions, "m");
        let facts = Facts { headers: &headers, input_tokens: 7, ..plain };
        let env = Env { facts: &facts, class: "batch", pool: None, load: None, utc_offset_s: 0 };
        #[track_caller]
        fn check(text: &str, env: &Env<'_>, expected: &[(&str, &str)]) {
            let seen = seen(text, env);
            let seen: Vec<(&str, &str)> = seen.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(seen, expected, "{text}");
        }
        let tokens = ("request.input_tokens", "7");
        check("request.input_tokens > 5 && request.input_tokens < 9", &env, &[tokens]);
        check(r#""request.stream" == request.model || myrequest.stream"#, &env, &[("request.model", "\"m\"")]);
        check(r#"request.headers["X-Agent"] == "voice""#, &env, &[("request.headers[\"X-Agent\"]", "\"voice\"")]);
        check(r#"request.headers['x-api-key'] != ''"#, &env, &[("request.headers[\"x-api-key\"]", "\"…\"")]);
        check(r#"request.class.startsWith("b")"#, &env, &[("request.class", "\"batch\"")]);
        for text in ["", "\"", "request.", "request.headers[", "request.headers[\"", "é.request.x", "'\\"] {
            seen(text, &env); // no end, no panic
        }
    }
}
