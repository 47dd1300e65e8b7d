//! What the gateway learns while it works. The pipeline tells it in real time, the simulation in virtual time; nothing
//! here reads a clock. Every event takes one short lock; what decisions read is published twice a second.

/// What a served request teaches.
pub mod served;
/// What outlives the process.
pub mod file;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use pointsman_backends::fleet::Flight;
use pointsman_backends::learn::Learner;
use pointsman_backends::learn::bytes_per_token::Content;
use pointsman_backends::learn::observation::{Factors, Observation, Predicted};
use pointsman_backends::learn::output_length::{Asked, OutputLength};
use pointsman_policies::classify::classify;
use pointsman_policies::facts::Facts;
use pointsman_policies::fleet::PoolFacts;
use pointsman_policies::learned::Learned;
use pointsman_policies::mechanisms::Mechanisms;
use pointsman_policies::policy::{Class, Policy, Slo};
use pointsman_policies::units::Micros;

use crate::pipeline::Supposed;
use crate::record::DecisionRecord;
use crate::snapshot::Snapshot;

/// What was learned reaches decisions after this long at the latest, as long as there is traffic. It changes over many
/// requests; what changes in a moment is each endpoint's own and is told at once.
const PUBLISH_EVERY: Micros = Micros(500_000);

/// The learner and what of it is in force.
#[derive(Debug, Default)]
pub struct Learning {
    state: Mutex<State>,
    /// When decisions are told next; microseconds.
    due: AtomicU64,
    /// Whether something was learned that is not saved.
    unsaved: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    learner: Learner,
    /// The generation whose pools and classes it has adopted.
    generation: u64,
}

/// A request on the endpoint that answers it.
#[derive(Clone, Copy, Debug)]
pub struct Answering<'a> {
    /// The generation in force, which is told what is learned.
    pub snapshot: &'a Snapshot,
    /// The decision that sent it.
    pub made: &'a DecisionRecord,
    /// The endpoint, by its index in that decision.
    pub endpoint: usize,
    /// What happened to it there.
    pub flight: Flight,
    /// Whether it was tried elsewhere before: its prediction is then older than its attempt.
    pub retried: bool,
    /// Whether the answer is streamed.
    pub streamed: bool,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ending {
    /// When its last token came.
    pub last_token: Micros,
    /// Prompt tokens, as the machine counted them.
    pub input_tokens: u64,
    /// Of these, tokens from its prefix cache.
    pub cached_tokens: u64,
    /// Answer tokens, as the machine counted them; `None` where it did not tell.
    pub output_tokens: Option<u64>,
    /// Whether it ended by itself, one answer to one prompt, so that its length says something of the next.
    pub whole: bool,
}

impl Learning {
    /// Knows nothing, and learns with these mechanisms.
    pub fn new(mechanisms: Mechanisms) -> Learning {
        let state = State { learner: Learner::new(mechanisms), generation: 0 };
        Learning { state: Mutex::new(state), ..Learning::default() }
    }

