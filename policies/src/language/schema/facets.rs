//! What a JSON Schema says at one place: the schema itself and all that it refers to, looked up as one.

use serde_json::{Map, Value};
use toml::de::DeValue;

use super::super::diagnostic::nearest;
use super::members;
use super::words::{self, number_of};

/// References followed from one place; schemas that need more refer to themselves.
const MAX_REFERENCES: usize = 16;

/// The schemas that all apply to one value.
pub(in super::super) struct Facets<'a> {
    shape: &'a Value,
    parts: Vec<&'a Map<String, Value>>,
}

impl<'a> Facets<'a> {
    /// What a schema says once its references are followed; `shape` is the root that holds the definitions.
    pub(in super::super) fn new(shape: &'a Value, schema: &'a Value) -> Facets<'a> {
        let mut parts = Vec::new();
        let mut open = vec![schema];
        while let Some(schema) = open.pop() {
            let Some(part) = members(schema) else { continue };
            if parts.len() == MAX_REFERENCES {
                break;
            }
            parts.push(part);
            let target = part.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#'));
            open.extend(target.and_then(|path| shape.pointer(path)));
            open.extend(part.get("allOf").and_then(Value::as_array).into_iter().flatten());
        }
        Facets { shape, parts }
    }

    /// A keyword of the schema.
    pub(in super::super) fn get(&self, keyword: &str) -> Option<&'a Value> {
        self.parts.iter().find_map(|part| part.get(keyword))
    }

    /// A numeric keyword.
    pub(in super::super) fn number(&self, keyword: &str) -> Option<f64> {
        self.get(keyword).and_then(Value::as_f64)
    }

    /// The alternatives of a union; empty where there is none.
    pub(in super::super) fn branches(&self) -> Vec<&'a Value> {
        let union = self.get("anyOf").or_else(|| self.get("oneOf")).and_then(Value::as_array);
        union.into_iter().flatten().collect()
    }

    /// The schema of a member, or `false` where there may be none by that name.
    pub(in super::super) fn member(&self, name: &str) -> Option<&'a Value> {
        let named = self.get("properties").and_then(members).and_then(|properties| properties.get(name));
        named.or_else(|| self.get("additionalProperties"))
    }

    /// The names of all members.
    pub(in super::super) fn members(&self) -> Vec<&'a str> {
        let properties = self.get("properties").and_then(members);
        properties.into_iter().flat_map(Map::keys).map(String::as_str).collect()
    }

    /// The names of the members that must be there.
    pub(in super::super) fn required(&self) -> impl Iterator<Item = &'a str> {
        self.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    /// The names of all types that may stand here.
    pub(in super::super) fn types(&self) -> Vec<&'a str> {
        match self.get("type") {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether a day is meant.
    pub(in super::super) fn is_date(&self) -> bool {
        self.get("format").and_then(Value::as_str) == Some("date")
    }

    /// Whether a value has a type that may stand here.
    pub(in super::super) fn admits(&self, value: &DeValue<'_>) -> bool {
        let types = self.types();
        types.is_empty()
            || types.iter().any(|name| match value {
                DeValue::String(_) => *name == "string" && !self.is_date(),
                DeValue::Integer(_) => *name == "integer" || *name == "number",
                DeValue::Float(_) => *name == "number",
                DeValue::Boolean(_) => *name == "boolean",
                DeValue::Datetime(moment) => {
                    *name == "string" && self.is_date() && moment.date.is_some() && moment.time.is_none()
                }
                DeValue::Array(_) => *name == "array",
                DeValue::Table(_) => *name == "object",
            })
    }

    /// Whether a quoted text would fit without its quotes.
    pub(in super::super) fn admits_unquoted(&self, text: &str) -> bool {
        let text = text.trim();
        DeValue::parse(text).is_ok_and(|value| !value.get_ref().is_str() && self.admits(value.get_ref()))
    }

    /// The texts that may stand here, where only some may.
    pub(in super::super) fn choices(&self) -> Option<Vec<&'a str>> {
        if let Some(only) = self.get("const").and_then(Value::as_str) {
            return Some(vec![only]);
        }
        if let Some(all) = self.get("enum").and_then(Value::as_array) {
            return Some(all.iter().filter_map(Value::as_str).collect());
        }
        let branches: Vec<_> = self.branches().into_iter().map(|branch| Facets::new(self.shape, branch)).collect();
        let texts = branches.iter().filter(|branch| branch.types() == ["string"]);
        let choices: Option<Vec<Vec<&str>>> = texts.map(Facets::choices).collect();
        choices.map(|choices| choices.concat()).filter(|choices| !choices.is_empty())
    }

    /// Which bound a value breaks, as the end of "`key` must …"; also numbers that are none.
    pub(in super::super) fn broken_bound(&self, value: &DeValue<'_>) -> Option<String> {
        match value {
            DeValue::Integer(_) | DeValue::Float(_) => self.broken_number(number_of(value)?),
            DeValue::String(text) => {
                let least = self.number("minLength")?;
                let empty = (text.chars().count() as f64) < least;
                empty.then(|| {
                    if least == 1.0 { "not be empty".to_owned() } else { format!("have at least {least} characters") }
                })
            }
            DeValue::Array(items) => {
                let count = items.len() as f64;
                let (least, most) = (self.number("minItems"), self.number("maxItems"));
                let broken = least.is_some_and(|least| count < least) || most.is_some_and(|most| count > most);
                broken.then(|| match (least, most) {
                    (Some(least), Some(most)) if least == most => format!("have exactly {least} items, not {count}"),
                    (Some(1.0), None) => "not be empty".to_owned(),
                    (Some(least), _) if count < least => format!("have at least {least} items, not {count}"),
                    (_, most) => format!("have at most {} items, not {count}", most.unwrap_or_default()),
                })
            }
            _ => None,
        }
    }

    /// How much a value looks like this alternative. Of a table, keys that are shared or nearly so count, and a tag that
    /// agrees counts most. 0 where nothing speaks for it.
    pub(in super::super) fn likeness(&self, value: &DeValue<'_>) -> usize {
        if !self.admits(value) {
            return 0;
        }
        let DeValue::Table(table) = value else { return 1 };
        let score = |(key, value): (&toml::Spanned<toml::de::DeString<'_>>, &toml::Spanned<DeValue<'_>>)| {
            let known = self.get("properties").and_then(members).and_then(|known| known.get(key.get_ref().as_ref()));
            let near = || nearest(key.get_ref(), self.members()).is_some();
            let tag = known.and_then(|schema| schema.get("const")).and_then(Value::as_str);
            match known {
                Some(_) if tag.is_some() && tag == value.get_ref().as_str() => 100,
                Some(_) => 2,
                None => usize::from(near()),
            }
        };
        table.iter().map(score).sum::<usize>()
    }

    /// What may stand here, in words.
    pub(in super::super) fn expected(&self) -> String {
        let branches = self.branches();
        if branches.is_empty() || self.choices().is_some() {
            return words::expected(self);
        }
        let all = branches.into_iter().map(|branch| Facets::new(self.shape, branch).expected());
        all.collect::<Vec<_>>().join(" or ")
    }

    /// What the items of a list may be, in words.
    pub(in super::super) fn expected_items(&self) -> Option<String> {
        self.get("items").map(|items| Facets::new(self.shape, items).expected())
    }

    /// The description of the key, as help: its first sentence, which ends with the unit.
    pub(in super::super) fn help(&self, name: &str) -> Option<String> {
        let description = self.get("description").and_then(Value::as_str)?;
        Some(format!("{}: {}", words::in_backticks(name), words::first_sentence(description)))
    }

    fn broken_number(&self, number: f64) -> Option<String> {
        if !number.is_finite() {
            return Some("be a finite number".to_owned());
        }
        let widest = match self.get("format").and_then(Value::as_str) {
            Some("uint32") => Some(f64::from(u32::MAX)),
            Some("int32") => Some(f64::from(i32::MAX)),
            Some("uint64" | "int64" | "uint") => Some(i64::MAX as f64), // TOML's integers end there
            _ => None,
        };
        let most = self.number("maximum").or(widest);
        let told = words::short(number);
        if let Some(least) = self.number("exclusiveMinimum").filter(|least| number <= *least) {
            return Some(format!("be more than {least}, not {told}"));
        }
        if let Some(least) = self.number("minimum").filter(|least| number < *least) {
            return Some(format!("be at least {least}, not {told}"));
        }
        if let Some(most) = self.number("exclusiveMaximum").filter(|most| number >= *most) {
            return Some(format!("be less than {most}, not {told}"));
        }
        most.filter(|most| number > *most).map(|most| format!("be at most {most}, not {told}"))
    }
}

/// Takes null out of one schema: out of its types and its choices, and a union of one is that one.
pub(in super::super) fn remove_null(schema: &mut Map<String, Value>) {
    let is_null =
        |value: &Value| value.is_null() || value == "null" || value.get("type").is_some_and(|name| name == "null");
    for keyword in ["type", "enum", "anyOf", "oneOf"] {
        if let Some(Value::Array(all)) = schema.get_mut(keyword) {
            all.retain(|one| !is_null(one));
        }
    }
    if let Some(Value::Array(names)) = schema.get("type")
        && let [only] = names.as_slice()
    {
        let only = only.clone();
        schema.insert("type".to_owned(), only);
    }
    if let Some(Value::Array(branches)) = schema.get("anyOf")
        && branches.len() == 1
        && let Some(only) = schema.remove("anyOf")
    {
        schema.insert("allOf".to_owned(), only);
    }
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
}
