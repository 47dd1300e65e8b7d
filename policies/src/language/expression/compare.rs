//! Comparison and membership, with a short path for what conditions mostly do: a field against a literal.

use std::cmp::Ordering;
use std::ops::Range;

use cel::common::ast::{Expr, IdedExpr, LiteralValue};

use super::super::diagnostic::{Diagnostic, nearest};
use super::super::quantity;
use super::super::schema::listed;
use super::fields::{Known, Map};
use super::lower::Lowerer;
use super::value::{Constant, Double, Int, Text, Value};
use crate::policy::Predicate;

/// Which outcomes of a comparison make it true.
#[derive(Clone, Copy)]
struct Outcomes {
    less: bool,
    equal: bool,
    greater: bool,
}

impl Outcomes {
    fn of(operator: &str) -> Outcomes {
        let (less, equal, greater) = match operator {
            "<" => (true, false, false),
            "<=" => (true, true, false),
            ">" => (false, false, true),
            ">=" => (false, true, true),
            "!=" => (true, false, true),
            _ => (false, true, false),
        };
        Outcomes { less, equal, greater }
    }

    fn include(self, ordering: Ordering) -> bool {
        match ordering {
            Ordering::Less => self.less,
            Ordering::Equal => self.equal,
            Ordering::Greater => self.greater,
        }
    }
}

impl Lowerer<'_> {
    /// `a == b` and its like.
    pub(super) fn comparison(
        &mut self,
        operator: &str,
        (left_node, left): (&IdedExpr, Value),
        (right_node, right): (&IdedExpr, Value),
        node: &IdedExpr,
    ) -> Option<Value> {
        if let (Value::Text(left), Value::Text(right)) = (&left, &right) {
            self.check_known(left, right_node, right);
            self.check_known(right, left_node, left);
        }
        let outcomes = Outcomes::of(operator);
        let equality = matches!(operator, "==" | "!=");
        Some(Value::Bool(match (left, right) {
            (Value::Text(left), Value::Text(right)) if equality => equal_texts(left, right, operator == "!="),
            (Value::Text(left), Value::Text(right)) => {
                Box::new(move |env| outcomes.include(left.get(env).cmp(right.get(env))))
            }
            (Value::Int(left), Value::Int(right)) => compare_ints(left, right, outcomes),
            (left @ (Value::Int(_) | Value::Double(_)), right @ (Value::Int(_) | Value::Double(_))) => {
                compare_doubles(left.into_double()?, right.into_double()?, outcomes, operator == "!=")
            }
            (Value::Bool(left), Value::Bool(right)) if equality => {
                let negate = operator == "!=";
                Box::new(move |env| (left(env) == right(env)) != negate)
            }
            (left, right) => {
                let message = match (&left, &right) {
                    (Value::Bool(_), Value::Bool(_)) => format!("`{operator}` does not order booleans"),
                    _ => format!("`{operator}` cannot compare {} with {}", left.described(), right.described()),
                };
                let help = unit_help(&left, &right).or_else(|| unit_help(&right, &left));
                let problem = Diagnostic::error("expression-type", message).at(self.extents.of(node));
                return self.tell(problem.maybe_help(help));
            }
        }))
    }

    /// `a in [b, c]`, `"name" in request.headers`.
    pub(super) fn membership(&mut self, item: &IdedExpr, list: &IdedExpr, node: &IdedExpr) -> Option<Value> {
        let (value, within) = (self.lower(item), self.lower(list));
        let (value, within) = (value?, within?);
        match (value, within) {
            (Value::Text(Text::Literal(name)), Value::Map(map)) => {
                let name = if map == Map::Headers { name.to_lowercase() } else { name.into() };
                if map == Map::Headers {
                    self.reads.headers.insert(name.clone());
                }
                Some(Value::Bool(Box::new(move |env| map.member(env, &name).is_some())))
            }
            (value, Value::List(items)) => self.one_of(value, items, node),
            (_, Value::Map(_)) => {
                let problem = Diagnostic::error("expression-type", "the name before `in` must be a literal string");
                self.tell(problem.at(self.extents.of(item)))
            }
            (_, other) => {
                let message = format!("`in` looks into a list, not into {}", other.described());
                let help = "write `in [\"a\", \"b\"]`; for part of a string use `contains`";
                self.tell(Diagnostic::error("expression-type", message).at(self.extents.of(list)).help(help))
            }
        }
    }

    fn one_of(&mut self, value: Value, items: Vec<(Constant, Range<usize>)>, node: &IdedExpr) -> Option<Value> {
        let mut texts = Vec::new();
        let mut numbers = Vec::new();
        for (item, span) in items {
            match (&value, item) {
                (Value::Text(text), Constant::Text(item)) => {
                    self.check_known_literal(text, &item, span);
                    texts.push(item);
                }
                (Value::Int(_) | Value::Double(_), Constant::Int(item)) => numbers.push(item as f64),
                (Value::Int(_) | Value::Double(_), Constant::Double(item)) => numbers.push(item),
                (other, _) => {
                    let message = format!("`in` compares {} with something else", other.described());
                    return self.tell(Diagnostic::error("expression-type", message).at(span));
                }
            }
        }
        if texts.is_empty() && numbers.is_empty() {
            let problem = Diagnostic::error("expression-type", "the list is empty, so this is never true");
            return self.tell(problem.at(self.extents.of(node)));
        }
        Some(Value::Bool(match value {
            Value::Text(text) => Box::new(move |env| {
                let text = text.get(env);
                texts.iter().any(|item| item == text)
            }),
            other => {
                let number = other.into_double()?;
                Box::new(move |env| numbers.contains(&number.get(env)))
            }
        }))
    }

    /// A field whose values are known is compared with one of them.
    fn check_known(&mut self, field: &Text, literal_node: &IdedExpr, literal: &Text) {
        if let (Text::Literal(literal), Expr::Literal(LiteralValue::String(_))) = (literal, &literal_node.expr) {
            let span = self.extents.of(literal_node);
            self.check_known_literal(field, literal, span);
        }
    }

    fn check_known_literal(&mut self, field: &Text, literal: &str, span: Range<usize>) {
        let Text::Field(field, _) = field else { return };
        if matches!(field.known, Known::Class | Known::DeclaredClass) {
            self.reads.classes.insert(literal.to_owned());
        }
        let Some((noun, values, severity)) = field.known.values(&self.scope) else { return };
        if values.contains(&literal) || literal.is_empty() {
            return;
        }
        let help = match nearest(literal, values.iter().copied()) {
            Some(guess) => format!("did you mean `{guess}`?"),
            None => format!("there {} only {}", if values.len() == 1 { "is" } else { "are" }, listed(&values, "and")),
        };
        let mut problem = Diagnostic::error("unknown-name", format!("there is no {noun} `{literal}`"));
        problem.severity = severity;
        let _: Option<()> = self.tell(problem.at(span).help(help));
    }
}

