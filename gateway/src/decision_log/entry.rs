//! What is written of a configuration set and of a decision. The order of the fields is the format: whoever changes it
//! raises `frame::VERSION`.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use pointsman_policies::attain::Part;
use pointsman_policies::digest::digest;
use pointsman_policies::facts::OwnedFacts;
use pointsman_policies::fleet::{EndpointState, Fleet, PoolFacts, Waiting};
use pointsman_policies::learned::Learned;
use serde::{Deserialize, Serialize};

use crate::record::{DecisionRecord, Outcome as RecordOutcome, Record};

/// Headers that prove who somebody is: their values are written nowhere, whatever a policy reads.
const CREDENTIALS: [&str; 9] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "api-key",
    "x-api-key",
    "x-pointsman-key",
    "x-goog-api-key",
    "x-amz-security-token",
];

/// Stands for the value of a header that is not written.
pub const WITHHELD: &str = "[withheld]";

/// Whether the values of a header, by its lower-case name, are never written.
pub fn is_credential(name: &str) -> bool {
    CREDENTIALS.contains(&name)
}

/// A configuration set that decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Set {
    /// Its number in this file; decisions refer to it.
    pub number: u32,
    /// The generation it had.
    pub generation: u64,
    /// Hash of the three texts.
    pub hash: String,
    /// `NAME@GENERATION`.
    pub version: String,
    /// Text of the process file.
    pub process: String,
    /// Text of the portfolio file.
    pub portfolio: String,
    /// Text of the policy file.
    pub policy: String,
    /// What the decision knew of each pool: the portfolio's text with the hardware catalog of that time.
    pub pools: Vec<PoolFacts>,
}

impl Set {
    /// How many endpoints its pools have.
    pub fn endpoints(&self) -> usize {
        self.pools.iter().map(|pool| pool.endpoints.len()).sum()
    }

    /// The name of an endpoint by its index in the fleet view; empty where there is none.
    pub fn endpoint(&self, index: usize) -> &str {
        self.pools.iter().flat_map(|pool| &pool.endpoints).nth(index).map_or("", String::as_str)
    }
}

/// One decision and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The set that decided, by its number in this file.
    pub set: u32,
    /// When the request came, milliseconds since 1970.
    pub unix_ms: u64,
    /// The request's id.
    pub request_id: RequestId,
    /// The trace it belongs to.
    pub trace_id: [u8; 16],
    /// What was known of it.
    pub facts: OwnedFacts,
    /// Endpoints that were not idle and ready, with their index in the fleet view.
    pub busy: Vec<(u32, EndpointState)>,
    /// What the gateway held.
    pub waiting: Vec<Waiting>,
    /// What had been learned. In a file it stands only where it differs from the decision before it in the frame, and
    /// nothing has been learned before the first.
    pub learned: Option<Arc<Learned>>,
    /// The random number that the decision was given.
    pub draw: u64,
    /// What was decided.
    pub decided: Decided,
    /// What came of it.
    pub outcome: Outcome,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// Index of the class.
    pub class: u32,
    /// Index of the route.
    pub route: u32,
    /// The endpoint to be asked first; `None` where every one was rejected.
    pub first: Option<u32>,
    /// Fingerprint of all of it, every candidate's numbers included.
    pub digest: u64,
}

/// What came of it. Times and sums are rounded to seven digits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// How it ended.
    pub ended: Ended,
    /// HTTP status of the answer to the client.
    pub status: u16,
    /// Attempts made.
    pub attempts: u8,
    /// The endpoint that answered, by its index in the fleet view.
    pub answered: Option<u32>,
    /// Time to first token, milliseconds.
    pub ttft_ms: Option<f32>,
    /// Time per output token after the first, milliseconds.
    pub itl_ms: Option<f32>,
    /// Time to the end, milliseconds.
    pub total_ms: f32,
    /// Prompt and answer as the machine counted them, tokens.
    pub tokens: Option<(u64, u64)>,
    /// What it cost, US dollars.
    pub usd: f32,
    /// What it took, joules.
    pub joules: Option<f32>,
    /// Parts of the promise that were judged: 1 first token, 2 pace, 4 deadline.
    pub judged: u8,
    /// Of those, the ones that were kept.
    pub kept: u8,
    /// Whether the promise was kept as a whole; `None` where the client's own doing left nothing to judge.
    pub attained: Option<bool>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// Answered whole.
    Answered,
    /// Refused by the gateway.
    Refused,
    /// A machine called it the caller's mistake.
    CallersMistake,
    /// The client left before the end.
    ClientLeft,
    /// The answer broke off.
    Broken,
    /// The client took its answer too slowly and was cut.
    ClientSlow,
}

/// A request's id: the gateway's own take half the room.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RequestId {
    /// `req_` and 32 hexadecimal digits.
    Own([u8; 16]),
    /// The caller's.
    Given(String),
}

