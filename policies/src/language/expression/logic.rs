//! What a condition says, in a form that can be reasoned about: never a false claim, and silence where it is not sure.
//! The tree has been checked and lowered before.

use cel::common::ast::operators as op;
use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue};

use super::super::diagnostic::Diagnostic;
use super::super::schema::listed;
use super::extent::Extents;
use super::fields::{FIELDS, Field, Get, Known, Map};
use super::path::dotted;
use super::{Key, Scope};

/// When it is true and when it is false.
mod cases;
/// What it says of one value.
mod constraint;

pub(in super::super) use cases::{Case, Logic, Subject};
pub(in super::super) use constraint::Constraint;
use constraint::{Domain, Numbers, Part, Texts};

/// Integers up to here are exact as fractions, and so are their neighbours.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
/// Values of a field that are told apart, where it can have only some; more are taken as any text.
const MAX_VALUES: usize = 64;

/// Reads conditions.
pub(super) struct Reader<'a> {
    pub(super) extents: Extents<'a>,
    pub(super) scope: Scope<'a>,
    /// What surely is no use, with spans in the text of the expression.
    pub(super) doubts: Vec<Diagnostic>,
}

/// A text that is compared.
struct TextSubject {
    name: Subject,
    /// The only values it can have.
    values: Option<Vec<String>>,
    /// Whose member it is: an absent one reads as empty.
    member: Option<Subject>,
}

