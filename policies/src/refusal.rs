//! Why no machine is asked: of all the reasons, the one to tell the caller, with what would help.

use crate::classify::{Classified, classify};
use crate::decide::{Candidate, Decision};
use crate::facts::Facts;
use crate::filter::Rejection;
use crate::fleet::PoolFacts;
use crate::language::nearest;
use crate::policy::Policy;

/// Asked to wait where nothing better is known, milliseconds.
const DEFAULT_RETRY_MS: f64 = 1_000.0;
/// Nobody is asked to stay away longer than this, milliseconds.
const LONGEST_RETRY_MS: f64 = 60_000.0;
/// Longest name repeated in a message, characters.
const LONGEST_ECHO: usize = 100;

/// A request that gets no machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// No pool serves the model.
    UnknownModel {
        /// As the client named it, shortened.
        model: String,
        /// The nearest there is.
        nearest: Option<String>,
    },
    /// The declared class is not in the policy.
    UnknownClass {
        /// As the client named it, shortened.
        class: String,
        /// The classes there are.
        known: String,
    },
    /// The request fits no machine that serves the model.
    ContextTooLong {
        /// Tokens needed.
        needed: u64,
        /// The most that any pool takes.
        allowed: u64,
    },
    /// The policy allows no pool that serves the model; carries the route's name.
    NoPoolAllowed(String),
    /// Every machine has too much to do.
    Saturated {
        /// When one will have room, milliseconds.
        retry_in_ms: f64,
    },
    /// The operator's budget does not allow it now.
    OverBudget {
        /// When it may, milliseconds.
        retry_in_ms: f64,
    },
    /// No machine can be reached.
    Unavailable {
        /// When to try again, milliseconds.
        retry_in_ms: f64,
        /// Each machine with its reason.
        tried: String,
    },
}

impl Refusal {
    /// Every code there is.
    pub const CODES: [&str; 7] = [
        "model_not_found",
        "unknown_class",
        "context_length_exceeded",
        "no_pool_allowed",
        "saturated",
        "over_budget",
        "backends_unavailable",
    ];

    /// Of a model that no pool serves.
    pub fn unknown_model<'n>(model: &str, known: impl IntoIterator<Item = &'n str>) -> Refusal {
        let nearest = nearest(model, known).map(str::to_owned);
        Refusal::UnknownModel { model: shortened(model), nearest }
    }

    /// Of a class that the policy does not define.
    pub fn unknown_class(class: &str, policy: &Policy) -> Refusal {
        let known: Vec<String> = policy.classes.iter().map(|class| format!("`{}`", class.name)).collect();
        Refusal::UnknownClass { class: shortened(class), known: known.join(", ") }
    }

    /// Of a decision whose every candidate was rejected: the reason nearest to a solution is the one to tell. `None`
    /// where there is a plan.
    pub fn of(decision: &Decision, policy: &Policy, pools: &[PoolFacts]) -> Option<Refusal> {
        if decision.plan.is_some() {
            return None;
        }
        let retry_in_ms = decision.retry_in_ms().unwrap_or(DEFAULT_RETRY_MS).min(LONGEST_RETRY_MS);
        let reasons = || decision.candidates.iter().filter_map(|candidate| candidate.verdict.err());
        if reasons().any(saturated) {
            return Some(Refusal::Saturated { retry_in_ms });
        }
        // Whoever waits for a new month is told so, and not to come back every minute.
        let budgets = reasons().filter(|reason| matches!(reason, Rejection::Budget { .. }));
        if let Some(retry_in_ms) = budgets.filter_map(Rejection::retry_in_ms).reduce(f64::max) {
            return Some(Refusal::OverBudget { retry_in_ms });
        }
        if reasons().any(unavailable) {
            return Some(Refusal::Unavailable { retry_in_ms, tried: tried(decision, pools) });
        }
        let contexts = reasons().filter_map(|reason| match reason {
            Rejection::Context { needed, allowed } | Rejection::BeyondLease { needed, allowed } => {
                Some((needed, allowed))
            }
            _ => None,
        });
        if let Some((needed, allowed)) = contexts.max_by_key(|(_, allowed)| *allowed) {
            return Some(Refusal::ContextTooLong { needed, allowed });
        }
        let route = policy.routes.get(decision.route).map_or_else(String::new, |route| route.name.clone());
        Some(Refusal::NoPoolAllowed(route))
    }

    /// Stable code, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::UnknownModel { .. } => "model_not_found",
            Refusal::UnknownClass { .. } => "unknown_class",
            Refusal::ContextTooLong { .. } => "context_length_exceeded",
            Refusal::NoPoolAllowed(_) => "no_pool_allowed",
            Refusal::Saturated { .. } => "saturated",
            Refusal::OverBudget { .. } => "over_budget",
            Refusal::Unavailable { .. } => "backends_unavailable",
        }
    }

    /// What is wrong and what to do, for people.
    pub fn message(&self) -> String {
        match self {
            Refusal::UnknownModel { model, nearest: Some(nearest) } => {
                format!("no pool serves the model `{model}`; did you mean `{nearest}`?")
            }
            Refusal::UnknownModel { model, nearest: None } => {
                format!("no pool serves the model `{model}`; GET /v1/models lists those there are")
            }
            Refusal::UnknownClass { class, known } => {
                format!("the policy has no class `{class}`; its classes are {known}")
            }
            Refusal::ContextTooLong { needed, allowed } => format!(
                "the request needs about {needed} tokens of context, the largest machine for this model takes {allowed}"
            ),
            Refusal::NoPoolAllowed(route) => {
                format!("the policy's route `{route}` allows no pool that serves this model")
            }
            Refusal::Saturated { .. } => "every machine that may serve this has as much as it can take".to_owned(),
            Refusal::OverBudget { .. } => {
                "the operator's budget leaves nothing for requests of this class now; others go first".to_owned()
            }
            Refusal::Unavailable { tried, .. } => format!("no machine could be reached: {tried}"),
        }
    }

    /// When to come back, milliseconds; `None` where waiting does not help.
    pub fn retry_in_ms(&self) -> Option<f64> {
        match self {
            Refusal::Saturated { retry_in_ms }
            | Refusal::OverBudget { retry_in_ms }
            | Refusal::Unavailable { retry_in_ms, .. } => Some(*retry_in_ms),
            _ => None,
        }
    }
}

