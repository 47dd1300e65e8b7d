//! A TOML tree with spans against a JSON Schema: all that is wrong, each at its place, and the tree without it.

use std::ops::Range;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::diagnostic::{Diagnostic, nearest};

/// What a schema says at one place, with references followed.
mod facets;
/// Schema and values in words.
mod words;

pub(super) use facets::Facets;
pub(crate) use words::listed;
use words::{described, quoted_key};

/// Code of the diagnostic for a required key that is not there.
pub(super) const MISSING_KEY: &str = "missing-key";

/// What a check found.
pub(super) struct Found {
    /// Whether the root can be used once what is wrong has been cut out.
    pub(super) sound: bool,
    /// Every problem.
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// Checks a tree and cuts out of it what is wrong, from the leaves up.
pub(super) fn check(shape: &Value, text: &str, tree: &mut Spanned<DeValue<'_>>) -> Found {
    let checker = Checker { shape, text };
    let mut diagnostics = Vec::new();
    let sound = checker.check(shape, tree, &Place::root(), &mut diagnostics);
    Found { sound, diagnostics }
}

/// TOML has no null: what is optional may only be absent.
pub(super) fn remove_null(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.values_mut().for_each(remove_null);
            facets::remove_null(members);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_null),
        _ => {}
    }
}

/// Where in the tree a value is.
struct Place {
    /// Dotted keys; empty at the root.
    path: String,
    /// How messages call the value.
    name: String,
}

impl Place {
    fn root() -> Place {
        Place { path: String::new(), name: "the file".to_owned() }
    }

    fn key(&self, key: &str) -> Place {
        let quoted = quoted_key(key);
        let path = if self.path.is_empty() { quoted.clone() } else { format!("{}.{quoted}", self.path) };
        Place { path, name: format!("`{quoted}`") }
    }

    fn item(&self, index: usize) -> Place {
        Place { path: self.path.clone(), name: format!("item {} of {}", index + 1, self.name) }
    }
}

struct Checker<'a> {
    shape: &'a Value,
    text: &'a str,
}

impl<'a> Checker<'a> {
    /// Whether the value can be used once what is wrong inside it has been cut out.
    fn check(
        &self,
        schema: &'a Value,
        value: &mut Spanned<DeValue<'_>>,
        place: &Place,
        out: &mut Vec<Diagnostic>,
    ) -> bool {
        let facets = Facets::new(self.shape, schema);
        let branches = facets.branches();
        if !branches.is_empty() {
            return self.check_union(&facets, &branches, value, place, out);
        }
        if !facets.admits(value.get_ref()) {
            out.push(wrong_type(&facets, value, place));
            return false;
        }
        let span = value.span();
        if let Some(diagnostic) = wrong_value(&facets, value, place) {
            out.push(diagnostic.at(span));
            return false;
        }
        match value.get_mut() {
            DeValue::Array(items) => self.check_array(&facets, items, place, out),
            DeValue::Table(table) => self.check_table(&facets, table, span, place, out),
            _ => true,
        }
    }

    fn check_array(
        &self,
        facets: &Facets<'a>,
        items: &mut DeArray<'_>,
        place: &Place,
        out: &mut Vec<Diagnostic>,
    ) -> bool {
        let Some(schema) = facets.get("items") else { return true };
        let length = items.len();
        let all = std::mem::replace(items, DeArray::new());
        for (index, mut item) in all.into_iter().enumerate() {
            if self.check(schema, &mut item, &place.item(index), out) {
                items.push(item);
            }
        }
        // What is left of a list of fixed length is no such list.
        items.len() == length || facets.number("minItems").is_none_or(|least| items.len() as f64 >= least)
    }

    fn check_table(
        &self,
        facets: &Facets<'a>,
        table: &mut DeTable<'_>,
        span: Range<usize>,
        place: &Place,
        out: &mut Vec<Diagnostic>,
    ) -> bool {
        let shown = self.shown(place, &span);
        let mut named = Vec::new();
        for (key, mut value) in std::mem::take(table) {
            let name = key.get_ref().as_ref();
            let keep = match facets.member(name) {
                Some(Value::Bool(false)) => {
                    let (diagnostic, guess) = unknown_key(facets, name, &shown);
                    out.push(diagnostic.at(key.span()));
                    named.extend(guess.map(str::to_owned));
                    false
                }
                Some(schema @ Value::Object(_)) => self.check(schema, &mut value, &place.key(name), out),
                _ => true,
            };
            named.push(name.to_owned());
            if keep {
                table.insert(key, value);
            }
        }
        // A key that is there but wrong, or misspelt, has been told already.
        for name in facets.required().filter(|name| !named.iter().any(|other| other == name)) {
            out.push(self.missing_key(facets, name, place, &shown, &span));
        }
        facets.required().all(|name| table.contains_key(name))
    }

