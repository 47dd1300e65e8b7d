//! One decision, explained: the class and the rule that gave it, the route, every candidate with its figures, every
//! rejection with the number that caused it, and what was to be attempted, or why nothing was. Made of what the decision
//! itself computed; nothing is decided here.

use serde::{Deserialize, Serialize};

use crate::classify::Classified;
use crate::decide::{Decision, Request, decide};
use crate::facts::{Facts, OwnedFacts};
use crate::fleet::Fleet;
use crate::learned::Known;
use crate::plan::Plan;
use crate::policy::{ClassId, Policy, Slo};
use crate::refusal::{Refusal, admit};

/// Candidates in words and figures.
mod candidate;
/// Why a price counts as more or less than it is.
mod price;
/// Class and route with the conditions they hang on.
mod condition;
/// Why it is held.
mod held;
/// The whole in one sentence.
mod verdict;
/// Figures as people read them.
mod figures;
/// As a terminal shows it.
mod text;

pub use candidate::{CandidateReason, RejectionReason, TermReason};
pub use condition::{ClassReason, ReadValue, RouteReason, Tested};
pub use text::Style;

/// Version of the shape; a reader that knows another must not guess.
pub const VERSION: u32 = 1;

/// Why a request was, or would be, treated as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// [`VERSION`].
    pub version: u32,
    /// The policy: its name, with the generation where a gateway decided.
    pub policy: String,
    /// The outcome in one sentence.
    pub verdict: String,
    /// Whose state of the machines it is: `live`, `as it was then`, or described.
    #[serde(default)]
    pub fleet: String,
    /// What was known of the request; headers are those the policy reads, without secrets.
    pub request: OwnedFacts,
    /// The random number, in decimal; as text, because it has 64 bits.
    pub draw: String,
    /// Its class; `null` where it was refused before it had one.
    pub class: Option<ClassReason>,
    /// Its route; `null` where it was refused before.
    pub route: Option<RouteReason>,
    /// Every endpoint that was weighed, in fleet order.
    pub candidates: Vec<CandidateReason>,
    /// Endpoints that were not, because enough others of their pool have less to do.
    #[serde(default, skip_serializing_if = "is_none")]
    pub not_weighed: usize,
    /// What is attempted; `null` where it is refused.
    pub plan: Option<PlanReason>,
    /// The refusal; `null` where there is a plan.
    pub refusal: Option<RefusalReason>,
    /// Where it comes from; `null` where it is only supposed.
    #[serde(default)]
    pub origin: Option<Origin>,
    /// What came of it; `null` where it is only supposed.
    #[serde(default)]
    pub outcome: Option<Outcome>,
}

/// The attempts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanReason {
    /// In order.
    pub attempts: Vec<AttemptReason>,
    /// The attempt that begins beside the first one where that is slow; `null` where none may.
    #[serde(default)]
    pub hedge: Option<HedgeReason>,
    /// Cut the answer this long after its first byte, milliseconds; by the process's limit where `null`.
    pub total_ms: Option<f64>,
    /// How it is held before the first attempt; `null` where it is sent at once.
    #[serde(default)]
    pub hold: Option<HoldReason>,
    /// The first attempt is made to learn how its machine serves, of which so much is known; `null` where it is made
    /// because it is best.
    #[serde(default)]
    pub explored: Option<Known>,
}

/// Why and how long a request is held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoldReason {
    /// The pool that it waits for.
    pub pool: String,
    /// Until there is room, as predicted, milliseconds.
    pub wait_ms: f64,
    /// How much later it may be sent with its promise still likely to be kept, milliseconds; negative where it is late.
    pub slack_ms: f64,
    /// Requests that wait for the same pool and go before it.
    pub ahead: u64,
    /// Of those, requests of a higher class.
    pub ahead_higher: u64,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptReason {
    /// The endpoint's name.
    pub endpoint: String,
    /// Its pool.
    pub pool: String,
    /// Given up when nothing has come within this many milliseconds.
    pub first_byte_ms: f64,
}