impl Reader<'_> {
    /// A whole condition or a part of it that is true or false.
    pub(super) fn logic(&mut self, node: &IdedExpr) -> Logic {
        match &node.expr {
            Expr::Literal(LiteralValue::Boolean(value)) => Logic::constant(*value.inner()),
            Expr::Call(call) => self.call(call, node).unwrap_or_else(|| Logic::opaque(&subject(node))),
            _ => Logic::opaque(&subject(node)),
        }
    }

    fn call(&mut self, call: &CallExpr, node: &IdedExpr) -> Option<Logic> {
        match (call.func_name.as_str(), call.target.as_deref(), call.args.as_slice()) {
            (op::LOGICAL_AND, _, [left, right]) => self.and(left, right),
            (op::LOGICAL_OR, _, [left, right]) => self.or(left, right),
            (op::LOGICAL_NOT, _, [operand]) => Some(self.logic(operand).negated()),
            (op::CONDITIONAL, _, [test, yes, no]) => {
                let (test, yes, no) = (self.logic(test), self.logic(yes), self.logic(no));
                test.and(&yes)?.or(&test.negated().and(&no)?)
            }
            (op::IN, _, [item, list]) => self.membership(item, list, node),
            (op::EQUALS | op::NOT_EQUALS, _, [left, right]) if is_boolean(left) && is_boolean(right) => {
                let (left, right) = (self.logic(left), self.logic(right));
                let equal = left.and(&right)?.or(&left.negated().and(&right.negated())?)?;
                Some(if call.func_name == op::EQUALS { equal } else { equal.negated() })
            }
            (name, None, [left, right]) => self.comparison(comparison(name)?, left, right, node),
            (op::HAS, None, [operand]) => Some(Logic::opaque(&has(&member(operand)?))),
            (name, Some(target), [argument]) => {
                let part = match name {
                    "startsWith" => Part::Start,
                    "endsWith" => Part::End,
                    "contains" => Part::Inside,
                    _ => return None,
                };
                let (subject, literal) = (self.text_subject(target)?, text_literal(argument)?);
                let sets = [true, false].map(|outcome| Texts::tested(part, literal, outcome));
                Some(self.texts(&subject, sets, node))
            }
            _ => None,
        }
    }

    fn and(&mut self, left: &IdedExpr, right: &IdedExpr) -> Option<Logic> {
        let (one, two) = (self.logic(left), self.logic(right));
        let both = one.and(&two)?;
        if both.yes.is_empty() && !one.yes.is_empty() && !two.yes.is_empty() {
            let problem = Diagnostic::warning("never-true", "the two sides of `&&` are never both true");
            self.doubt_sides(problem, left, right, "excluded by this");
        }
        Some(both)
    }

    fn or(&mut self, left: &IdedExpr, right: &IdedExpr) -> Option<Logic> {
        let (one, two) = (self.logic(left), self.logic(right));
        let either = one.or(&two)?;
        if either.no.is_empty() && !one.no.is_empty() && !two.no.is_empty() {
            let problem = Diagnostic::warning("always-true", "one side of `||` is always true");
            self.doubt_sides(problem, left, right, "true wherever the other side is not");
        }
        Some(either)
    }

    fn doubt_sides(&mut self, problem: Diagnostic, left: &IdedExpr, right: &IdedExpr, label: &str) {
        self.doubts.push(problem.at(self.extents.of(right)).also(self.extents.of(left), label));
    }

    fn comparison(&mut self, operator: &str, left: &IdedExpr, right: &IdedExpr, node: &IdedExpr) -> Option<Logic> {
        if let (Some(number), Some(domain)) = (number_literal(right), numeric(left)) {
            let set = Numbers::comparing(operator, exact(number)?);
            return Some(self.numbers(left, domain, &set, node));
        }
        if let (Some(number), Some(domain)) = (number_literal(left), numeric(right)) {
            let set = Numbers::comparing(turned(operator), exact(number)?);
            return Some(self.numbers(right, domain, &set, node));
        }
        let (text, literal) = match (text_literal(left), text_literal(right)) {
            (None, Some(literal)) => (left, literal),
            (Some(literal), None) => (right, literal),
            _ => return None,
        };
        let subject = self.text_subject(text)?;
        match operator {
            "==" => Some(self.texts(&subject, [Texts::only([literal]), Texts::not([literal])], node)),
            "!=" => Some(self.texts(&subject, [Texts::not([literal]), Texts::only([literal])], node)),
            _ => None,
        }
    }

    fn numbers(&mut self, number: &IdedExpr, domain: Domain, set: &Numbers, node: &IdedExpr) -> Logic {
        let (yes, no) = (set.within(domain), set.complement().within(domain));
        if yes.is_empty() || no.is_empty() {
            let written = self.written(number);
            let help = match domain {
                Domain { bounds: Some((least, most)), .. } if most < f64::INFINITY => {
                    format!("`{written}` is {least} to {most}")
                }
                Domain { bounds: Some((least, _)), whole } => {
                    let fraction = if whole { ", without fraction" } else { "" };
                    format!("`{written}` is {least} or more{fraction}")
                }
                Domain { .. } => format!("`{written}` has no fraction"),
            };
            self.doubt(no.is_empty(), node, help);
        }
        let constraint = |set: Numbers| (!set.is_empty()).then_some(Constraint::Numbers(set));
        Logic::of(&subject(number), constraint(yes), constraint(no))
    }

    fn texts(&mut self, subject: &TextSubject, [yes, no]: [Texts; 2], node: &IdedExpr) -> Logic {
        let Some(values) = &subject.values else {
            let logic =
                Logic::of(&subject.name, Some(Constraint::Texts(yes.clone())), Some(Constraint::Texts(no.clone())));
            return presence(subject, logic, &yes, &no);
        };
        let those = |set: &Texts| Texts::only(values.iter().map(String::as_str).filter(|value| set.admits(value)));
        let (yes, no) = (those(&yes), those(&no));
        if yes.is_empty() || no.is_empty() {
            let quoted: Vec<&str> = values.iter().map(String::as_str).collect();
            let help = match quoted.as_slice() {
                [""] => "no rule is asked for a request whose caller declares its class".to_owned(),
                quoted => format!("`{}` is {}", subject.name, listed(quoted, "or")),
            };
            self.doubt(no.is_empty(), node, help);
        }
        let constraint = |set: Texts| (!set.is_empty()).then_some(Constraint::Texts(set));
        Logic::of(&subject.name, constraint(yes), constraint(no))
    }

    fn membership(&mut self, item: &IdedExpr, list: &IdedExpr, node: &IdedExpr) -> Option<Logic> {
        let Expr::List(list) = &list.expr else {
            return Some(Logic::opaque(&has(&member_name(field(list)?, text_literal(item)?)?)));
        };
        if let Some(domain) = numeric(item) {
            let numbers: Option<Vec<f64>> =
                list.elements.iter().map(|element| exact(number_literal(element)?)).collect();
            return Some(self.numbers(item, domain, &Numbers::only(numbers?), node));
        }
        let subject = self.text_subject(item)?;
        let texts: Vec<&str> = list.elements.iter().map(text_literal).collect::<Option<_>>()?;
        Some(self.texts(&subject, [Texts::only(texts.iter().copied()), Texts::not(texts.iter().copied())], node))
    }

    fn text_subject(&self, node: &IdedExpr) -> Option<TextSubject> {
        if let Some(name) = member(node) {
            return Some(TextSubject { member: Some(has(&name)), name, values: None });
        }
        let field = field(node).filter(|field| matches!(field.get, Get::Text(_)))?;
        let none_declared = field.known == Known::DeclaredClass && self.scope.key == Key::ClassifyWhen;
        let values = match field.known {
            _ if none_declared => Some(vec![String::new()]),
            Known::Api | Known::Class | Known::Kind => {
                let values = field.known.values(&self.scope).map(|(_, values, _)| values).unwrap_or_default();
                let few = (1..=MAX_VALUES).contains(&values.len());
                few.then(|| values.into_iter().map(str::to_owned).collect())
            }
            _ => None,
        };
        Some(TextSubject { name: field.name.into(), values, member: None })
    }

    fn doubt(&mut self, always: bool, node: &IdedExpr, help: String) {
        let (code, message) =
            if always { ("always-true", "this is always true") } else { ("never-true", "this is never true") };
        self.doubts.push(Diagnostic::warning(code, message).at(self.extents.of(node)).help(help));
    }

    fn written(&self, node: &IdedExpr) -> &str {
        self.extents.text(self.extents.of(node))
    }
}

