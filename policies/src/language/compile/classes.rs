//! Classes: those of the file, or the four that are built in.

use std::collections::BTreeMap;

use super::super::diagnostic::Diagnostic;
use super::super::lint::ClassNote;
use super::super::located::Located;
use super::super::quantity::{self, TimeSpan, Unit};
use super::super::shape::{ClassTable, default_target};
use super::Compiler;
use crate::policy::{Class, Slo};

/// Classes of a file that defines none: name, promise, and whether requests may be refused for others' sake.
const BUILTIN: [(&str, Slo, bool); 4] = [
    ("realtime", Slo { ttft_ms: Some(300.0), itl_ms: Some(10.0), deadline_ms: None }, false),
    ("interactive", Slo { ttft_ms: Some(1000.0), itl_ms: Some(50.0), deadline_ms: None }, false),
    ("standard", Slo { ttft_ms: Some(4000.0), itl_ms: Some(100.0), deadline_ms: None }, false),
    ("batch", Slo { ttft_ms: None, itl_ms: None, deadline_ms: Some(600_000.0) }, true),
];

impl Compiler<'_> {
    /// The classes in file order, the first served first unless the file says otherwise.
    pub(super) fn compile_classes(&mut self, tables: BTreeMap<Located<String>, ClassTable>) -> Vec<Class> {
        if tables.is_empty() {
            return builtin();
        }
        let mut tables: Vec<_> = tables.into_iter().collect();
        tables.sort_by_key(|(name, _)| name.span.start);
        let count = tables.len();
        let mut classes = Vec::with_capacity(count);
        for (index, (name, table)) in tables.into_iter().enumerate() {
            self.check_name("class", &name);
            let mut ms = |span: &Option<Located<TimeSpan>>, unit| quantity::ms(self.report, span.as_ref()?, unit);
            let slo = Slo {
                ttft_ms: ms(&table.ttft_ms, Unit::Ms),
                itl_ms: ms(&table.itl_ms, Unit::Ms),
                deadline_ms: ms(&table.deadline_s, Unit::S),
            };
            if slo == Slo::default() && self.whole && !self.report.has_errors() {
                let problem = Diagnostic::warning("no-promise", format!("class `{name}` promises nothing"));
                let help = "give it `ttft_ms`, `itl_ms` or `deadline_s`";
                self.report.push(problem.at(name.span.clone()).help(help));
            }
            let span = |bound: &Option<Located<TimeSpan>>| bound.as_ref().map(|bound| bound.span.clone());
            let bounds = [span(&table.ttft_ms), span(&table.itl_ms), span(&table.deadline_s)];
            self.notes.classes.push(ClassNote { name: name.span.clone(), bounds });
            let priority = table.priority.unwrap_or_else(|| rank(count, index));
            let shed_order = self.shed_order(&table, priority);
            classes.push(Class {
                name: name.value,
                slo,
                target: table.target,
                priority,
                sheddable: table.sheddable,
                shed_order,
                max_usd: table.max_usd,
                explores: table.explores.unwrap_or_else(|| has_time(&slo)),
            });
        }
        classes
    }

    fn shed_order(&mut self, table: &ClassTable, priority: i32) -> i32 {
        let Some(order) = &table.shed_order else { return priority };
        if !table.sheddable {
            let problem = Diagnostic::error("not-sheddable", "`shed_order` has no use in a class that is never shed");
            self.report.push(problem.at(order.span.clone()).help("add `sheddable = true`, or take it out"));
        }
        order.value
    }
}

fn builtin() -> Vec<Class> {
    let class = |(index, (name, slo, sheddable)): (usize, (&str, Slo, bool))| Class {
        name: name.to_owned(),
        slo,
        target: default_target(),
        priority: rank(BUILTIN.len(), index),
        sheddable,
        shed_order: rank(BUILTIN.len(), index),
        max_usd: None,
        explores: has_time(&slo),
    };
    BUILTIN.into_iter().enumerate().map(class).collect()
}

/// Whether nothing is promised but when an answer is whole.
fn has_time(slo: &Slo) -> bool {
    slo.ttft_ms.is_none() && slo.itl_ms.is_none() && slo.deadline_ms.is_some()
}

/// Priority of a class by its place in the file: the last has 0.
fn rank(count: usize, index: usize) -> i32 {
    i32::try_from(count.saturating_sub(index + 1)).unwrap_or(i32::MAX)
}
