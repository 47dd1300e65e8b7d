//! Schema and values in words: "a number or a list of numbers".

use toml::de::DeValue;

use super::facets::Facets;

/// What a value is, with its article.
pub(super) fn described(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(moment) if moment.time.is_none() => "a date",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// What a schema without alternatives asks for.
pub(super) fn expected(facets: &Facets<'_>) -> String {
    if let Some(choices) = facets.choices() {
        return match choices.as_slice() {
            [only] => format!("`{only}`"),
            all => format!("one of {}", listed(all, "or")),
        };
    }
    let types = facets.types();
    let words: Vec<String> = types.iter().map(|name| expected_type(facets, name)).collect();
    if words.is_empty() { "a value".to_owned() } else { words.join(" or ") }
}

/// Names listed in one message; a portfolio may have hundreds.
const MAX_LISTED: usize = 12;

/// Names in backticks, as a list that reads as a sentence.
pub(crate) fn listed(names: &[&str], last: &str) -> String {
    let mut quoted: Vec<String> = names.iter().take(MAX_LISTED).map(|name| format!("`{name}`")).collect();
    if names.len() > MAX_LISTED {
        quoted.push(format!("{} more", names.len() - MAX_LISTED));
    }
    match quoted.split_last() {
        Some((end, [])) => end.clone(),
        Some((end, rest)) => format!("{} {last} {end}", rest.join(", ")),
        None => String::new(),
    }
}

/// A key as it must be written in TOML.
pub(super) fn quoted_key(key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare { key.to_owned() } else { format!("{key:?}") }
}

/// A name in backticks, once.
pub(super) fn in_backticks(name: &str) -> String {
    if name.contains('`') { name.to_owned() } else { format!("`{name}`") }
}

/// The first sentence of a description, without its full stop and its capital.
pub(super) fn first_sentence(text: &str) -> String {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let sentence = flat.split(". ").next().unwrap_or_default().trim_end_matches('.');
    let mut chars = sentence.chars();
    let first = chars.next().map(|c| c.to_lowercase().to_string()).unwrap_or_default();
    let acronym = chars.clone().next().is_some_and(char::is_uppercase);
    if acronym { sentence.to_owned() } else { format!("{first}{}", chars.as_str()) }
}

/// A TOML number as a float; near enough to compare with a bound.
pub(super) fn number_of(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(integer) => i128::from_str_radix(integer.as_str(), integer.radix()).ok().map(|n| n as f64),
        DeValue::Float(float) => float.as_str().parse().ok(),
        _ => None,
    }
}

/// A number as short as it can be told.
pub(super) fn short(number: f64) -> String {
    if number.abs() < 1e15 { number.to_string() } else { format!("{number:e}") }
}

fn expected_type(facets: &Facets<'_>, name: &str) -> String {
    match name {
        "string" if facets.is_date() => "a date such as 2026-09-15".to_owned(),
        "string" => "a string".to_owned(),
        "integer" => "an integer".to_owned(),
        "number" => "a number".to_owned(),
        "boolean" => "`true` or `false`".to_owned(),
        "array" => match facets.expected_items() {
            Some(items) if items.starts_with("a table") => "a list of tables".to_owned(),
            Some(items) => match items.strip_prefix("a ").or(items.strip_prefix("an ")) {
                Some(one) if !one.contains(' ') => format!("a list of {one}s"),
                _ => format!("a list, each item {items}"),
            },
            None => "a list".to_owned(),
        },
        _ => {
            let required: Vec<&str> = facets.required().collect();
            if required.is_empty() {
                "a table".to_owned()
            } else {
                format!("a table with {}", listed(&required, "and"))
            }
        }
    }
}
