//! The compiled rules: what a policy file becomes once it has been checked against a portfolio.

use crate::facts::Facts;
use crate::fleet::{PoolFacts, PoolLoad};
use crate::price::Period;

/// Index of a class in [`Policy::classes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClassId(pub usize);

/// What a class of requests is promised. Every bound is optional; all that are given must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
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
    /// Among sheddable classes, the one with the lowest number is refused first.
    pub shed_order: i32,
    /// No endpoint is asked where one request would cost more, US dollars.
    pub max_usd: Option<f64>,
    /// Whether its requests may be sent to machines of which little is known, to learn of them.
    pub explores: bool,
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

impl Objective {
    /// The name in files and explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Objective::CheapestThatMeetsSlo => "cheapest-that-meets-slo",
            Objective::Fastest => "fastest",
            Objective::Cheapest => "cheapest",
            Objective::Greenest => "greenest",
            Objective::Weights(_) => "weights",
        }
    }
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
    /// Live fields of `pool.*`; present only where the policy reads them.
    pub load: Option<&'a PoolLoad>,
    /// What the policy's clock is ahead of UTC, seconds.
    pub utc_offset_s: i32,
}

impl<'a> Env<'a> {
    /// Of a request whose class is known; no pool yet.
    pub fn of(policy: &Policy, facts: &'a Facts<'a>, class: &'a str) -> Env<'a> {
        Env { facts, class, pool: None, load: None, utc_offset_s: policy.utc_offset_s }
    }
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
    /// Its name in explanations; `rule-N` where the file gives none.
    pub name: String,
    /// Always, where `None`.
    pub when: Option<Condition>,
    /// The class it yields.
    pub class: ClassId,
}

/// Which pools are meant.
#[derive(Debug)]
pub enum PoolSelector {
    /// Every pool.
    All,
    /// Decided at load, one flag per pool of the portfolio.
    Fixed(Vec<bool>),
    /// Reads the request or the load, so it is evaluated for each request and pool.
    PerRequest(Condition),
}

impl PoolSelector {
    /// Whether a pool is meant; `env` holds it, `index` is its place in the portfolio.
    pub fn allows(&self, index: usize, env: &Env<'_>) -> bool {
        match self {
            PoolSelector::All => true,
            PoolSelector::Fixed(allowed) => allowed.get(index).copied().unwrap_or(false),
            PoolSelector::PerRequest(condition) => condition.holds(env),
        }
    }
}

/// When a route goes on to its next tier of pools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spill {
    /// When no endpoint of the tiers before can be asked.
    #[default]
    Unavailable,
    /// Also when none of them is likely to keep the promise and one of the next is.
    SloAtRisk,
}

/// Requests that belong together go to the same few endpoints, which then have their prompts' beginning in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// What belongs together.
    pub by: AffinityKey,
    /// Endpoints of one pool that are home to a key.
    pub homes: u32,
    /// By how much a home's score is lowered, in thousandths: 200 means it wins while it is at most 20 % worse.
    pub permille: u32,
}

/// What makes requests belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AffinityKey {
    /// The session the caller names.
    Session,
    /// Who asks.
    Tenant,
    /// The value of a header, by its lower-case name.
    Header(String),
}

/// A second attempt beside a slow first one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hedge {
    /// When it starts.
    pub after: HedgeAfter,
    /// Only for requests of this class; for all where `None`.
    pub class: Option<ClassId>,
    /// The most of the route's tokens that may be spent on it, 0 to 1.
    pub budget: f64,
}

/// When a hedge starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HedgeAfter {
    /// Once the first token is later than this share of predictions says, 0 to 1.
    Quantile(f64),
    /// After so many milliseconds without a first token.
    Ms(f64),
}

/// What a route may spend on one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budgets {
    /// Attempts, the first included.
    pub attempts: usize,
    /// Wait for the first byte of one attempt, milliseconds; by the class's promise where `None`.
    pub first_byte_ms: Option<f64>,
    /// Wait for the whole answer after its first byte, milliseconds; the process's limit where `None`.
    pub total_ms: Option<f64>,
    /// Retries as a share of requests, 0 to 1, where given.
    pub retry_share: Option<f64>,
}

impl Default for Budgets {
    fn default() -> Budgets {
        Budgets { attempts: crate::plan::DEFAULT_ATTEMPTS, first_byte_ms: None, total_ms: None, retry_share: None }
    }
}

