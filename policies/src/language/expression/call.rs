//! Calls: the few functions there are, and a word on those there are not.

use cel::common::ast::{CallExpr, IdedExpr};

use super::super::diagnostic::{Diagnostic, nearest};
use super::super::schema::listed;
use super::lower::Lowerer;
use super::value::{Int, Text, Value};
use crate::policy::Env;

/// A function or an operator as the reference shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionDoc {
    /// How it is written.
    pub form: &'static str,
    /// What it yields.
    pub doc: &'static str,
}

/// Every function: its name, how it is written, what it yields.
const FUNCTIONS: [(&str, &str, &str); 5] = [
    ("startsWith", "text.startsWith(part)", "whether a string begins with another"),
    ("endsWith", "text.endsWith(part)", "whether a string ends with another"),
    ("contains", "text.contains(part)", "whether a string has another in it"),
    ("size", "size(text)", "length of a string, characters"),
    ("has", "has(request.headers[\"x\"])", "whether a header or a label is there, empty or not"),
];

/// Every operator.
const OPERATORS: [(&str, &str); 8] = [
    ("a && b", "both; the right side is read only where the left one is true"),
    ("a \\|\\| b", "either; the right side is read only where the left one is false"),
    ("!a", "the opposite"),
    ("a ? b : c", "`b` where `a` is true, else `c`"),
    ("==  !=  <  <=  >  >=", "comparison of two numbers or two strings; `==` and `!=` also of booleans"),
    ("a in [b, c]", "whether a value is one of several"),
    ("\"x\" in request.headers", "whether a header or a label is there"),
    ("+  -  *  /  %", "numbers only; integers saturate, what is divided by zero is 0"),
];

/// Every function and operator of expressions.
pub fn functions() -> impl Iterator<Item = FunctionDoc> {
    let functions = FUNCTIONS.into_iter().map(|(_, form, doc)| (form, doc));
    OPERATORS.into_iter().chain(functions).map(|(form, doc)| FunctionDoc { form, doc })
}

/// Functions of CEL that loop; without them every expression takes bounded time.
const LOOPS: [&str; 6] = ["all", "exists", "exists_one", "existsOne", "map", "filter"];

impl Lowerer<'_> {
    /// `has(x)`, `x.startsWith(y)` and their like.
    pub(super) fn call(&mut self, call: &CallExpr, node: &IdedExpr) -> Option<Value> {
        match (call.func_name.as_str(), call.target.as_deref(), call.args.as_slice()) {
            ("has", None, [operand]) => self.has(operand),
            ("size", None, [operand]) | ("size", Some(operand), []) => self.size(operand),
            (name @ ("startsWith" | "endsWith" | "contains"), Some(target), [argument]) => {
                self.text_test(name, target, argument)
            }
            (name, target, _) => {
                let problem = refusal(name, target.is_some()).at(self.extents.function_name(node));
                self.tell(problem)
            }
        }
    }

    fn has(&mut self, operand: &IdedExpr) -> Option<Value> {
        match self.member(operand) {
            Some((map, name)) => {
                let map = map?;
                Some(Value::Bool(Box::new(move |env| map.member(env, &name).is_some())))
            }
            None => {
                self.lower(operand)?;
                let problem = Diagnostic::error("expression-type", "`has` asks only for a header or a label");
                let help = "compare with `\"\"` or `0`: every field is always there";
                self.tell(problem.at(self.extents.of(operand)).help(help))
            }
        }
    }

    fn size(&mut self, operand: &IdedExpr) -> Option<Value> {
        let text = self.text(operand, "what `size` measures")?;
        let code = move |env: &Env<'_>| i64::try_from(text.get(env).chars().count()).unwrap_or(i64::MAX);
        Some(Value::Int(Int::Code(Box::new(code))))
    }

    fn text_test(&mut self, name: &str, target: &IdedExpr, argument: &IdedExpr) -> Option<Value> {
        let target = self.text(target, &format!("what `{name}` looks into"));
        let argument = self.text(argument, &format!("what `{name}` looks for"));
        let test: fn(&str, &str) -> bool = match name {
            "startsWith" => |text, part| text.starts_with(part),
            "endsWith" => |text, part| text.ends_with(part),
            _ => |text, part| text.contains(part),
        };
        Some(Value::Bool(match (target?, argument?) {
            (target, Text::Literal(part)) => Box::new(move |env| test(target.get(env), &part)),
            (target, part) => Box::new(move |env| test(target.get(env), part.get(env))),
        }))
    }
}

fn refusal(name: &str, is_method: bool) -> Diagnostic {
    if LOOPS.contains(&name) {
        let problem = Diagnostic::error("expression-unsupported", format!("`{name}` is not available: it loops"));
        return problem.help("test for one of several values with `in`");
    }
    let names = FUNCTIONS.map(|(name, ..)| name);
    if names.contains(&name) {
        let form = match (name, is_method) {
            ("has", _) => "has(request.headers[\"name\"])".to_owned(),
            ("size", _) => "size(request.model)".to_owned(),
            _ => format!("request.model.{name}(\"text\")"),
        };
        return Diagnostic::error("expression-type", format!("wrong arguments of `{name}`"))
            .help(format!("write `{form}`"));
    }
    let help = match nearest(name, names) {
        Some(guess) => format!("did you mean `{guess}`?"),
        None => format!("the functions are {}", listed(&names, "and")),
    };
    Diagnostic::error("unknown-function", format!("unknown function `{name}`")).help(help)
}