/// A member that is not empty is there; one that is not there is empty.
fn presence(subject: &TextSubject, logic: Logic, yes: &Texts, no: &Texts) -> Logic {
    let Some(has) = &subject.member else { return logic };
    let there = Logic::opaque(has);
    let sure = |set: &Texts, cases: Vec<Case>| if set.admits("") { cases } else { both(&cases, &there.yes) };
    Logic { yes: sure(yes, logic.yes), no: sure(no, logic.no) }
}

fn both(left: &[Case], right: &[Case]) -> Vec<Case> {
    left.iter().flat_map(|one| right.iter().filter_map(|two| one.meet(two))).collect()
}

/// The declared field of a chain of names.
fn field(node: &IdedExpr) -> Option<&'static Field> {
    let name = dotted(node)?;
    FIELDS.iter().find(|field| field.name == name)
}

/// `request.headers["x"]` of any way to write a member of a map.
fn member(node: &IdedExpr) -> Option<Subject> {
    match &node.expr {
        Expr::Select(select) => member_name(field(&select.operand)?, &select.field),
        Expr::Call(call) if call.func_name == op::INDEX => {
            member_name(field(call.args.first()?)?, text_literal(call.args.get(1)?)?)
        }
        _ => None,
    }
}

fn member_name(field: &Field, name: &str) -> Option<Subject> {
    let Get::Map(map) = field.get else { return None };
    let name = if map == Map::Headers { name.to_lowercase() } else { name.to_owned() };
    Some(format!("{}[{name:?}]", field.name).into())
}

fn has(member: &Subject) -> Subject {
    format!("has({member})").into()
}

