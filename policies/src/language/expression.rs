//! CEL text → a checked condition. An expression is parsed once, checked against the declared fields, and lowered to
//! closures that neither allocate nor fail; what may go wrong is told at load, at the character.

use std::collections::BTreeSet;
use std::ops::Range;

use super::diagnostic::{Diagnostic, Report};
use super::located::Located;
use crate::fleet::PoolFacts;
use crate::policy::Condition;

/// The fields an expression may read.
mod fields;
/// A rough cut of the text into tokens: bounds before parsing, places after it.
mod tokens;
/// Where in the text a sub-expression stands.
mod extent;
/// Where in the file a character of a TOML string stands.
mod literal;
/// Parser messages in the operator's words.
mod syntax;
/// Text → tree, each text once.
mod trees;
/// Types, and closures of each.
mod value;
/// The tree, checked and lowered.
mod lower;
/// Names to values.
mod path;
/// Calls.
mod call;
/// Comparison and membership.
mod compare;
/// Numbers.
mod arithmetic;
/// What a condition says, in a form that can be reasoned about.
mod logic;
/// What a condition saw of one request.
mod seen;

pub use call::{FunctionDoc, functions};
pub use fields::{FieldDoc, fields};
pub(super) use logic::{Case, Constraint, Logic};
pub use seen::{is_secret, seen};
use trees::Tree;
pub(super) use trees::Trees;

/// Longest expression, bytes.
pub const MAX_EXPRESSION_BYTES: usize = 4096;
/// Deepest nesting of brackets. The parser spends up to 200 kB of stack on one in an unoptimized build, and a thread has
/// 2 MB.
pub const MAX_EXPRESSION_NESTING: usize = 8;
/// Deepest tree of operators.
pub const MAX_EXPRESSION_DEPTH: usize = 32;
/// Most nodes of the parsed tree: bounds the time of one evaluation.
pub const MAX_EXPRESSION_NODES: usize = 256;
/// Most tokens given to the parser, which recurses along chains of them. No tree within bounds has more.
const MAX_TOKENS: usize = 512;

/// Which key an expression stands in: decides what it may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// `when` of `[[classify]]`: the class is not known yet.
    ClassifyWhen,
    /// `when` of `[[route]]`: no pool has been chosen yet.
    RouteWhen,
    /// `pools` of `[[route]]`.
    RoutePools,
    /// `exclude` of `[[route]]`.
    RouteExclude,
    /// `pools` of a fallback of `[[route]]`.
    RouteFallback,
}

impl Key {
    /// Whether the expression chooses among pools.
    pub(super) fn reads_pools(self) -> bool {
        matches!(self, Key::RoutePools | Key::RouteExclude | Key::RouteFallback)
    }
}

/// What an expression is checked against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    /// Where it stands.
    pub(super) key: Key,
    /// Classes of the policy.
    pub(super) classes: &'a [String],
    /// Pools of the portfolio.
    pub(super) pools: &'a [PoolFacts],
}

/// A checked expression.
pub(super) struct Checked {
    /// Ready to be evaluated.
    pub(super) condition: Condition,
    /// What it reads.
    pub(super) reads: Reads,
    /// What it says.
    pub(super) logic: Logic,
    /// Warnings of parts that are surely no use, with their places in the file.
    pub(super) doubts: Vec<Diagnostic>,
}

/// What expressions read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reads {
    /// Whether any `request.*`.
    pub(super) request: bool,
    /// Whether any field of a pool that changes while it works.
    pub(super) load: bool,
    /// Headers, lower case.
    pub(super) headers: BTreeSet<String>,
    /// Classes that are named.
    pub(super) classes: BTreeSet<String>,
}

