//! Names that a scenario file uses and policy or portfolio must have: a misspelt one would hold or fail for no reason.

use std::collections::BTreeSet;

use super::choice::Choice;
use super::shape::{ExpectTable, ScenarioFile};
use crate::filter::Rejection;
use crate::fleet::Fleet;
use crate::language::{Diagnostic, Located, Report, listed, nearest};
use crate::policy::Policy;
use crate::refusal::Refusal;

/// What names a class where no rule does.
const NO_RULE: [&str; 5] = ["declared", "declared-slo", "patient-tier", "stream", "whole-answer"];

/// Reports names of scenarios that are given twice.
pub(super) fn check_own(file: &ScenarioFile, report: &mut Report) {
    let mut seen = BTreeSet::new();
    for scenario in &file.scenario {
        if !seen.insert(scenario.name.value.as_str()) {
            let twice = format!("two scenarios are called `{}`", scenario.name.value);
            let problem = Diagnostic::error("repeated-name", twice).at(scenario.name.span.clone());
            report.push(problem.help("say what tells them apart"));
        }
    }
}

/// Reports the name of a pool or endpoint that there is not.
pub(super) fn check_place(name: &Located<String>, fleet: Fleet<'_>, report: &mut Report) {
    let known = places(fleet);
    if !known.contains(&name.value.as_str()) {
        unknown("pool or endpoint", name, &known, "name a pool of the portfolio", report);
    }
}

/// Reports a name that there is not, with the nearest that there is.
pub(super) fn unknown(what: &str, name: &Located<String>, known: &[&str], otherwise: &str, report: &mut Report) {
    let help = match nearest(name, known.iter().copied()) {
        Some(guess) => format!("did you mean `{guess}`?"),
        None if known.is_empty() => otherwise.to_owned(),
        None => format!("{otherwise}: {}", listed(known, "or")),
    };
    let problem = Diagnostic::error("unknown-name", format!("there is no {what} `{}`", name.value));
    report.push(problem.at(name.span.clone()).help(help));
}

/// Reports every name in an expectation that there is not.
pub(super) fn check(expect: &ExpectTable, policy: &Policy, fleet: Fleet<'_>, report: &mut Report) {
    let classes: Vec<&str> = policy.classes.iter().map(|class| class.name.as_str()).collect();
    let rules: Vec<&str> = policy.classify.iter().map(|rule| rule.name.as_str()).chain(NO_RULE).collect();
    let routes: Vec<&str> = policy.routes.iter().map(|route| route.name.as_str()).collect();
    let pools: Vec<&str> = fleet.pools.iter().map(|pool| pool.name.as_str()).collect();
    let endpoints: Vec<&str> = fleet.pools.iter().flat_map(|pool| pool.endpoints.iter().map(String::as_str)).collect();
    let not = expect.not.as_ref();
    let both = [
        ("class", &expect.class, not.map(|not| &not.class), &classes),
        ("rule", &expect.rule, not.map(|not| &not.rule), &rules),
        ("route", &expect.route, not.map(|not| &not.route), &routes),
        ("pool", &expect.pool, not.map(|not| &not.pool), &pools),
        ("endpoint", &expect.endpoint, not.map(|not| &not.endpoint), &endpoints),
        ("refusal", &expect.refusal, not.map(|not| &not.refusal), &Refusal::CODES.to_vec()),
    ];
    for (what, wanted, unwanted, known) in both {
        for choice in wanted.iter().chain(unwanted.into_iter().flatten()) {
            check_choice(what, choice, known, report);
        }
    }
    let asked = expect.plan.iter().chain(&expect.avoids).flatten();
    for place in asked.chain(expect.rejected.keys()) {
        check_place(place, fleet, report);
    }
    for reason in expect.rejected.values() {
        check_choice("rejection", reason, &Rejection::CODES, report);
    }
}

fn check_choice(what: &str, choice: &Located<Choice>, known: &[&str], report: &mut Report) {
    for name in choice.iter().filter(|name| !known.contains(name)) {
        let name = Located { value: name.to_owned(), span: choice.span.clone() };
        unknown(what, &name, known, "there are", report);
    }
}

fn places(fleet: Fleet<'_>) -> Vec<&str> {
    let endpoints = fleet.pools.iter().flat_map(|pool| pool.endpoints.iter().map(String::as_str));
    fleet.pools.iter().map(|pool| pool.name.as_str()).chain(endpoints).collect()
}
