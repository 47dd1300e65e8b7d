//! The parsed tree, checked and lowered. A sub-expression that is wrong has been told and yields nothing; its
//! neighbours are checked all the same, so that one pass tells every mistake of an expression, once.

use std::ops::Range;

use cel::common::ast::operators as op;
use cel::common::ast::{CallExpr, Expr, IdedExpr, ListExpr, LiteralValue};

use super::super::diagnostic::Diagnostic;
use super::extent::Extents;
use super::value::{Constant, Double, Int, Text, Value};
use super::{MAX_EXPRESSION_DEPTH, Reads, Scope, too_deep};
use crate::policy::{Env, Predicate};

/// Checks and lowers one expression.
pub(super) struct Lowerer<'a> {
    pub(super) extents: Extents<'a>,
    pub(super) scope: Scope<'a>,
    /// What has been read so far.
    pub(super) reads: Reads,
    depth: usize,
    problems: Vec<Diagnostic>,
}

impl<'a> Lowerer<'a> {
    pub(super) fn new(extents: Extents<'a>, scope: Scope<'a>) -> Lowerer<'a> {
        Lowerer { extents, scope, reads: Reads::default(), depth: 0, problems: Vec::new() }
    }

    /// Every problem told, with spans in the text of the expression.
    pub(super) fn into_problems(self) -> Vec<Diagnostic> {
        self.problems
    }

    /// The whole expression, which must be true or false.
    pub(super) fn condition(&mut self, tree: &IdedExpr) -> Option<Predicate> {
        let value = self.lower(tree)?;
        match value {
            Value::Bool(test) => Some(test),
            other => {
                let message = format!("the expression is {}, not true or false", other.described());
                let help = "compare it with something, for example with `==`";
                self.tell(Diagnostic::error("expression-type", message).at(self.extents.of(tree)).help(help))
            }
        }
    }

    /// Any sub-expression.
    pub(super) fn lower(&mut self, node: &IdedExpr) -> Option<Value> {
        if self.depth == MAX_EXPRESSION_DEPTH {
            return self.tell(too_deep(self.extents.of(node), MAX_EXPRESSION_DEPTH));
        }
        self.depth += 1;
        let value = match &node.expr {
            Expr::Literal(literal) => self.literal(literal, node),
            Expr::Ident(_) | Expr::Select(_) => self.path(node),
            Expr::List(list) => self.list(list),
            Expr::Call(call) => self.operation(call, node),
            Expr::Map(_) | Expr::Struct(_) => self.unsupported(node, "maps cannot be written in an expression"),
            Expr::Comprehension(_) | Expr::Unspecified => self.unsupported(node, "not an expression"),
        };
        self.depth -= 1;
        value
    }

    /// A sub-expression that must be true or false; `role` says where it stands.
    pub(super) fn boolean(&mut self, node: &IdedExpr, role: &str) -> Option<Predicate> {
        match self.lower(node)? {
            Value::Bool(test) => Some(test),
            other => {
                let message = format!("{role} must be true or false, not {}", other.described());
                self.tell(Diagnostic::error("expression-type", message).at(self.extents.of(node)))
            }
        }
    }

    /// A sub-expression that must be a text.
    pub(super) fn text(&mut self, node: &IdedExpr, role: &str) -> Option<Text> {
        match self.lower(node)? {
            Value::Text(text) => Some(text),
            other => {
                let message = format!("{role} must be a string, not {}", other.described());
                self.tell(Diagnostic::error("expression-type", message).at(self.extents.of(node)))
            }
        }
    }

    /// Notes a problem; nothing comes of the sub-expression.
    pub(super) fn tell<T>(&mut self, problem: Diagnostic) -> Option<T> {
        self.problems.push(problem);
        None
    }

    fn unsupported<T>(&mut self, node: &IdedExpr, message: &str) -> Option<T> {
        self.tell(Diagnostic::error("expression-unsupported", message).at(self.extents.of(node)))
    }

    fn literal(&mut self, literal: &LiteralValue, node: &IdedExpr) -> Option<Value> {
        match constant(literal) {
            Some(Constant::Bool(value)) => Some(Value::Bool(Box::new(move |_| value))),
            Some(Constant::Int(value)) => Some(Value::Int(Int::Literal(value))),
            Some(Constant::Double(value)) => Some(Value::Double(Double::Literal(value))),
            Some(Constant::Text(value)) => Some(Value::Text(Text::Literal(value.into()))),
            None if *literal == LiteralValue::Null => {
                let problem = Diagnostic::error("expression-unsupported", "nothing here is ever `null`");
                let help = "an absent string is empty, an absent number is 0";
                self.tell(problem.at(self.extents.of(node)).help(help))
            }
            None => self.unsupported(node, "byte strings are not supported"),
        }
    }

    fn list(&mut self, list: &ListExpr) -> Option<Value> {
        let mut items: Vec<(Constant, Range<usize>)> = Vec::new();
        let mut sound = true;
        for element in &list.elements {
            let value = match &element.expr {
                Expr::Literal(literal) => constant(literal),
                _ => None,
            };
            match value {
                Some(value) => items.push((value, self.extents.of(element))),
                None => {
                    sound = false;
                    let _: Option<()> = self.unsupported(element, "a list may hold only strings, numbers and booleans");
                }
            }
        }
        sound.then_some(Value::List(items))
    }

    fn operation(&mut self, call: &CallExpr, node: &IdedExpr) -> Option<Value> {
        match (call.func_name.as_str(), call.args.as_slice()) {
            (op::LOGICAL_AND, [left, right]) => {
                let (left, right) =
                    (self.boolean(left, "the left side of `&&`"), self.boolean(right, "the right side of `&&`"));
                let (left, right) = (left?, right?);
                Some(Value::Bool(Box::new(move |env| left(env) && right(env))))
            }
            (op::LOGICAL_OR, [left, right]) => {
                let (left, right) =
                    (self.boolean(left, "the left side of `||`"), self.boolean(right, "the right side of `||`"));
                let (left, right) = (left?, right?);
                Some(Value::Bool(Box::new(move |env| left(env) || right(env))))
            }
            (op::LOGICAL_NOT, [operand]) => {
                let operand = self.boolean(operand, "what `!` negates")?;
                Some(Value::Bool(Box::new(move |env| !operand(env))))
            }
            (op::CONDITIONAL, [test, yes, no]) => self.choice(test, yes, no, node),
            (op::IN, [item, list]) => self.membership(item, list, node),
            (op::INDEX, [_, _]) => self.index(node),
            (op::NEGATE, [operand]) => self.negation(operand),
            (_, [left, right]) if call.target.is_none() && super::extent::is_operator(&call.func_name) => {
                self.binary(left, right, node)
            }
            _ => self.call(call, node),
        }
    }

    fn choice(&mut self, test: &IdedExpr, yes: &IdedExpr, no: &IdedExpr, node: &IdedExpr) -> Option<Value> {
        let test = self.boolean(test, "what stands before `?`");
        let (yes, no) = (self.lower(yes), self.lower(no));
        let test = test?;
        match (yes?, no?) {
            (Value::Bool(yes), Value::Bool(no)) => {
                Some(Value::Bool(Box::new(move |env| if test(env) { yes(env) } else { no(env) })))
            }
            (Value::Int(yes), Value::Int(no)) => {
                let code = move |env: &Env<'_>| if test(env) { yes.get(env) } else { no.get(env) };
                Some(Value::Int(Int::Code(Box::new(code))))
            }
            (Value::Text(yes), Value::Text(no)) => Some(Value::Text(Text::Choice(test, Box::new(yes), Box::new(no)))),
            (yes @ (Value::Int(_) | Value::Double(_)), no @ (Value::Int(_) | Value::Double(_))) => {
                let (yes, no) = (yes.into_double()?, no.into_double()?);
                let code = move |env: &Env<'_>| if test(env) { yes.get(env) } else { no.get(env) };
                Some(Value::Double(Double::Code(Box::new(code))))
            }
            (yes, no) => {
                let message = format!("`?:` yields {} or {}, which differ", yes.described(), no.described());
                self.tell(Diagnostic::error("expression-type", message).at(self.extents.of(node)))
            }
        }
    }

    fn binary(&mut self, left: &IdedExpr, right: &IdedExpr, node: &IdedExpr) -> Option<Value> {
        let (left_value, right_value) = (self.lower(left), self.lower(right));
        let operator = self.extents.text(self.extents.operator(node));
        match operator {
            "+" | "-" | "*" | "/" | "%" => self.arithmetic(operator, (left, left_value?), (right, right_value?), node),
            _ => self.comparison(operator, (left, left_value?), (right, right_value?), node),
        }
    }
}

/// A literal that may stand in an expression.
fn constant(literal: &LiteralValue) -> Option<Constant> {
    match literal {
        LiteralValue::Boolean(value) => Some(Constant::Bool(*value.inner())),
        LiteralValue::Int(value) => Some(Constant::Int(*value.inner())),
        LiteralValue::UInt(value) => Some(Constant::Int(i64::try_from(*value.inner()).unwrap_or(i64::MAX))),
        LiteralValue::Double(value) => Some(Constant::Double(*value.inner())),
        LiteralValue::String(value) => Some(Constant::Text(value.inner().to_owned())),
        LiteralValue::Bytes(_) | LiteralValue::Null => None,
    }
}