/// Checks an expression; every problem goes to the report, at its place in the file.
pub(super) fn check(
    report: &mut Report,
    text: &Located<String>,
    scope: Scope<'_>,
    trees: &mut Trees,
) -> Option<Checked> {
    let mut problems = Vec::new();
    let mut checked = check_text(&text.value, scope, trees, &mut problems);
    let source = report.source().clone();
    let raw = source.text.get(text.span.clone()).unwrap_or_default();
    let map = literal::map(raw, &text.value);
    let place = |inner: Range<usize>| match &map {
        Some(map) => literal::place(map, inner, text.span.start),
        None => text.span.clone(),
    };
    let placed = |problem: Diagnostic| {
        let inner = problem.span.clone().unwrap_or(0..text.value.len());
        let also = problem.also.clone().into_iter().map(|(span, text)| (place(span), text)).collect();
        Diagnostic { also, ..problem.at(place(inner)) }
    };
    for problem in problems {
        report.push(placed(problem));
    }
    if let Some(checked) = &mut checked {
        checked.doubts = std::mem::take(&mut checked.doubts).into_iter().map(placed).collect();
    }
    checked
}

/// As [`check`], with spans in the text of the expression.
fn check_text(text: &str, scope: Scope<'_>, trees: &mut Trees, problems: &mut Vec<Diagnostic>) -> Option<Checked> {
    if text.len() > MAX_EXPRESSION_BYTES {
        let message = format!("the expression has {} bytes, more than {MAX_EXPRESSION_BYTES}", text.len());
        problems.push(Diagnostic::error("expression-too-large", message));
        return None;
    }
    let tokens = tokens::tokens(text);
    if let Some(problem) = refuse_tokens(&tokens) {
        problems.push(problem);
        return None;
    }
    match trees.tree(text, &tokens) {
        Ok(tree) => lower(text, &tokens, &tree, scope, problems),
        Err(told) => {
            problems.extend(told);
            None
        }
    }
}

fn lower(
    text: &str,
    tokens: &[tokens::Token<'_>],
    tree: &Tree,
    scope: Scope<'_>,
    problems: &mut Vec<Diagnostic>,
) -> Option<Checked> {
    let Tree { root, places } = tree;
    let mut lowerer = lower::Lowerer::new(extent::Extents::new(text, tokens, places), scope);
    let test = lowerer.condition(root);
    let reads = std::mem::take(&mut lowerer.reads);
    let told = lowerer.into_problems();
    let refused = told.iter().any(|problem| problem.severity == super::Severity::Error);
    let warned: Vec<Range<usize>> = told.iter().filter_map(|problem| problem.span.clone()).collect();
    problems.extend(told);
    let test = test.filter(|_| !refused)?;
    let mut reader = logic::Reader { extents: extent::Extents::new(text, tokens, places), scope, doubts: Vec::new() };
    let logic = reader.logic(root);
    let mut doubts = reader.doubts;
    // What has been told of a part need not be told again of the whole.
    let told = |span: &Range<usize>| warned.iter().any(|warned| span.start <= warned.start && warned.end <= span.end);
    doubts.retain(|doubt| !doubt.span.as_ref().is_some_and(told));
    Some(Checked { condition: Condition { text: text.to_owned(), test }, reads, logic, doubts })
}

/// What would make the parser recurse too deeply is refused before it is parsed.
fn refuse_tokens(tokens: &[tokens::Token<'_>]) -> Option<Diagnostic> {
    if tokens.is_empty() {
        let problem = Diagnostic::error("expression-syntax", "the expression is empty");
        return Some(problem.help("leave the key out for a rule without condition"));
    }
    if tokens.len() > MAX_TOKENS {
        let message = format!("the expression has more than {MAX_EXPRESSION_NODES} parts");
        return Some(Diagnostic::error("expression-too-large", message));
    }
    let deep = |(span, limit)| too_deep(span, limit);
    tokens::too_deep(tokens, MAX_EXPRESSION_NESTING, MAX_EXPRESSION_DEPTH).map(deep)
}

fn too_deep(span: Range<usize>, limit: usize) -> Diagnostic {
    let message = format!("the expression is nested more than {limit} deep");
    Diagnostic::error("expression-too-large", message).at(span)
}

#[cfg(test)]
mod tests;
