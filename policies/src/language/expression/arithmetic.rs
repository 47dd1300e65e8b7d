//! Numbers. Integers saturate; what is divided by zero yields zero, so that a condition never fails.

use cel::common::ast::IdedExpr;

use super::super::diagnostic::Diagnostic;
use super::lower::Lowerer;
use super::value::{Double, Int, Value};

impl Value {
    /// A number as one with a fraction; `None` where it is no number.
    pub(super) fn into_double(self) -> Option<Double> {
        match self {
            Value::Int(value) => Some(value.into_double()),
            Value::Double(value) => Some(value),
            _ => None,
        }
    }
}

impl Lowerer<'_> {
    /// `a + b` and its like.
    pub(super) fn arithmetic(
        &mut self,
        operator: &str,
        (left_node, left): (&IdedExpr, Value),
        (right_node, right): (&IdedExpr, Value),
        node: &IdedExpr,
    ) -> Option<Value> {
        let mut sound = true;
        for (side, value) in [(left_node, &left), (right_node, &right)] {
            if !matches!(value, Value::Int(_) | Value::Double(_)) {
                sound = false;
                let message = format!("`{operator}` is for numbers, not {}", value.described());
                let _: Option<()> = self.tell(Diagnostic::error("expression-type", message).at(self.extents.of(side)));
            }
        }
        if !sound {
            return None;
        }
        let zero = matches!(&right, Value::Int(Int::Literal(0)))
            || matches!(&right, Value::Double(Double::Literal(value)) if *value == 0.0);
        if zero && matches!(operator, "/" | "%") {
            let problem = Diagnostic::error("division-by-zero", "division by zero");
            return self.tell(problem.at(self.extents.of(right_node)));
        }
        match (left, right) {
            (Value::Int(left), Value::Int(right)) => Some(Value::Int(integers(operator, left, right))),
            _ if operator == "%" => {
                let problem = Diagnostic::error("expression-type", "`%` is for integers");
                self.tell(problem.at(self.extents.of(node)))
            }
            (left, right) => Some(Value::Double(doubles(operator, left.into_double()?, right.into_double()?))),
        }
    }

    /// `-a`.
    pub(super) fn negation(&mut self, operand: &IdedExpr) -> Option<Value> {
        match self.lower(operand)? {
            Value::Int(value) => Some(Value::Int(integers("-", Int::Literal(0), value))),
            Value::Double(value) => Some(Value::Double(doubles("-", Double::Literal(0.0), value))),
            other => {
                let message = format!("`-` is for numbers, not {}", other.described());
                self.tell(Diagnostic::error("expression-type", message).at(self.extents.of(operand)))
            }
        }
    }
}

fn integers(operator: &str, left: Int, right: Int) -> Int {
    let apply: fn(i64, i64) -> i64 = match operator {
        "+" => i64::saturating_add,
        "-" => i64::saturating_sub,
        "*" => i64::saturating_mul,
        "/" => |left, right| if right == 0 { 0 } else { left.saturating_div(right) },
        _ => |left, right| left.checked_rem(right).unwrap_or(0),
    };
    match (left, right) {
        (Int::Literal(left), Int::Literal(right)) => Int::Literal(apply(left, right)),
        (left, Int::Literal(right)) => Int::Code(Box::new(move |env| apply(left.get(env), right))),
        (left, right) => Int::Code(Box::new(move |env| apply(left.get(env), right.get(env)))),
    }
}

fn doubles(operator: &str, left: Double, right: Double) -> Double {
    let apply: fn(f64, f64) -> f64 = match operator {
        "+" => |left, right| left + right,
        "-" => |left, right| left - right,
        "*" => |left, right| left * right,
        _ => |left, right| if right == 0.0 { 0.0 } else { left / right },
    };
    match (left, right) {
        (Double::Literal(left), Double::Literal(right)) => Double::Literal(apply(left, right)),
        (left, right) => Double::Code(Box::new(move |env| apply(left.get(env), right.get(env)))),
    }
}
