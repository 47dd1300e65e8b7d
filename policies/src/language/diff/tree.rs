//! A TOML text as a tree that remembers the order of its keys, with values that are equal when they mean the same.

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::quantity::milliseconds;

/// A value of the text.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// Text, number, truth value, date.
    Leaf(Leaf),
    /// An array.
    List(Vec<Node>),
    /// A table, in the order of the file.
    Table(Vec<(String, Node)>),
}

/// A value without parts.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    value: Value,
    /// The same for values that mean the same.
    meaning: String,
}

/// Nothing at all.
pub(super) const NOTHING: Node = Node::Table(Vec::new());

/// The tree of a text, `None` where it is not TOML.
pub(super) fn read(text: &str) -> Option<Node> {
    let table = DeTable::parse(text).ok()?;
    Some(read_table(table.get_ref()))
}

fn read_table(table: &DeTable<'_>) -> Node {
    let mut members: Vec<_> = table.iter().collect();
    members.sort_by_key(|(key, _)| key.span().start);
    let members = members.into_iter().map(|(key, value)| {
        let key = key.get_ref().to_string();
        let node = read_value(&key, value);
        (key, node)
    });
    Node::Table(members.collect())
}

fn read_value(key: &str, value: &Spanned<DeValue<'_>>) -> Node {
    match value.get_ref() {
        DeValue::Table(table) => read_table(table),
        DeValue::Array(items) => Node::List(items.iter().map(|item| read_value(key, item)).collect()),
        DeValue::Boolean(value) => leaf(Value::Bool(*value), value.to_string()),
        DeValue::Datetime(date) => leaf(Value::String(date.to_string()), date.to_string()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => leaf(Value::from(number), as_number(key, number as f64)),
            Err(_) => leaf(Value::String(integer.as_str().to_owned()), integer.as_str().to_owned()),
        },
        DeValue::Float(float) => match float.as_str().parse::<f64>() {
            Ok(number) => {
                let value = Number::from_f64(number).map_or_else(|| float.as_str().into(), Value::Number);
                leaf(value, as_number(key, number))
            }
            Err(_) => leaf(Value::String(float.as_str().to_owned()), float.as_str().to_owned()),
        },
        DeValue::String(text) => leaf(Value::String(text.to_string()), as_text(key, text)),
    }
}

fn leaf(value: Value, meaning: String) -> Node {
    Node::Leaf(Leaf { value, meaning })
}

/// A bare number is in the unit that its key ends with.
fn as_number(key: &str, number: f64) -> String {
    let ms = match () {
        () if key.ends_with("_ms") => number,
        () if key.ends_with("_s") => number * 1e3,
        () => return number.to_string(),
    };
    format!("{ms} ms")
}

/// Keys that hold a time, and keys that hold an expression, in which spaces mean nothing.
fn as_text(key: &str, text: &str) -> String {
    let is_time = key.ends_with("_ms") || key.ends_with("_s") || key == "after";
    let is_expression = matches!(key, "when" | "pools" | "exclude");
    match milliseconds(text) {
        Ok(ms) if is_time => format!("{ms} ms"),
        _ if is_expression => format!("\"{}\"", without_spaces(text)),
        _ => format!("\"{text}\""),
    }
}

/// Without white space outside of quotes.
fn without_spaces(expression: &str) -> String {
    let mut quote = None;
    let mut escaped = false;
    expression
        .chars()
        .filter(|&c| {
            match quote {
                Some(open) if c == open && !escaped => quote = None,
                None if matches!(c, '"' | '\'') => quote = Some(c),
                _ => {}
            }
            escaped = c == '\\' && !escaped;
            quote.is_some() || !c.is_whitespace()
        })
        .collect()
}

impl Node {
    /// The same text for nodes that mean the same; `without` names a key to leave out.
    pub(super) fn meaning(&self, without: Option<&str>) -> String {
        match self {
            Node::Leaf(leaf) => leaf.meaning.clone(),
            Node::List(items) => {
                let items: Vec<String> = items.iter().map(|item| item.meaning(None)).collect();
                format!("[{}]", items.join(","))
            }
            Node::Table(members) => {
                let kept = members.iter().filter(|(key, _)| Some(key.as_str()) != without);
                let mut kept: Vec<String> = kept.map(|(key, node)| format!("{key}={}", node.meaning(None))).collect();
                kept.sort_unstable();
                format!("{{{}}}", kept.join(","))
            }
        }
    }

    /// As JSON.
    pub(super) fn value(&self) -> Value {
        match self {
            Node::Leaf(leaf) => leaf.value.clone(),
            Node::List(items) => Value::Array(items.iter().map(Node::value).collect()),
            Node::Table(members) => {
                let members = members.iter().map(|(key, node)| (key.clone(), node.value()));
                Value::Object(members.collect::<Map<_, _>>())
            }
        }
    }

    /// A member of a table.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match self {
            Node::Table(members) => members.iter().find(|(name, _)| name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// What a table calls itself.
    pub(super) fn name(&self) -> Option<&str> {
        match self.get("name")? {
            Node::Leaf(leaf) => leaf.value.as_str(),
            _ => None,
        }
    }

    /// Whether it is a table with nothing but tables in it: a collection of named things.
    pub(super) fn is_collection(&self) -> bool {
        match self {
            Node::Table(members) => {
                !members.is_empty() && members.iter().all(|(_, node)| matches!(node, Node::Table(_)))
            }
            _ => false,
        }
    }
}