    fn missing_key(
        &self,
        facets: &Facets<'a>,
        name: &str,
        place: &Place,
        shown: &str,
        span: &Range<usize>,
    ) -> Diagnostic {
        let help = facets.member(name).and_then(|schema| Facets::new(self.shape, schema).help(name));
        let at_root = place.path.is_empty();
        let message =
            if at_root { format!("missing key `{name}`") } else { format!("missing key `{name}` in {shown}") };
        let diagnostic = Diagnostic::error(MISSING_KEY, message).maybe_help(help);
        if at_root { diagnostic } else { diagnostic.at(span.clone()) }
    }

    /// The first branch that fits wins; where none does, the errors of the one that was most likely meant are told.
    fn check_union(
        &self,
        facets: &Facets<'a>,
        branches: &[&'a Value],
        value: &mut Spanned<DeValue<'_>>,
        place: &Place,
        out: &mut Vec<Diagnostic>,
    ) -> bool {
        for branch in branches {
            let mut copy = value.clone();
            let mut problems = Vec::new();
            if self.check(branch, &mut copy, place, &mut problems) && problems.is_empty() {
                *value = copy;
                return true;
            }
        }
        if let (DeValue::String(text), Some(choices)) = (value.get_ref(), facets.choices()) {
            out.push(unknown_value(facets, text, &choices, place).at(value.span()));
            return false;
        }
        let likeness = |branch: &Value| Facets::new(self.shape, branch).likeness(value.get_ref());
        match branches.iter().filter(|branch| likeness(branch) > 0).max_by_key(|branch| likeness(branch)) {
            Some(branch) => self.check(branch, value, place, out),
            None => {
                out.push(wrong_type(facets, value, place));
                false
            }
        }
    }

    /// A table as its author wrote it: `[class.realtime]`, `[[route]]`, or the path of an inline one.
    fn shown(&self, place: &Place, span: &Range<usize>) -> String {
        let written = self.text.get(span.start..).unwrap_or_default();
        match &place.path {
            path if path.is_empty() => "the top level".to_owned(),
            path if written.starts_with("[[") => format!("`[[{path}]]`"),
            path if written.starts_with('[') => format!("`[{path}]`"),
            path => format!("`{path}`"),
        }
    }
}

fn unknown_key<'a>(facets: &Facets<'a>, name: &str, shown: &str) -> (Diagnostic, Option<&'a str>) {
    let known = facets.members();
    let guess = nearest(name, known.iter().copied());
    let help = match guess {
        Some(guess) => Some(format!("did you mean `{guess}`?")),
        None if known.len() == 1 => Some(format!("the only key here is {}", listed(&known, "and"))),
        None => Some(format!("the keys here are {}", listed(&known, "and"))),
    };
    let diagnostic = Diagnostic::error(
        "unknown-key",
        format!("unknown key `{name}` {} {shown}", if shown.starts_with('`') { "in" } else { "at" }),
    );
    (diagnostic.maybe_help(help), guess)
}

fn wrong_type(facets: &Facets<'_>, value: &Spanned<DeValue<'_>>, place: &Place) -> Diagnostic {
    let found = described(value.get_ref());
    let expected = facets.expected();
    let help = match value.get_ref() {
        DeValue::Table(_) if facets.types() == ["array"] && facets.get("items").is_some() => {
            Some(format!("write `[[{}]]`, or a list in brackets", place.path))
        }
        DeValue::String(text) if facets.admits_unquoted(text) => {
            Some(format!("write `{}` without quotes", text.trim()))
        }
        _ => facets.help(&place.name),
    };
    Diagnostic::error("wrong-type", format!("{} must be {expected}, not {found}", place.name))
        .at(value.span())
        .maybe_help(help)
}

fn unknown_value(facets: &Facets<'_>, text: &str, choices: &[&str], place: &Place) -> Diagnostic {
    let help = match nearest(text, choices.iter().copied()) {
        Some(guess) => format!("did you mean `{guess}`?"),
        None => format!("{} is {}", place.name, facets.expected()),
    };
    Diagnostic::error("unknown-value", format!("unknown value `{text}` of {}", place.name)).help(help)
}

/// A value of the right type that is out of bounds or not among the choices.
fn wrong_value(facets: &Facets<'_>, value: &Spanned<DeValue<'_>>, place: &Place) -> Option<Diagnostic> {
    if let DeValue::String(text) = value.get_ref()
        && let Some(choices) = facets.choices()
        && !choices.contains(&text.as_ref())
    {
        return Some(unknown_value(facets, text, &choices, place));
    }
    let rule = facets.broken_bound(value.get_ref())?;
    let help = facets.help(&place.name);
    Some(Diagnostic::error("out-of-range", format!("{} must {rule}", place.name)).maybe_help(help))
}

/// The members of a JSON object, or none.
fn members(value: &Value) -> Option<&Map<String, Value>> {
    value.as_object()
}