impl RequestId {
    fn new(text: &str) -> RequestId {
        let digits = text.strip_prefix("req_").filter(|digits| digits.len() == 32);
        let own = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok());
        match own.map(|number| RequestId::Own(number.to_be_bytes())).filter(|own| own.to_string() == text) {
            Some(own) => own,
            None => RequestId::Given(text.to_owned()),
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestId::Own(bytes) => write!(f, "req_{:032x}", u128::from_be_bytes(*bytes)),
            RequestId::Given(text) => f.write_str(text),
        }
    }
}

impl Decision {
    /// What is kept of a record; `None` if nothing was decided. `set` is the number of its set in the file.
    pub fn of(record: &Record, set: u32) -> Option<Decision> {
        let made = record.decision.as_ref()?;
        let states = made.endpoints.states();
        let again = made.again(&states);
        let unix = record.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Some(Decision {
            set,
            unix_ms: unix.as_millis() as u64,
            request_id: RequestId::new(&record.request_id),
            trace_id: record.trace.trace_id.to_be_bytes(),
            facts: without_credentials(&made.facts),
            busy: busy(&states),
            waiting: made.waiting.clone(),
            learned: Some(Arc::clone(&made.learned)).filter(|learned| **learned != Learned::default()),
            draw: made.draw,
            decided: Decided {
                class: made.class.0 as u32,
                route: made.route as u32,
                first: made.plan.as_ref().and_then(|plan| plan.attempts.first()).map(|first| first.endpoint as u32),
                digest: digest(made.class, made.route, &again.candidates, made.plan.as_ref()),
            },
            outcome: Outcome::of(record, made),
        })
    }

    /// The machines of its set, in these states, with what was learned and held then.
    pub fn fleet<'a>(&'a self, pools: &'a [PoolFacts], endpoints: &'a [EndpointState]) -> Fleet<'a> {
        let learned = self.learned.as_deref().unwrap_or(Learned::nothing());
        Fleet { learned, waiting: &self.waiting, ..Fleet::new(pools, endpoints) }
    }

    /// Writes the state of every endpoint of its set into `states`.
    pub fn states(&self, set: &Set, states: &mut Vec<EndpointState>) {
        states.clear();
        let pools = set.pools.iter().enumerate();
        states.extend(pools.flat_map(|(index, pool)| pool.endpoints.iter().map(move |_| EndpointState::idle(index))));
        for (index, state) in &self.busy {
            if let Some(slot) = states.get_mut(*index as usize) {
                *slot = *state;
            }
        }
    }
}

impl Outcome {
    fn of(record: &Record, made: &DecisionRecord) -> Outcome {
        let answered = record.endpoint().map(|attempt| &attempt.endpoint);
        let answered = answered.and_then(|id| made.snapshot.targets().position(|target| target.endpoint.id == *id));
        let bit = |part| match part {
            Part::Ttft => 1,
            Part::Itl => 2,
            Part::Deadline => 4,
        };
        let results = record.slo_results();
        let bits = |parts: &mut dyn Iterator<Item = &(Part, bool)>| parts.fold(0, |bits, (part, _)| bits | bit(*part));
        Outcome {
            ended: match record.outcome {
                RecordOutcome::Answered => Ended::Answered,
                RecordOutcome::Refused(_) => Ended::Refused,
                RecordOutcome::CallersMistake(_) => Ended::CallersMistake,
                RecordOutcome::ClientLeft => Ended::ClientLeft,
                RecordOutcome::Broken(_) => Ended::Broken,
                RecordOutcome::ClientSlow => Ended::ClientSlow,
            },
            status: record.status,
            attempts: record.attempts.len().min(usize::from(u8::MAX)) as u8,
            answered: answered.map(|index| index as u32),
            ttft_ms: record.ttft_ms().map(|ms| ms as f32),
            itl_ms: record.itl_ms().map(|ms| ms as f32),
            total_ms: (record.ended_at.as_secs_f64() * 1e3) as f32,
            tokens: record.usage.map(|usage| (usage.input_tokens, usage.output_tokens)),
            usd: record.usd as f32,
            joules: record.joules.map(|joules| joules as f32),
            judged: bits(&mut results.iter()),
            kept: bits(&mut results.iter().filter(|(_, kept)| *kept)),
            attained: record.attained(),
        }
    }
}

fn without_credentials(facts: &OwnedFacts) -> OwnedFacts {
    let mut facts = facts.clone();
    for (name, value) in &mut facts.headers {
        if is_credential(name) {
            WITHHELD.clone_into(value);
        }
    }
    facts
}

fn busy(endpoints: &[EndpointState]) -> Vec<(u32, EndpointState)> {
    let states = endpoints.iter().enumerate();
    // What an idle endpoint would be sent at once decides nothing.
    let idle = |state: &EndpointState| EndpointState { window: state.window, ..EndpointState::idle(state.pool) };
    let busy = states.filter(|(_, state)| **state != idle(state));
    busy.map(|(index, state)| (index as u32, *state)).collect()
}
