//! Which class a request belongs to, and because of what.

use crate::facts::{Api, Facts};
use crate::policy::{ClassId, Env, Policy};

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
    let env = Env { facts, class: "", pool: None };
    let matching = policy.classify.iter().position(|rule| rule.when.as_ref().is_none_or(|when| when.holds(&env)));
    if let Some(index) = matching
        && let Some(rule) = policy.classify.get(index)
    {
        return Some(Classified { class: rule.class, because: Because::Rule(index) });
    }
    Some(by_appearance(policy, facts))
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
