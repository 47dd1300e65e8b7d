//! From `policy.toml` to a policy that can be used: what the words mean is checked here, after their shape.

use super::diagnostic::{Report, Source};
use super::document::read;
use super::located::Located;
use super::shape::PolicyFile;
use crate::fleet::PoolFacts;
use crate::policy::{BuiltinClasses, ClassId, ClassifyRule, Condition, Policy};

/// Classes, of the file or built in.
mod classes;
/// Routes, with the pools they allow.
mod routes;
/// What a route keeps together, tries again and waits for.
mod care;
/// Bounds on all requests together.
mod limits;
/// Candidates on probation.
mod trial;

use super::diagnostic::{Diagnostic, nearest};
use super::expression::{self, Key, Reads, Scope, Trees};
use super::lint::{self, ConditionNote, Notes, RuleNote};
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
        let mut compiler = Compiler {
            report: &mut report,
            pools,
            whole,
            classes: Vec::new(),
            trees: Trees::default(),
            reads: Reads::default(),
            notes: Notes::default(),
        };
        let policy = compiler.policy(file)?;
        let notes = std::mem::take(&mut compiler.notes);
        if !report.has_errors() {
            lint::lint(&mut report, &policy, pools, &notes);
        }
        Some(policy)
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
    /// Trees of the conditions.
    trees: Trees,
    /// What the conditions read.
    reads: Reads,
    /// What is looked at once everything is compiled.
    notes: Notes,
}

impl Compiler<'_> {
    fn policy(&mut self, file: PolicyFile) -> Option<Policy> {
        self.check_name("policy", &file.name);
        let classes = self.compile_classes(file.class);
        self.classes = classes.iter().map(|class| class.name.clone()).collect();
        let default_class = file.default_class.and_then(|name| self.class_id(&name));
        let classify = self.compile_classify(file.classify);
        let routes = self.compile_routes(file.route);
        let limits = self.compile_limits(file.limits.map(|limits| limits.value).unwrap_or_default());
        let trial = self.compile_trial(file.shadow, file.canary);
        let utc_offset_s = file.utc_offset.and_then(|text| self.utc_offset_s(&text)).unwrap_or(0);
        let builtin = builtin_classes(&classes, default_class)?;
        let Reads { load: reads_load, headers, .. } = std::mem::take(&mut self.reads);
        Some(Policy {
            name: file.name.value,
            classes,
            classify,
            builtin,
            routes,
            limits,
            trial,
            utc_offset_s,
            headers_read: headers.into_iter().collect(),
            reads_load,
        })
    }

    fn compile_classify(&mut self, tables: Vec<Located<super::shape::ClassifyTable>>) -> Vec<ClassifyRule> {
        let mut rules = Vec::new();
        for (index, table) in tables.into_iter().enumerate() {
            let name = match &table.value.name {
                Some(name) => {
                    self.check_name("rule", name);
                    name.value.clone()
                }
                None => format!("rule-{}", index + 1),
            };
            let class = self.class_id(&table.value.class);
            let Some((when, note)) = self.when(table.value.when.as_ref(), Key::ClassifyWhen) else { continue };
            self.notes.rules.push(RuleNote { head: table.span, when: note });
            rules.extend(class.map(|class| ClassifyRule { name, when, class }));
        }
        rules
    }

    /// A condition that may be absent, with what it says.
    fn when(&mut self, text: Option<&Located<String>>, key: Key) -> Option<(Option<Condition>, Option<ConditionNote>)> {
        let Some(text) = text else { return Some((None, None)) };
        let mut checked = self.check(text, key)?;
        self.tell_doubts(&mut checked);
        Some((Some(checked.condition), Some(ConditionNote { span: text.span.clone(), logic: checked.logic })))
    }

    /// Warns of what in an expression is surely no use.
    fn tell_doubts(&mut self, checked: &mut expression::Checked) {
        for doubt in std::mem::take(&mut checked.doubts) {
            self.report.push(doubt);
        }
    }

    fn check(&mut self, text: &Located<String>, key: Key) -> Option<expression::Checked> {
        let scope = Scope { key, classes: &self.classes, pools: self.pools };
        let checked = expression::check(self.report, text, scope, &mut self.trees)?;
        self.reads.request |= checked.reads.request;
        self.reads.load |= checked.reads.load;
        self.reads.headers.extend(checked.reads.headers.iter().cloned());
        self.notes.classes_named.extend(checked.reads.classes.iter().cloned());
        Some(checked)
    }

    /// Seconds of `+HH:MM`.
    fn utc_offset_s(&mut self, text: &Located<String>) -> Option<i32> {
        let parsed = parse_offset(text);
        if parsed.is_none() {
            let problem = Diagnostic::error("bad-offset", format!("`{}` is no offset from UTC", text.value));
            self.report.push(problem.at(text.span.clone()).help("write it like `+02:00` or `-05:30`"));
        }
        parsed
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

fn parse_offset(text: &str) -> Option<i32> {
    let (sign, rest) = if let Some(rest) = text.strip_prefix('-') { (-1, rest) } else { (1, text.strip_prefix('+')?) };
    let (hours, minutes) = rest.split_once(':').filter(|(hours, minutes)| hours.len() == 2 && minutes.len() == 2)?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    ((0..=14).contains(&hours) && (0..60).contains(&minutes)).then_some(sign * (hours * 3600 + minutes * 60))
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