/// Names the class of a request that some pool can serve, or says why it gets no machine whatever the fleet does.
pub fn admit(policy: &Policy, facts: &Facts<'_>, pools: &[PoolFacts]) -> Result<Classified, Refusal> {
    if !pools.iter().any(|pool| pool.model(facts.model).is_some()) {
        let known = pools.iter().flat_map(|pool| pool.models.iter().map(|model| model.name.as_str()));
        return Err(Refusal::unknown_model(facts.model, known));
    }
    classify(policy, facts).ok_or_else(|| Refusal::unknown_class(facts.declared_class, policy))
}

fn saturated(reason: Rejection) -> bool {
    matches!(
        reason,
        Rejection::BackPressure { .. }
            | Rejection::RequestLease { .. }
            | Rejection::TokenLease { .. }
            | Rejection::Concurrency { .. }
            | Rejection::VendorShare { .. }
            | Rejection::Power { .. }
    )
}

fn unavailable(reason: Rejection) -> bool {
    matches!(reason, Rejection::BreakerOpen { .. } | Rejection::Draining)
}

/// Each machine that cannot be reached, with its reason; told in one where they are all drained, as somebody wanted that.
fn tried(decision: &Decision, pools: &[PoolFacts]) -> String {
    let names: Vec<&str> = pools.iter().flat_map(|pool| pool.endpoints.iter().map(String::as_str)).collect();
    let unreached = |candidate: &Candidate| {
        let reason = candidate.verdict.err().filter(|reason| unavailable(*reason))?;
        Some((*names.get(candidate.endpoint)?, reason))
    };
    let tried: Vec<(&str, Rejection)> = decision.candidates.iter().filter_map(unreached).collect();
    if tried.iter().all(|(_, reason)| *reason == Rejection::Draining) {
        let names: Vec<&str> = tried.iter().map(|(name, _)| *name).collect();
        return format!("the operator has drained all that may serve this ({})", names.join(", "));
    }
    tried.iter().map(|(name, reason)| format!("{name}: {reason}")).collect::<Vec<_>>().join("; ")
}

/// A name that a caller wrote, cut to what a message can hold.
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_ECHO) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