fn text_literal(node: &IdedExpr) -> Option<&str> {
    match &node.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

fn number_literal(node: &IdedExpr) -> Option<f64> {
    match &node.expr {
        Expr::Literal(LiteralValue::Int(number)) => Some(*number.inner() as f64),
        Expr::Literal(LiteralValue::UInt(number)) => Some(*number.inner() as f64),
        Expr::Literal(LiteralValue::Double(number)) => Some(*number.inner()),
        Expr::Call(call) if call.func_name == op::NEGATE => number_literal(call.args.first()?).map(|number| -number),
        _ => None,
    }
}

/// A number that compares the same as integer and as fraction.
fn exact(number: f64) -> Option<f64> {
    (number.abs() < MAX_EXACT).then_some(number)
}

/// What names a sub-expression: two of the same name have the same value.
fn subject(node: &IdedExpr) -> Subject {
    match field(node) {
        Some(field) => field.name.into(),
        None => spelt(node).into(),
    }
}

/// The tree in one spelling, whatever way it was written.
fn spelt(node: &IdedExpr) -> String {
    let all = |nodes: &[IdedExpr]| nodes.iter().map(spelt).collect::<Vec<_>>().join(", ");
    match &node.expr {
        Expr::Literal(literal) => format!("{literal:?}"),
        Expr::Ident(name) => name.clone(),
        Expr::Select(select) => format!("{}.{}", spelt(&select.operand), select.field),
        Expr::List(list) => format!("[{}]", all(&list.elements)),
        Expr::Call(call) => {
            let target = call.target.as_ref().map(|target| format!("{}.", spelt(target))).unwrap_or_default();
            format!("{target}{}({})", call.func_name, all(&call.args))
        }
        other => format!("{other:?}"),
    }
}

/// What is known of a sub-expression that is a number and no literal; `None` where it is something else.
fn numeric(node: &IdedExpr) -> Option<Domain> {
    if let Some(field) = field(node) {
        let whole = match field.get {
            Get::Int(_) => true,
            Get::Double(_) => false,
            _ => return None,
        };
        return Some(Domain { bounds: field.bounds, whole });
    }
    let Expr::Call(call) = &node.expr else { return None };
    match (call.func_name.as_str(), call.args.as_slice()) {
        ("size", _) => Some(Domain { bounds: Some((0.0, f64::INFINITY)), whole: true }),
        (op::ADD | op::SUBSTRACT | op::MULTIPLY | op::DIVIDE | op::MODULO, sides) => {
            let whole = sides.iter().all(is_whole);
            Some(Domain { bounds: None, whole })
        }
        (op::NEGATE, [operand]) => Some(Domain { bounds: None, whole: is_whole(operand) }),
        _ => None,
    }
}

/// Whether a number surely has no fraction.
fn is_whole(node: &IdedExpr) -> bool {
    match &node.expr {
        Expr::Literal(LiteralValue::Int(_) | LiteralValue::UInt(_)) => true,
        _ => numeric(node).is_some_and(|domain| domain.whole),
    }
}

/// Whether a side of `==` is surely true or false rather than a text or a number.
fn is_boolean(node: &IdedExpr) -> bool {
    match &node.expr {
        Expr::Literal(LiteralValue::Boolean(_)) => true,
        Expr::Call(call) => {
            comparison(&call.func_name).is_some()
                || matches!(
                    call.func_name.as_str(),
                    op::LOGICAL_AND | op::LOGICAL_OR | op::LOGICAL_NOT | op::IN | op::HAS
                )
                || matches!(call.func_name.as_str(), "startsWith" | "endsWith" | "contains")
        }
        _ => field(node).is_some_and(|field| matches!(field.get, Get::Bool(_))),
    }
}

fn comparison(function: &str) -> Option<&'static str> {
    Some(match function {
        op::EQUALS => "==",
        op::NOT_EQUALS => "!=",
        op::LESS => "<",
        op::LESS_EQUALS => "<=",
        op::GREATER => ">",
        op::GREATER_EQUALS => ">=",
        _ => return None,
    })
}

/// The operator with its sides exchanged.
fn turned(operator: &str) -> &str {
    match operator {
        "<" => ">",
        "<=" => ">=",
        ">" => "<",
        ">=" => "<=",
        same => same,
    }
}

#[cfg(test)]
mod tests;
