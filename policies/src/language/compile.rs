//! From `policy.toml` to a policy that can be used: what the words mean is checked here, after their shape.

use super::diagnostic::{Report, Source};
use super::document::read;
use super::located::Located;
use super::shape::PolicyFile;
use crate::fleet::PoolFacts;
use crate::policy::{BuiltinClasses, ClassId, ClassifyRule, Policy};

/// Classes, of the file or built in.
mod classes;
/// Routes, with the pools they allow.
mod routes;

use super::diagnostic::{Diagnostic, nearest};
use super::expression::{self, Key, Scope};
use super::schema::listed;

/// Names go into headers, traces and metrics: longer ones are refused, bytes.
const MAX_NAME_BYTES: usize = 64;

/// Compiles `policy.toml` against the pools of a portfolio. The policy is there exactly where the report has no errors;
/// warnings do not hinder it. Classes keep the file's order.
///
/// Requests that no `[[classify]]` rule names get the class `interactive` (streams), `batch` (flex and batch tiers,
/// embeddings) or `standard` (the rest), by name. Where the file defines no class of that name, they get
/// `default_class`; where it names none, `batch` is the last sheddable class and the others the last class that is not
/// sheddable; where there is none such, the last class.
pub fn compile(source: Source, pools: &[PoolFacts]) -> (Option<Policy>, Report) {
    let mut report = Report::new(source);
    let policy = read::<PolicyFile>(&mut report).and_then(|file| {
        // What seems absent may have been cut out because it was wrong; that has been told, its absence need not be.
        let whole = !report.has_errors();
        let mut compiler = Compiler { report: &mut report, pools, whole, classes: Vec::new() };
        compiler.policy(file)
    });
    let usable = policy.filter(|_| !report.has_errors());
    (usable, report)
}

struct Compiler<'a> {
    report: &'a mut Report,
    pools: &'a [PoolFacts],
    /// Whether nothing was cut out of the file.
    whole: bool,
    /// Names of the classes.
    classes: Vec<String>,
}

impl Compiler<'_> {
    fn policy(&mut self, file: PolicyFile) -> Option<Policy> {
        self.check_name("policy", &file.name);
        let classes = self.compile_classes(file.class);
        self.classes = classes.iter().map(|class| class.name.clone()).collect();
        let default_class = file.default_class.and_then(|name| self.class_id(&name));
        let classify = self.compile_classify(file.classify);
        let routes = self.compile_routes(file.route);
        let builtin = builtin_classes(&classes, default_class)?;
        Some(Policy { name: file.name.value, classes, classify, builtin, routes })
    }

    fn compile_classify(&mut self, tables: Vec<Located<super::shape::ClassifyTable>>) -> Vec<ClassifyRule> {
        let mut rules = Vec::new();
        let mut closed = false;
        for table in tables {
            self.check_reachable(&mut closed, &table.span, table.when.is_none(), "rule");
            if let Some(name) = &table.value.name {
                self.check_name("rule", name);
            }
            let class = self.class_id(&table.value.class);
            let when = match &table.value.when {
                Some(text) => self.check(text, Key::ClassifyWhen).map(|checked| Some(checked.condition)),
                None => Some(None),
            };
            if let (Some(class), Some(when)) = (class, when) {
                rules.push(ClassifyRule { when, class });
            }
        }
        rules
    }

    /// Warns of what stands below something that always applies.
    fn check_reachable(&mut self, closed: &mut bool, span: &std::ops::Range<usize>, always: bool, noun: &str) {
        if *closed && self.whole {
            let message = format!("this {noun} never applies: one above it always does");
            let help = format!("move the {noun} without `when` to the end");
            self.report.push(Diagnostic::warning("never-applies", message).at(span.clone()).help(help));
        }
        *closed |= always;
    }

    fn check(&mut self, text: &Located<String>, key: Key) -> Option<expression::Checked> {
        expression::check(self.report, text, Scope { key, classes: &self.classes, pools: self.pools })
    }

    fn class_id(&mut self, name: &Located<String>) -> Option<ClassId> {
        if let Some(index) = self.classes.iter().position(|class| *class == name.value) {
            return Some(ClassId(index));
        }
        let known: Vec<&str> = self.classes.iter().map(String::as_str).collect();
        let help = match nearest(name, known.iter().copied()) {
            Some(guess) => format!("did you mean `{guess}`?"),
            None => format!("there {} only {}", if known.len() == 1 { "is" } else { "are" }, listed(&known, "and")),
        };
        let problem = Diagnostic::error("unknown-class", format!("there is no class `{}`", name.value));
        self.report.push(problem.at(name.span.clone()).help(help));
        None
    }

    /// Names travel in headers, metrics and shell commands.
    fn check_name(&mut self, noun: &str, name: &Located<String>) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(plain) {
            let message = match name.as_str() {
                "" => format!("the name of the {noun} is empty"),
                text => format!("`{text}` cannot name a {noun}"),
            };
            let problem = Diagnostic::error("bad-name", message);
            let help = format!("use 1 to {MAX_NAME_BYTES} letters, digits, `-`, `_` and `.`");
            self.report.push(problem.at(name.span.clone()).help(help));
        }
    }
}

/// Where requests go that no rule names; see [`compile`].
fn builtin_classes(classes: &[crate::policy::Class], default_class: Option<ClassId>) -> Option<BuiltinClasses> {
    let last = classes.len().checked_sub(1).map(ClassId)?;
    let pick = |name: &str, sheddable: bool| {
        let named = classes.iter().position(|class| class.name == name).map(ClassId);
        let fitting = classes.iter().rposition(|class| class.sheddable == sheddable).map(ClassId);
        named.or(default_class).or(fitting).unwrap_or(last)
    };
    Some(BuiltinClasses {
        interactive: pick("interactive", false),
        standard: pick("standard", false),
        batch: pick("batch", true),
    })
}

#[cfg(test)]
mod tests;
