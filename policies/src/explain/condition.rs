//! Class and route: which condition held, and what those before it saw.

use serde::{Deserialize, Serialize};

use super::{Given, promise};
use crate::classify::{Because, Classified};
use crate::language::seen;
use crate::policy::{Affinity, AffinityKey, ClassId, Condition, Env, Slo, Spill};

/// Rules and routes told that did not apply; the nearest to the one that did.
const MOST_PASSED_OVER: usize = 16;

/// A rule or route with its condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tested {
    /// Its name.
    pub name: String,
    /// Its place in the file, from 1.
    pub place: usize,
    /// Its condition; `null` where it always applies.
    pub when: Option<String>,
    /// What the condition read.
    pub reads: Vec<ReadValue>,
}

/// A field that a condition read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReadValue {
    /// Its name.
    pub field: String,
    /// Its value as CEL writes it.
    pub value: String,
}

/// The class and what named it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassReason {
    /// Its name.
    pub name: String,
    /// `declared`, `rule`, `declared-slo`, `patient-tier`, `stream`, `whole-answer`.
    pub because: String,
    /// The rule, where one named it.
    pub rule: Option<Tested>,
    /// Rules before it that did not apply.
    pub passed_over: Vec<Tested>,
    /// The promise, tightened by what the caller asked for.
    pub slo: Slo,
    /// Share of requests that shall meet it.
    pub target: f64,
    /// Higher is served first.
    pub priority: i32,
    /// No endpoint is asked where one request would cost more, US dollars.
    pub max_usd: Option<f64>,
}

/// The route that matched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteReason {
    /// The route.
    #[serde(flatten)]
    pub tested: Tested,
    /// Routes before it that did not match.
    pub passed_over: Vec<Tested>,
    /// What it looks for.
    pub objective: String,
    /// Tiers of pools: its own and its fallbacks.
    pub tiers: usize,
    /// When it goes on to the next tier.
    pub spill: String,
    /// What it keeps together, in words.
    pub affinity: Option<String>,
    /// By how much a home's score is lowered, 0 to 1.
    pub home_bonus: Option<f64>,
}

pub(super) fn class(given: &Given<'_>, classified: Classified) -> Option<ClassReason> {
    let policy = given.policy;
    let class = policy.classes.get(classified.class.0)?;
    let env = Env::of(policy, given.facts, "");
    let all = || policy.classify.iter().map(|rule| (rule.name.as_str(), rule.when.as_ref()));
    let (rule, before) = match classified.because {
        Because::Rule(index) => (all().nth(index).map(|rule| tested(index, rule, &env)), index),
        Because::Declared => (None, 0),
        _ => (None, policy.classify.len()),
    };
    Some(ClassReason {
        name: class.name.clone(),
        because: classified.because.as_str().to_owned(),
        rule,
        passed_over: passed_over(all(), before, &env),
        slo: promise(given, classified.class),
        target: class.target,
        priority: class.priority,
        max_usd: class.max_usd,
    })
}

pub(super) fn route(given: &Given<'_>, class: ClassId, index: usize) -> Option<RouteReason> {
    let policy = given.policy;
    let route = policy.routes.get(index)?;
    let class = policy.classes.get(class.0).map_or("", |class| class.name.as_str());
    let env = Env::of(policy, given.facts, class);
    let all = || policy.routes.iter().map(|route| (route.name.as_str(), route.when.as_ref()));
    Some(RouteReason {
        tested: tested(index, (&route.name, route.when.as_ref()), &env),
        passed_over: passed_over(all(), index, &env),
        objective: route.objective.as_str().to_owned(),
        tiers: route.tiers.len(),
        spill: match route.spill {
            Spill::Unavailable => "unavailable".to_owned(),
            Spill::SloAtRisk => "slo-at-risk".to_owned(),
        },
        affinity: route.affinity.as_ref().map(together),
        home_bonus: route.affinity.as_ref().map(|affinity| f64::from(affinity.permille) / 1000.0),
    })
}

fn together(affinity: &Affinity) -> String {
    match &affinity.by {
        AffinityKey::Session => "session".to_owned(),
        AffinityKey::Tenant => "tenant".to_owned(),
        AffinityKey::Header(name) => format!("header `{name}`"),
    }
}

fn passed_over<'r>(
    all: impl Iterator<Item = (&'r str, Option<&'r Condition>)>,
    before: usize,
    env: &Env<'_>,
) -> Vec<Tested> {
    let skipped = before.saturating_sub(MOST_PASSED_OVER);
    let passed = all.enumerate().take(before).skip(skipped);
    passed.map(|(index, rule)| tested(index, rule, env)).collect()
}

fn tested(index: usize, (name, when): (&str, Option<&Condition>), env: &Env<'_>) -> Tested {
    let reads = when.map(|when| seen(&when.text, env)).unwrap_or_default();
    Tested {
        name: name.to_owned(),
        place: index + 1,
        when: when.map(|when| when.text.clone()),
        reads: reads.into_iter().map(|(field, value)| ReadValue { field, value }).collect(),
    }
}