    /// The learner itself; for saving, loading and showing.
    pub fn learner(&self) -> impl std::ops::DerefMut<Target = Learner> + '_ {
        MutexGuard::map(self.state.lock(), |state| &mut state.learner)
    }

    /// A new generation is in force: what is known of its pools and classes, those of a candidate included, counts for it
    /// from now on.
    pub fn adopt(&self, snapshot: &Snapshot) {
        let mut state = self.state.lock();
        let tried = snapshot.trial.iter().flat_map(|trial| &trial.candidate.policy.classes);
        state.learner.adopt(&snapshot.portfolio.facts, snapshot.policy.classes.iter().chain(tried));
        state.generation = snapshot.generation;
        publish(&state, snapshot);
        for target in snapshot.targets() {
            let endpoint = state.learner.endpoint(target.endpoint.id.as_str());
            target.live.set_hidden(endpoint.and_then(|endpoint| state.learner.hidden(endpoint)));
        }
    }

    /// Tokens expected of a text.
    pub fn tokens(&self, model: &str, tenant: &str, content: Content, bytes: u64) -> u64 {
        self.state.lock().learner.bytes_per_token.tokens(model, tenant, content, bytes)
    }

    /// A machine counted a prompt that was nothing but text.
    pub fn counted(&self, model: &str, tenant: &str, content: Content, bytes: u64, tokens: u64) {
        self.state.lock().learner.bytes_per_token.learn(model, tenant, content, bytes, tokens);
    }

    /// The same of a request that is only supposed, in all.
    pub fn prompt_tokens(&self, supposed: &Supposed) -> u64 {
        let (facts, text) = (&supposed.facts, &supposed.text);
        self.tokens(&facts.model, &facts.tenant, text.content, text.bytes).saturating_add(text.other_tokens)
    }

    /// The length of the answer to a request that is only supposed, tokens.
    pub fn answer_tokens(&self, policy: &Policy, facts: &Facts<'_>) -> u64 {
        let classified = classify(policy, facts).and_then(|classified| policy.classes.get(classified.class.0));
        let class = classified.map_or("", |class| class.name.as_str());
        let Facts { tenant, model, input_tokens, max_output_tokens, .. } = *facts;
        self.output_tokens(&Asked { tenant, model, class, input_tokens }, max_output_tokens).round() as u64
    }

    /// What decisions on pools read of it.
    pub fn learned(&self, pools: &[PoolFacts], classes: &[Class]) -> Learned {
        let mut state = self.state.lock();
        state.learner.adopt(pools, classes);
        let learner = &state.learner;
        Learned {
            services: learner.services().to_vec(),
            margins: learner.margins(),
            known: learner.known(),
            ..Learned::default()
        }
    }

    /// The mean of what is expected of an answer, tokens.
    pub fn output_tokens(&self, asked: &Asked<'_>, max_tokens: Option<u64>) -> f64 {
        self.state.lock().learner.output_lengths.mean(asked, max_tokens)
    }

    /// What is expected of an answer.
    pub fn output_length(&self, asked: &Asked<'_>, max_tokens: Option<u64>) -> OutputLength {
        self.state.lock().learner.output_lengths.expected(asked, max_tokens)
    }

    /// The first token of a stream came.
    pub fn first_token(&self, answering: &Answering<'_>, now: Micros) {
        if !answering.streamed {
            return;
        }
        let facts = &answering.made.facts;
        let cached_tokens = answering.made.work(answering.endpoint).cached_tokens;
        let ending = Ending { last_token: now, input_tokens: facts.input_tokens, cached_tokens, ..Ending::default() };
        self.observe(answering, &ending, now, Learner::observe_first_byte);
    }

    /// An answer came to its end.
    pub fn ended(&self, answering: &Answering<'_>, ending: &Ending, now: Micros) {
        self.observe(answering, ending, now, Learner::observe_end);
        let facts = &answering.made.facts;
        let class = answering.made.deciding().policy.classes.get(answering.made.class.0);
        if let (Some(output_tokens), Some(class), true) = (ending.output_tokens, class, ending.whole) {
            let asked = Asked {
                tenant: &facts.tenant,
                model: &facts.model,
                class: &class.name,
                input_tokens: facts.input_tokens,
            };
            self.state.lock().learner.output_lengths.learn(&asked, output_tokens);
        }
    }

    fn observe(&self, answering: &Answering<'_>, ending: &Ending, now: Micros, tell: fn(&mut Learner, &Observation)) {
        let Answering { snapshot, made, endpoint, .. } = answering;
        let Some(target) = made.snapshot.target(*endpoint) else { return };
        let mut state = self.state.lock();
        let Some(seen) = observation(&state.learner, answering, ending) else { return };
        let known = state.learner.known_of(seen.endpoint);
        tell(&mut state.learner, &seen);
        let news = state.learner.known_of(seen.endpoint) != known;
        self.unsaved.store(true, Ordering::Relaxed);
        target.live.set_hidden(state.learner.hidden(seen.endpoint));
        if (news || now.0 >= self.due.load(Ordering::Relaxed)) && state.generation == snapshot.generation {
            self.due.store((now + PUBLISH_EVERY).0, Ordering::Relaxed);
            publish(&state, snapshot);
        }
    }
}

fn publish(state: &State, snapshot: &Snapshot) {
    let learner = &state.learner;
    snapshot.learn(|learned| {
        learned.services = learner.services().to_vec();
        learned.margins = learner.margins();
        learned.known = learner.known();
    });
}

/// What the learner is told, with its own indices; `None` for endpoints and classes that are no more.
fn observation(learner: &Learner, answering: &Answering<'_>, ending: &Ending) -> Option<Observation> {
    let Answering { made, endpoint, flight, retried, streamed, .. } = *answering;
    let id = &made.snapshot.target(endpoint)?.endpoint.id;
    let class = made.deciding().policy.classes.get(made.class.0)?;
    let planned = made.planned(endpoint)?;
    let state = planned.state;
    let estimate = planned.candidate.verdict.ok().map(|told| told.estimate);
    // A prediction that was not made for this attempt is held to nothing.
    let slo = if retried || estimate.is_none() { Slo::default() } else { class.slo };
    let estimate = estimate.unwrap_or_default();
    Some(Observation {
        endpoint: learner.endpoint(id.as_str())?,
        class: learner.class(&class.name)?,
        streamed,
        waited_ms: made.facts.waited_ms,
        dispatched: flight.sent,
        first_byte: flight.first_token.unwrap_or(ending.last_token),
        last_byte: ending.last_token,
        input_tokens: ending.input_tokens,
        cached_tokens: ending.cached_tokens,
        output_tokens: ending.output_tokens.unwrap_or(0),
        at_dispatch: flight.at_dispatch,
        during: flight.during,
        predicted: Predicted {
            ttft_ms: estimate.ttft_ms,
            itl_ms: estimate.itl_ms,
            itl_planned_ms: estimate.itl_planned_ms(),
            total_ms: estimate.total_ms,
            factors: Factors { ttft: state.ttft_factor, itl: state.itl_factor },
        },
        slo,
    })
}
