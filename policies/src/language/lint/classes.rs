//! Classes that no rule gives, and promises that no machine can keep.

use super::super::diagnostic::{Diagnostic, Report};
use super::{ClassNote, Notes};
use crate::estimate::{Demand, Estimate};
use crate::facts::{Api, Facts};
use crate::fleet::{EndpointState, PoolFacts};
use crate::policy::{Class, ClassId, Policy};

/// Warns of both.
pub(super) fn lint(report: &mut Report, policy: &Policy, pools: &[PoolFacts], notes: &Notes) {
    let estimates: Vec<(&str, Estimate)> =
        pools.iter().filter_map(|pool| Some((pool.name.as_str(), least(pool)?))).collect();
    for (index, (class, note)) in policy.classes.iter().zip(&notes.classes).enumerate() {
        unused(report, policy, ClassId(index), note, notes);
        impossible(report, class, note, &estimates);
    }
}

/// A class that no rule gives is still given to callers who ask for it. That may be all that is wanted, so only a policy
/// that gives other classes by rule, and says no word of this one, is taken to have forgotten it.
fn unused(report: &mut Report, policy: &Policy, class: ClassId, note: &ClassNote, notes: &Notes) {
    let builtin = [policy.builtin.interactive, policy.builtin.standard, policy.builtin.batch];
    let given = builtin.contains(&class) || policy.classify.iter().any(|rule| rule.class == class);
    let Some(name) = policy.classes.get(class.0).map(|class| class.name.as_str()) else { return };
    if given || policy.classify.is_empty() || notes.classes_named.contains(name) {
        return;
    }
    let message = format!("no rule gives the class `{name}`: only callers who ask for it get it");
    let help = format!("add a `[[classify]]` rule with `class = \"{name}\"`, or take the class out");
    report.push(Diagnostic::warning("unused-class", message).at(note.name.clone()).help(help));
}

/// The shortest request on an idle machine of a pool: nothing is quicker there.
fn least(pool: &PoolFacts) -> Option<Estimate> {
    let facts = Facts { input_tokens: 1, output_tokens: 1, ..Facts::plain(Api::ChatCompletions, "") };
    let endpoint = &EndpointState::idle(0);
    let of = |model| Demand::new(&facts, pool, &pool.service, model).at(&facts, endpoint);
    pool.models.iter().map(of).min_by(|one, other| one.ttft_ms.total_cmp(&other.ttft_ms))
}

/// A bound of a promise, the figure that must keep it, and what both are of.
type Part = (Option<f64>, fn(&Estimate) -> f64, &'static str);

fn impossible(report: &mut Report, class: &Class, note: &ClassNote, estimates: &[(&str, Estimate)]) {
    let slo = class.slo;
    let parts: [Part; 3] = [
        (slo.ttft_ms, |estimate| estimate.ttft_ms, "to the first token"),
        (slo.itl_ms, |estimate| estimate.itl_ms, "for each token"),
        (slo.deadline_ms, |estimate| estimate.total_ms, "for an answer of one token"),
    ];
    for ((bound_ms, figure, what), span) in parts.into_iter().zip(&note.bounds) {
        let quickest = estimates.iter().min_by(|one, other| figure(&one.1).total_cmp(&figure(&other.1)));
        let (Some(bound_ms), Some(span), Some((pool, least))) = (bound_ms, span, quickest) else { continue };
        let least_ms = figure(least);
        if least_ms <= bound_ms {
            continue;
        }
        let message = format!("no machine can keep this promise of `{}`", class.name);
        let label = format!("{} {what}", milliseconds(bound_ms));
        let help = format!(
            "the quickest, `{pool}`, needs {} {what} when it is idle: promise more than that, or add a quicker machine",
            milliseconds(least_ms)
        );
        let problem = Diagnostic::warning("impossible-slo", message).at(span.clone());
        report.push(problem.label(label).help(help));
    }
}

/// A time with as many digits as tell something.
fn milliseconds(ms: f64) -> String {
    let digits = if ms < 10.0 { 2 } else { usize::from(ms < 100.0) };
    let text = format!("{ms:.digits$}");
    let short = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{short} ms")
}
