//! What a change of a file means: `class.realtime.ttft_ms 300 → 250` instead of lines that were touched. Named things are
//! compared by name wherever they stand, rules also by the order in which they are tried; comments, spacing and the
//! spelling of a quantity mean nothing.

/// Texts as trees.
mod tree;
/// Two trees, compared.
mod compare;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Differences that are told of two texts; of more, only that there are.
const MOST_DIFFERENCES: usize = 1000;
/// Longest value in a line, characters.
const MOST_VALUE_CHARS: usize = 160;

/// One difference between two texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// What differs, such as `class.realtime.ttft_ms` or `route["default"]`.
    pub path: String,
    /// How.
    pub change: Change,
    /// What stood there; of what moved, its place, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// What stands there; of what moved, its place, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
    /// Place in a list whose order matters, from 1, and the list's length, of what was added or removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<(usize, usize)>,
}

/// How something differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Another value.
    Changed,
    /// Only in the new text.
    Added,
    /// Only in the old text.
    Removed,
    /// Tried at another place among its like.
    Moved,
}

/// Why two texts cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The old text is not TOML.
    From,
    /// The new text is not TOML.
    To,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let which = match self {
            Unreadable::From => "old",
            Unreadable::To => "new",
        };
        write!(f, "the {which} text is not TOML, so its meaning cannot be compared")
    }
}

/// The differences in meaning between two texts of the same kind of file, in the order of the files; empty where they say
/// the same.
pub fn differences(from: &str, to: &str) -> Result<Vec<Difference>, Unreadable> {
    let before = tree::read(from).ok_or(Unreadable::From)?;
    if from == to {
        return Ok(Vec::new());
    }
    let after = tree::read(to).ok_or(Unreadable::To)?;
    let mut found = compare::compare(&before, &after);
    found.truncate(MOST_DIFFERENCES);
    Ok(found)
}

/// Differences in one line: the first, and how many more there are.
pub fn summary(differences: &[Difference]) -> String {
    match differences {
        [] => "no change in meaning".to_owned(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first}, and {} more", rest.len()),
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { path, change, from, to, place } = self;
        let from = from.as_ref().map(shown).unwrap_or_default();
        let to = to.as_ref().map(shown).unwrap_or_default();
        let place = place.map(|(at, of)| format!(" ({} of {of})", ordinal(at))).unwrap_or_default();
        match change {
            Change::Changed => write!(f, "{path} {from} → {to}"),
            Change::Added => write!(f, "{path}{place} added: {to}"),
            Change::Removed => write!(f, "{path}{place} removed: {from}"),
            Change::Moved => {
                let place = |text: &str| text.parse().map_or_else(|_| text.to_owned(), ordinal);
                write!(f, "{path} moved from {} to {}", place(&from), place(&to))
            }
        }
    }
}

/// A value as a line shows it: shorter than TOML, and bounded.
pub fn shown(value: &Value) -> String {
    let text = spelled(value, true);
    match text.char_indices().nth(MOST_VALUE_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn spelled(value: &Value, outermost: bool) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", list(items.iter().map(|item| spelled(item, false)).collect())),
        Value::Object(members) if members.is_empty() => "nothing".to_owned(),
        Value::Object(members) => {
            let members = members.iter().map(|(key, value)| format!("{key} {}", spelled(value, false)));
            let members = list(members.collect());
            if outermost { members } else { format!("{{{members}}}") }
        }
        other => other.to_string(),
    }
}

/// Words stand for themselves; what has spaces or signs is quoted.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':');
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if one_line.contains('"') { format!("'{one_line}'") } else { format!("\"{one_line}\"") }
}

fn ordinal(number: usize) -> String {
    let ending = match (number % 10, number % 100) {
        (1, hundred) if hundred != 11 => "st",
        (2, hundred) if hundred != 12 => "nd",
        (3, hundred) if hundred != 13 => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

#[cfg(test)]
mod tests;
