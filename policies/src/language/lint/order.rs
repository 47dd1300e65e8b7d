//! Rules and routes that can never apply, because those above them leave nothing to them.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::diagnostic::{Diagnostic, Report};
use super::super::expression::{Case, Constraint, Logic};
use super::RuleNote;

/// Conditions above that one case of a condition is compared with, for each thing that it says. What stands below so
/// many of a kind may go unnoticed; rules that ask for one value of a field are found at once, however many there are.
const MAX_COMPARED: usize = 32;

/// Warns of what never applies.
pub(super) fn lint(report: &mut Report, noun: &str, rules: &[&RuleNote]) {
    let mut above = Above::default();
    for (index, rule) in rules.iter().enumerate() {
        match above.causes(rules, rule) {
            Some(causes) if causes.is_empty() => {} // never true, which has been told
            Some(causes) => report.push(never_applies(report, noun, rules, rule, &causes)),
            None => above.add(index, rule),
        }
    }
}

/// What stands above, found by what it says.
#[derive(Default)]
struct Above<'a> {
    /// The first that always applies.
    always: Option<usize>,
    /// Those that leave nothing of one value of a subject.
    values: BTreeMap<(&'a str, &'a str), Vec<usize>>,
    /// Those that may leave nothing of a case that says something of the subject.
    subjects: BTreeMap<&'a str, Vec<usize>>,
}

impl<'a> Above<'a> {
    fn add(&mut self, index: usize, rule: &'a RuleNote) {
        let Some(when) = &rule.when else {
            self.always = self.always.or(Some(index));
            return;
        };
        // A case is covered only if it contradicts every one of these, so it is enough to be found by one.
        let by_value = when.logic.no.iter().find_map(excluded_values);
        if let Some((subject, values)) = by_value {
            for value in values {
                self.values.entry((subject, value)).or_default().push(index);
            }
            return;
        }
        let Some(least) = when.logic.no.iter().min_by_key(|case| case.iter().count()) else {
            self.always = self.always.or(Some(index));
            return;
        };
        for (subject, _) in least.iter() {
            self.subjects.entry(subject).or_default().push(index);
        }
    }

    /// The rules that together leave nothing to this one; `None` where it surely or perhaps can apply.
    fn causes(&self, rules: &[&RuleNote], rule: &RuleNote) -> Option<Vec<usize>> {
        let cases = rule.when.as_ref().map_or(&[][..], |when| &when.logic.yes);
        if rule.when.is_some() && cases.is_empty() {
            return Some(Vec::new());
        }
        if let Some(always) = self.always {
            return Some(vec![always]);
        }
        rule.when.as_ref()?;
        let mut causes = Vec::new();
        for case in cases {
            let cause = self.cause(rules, case)?;
            if !causes.contains(&cause) {
                causes.push(cause);
            }
        }
        causes.sort_unstable();
        Some(causes)
    }

    /// The first rule found that is true in the whole case.
    fn cause(&self, rules: &[&RuleNote], case: &Case) -> Option<usize> {
        let logic = |index: usize| rules.get(index).and_then(|rule| rule.when.as_ref()).map(|when| &when.logic);
        let covers = |index: &&usize| logic(**index).is_some_and(|logic: &Logic| logic.covers(case));
        for (subject, constraint) in case.iter() {
            let value = match constraint {
                Constraint::Texts(texts) => texts.listed().and_then(<[_]>::first),
                _ => None,
            };
            let by_value = value.and_then(|value| self.values.get(&(subject, &**value)));
            let found = [by_value, self.subjects.get(subject)].into_iter().flatten();
            let cause = found.flat_map(|list| list.iter().take(MAX_COMPARED)).find(covers);
            if let Some(cause) = cause {
                return Some(*cause);
            }
        }
        None
    }
}

/// The values of which alone a case says that they are not there, where it says nothing else.
fn excluded_values(case: &Case) -> Option<(&str, impl Iterator<Item = &str>)> {
    let mut said = case.iter();
    match (said.next()?, said.next()) {
        ((subject, Constraint::Texts(texts)), None) => Some((subject, texts.excluded()?.iter().map(|value| &**value))),
        _ => None,
    }
}

fn never_applies(report: &Report, noun: &str, rules: &[&RuleNote], rule: &RuleNote, causes: &[usize]) -> Diagnostic {
    let place = |rule: &RuleNote| rule.when.as_ref().map_or(rule.head.clone(), |when| when.span.clone());
    let text = |span: &Range<usize>| report.source().text.get(span.clone()).unwrap_or_default();
    let above: Vec<&RuleNote> = causes.iter().filter_map(|index| rules.get(*index)).copied().collect();
    let always = above.iter().any(|above| above.when.as_ref().is_none_or(|when| when.logic.no.is_empty()));
    let same = above.iter().any(|above| above.when.is_some() && text(&place(above)) == text(&place(rule)));
    let (fact, label, help) = if always {
        let without = above.iter().any(|above| above.when.is_none());
        let which = if without { "without `when`" } else { "that is always true" };
        let help = format!("move the {noun} {which} to the end");
        (format!("this {noun} never applies: one above it always does"), "this always applies", help)
    } else if same {
        let help = "take one of them out, or change what it asks for".to_owned();
        (format!("this {noun} never applies: one above it has the same condition"), "the same condition", help)
    } else if above.len() > 1 {
        let help = format!("put it above them: the first {noun} that holds decides");
        (format!("this {noun} never applies: those above it take all that it asks for"), "takes a part of it", help)
    } else {
        let help = format!("put the narrower one first: the first {noun} that holds decides");
        (
            format!("this {noun} never applies: one above it holds wherever it does"),
            "holds wherever that one does",
            help,
        )
    };
    let head = if always { rule.head.clone() } else { place(rule) };
    let problem = Diagnostic::warning("never-applies", fact).at(head).help(help);
    above.iter().fold(problem, |problem, above| problem.also(place(above), label))
}
