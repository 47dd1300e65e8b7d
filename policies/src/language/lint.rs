//! What is surely a mistake in a policy that could be used. Each check says nothing where it is not sure, and none takes
//! more than its named bound, so that a policy of a thousand rules still compiles in milliseconds.

use std::collections::BTreeSet;
use std::ops::Range;

use super::diagnostic::Report;
use super::expression::Logic;
use crate::fleet::PoolFacts;
use crate::policy::Policy;

/// Rules and routes that others leave nothing to.
mod order;
/// Pools, fallbacks, exclusions and pins that make no difference.
mod pools;
/// Classes that nobody gets, promises that nobody can keep.
mod classes;

/// Where things stand in the file, and what its conditions say: noted while it is compiled.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// By [`Policy::classes`]; empty where the file defines none.
    pub(super) classes: Vec<ClassNote>,
    /// Every `[[classify]]`.
    pub(super) rules: Vec<RuleNote>,
    /// Every `[[route]]`; the first of them are those of [`Policy::routes`].
    pub(super) routes: Vec<RouteNote>,
    /// Classes that conditions name.
    pub(super) classes_named: BTreeSet<String>,
}

/// A class.
#[derive(Debug)]
pub(super) struct ClassNote {
    /// Its name.
    pub(super) name: Range<usize>,
    /// The bounds of its promise: to first token, per token, to the whole answer.
    pub(super) bounds: [Option<Range<usize>>; 3],
}

/// What decides whether a rule or a route applies.
#[derive(Debug)]
pub(super) struct RuleNote {
    /// The head of its table.
    pub(super) head: Range<usize>,
    /// Its condition; always, where `None`.
    pub(super) when: Option<ConditionNote>,
}

/// A condition.
#[derive(Debug)]
pub(super) struct ConditionNote {
    /// Its text.
    pub(super) span: Range<usize>,
    /// What it says.
    pub(super) logic: Logic,
}

/// A route.
#[derive(Debug)]
pub(super) struct RouteNote {
    /// When it applies.
    pub(super) rule: RuleNote,
    /// The pools of its tiers; every pool, where `None`.
    pub(super) tiers: Vec<Option<ConditionNote>>,
    /// The pools it excludes.
    pub(super) exclude: Option<ConditionNote>,
    /// The names it pins, each with the endpoints meant by it.
    pub(super) pins: Vec<(Range<usize>, Vec<usize>)>,
}

/// Tells all that is surely a mistake.
pub(super) fn lint(report: &mut Report, policy: &Policy, pools: &[PoolFacts], notes: &Notes) {
    let rules: Vec<&RuleNote> = notes.rules.iter().collect();
    order::lint(report, "rule", &rules);
    let routes: Vec<&RuleNote> = notes.routes.iter().map(|route| &route.rule).collect();
    order::lint(report, "route", &routes);
    classes::lint(report, policy, pools, notes);
    if !pools.is_empty() {
        pools::lint(report, policy, pools, notes);
    }
}

#[cfg(test)]
mod tests;
