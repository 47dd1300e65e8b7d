//! The compiled rules: what a policy file becomes once it has been checked against a portfolio.

use crate::facts::Facts;
use crate::fleet::PoolFacts;

/// Index of a class in [`Policy::classes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClassId(pub usize);

/// What a class of requests is promised. Every bound is optional; all that are given must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slo {
    /// Time to first token, milliseconds.
    pub ttft_ms: Option<f64>,
    /// Time per output token after the first, milliseconds.
    pub itl_ms: Option<f64>,
    /// Time to the whole answer, milliseconds.
    pub deadline_ms: Option<f64>,
}

/// A latency class.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// Its promise.
    pub slo: Slo,
    /// The share of requests that shall meet the promise, 0 to 1.
    pub target: f64,
    /// Higher is served first.
    pub priority: i32,
    /// Whether it may be refused so that others keep their promise.
    pub sheddable: bool,
}

/// What a route tries to achieve among the endpoints it allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// Least price among those likely to meet the class's SLO; the least violation where none is.
    CheapestThatMeetsSlo,
    /// Least expected time to the whole answer.
    Fastest,
    /// Least price.
    Cheapest,
    /// Least carbon; least energy where the carbon intensity of a candidate's site is unknown.
    Greenest,
    /// Least weighted sum of price, latency and energy, each relative to the best candidate.
    Weights(Weights),
}

/// Weights of [`Objective::Weights`]; each term is a candidate's figure divided by the best candidate's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weights {
    /// Of the price.
    pub cost: f64,
    /// Of the time to first token.
    pub ttft: f64,
    /// Of the time per output token.
    pub itl: f64,
    /// Of the energy.
    pub energy: f64,
}

/// What an expression may read.
#[derive(Clone, Copy)]
pub struct Env<'a> {
    /// `request.*`
    pub facts: &'a Facts<'a>,
    /// `request.class`; empty while the request is being classified.
    pub class: &'a str,
    /// `pool.*`; present only while pools are being selected.
    pub pool: Option<&'a PoolFacts>,
}

/// A boolean expression, lowered from CEL to a closure at load.
pub struct Condition {
    /// The text it was made from.
    pub text: String,
    /// The lowered expression.
    pub test: Predicate,
}

/// A lowered boolean expression.
pub type Predicate = Box<dyn Fn(&Env<'_>) -> bool + Send + Sync>;

impl Condition {
    /// Whether the expression holds.
    pub fn holds(&self, env: &Env<'_>) -> bool {
        (self.test)(env)
    }
}

impl std::fmt::Debug for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Condition").field(&self.text).finish()
    }
}

/// `[[classify]]`: the first whose condition holds names the class.
#[derive(Debug)]
pub struct ClassifyRule {
    /// Always, where `None`.
    pub when: Option<Condition>,
    /// The class it yields.
    pub class: ClassId,
}

/// Which pools a route allows.
#[derive(Debug)]
pub enum PoolSelector {
    /// Every pool.
    All,
    /// Decided at load, one flag per pool of the portfolio.
    Fixed(Vec<bool>),
    /// Reads the request, so it is evaluated for each request and pool.
    PerRequest(Condition),
}

/// `[[route]]`: the first whose condition holds decides pools and objective.
#[derive(Debug)]
pub struct Route {
    /// Its name in traces and headers.
    pub name: String,
    /// Always, where `None`.
    pub when: Option<Condition>,
    /// The pools it allows.
    pub pools: PoolSelector,
    /// What it tries to achieve.
    pub objective: Objective,
}

/// Where requests go that no `[[classify]]` rule names: the classes that the built-in rules yield.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltinClasses {
    /// For streams.
    pub interactive: ClassId,
    /// For everything else.
    pub standard: ClassId,
    /// For `service_tier` `flex` and `batch`, and for embeddings.
    pub batch: ClassId,
}

/// A policy, checked against one portfolio. The last route always matches.
#[derive(Debug)]
pub struct Policy {
    /// Its name, as in the response header `x-pointsman-policy`.
    pub name: String,
    /// Never empty.
    pub classes: Vec<Class>,
    /// In file order.
    pub classify: Vec<ClassifyRule>,
    /// Used when no rule matches.
    pub builtin: BuiltinClasses,
    /// In file order; the last one has no condition.
    pub routes: Vec<Route>,
}

impl Policy {
    /// A class by name.
    pub fn class_by_name(&self, name: &str) -> Option<ClassId> {
        self.classes.iter().position(|class| class.name == name).map(ClassId)
    }
}