/// `[[route]]`: the first whose condition holds decides pools and objective.
#[derive(Debug)]
pub struct Route {
    /// Its name in traces and headers.
    pub name: String,
    /// Always, where `None`.
    pub when: Option<Condition>,
    /// The pools it allows, then those it falls back to, in order. Never empty.
    pub tiers: Vec<PoolSelector>,
    /// When it goes from one tier to the next.
    pub spill: Spill,
    /// Pools it never uses, in any tier.
    pub exclude: Option<PoolSelector>,
    /// The only endpoints it uses, by index in the fleet view; any where `None`.
    pub pin: Option<Vec<usize>>,
    /// What it tries to achieve.
    pub objective: Objective,
    /// What it keeps together.
    pub affinity: Option<Affinity>,
    /// What it does about a slow first token.
    pub hedge: Option<Hedge>,
    /// Whether a stream that breaks goes on elsewhere, where machines can.
    pub continue_broken_streams: bool,
    /// What one request may take.
    pub budgets: Budgets,
}

impl Route {
    /// Every pool, whatever was asked.
    pub fn everything(name: impl Into<String>) -> Route {
        Route {
            name: name.into(),
            when: None,
            tiers: vec![PoolSelector::All],
            spill: Spill::default(),
            exclude: None,
            pin: None,
            objective: Objective::CheapestThatMeetsSlo,
            affinity: None,
            hedge: None,
            continue_broken_streams: true,
            budgets: Budgets::default(),
        }
    }
}

/// `[limits]`: bounds on all requests together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Requests in flight, by pool of the portfolio.
    pub pool_concurrency: Vec<Option<u32>>,
    /// The most of all tokens that a vendor may serve, 0 to 1.
    pub vendor_share: Vec<Cap>,
    /// Power with PUE, kilowatts, by site: the policy's bound or the portfolio's, whichever is less.
    pub site_power_kw: Vec<Cap>,
    /// US dollars an hour.
    pub usd_per_hour: Option<f64>,
    /// US dollars a day.
    pub usd_per_day: Option<f64>,
    /// US dollars a month.
    pub usd_per_month: Option<f64>,
    /// What becomes of classes that are not sheddable once a budget is used up.
    pub over_budget: OverBudget,
    /// What a tonne of carbon dioxide counts as, US dollars.
    pub usd_per_tonne_co2: Option<f64>,
}

/// A bound on pools that have something in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Cap {
    /// The name of what they have in common.
    pub name: String,
    /// The bound.
    pub most: f64,
    /// The pools, by index.
    pub pools: Vec<usize>,
}

/// What becomes of requests that may not be shed once a budget is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OverBudget {
    /// The pool that costs least serves them, whether or not it keeps their promise.
    #[default]
    Cheapest,
    /// They are refused.
    Refuse,
}

impl Limits {
    /// The budget of a period, US dollars.
    pub fn budget(&self, period: Period) -> Option<f64> {
        match period {
            Period::Hour => self.usd_per_hour,
            Period::Day => self.usd_per_day,
            Period::Month => self.usd_per_month,
        }
    }
}

/// A candidate policy on probation.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// The candidate's file, relative to this policy's.
    pub policy: String,
    /// Where the name stands in the file, in bytes; for messages.
    pub span: std::ops::Range<usize>,
    /// How it is tried.
    pub mode: TrialMode,
}

/// How a candidate is tried.
#[derive(Clone, Debug, PartialEq)]
pub enum TrialMode {
    /// It decides, beside the policy in force, for this share of requests, 0 to 1, and nothing comes of it.
    Shadow {
        /// Share of requests.
        sample: f64,
    },
    /// It decides for good for some requests.
    Canary(Canary),
}

/// Which requests a canary decides, and when it has failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Canary {
    /// Share of sessions, tenants or requests, 0 to 1.
    pub share: f64,
    /// What stays together.
    pub by: CanaryKey,
    /// Tenants that get it whole, besides the share.
    pub tenants: Vec<String>,
    /// When it is rolled back.
    pub guard: Guard,
}

/// What of a request is hashed to tell whether the canary decides it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CanaryKey {
    /// The session, or the request itself where it names none.
    #[default]
    Session,
    /// The tenant, or the request itself where it is unknown.
    Tenant,
    /// Each request for itself.
    Request,
}

/// When a canary is rolled back: as soon as some class's attainment under it is below the incumbent's by more than the
/// margin, with the confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guard {
    /// Points of attainment, 0 to 1.
    pub margin: f64,
    /// 0 to 1.
    pub confidence: f64,
    /// Requests of a class that each side has had before it is judged.
    pub min_requests: u64,
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
    /// Bounds on all requests together.
    pub limits: Limits,
    /// A candidate on probation.
    pub trial: Option<Trial>,
    /// What its clock is ahead of UTC, seconds.
    pub utc_offset_s: i32,
    /// Headers that its conditions read, in order, lower case.
    pub headers_read: Vec<String>,
    /// Whether any of its conditions reads the load of pools.
    pub reads_load: bool,
}

impl Policy {
    /// A class by name.
    pub fn class_by_name(&self, name: &str) -> Option<ClassId> {
        self.classes.iter().position(|class| class.name == name).map(ClassId)
    }
}
