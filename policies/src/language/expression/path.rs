//! Names to values: fields, headers, labels.

use cel::common::ast::operators::INDEX;
use cel::common::ast::{Expr, IdedExpr, LiteralValue};

use super::super::diagnostic::{Diagnostic, nearest};
use super::Key;
use super::fields::{FIELDS, Field, Get, LIVE, Map};
use super::lower::Lowerer;
use super::value::{Double, Int, Text, Value};

impl Lowerer<'_> {
    /// `request.a`, `pool.hardware.kind`, `request.headers.name`.
    pub(super) fn path(&mut self, node: &IdedExpr) -> Option<Value> {
        let Some(name) = dotted(node) else {
            let problem = Diagnostic::error("unknown-field", "this has no fields").at(self.extents.of(node));
            return self.tell(problem);
        };
        if let Some(field) = FIELDS.iter().find(|field| field.name == name) {
            self.permit(field, node)?;
            return Some(read(field));
        }
        if let Some((map, member)) = self.member(node) {
            return Some(Value::Text(Text::Member(map?, member.into())));
        }
        self.unknown_field(&name, node)
    }

    /// `request.headers["name"]`.
    pub(super) fn index(&mut self, node: &IdedExpr) -> Option<Value> {
        if let Some((map, member)) = self.member(node) {
            return Some(Value::Text(Text::Member(map?, member.into())));
        }
        let Expr::Call(call) = &node.expr else { return None };
        let (target, index) = (call.args.first()?, call.args.get(1)?);
        match self.lower(target)? {
            Value::Map(_) => {
                let problem = Diagnostic::error("expression-type", "the name in brackets must be a literal string");
                self.tell(problem.at(self.extents.of(index)))
            }
            other => {
                let message = format!("{} has no members", other.described());
                self.tell(Diagnostic::error("expression-type", message).at(self.extents.of(node)))
            }
        }
    }

    /// A member of a map, by dot or by brackets: the map (`None` where it may not be read here, which has been told) and
    /// the name. `None` where the node is no member of a map.
    pub(super) fn member(&mut self, node: &IdedExpr) -> Option<(Option<Map>, String)> {
        let (operand, name) = match &node.expr {
            Expr::Select(select) => (select.operand.as_ref(), select.field.clone()),
            Expr::Call(call) if call.func_name == INDEX => match (call.args.first()?, &call.args.get(1)?.expr) {
                (operand, Expr::Literal(LiteralValue::String(name))) => (operand, name.inner().to_owned()),
                _ => return None,
            },
            _ => return None,
        };
        let path = dotted(operand)?;
        let field = FIELDS.iter().find(|field| field.name == path)?;
        let Get::Map(map) = field.get else { return None };
        let permitted = self.permit(field, operand).map(|()| map);
        let name = if map == Map::Headers { name.to_lowercase() } else { name };
        if map == Map::Headers {
            self.reads.headers.insert(name.clone());
        }
        Some((permitted, name))
    }

    /// Refuses what is not known where the expression stands.
    fn permit(&mut self, field: &Field, node: &IdedExpr) -> Option<()> {
        let span = self.extents.of(node);
        if field.name.starts_with("pool.") && !self.scope.key.reads_pools() {
            let help = "choose pools with the key `pools` of `[[route]]`";
            return self.tell(no_pool(field.name).at(span).help(help));
        }
        if field.name == "request.class" && self.scope.key == Key::ClassifyWhen {
            let problem = Diagnostic::error("field-not-available", "`request.class` is not known while it is decided");
            return self.tell(problem.at(span).help("`request.declared_class` is what the caller asked for"));
        }
        self.reads.request |= field.name.starts_with("request.");
        self.reads.load |= LIVE.contains(&field.name);
        Some(())
    }

    fn unknown_field(&mut self, name: &str, node: &IdedExpr) -> Option<Value> {
        let span = self.extents.of(node);
        let members = members_of(name);
        if !members.is_empty() {
            let message = format!("`{name}` is not a value");
            let help = format!("it has {}", listed(&members));
            return self.tell(Diagnostic::error("unknown-field", message).at(span).help(help));
        }
        let available = FIELDS.iter().map(|field| field.name);
        let available = available.filter(|name| self.scope.key.reads_pools() || !name.starts_with("pool."));
        let (root, rest) = name.split_once('.').unwrap_or((name, ""));
        let help = match nearest(name, available) {
            Some(guess) => format!("did you mean `{guess}`?"),
            None if root == "request" && !rest.is_empty() => format!("`request` has {}", listed(&members_of(root))),
            None if root == "pool" && !rest.is_empty() => format!("`pool` has {}", listed(&members_of(root))),
            None if rest.is_empty() && FIELDS.iter().any(|field| field.name == format!("request.{name}")) => {
                format!("did you mean `request.{name}`?")
            }
            None if self.extents.text(0..span.start).trim_end().ends_with('-') => {
                format!("a header with a dash is written `request.headers[\"x-{name}\"]`")
            }
            None if rest.is_empty() => {
                format!("a string is written `\"{name}\"`; fields start with `request.` or `pool.`")
            }
            None => match nearest(root, ["request", "pool"]) {
                Some(guess) => format!("did you mean `{guess}.{rest}`?"),
                None => "fields start with `request.` or `pool.`".to_owned(),
            },
        };
        self.tell(Diagnostic::error("unknown-field", format!("unknown field `{name}`")).at(span).help(help))
    }
}

/// `a.b.c` of a chain of names.
pub(super) fn dotted(node: &IdedExpr) -> Option<String> {
    match &node.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) => Some(format!("{}.{}", dotted(&select.operand)?, select.field)),
        _ => None,
    }
}

fn no_pool(field: &str) -> Diagnostic {
    Diagnostic::error("field-not-available", format!("`{field}` cannot be read before pools are chosen"))
}

fn read(field: &'static Field) -> Value {
    match field.get {
        Get::Text(get) => Value::Text(Text::Field(field, get)),
        Get::Int(get) => Value::Int(Int::Field(get)),
        Get::Double(get) => Value::Double(Double::Code(Box::new(get))),
        Get::Bool(get) => Value::Bool(Box::new(get)),
        Get::Map(map) => Value::Map(map),
    }
}

/// The names one step below a prefix.
fn members_of(prefix: &str) -> Vec<&'static str> {
    let below = |field: &Field| field.name.strip_prefix(prefix)?.strip_prefix('.')?.split('.').next();
    let mut members: Vec<&'static str> = FIELDS.iter().filter_map(below).collect();
    members.dedup();
    members
}

fn listed(names: &[&str]) -> String {
    super::super::schema::listed(names, "and")
}