/// An attempt beside the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HedgeReason {
    /// The endpoint's name.
    pub endpoint: String,
    /// Its pool.
    pub pool: String,
    /// Begins when the first attempt has given nothing within this many milliseconds, if the route's budget has what it
    /// costs by then.
    pub after_ms: f64,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefusalReason {
    /// Stable code.
    pub code: String,
    /// What the caller is told.
    pub message: String,
    /// Told to come back after this long, milliseconds; `null` where waiting does not help.
    pub retry_in_ms: Option<f64>,
}

/// Where a decision comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// `x-request-id`.
    pub request_id: String,
    /// W3C trace id, 32 hexadecimal digits.
    pub trace_id: String,
    /// When it came, milliseconds since 1970.
    pub unix_ms: u64,
    /// The generation that decided.
    pub generation: u64,
    /// Hash of its files.
    pub hash: String,
}

/// What came of a decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// `answered`, `refused`, `callers-mistake`, `client-left`, `client-slow`, `broken`.
    pub outcome: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// The attempts that were made.
    pub attempts: Vec<AttemptOutcome>,
    /// Why there was no further one, where its route's budget for retries was used up; `null` elsewhere.
    #[serde(default)]
    pub not_retried: Option<String>,
    /// Why its stream, which broke, did not go on on another machine; `null` elsewhere.
    #[serde(default)]
    pub not_continued: Option<String>,
    /// How long it was held before the first, milliseconds; `null` where it was sent at once.
    #[serde(default)]
    pub queue_ms: Option<f64>,
    /// Observed time to first token, milliseconds.
    pub ttft_ms: Option<f64>,
    /// Observed time per output token, milliseconds.
    pub itl_ms: Option<f64>,
    /// Observed time to the whole answer, milliseconds.
    pub total_ms: f64,
    /// Tokens of the prompt, as the machine counted.
    pub input_tokens: Option<u64>,
    /// Tokens of the answer, as the machine counted.
    pub output_tokens: Option<u64>,
    /// Whether the gateway counted in its place, because it told nothing.
    #[serde(default)]
    pub usage_estimated: bool,
    /// Price, US dollars.
    pub usd: f64,
    /// Whether every part of the promise was kept; `null` where none applies.
    pub slo_met: Option<bool>,
    /// The parts of the promise that were missed.
    pub slo_missed: Vec<String>,
}

/// What came of one attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AttemptOutcome {
    /// The endpoint.
    pub endpoint: String,
    /// HTTP status, where there was one.
    pub status: Option<u16>,
    /// How long it took, milliseconds.
    pub ms: f64,
    /// Why it failed; `null` for the one that answered.
    pub failure: Option<String>,
}

/// What a decision reads.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// The rules.
    pub policy: &'a Policy,
    /// The request.
    pub facts: &'a Facts<'a>,
    /// The machines.
    pub fleet: Fleet<'a>,
    /// The random number.
    pub draw: u64,
}

/// What becomes of a request, from the first rule to the plan.
#[derive(Clone, Debug)]
pub enum Considered {
    /// Refused whatever the fleet does.
    Refused(Refusal),
    /// Decided: there may be no plan.
    Decided(Classified, Decision),
}

/// Classifies and decides.
pub fn consider(given: &Given<'_>) -> Considered {
    let Given { policy, facts, fleet, draw } = *given;
    match admit(policy, facts, fleet.pools) {
        Err(refusal) => Considered::Refused(refusal),
        Ok(classified) => {
            let request = Request::new(policy, facts, classified.class);
            Considered::Decided(classified, decide(&request, fleet, draw))
        }
    }
}

impl Explanation {
    /// Decides and explains.
    pub fn of(given: &Given<'_>) -> Explanation {
        match consider(given) {
            Considered::Refused(refusal) => Explanation::refused(given, &refusal),
            Considered::Decided(classified, decision) => Explanation::decided(given, classified, &decision),
        }
    }

    /// Explains a request that was refused before it had a class.
    pub fn refused(given: &Given<'_>, refusal: &Refusal) -> Explanation {
        let mut explanation = Explanation {
            version: VERSION,
            policy: given.policy.name.clone(),
            verdict: String::new(),
            fleet: String::new(),
            request: request(given),
            draw: given.draw.to_string(),
            class: None,
            route: None,
            candidates: Vec::new(),
            not_weighed: 0,
            plan: None,
            refusal: Some(RefusalReason::of(refusal)),
            origin: None,
            outcome: None,
        };
        explanation.verdict = verdict::verdict(&explanation);
        explanation
    }

