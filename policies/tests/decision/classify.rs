//! Which class a request belongs to: declared, then by rule, then by what the request shows.

use pointsman_policies::classify::{Because, Classified, classify};
use pointsman_policies::facts::{Api, Facts};
use pointsman_policies::policy::{ClassifyRule, Objective, Policy};

use crate::world::{BATCH, INTERACTIVE, MODEL, REALTIME, STANDARD, facts, policy, rule, when};

fn with_rules(classify: Vec<ClassifyRule>) -> Policy {
    Policy { classify, ..policy(Objective::Cheapest) }
}

#[track_caller]
fn check(rules: Vec<ClassifyRule>, facts: Facts<'_>, expected: Option<Classified>) {
    assert_eq!(classify(&with_rules(rules), &facts), expected);
}

#[test]
fn a_declared_class_wins_over_every_rule() {
    let declared = Facts { declared_class: "realtime", ..facts() };
    let expected = Classified { class: REALTIME, because: Because::Declared };
    check(vec![rule(None, BATCH)], declared, Some(expected));
}

#[test]
fn a_declared_class_that_does_not_exist_is_no_class() {
    check(vec![rule(None, BATCH)], Facts { declared_class: "Realtime", ..facts() }, None);
}

#[test]
fn the_first_rule_that_holds_names_the_class() {
    let rules = || {
        vec![
            rule(Some(when(|env| env.facts.tenant == "acme")), REALTIME),
            rule(Some(when(|env| env.facts.stream)), STANDARD),
            rule(None, BATCH),
        ]
    };
    let by_rule = |index, class| Some(Classified { class, because: Because::Rule(index) });
    check(rules(), Facts { tenant: "acme", ..facts() }, by_rule(0, REALTIME));
    check(rules(), facts(), by_rule(1, STANDARD));
    check(rules(), Facts { stream: false, ..facts() }, by_rule(2, BATCH));
}

#[test]
fn rules_see_neither_class_nor_pool() {
    let rules = vec![rule(Some(when(|env| env.class.is_empty() && env.pool.is_none())), REALTIME)];
    check(rules, facts(), Some(Classified { class: REALTIME, because: Because::Rule(0) }));
}

#[test]
fn without_a_rule_the_request_speaks_for_itself() {
    let unruled = || vec![rule(Some(when(|_| false)), REALTIME)];
    let patient = Some(Classified { class: BATCH, because: Because::PatientTier });
    check(unruled(), Facts { service_tier: "flex", ..facts() }, patient);
    check(unruled(), Facts { service_tier: "batch", ..facts() }, patient);
    check(unruled(), Facts::plain(Api::Embeddings, MODEL), patient);
    let stream = Some(Classified { class: INTERACTIVE, because: Because::Stream });
    check(unruled(), facts(), stream);
    check(unruled(), Facts { service_tier: "priority", ..facts() }, stream);
    let whole = Some(Classified { class: STANDARD, because: Because::Whole });
    check(unruled(), Facts { stream: false, ..facts() }, whole);
}
