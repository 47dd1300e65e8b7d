//! The types of an expression and the closures they are lowered to. Nothing here allocates when evaluated, or fails.

use std::ops::Range;

use crate::policy::{Env, Predicate};

use super::fields::{Field, Map};

/// A lowered sub-expression.
pub(super) enum Value {
    Bool(Predicate),
    Int(Int),
    Double(Double),
    Text(Text),
    /// `request.headers`, `pool.labels`: only `in` and a name make something of it.
    Map(Map),
    /// Literals, each with its place.
    List(Vec<(Constant, Range<usize>)>),
}

/// A literal in a list.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Constant {
    Int(i64),
    Double(f64),
    Text(String),
    Bool(bool),
}

/// An integer.
pub(super) enum Int {
    Literal(i64),
    Field(fn(&Env<'_>) -> i64),
    Code(Box<dyn Fn(&Env<'_>) -> i64 + Send + Sync>),
}

/// A number with a fraction.
pub(super) enum Double {
    Literal(f64),
    Code(Box<dyn Fn(&Env<'_>) -> f64 + Send + Sync>),
}

/// A text, borrowed from the expression or from what it reads.
pub(super) enum Text {
    Literal(Box<str>),
    Field(&'static Field, for<'r, 'e> fn(&'r Env<'e>) -> &'r str),
    Member(Map, Box<str>),
    Choice(Predicate, Box<Text>, Box<Text>),
}

impl Value {
    /// What it is, with its article.
    pub(super) fn described(&self) -> &'static str {
        match self {
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "an integer",
            Value::Double(_) => "a number",
            Value::Text(_) => "a string",
            Value::Map(_) => "a map",
            Value::List(_) => "a list",
        }
    }
}

impl Int {
    /// Its value.
    pub(super) fn get(&self, env: &Env<'_>) -> i64 {
        match self {
            Int::Literal(value) => *value,
            Int::Field(get) => get(env),
            Int::Code(code) => code(env),
        }
    }

    /// The same as a number with a fraction.
    pub(super) fn into_double(self) -> Double {
        match self {
            Int::Literal(value) => Double::Literal(value as f64),
            other => Double::Code(Box::new(move |env| other.get(env) as f64)),
        }
    }
}

impl Double {
    /// Its value.
    pub(super) fn get(&self, env: &Env<'_>) -> f64 {
        match self {
            Double::Literal(value) => *value,
            Double::Code(code) => code(env),
        }
    }
}

impl Text {
    /// Its value.
    pub(super) fn get<'r>(&'r self, env: &'r Env<'_>) -> &'r str {
        match self {
            Text::Literal(value) => value,
            Text::Field(_, get) => get(env),
            Text::Member(map, name) => map.member(env, name).unwrap_or_default(),
            Text::Choice(test, yes, no) => {
                if test(env) {
                    yes.get(env)
                } else {
                    no.get(env)
                }
            }
        }
    }
}