    /// Explains a decision that was made of just this.
    pub fn decided(given: &Given<'_>, classified: Classified, decision: &Decision) -> Explanation {
        let names = Names::of(given.fleet);
        let refusal = Refusal::of(decision, given.policy, given.fleet.pools);
        let mut explanation = Explanation {
            class: condition::class(given, classified),
            route: condition::route(given, classified.class, decision.route),
            candidates: candidate::candidates(given, classified.class, decision, &names),
            not_weighed: given.fleet.endpoints.len().saturating_sub(decision.candidates.len()),
            plan: decision
                .plan
                .as_ref()
                .map(|plan| PlanReason::of(plan, &names, held::held(given, classified.class, decision))),
            refusal: refusal.as_ref().map(RefusalReason::of),
            ..Explanation::refused(given, &Refusal::NoPoolAllowed(String::new()))
        };
        explanation.verdict = verdict::verdict(&explanation);
        explanation
    }

    /// The endpoint that is asked first.
    pub fn first(&self) -> Option<&AttemptReason> {
        self.plan.as_ref()?.attempts.first()
    }

    /// A candidate by its endpoint's name.
    pub fn candidate(&self, endpoint: &str) -> Option<&CandidateReason> {
        self.candidates.iter().find(|candidate| candidate.endpoint == endpoint)
    }

    /// As a terminal shows it, at most 100 columns wide.
    pub fn render(&self, style: Style) -> String {
        text::render(self, style)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

impl RefusalReason {
    fn of(refusal: &Refusal) -> RefusalReason {
        RefusalReason {
            code: refusal.code().to_owned(),
            message: refusal.message(),
            retry_in_ms: refusal.retry_in_ms(),
        }
    }
}

impl PlanReason {
    fn of(plan: &Plan, names: &Names, hold: Option<HoldReason>) -> PlanReason {
        let attempts = plan.attempts.iter().map(|attempt| AttemptReason {
            endpoint: names.endpoint(attempt.endpoint),
            pool: names.pool(attempt.endpoint),
            first_byte_ms: attempt.first_byte_ms,
        });
        let hedge = plan.hedge.map(|hedge| HedgeReason {
            endpoint: names.endpoint(hedge.endpoint),
            pool: names.pool(hedge.endpoint),
            after_ms: hedge.after_ms,
        });
        PlanReason {
            attempts: attempts.collect(),
            hedge,
            total_ms: plan.total_ms,
            hold,
            explored: plan.explored.map(|one| one.known),
        }
    }
}

/// Names of endpoints and their pools, by index in the fleet view.
struct Names(Vec<(String, String)>);

impl Names {
    fn of(fleet: Fleet<'_>) -> Names {
        let mut counts = vec![0_usize; fleet.pools.len()];
        let name = |endpoint: &crate::fleet::EndpointState| {
            let Some((pool, count)) = fleet.pools.get(endpoint.pool).zip(counts.get_mut(endpoint.pool)) else {
                return (String::new(), String::new());
            };
            *count += 1;
            let unnamed = || format!("{}/{}", pool.name, *count);
            (pool.endpoints.get(*count - 1).cloned().unwrap_or_else(unnamed), pool.name.clone())
        };
        Names(fleet.endpoints.iter().map(name).collect())
    }

    fn endpoint(&self, index: usize) -> String {
        self.0.get(index).map(|names| names.0.clone()).unwrap_or_default()
    }

    fn pool(&self, index: usize) -> String {
        self.0.get(index).map(|names| names.1.clone()).unwrap_or_default()
    }
}

/// The facts, with the headers that the policy reads, and no secret among them.
fn request(given: &Given<'_>) -> OwnedFacts {
    let read = given.policy.headers_read.iter().map(String::as_str);
    let mut facts = OwnedFacts::of(given.facts, read);
    for (name, value) in &mut facts.headers {
        if crate::language::is_secret(name) {
            *value = "…".to_owned();
        }
    }
    facts
}

/// The promise to one request of a class.
fn promise(given: &Given<'_>, class: ClassId) -> Slo {
    crate::decide::slo(given.policy.classes.get(class.0), given.facts)
}
