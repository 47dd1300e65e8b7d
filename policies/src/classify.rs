//! Which class a request belongs to, and because of what.

use crate::facts::{Api, Facts};
use crate::policy::{Class, ClassId, Env, Policy};

/// A class and the reason for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classified {
    /// The class.
    pub class: ClassId,
    /// What named it.
    pub because: Because,
}

/// What named the class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// The caller, by `x-pointsman-class`.
    Declared,
    /// The `[[classify]]` rule with this index.
    Rule(usize),
    /// No rule: the promise the caller asked for; the least urgent class that gives it.
    DeclaredSlo,
    /// No rule: a service tier that says the caller can wait, or embeddings.
    PatientTier,
    /// No rule: the caller reads along.
    Stream,
    /// No rule: the caller waits for the whole answer.
    Whole,
}

impl Because {
    /// The name in traces and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Because::Declared => "declared",
            Because::Rule(_) => "rule",
            Because::DeclaredSlo => "declared-slo",
            Because::PatientTier => "patient-tier",
            Because::Stream => "stream",
            Because::Whole => "whole-answer",
        }
    }
}

/// Names the class of a request: what the caller declared, else the first rule that matches, else what the request
/// itself shows. `None` only if the caller declared a class that the policy does not define.
pub fn classify(policy: &Policy, facts: &Facts<'_>) -> Option<Classified> {
    if !facts.declared_class.is_empty() {
        let class = policy.class_by_name(facts.declared_class)?;
        return Some(Classified { class, because: Because::Declared });
    }
    let env = Env::of(policy, facts, "");
    let matching = policy.classify.iter().position(|rule| rule.when.as_ref().is_none_or(|when| when.holds(&env)));
    if let Some(index) = matching
        && let Some(rule) = policy.classify.get(index)
    {
        return Some(Classified { class: rule.class, because: Because::Rule(index) });
    }
    if let Some(class) = by_declared_slo(policy, facts) {
        return Some(Classified { class, because: Because::DeclaredSlo });
    }
    Some(by_appearance(policy, facts))
}

/// The least urgent class whose promise is at least what the caller asked for; the most urgent where none is.
fn by_declared_slo(policy: &Policy, facts: &Facts<'_>) -> Option<ClassId> {
    if facts.slo_ttft_ms.is_none() && facts.slo_itl_ms.is_none() {
        return None;
    }
    let within = |promised: Option<f64>, asked: Option<f64>| match (promised, asked) {
        (_, None) => true,
        (Some(promised), Some(asked)) => promised <= asked,
        (None, Some(_)) => false,
    };
    let keeps =
        |class: &Class| within(class.slo.ttft_ms, facts.slo_ttft_ms) && within(class.slo.itl_ms, facts.slo_itl_ms);
    let classes = || policy.classes.iter().enumerate();
    let least_urgent = classes().filter(|(_, class)| keeps(class)).min_by_key(|(_, class)| class.priority);
    least_urgent.or_else(|| classes().max_by_key(|(_, class)| class.priority)).map(|(index, _)| ClassId(index))
}

fn by_appearance(policy: &Policy, facts: &Facts<'_>) -> Classified {
    let patient = matches!(facts.service_tier, "flex" | "batch") || facts.api == Api::Embeddings;
    if patient {
        Classified { class: policy.builtin.batch, because: Because::PatientTier }
    } else if facts.stream {
        Classified { class: policy.builtin.interactive, because: Because::Stream }
    } else {
        Classified { class: policy.builtin.standard, because: Because::Whole }
    }
}