/// A number with a unit in quotes: numbers in expressions have none, their fields' names do.
fn unit_help(number: &Value, text: &Value) -> Option<String> {
    let (Value::Int(_) | Value::Double(_), Value::Text(Text::Literal(text))) = (number, text) else { return None };
    let bare = text.parse::<f64>().ok().map(|number| (number, "in the unit that the field's name ends with"));
    let (number, unit) = bare.or_else(|| Some((quantity::milliseconds(text).ok()?, "if milliseconds are meant")))?;
    Some(format!("numbers have no quotes and no unit: write `{number}` {unit}"))
}

fn equal_texts(left: Text, right: Text, negate: bool) -> Predicate {
    match (left, right) {
        (Text::Field(_, get), Text::Literal(literal)) | (Text::Literal(literal), Text::Field(_, get)) => {
            Box::new(move |env| (get(env) == &*literal) != negate)
        }
        (Text::Member(map, name), Text::Literal(literal)) | (Text::Literal(literal), Text::Member(map, name)) => {
            Box::new(move |env| (map.member(env, &name).unwrap_or_default() == &*literal) != negate)
        }
        (left, right) => Box::new(move |env| (left.get(env) == right.get(env)) != negate),
    }
}

fn compare_ints(left: Int, right: Int, outcomes: Outcomes) -> Predicate {
    match (left, right) {
        (Int::Field(get), Int::Literal(literal)) => Box::new(move |env| outcomes.include(get(env).cmp(&literal))),
        (left, right) => Box::new(move |env| outcomes.include(left.get(env).cmp(&right.get(env)))),
    }
}

/// Not-a-number differs from everything, itself too.
fn compare_doubles(left: Double, right: Double, outcomes: Outcomes, differs: bool) -> Predicate {
    Box::new(move |env| {
        left.get(env).partial_cmp(&right.get(env)).map_or(differs, |ordering| outcomes.include(ordering))
    })
}
