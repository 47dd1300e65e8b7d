//! A decision as it is kept: what it was made of, and what it came to. The reasons for and against every machine follow
//! from that; whoever wants to know has it made again.

use std::sync::Arc;

use pointsman_backends::fleet::{Dispatched, Seen};
use pointsman_backends::inflight::Work;
use pointsman_backends::lease::Shortage;
use pointsman_policies::decide::{Candidate, Decision, Request, decide};
use pointsman_policies::facts::OwnedFacts;
use pointsman_policies::fleet::{EndpointState, Fleet, Waiting};
use pointsman_policies::learned::{Learned, Margin};
use pointsman_policies::mechanisms::Mechanisms;
use pointsman_policies::plan::Plan;
use pointsman_policies::policy::ClassId;
use pointsman_policies::prefix::Prefix;
use pointsman_policies::trial::Arm;
use pointsman_policies::units::Micros;

use crate::snapshot::{Deciding, Snapshot};

/// The decision as it was made, with names instead of indices.
#[derive(Clone, Debug)]
pub struct DecisionRecord {
    /// The generation that decided.
    pub snapshot: Arc<Snapshot>,
    /// Which of its policies: the one in force, or the candidate on trial.
    pub arm: Arm,
    /// What it takes into account: everything, but in studies.
    pub mechanisms: Mechanisms,
    /// What was known of the request, with the headers that these policies read.
    pub facts: OwnedFacts,
    /// How its prompt begins.
    pub prefix: Arc<Prefix>,
    /// Its class.
    pub class: ClassId,
    /// What was known of the endpoints, in the order of the snapshot's.
    pub endpoints: Seen,
    /// What had been learned of the machines.
    pub learned: Arc<Learned>,
    /// What the gateway held.
    pub waiting: Vec<Waiting>,
    /// The random number that the decision was given.
    pub draw: u64,
    /// The route that matched.
    pub route: usize,
    /// What was found of the endpoints that the plan names. Of the others it is found again where somebody asks: a
    /// thousand machines would make each record a tenth of a megabyte.
    pub planned: Vec<Planned>,
    /// What was to be attempted; `None` where every endpoint was rejected.
    pub plan: Option<Plan>,
}

/// An endpoint that a plan names.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// What was found of it.
    pub candidate: Candidate,
    /// How it was.
    pub state: EndpointState,
}

/// The size of a request as an endpoint will see it, with the pace that is planned.
pub fn work(facts: &OwnedFacts, itl_ms: Option<f64>, planned: Option<Planned>) -> Work {
    let expected = planned.and_then(|planned| Some(planned.candidate.verdict.ok()?.estimate));
    Work {
        input_tokens: facts.input_tokens,
        cached_tokens: planned.map_or(0, |planned| planned.state.cached_tokens),
        output_tokens: facts.output_tokens,
        max_output_tokens: facts.max_output_tokens.unwrap_or(facts.output_tokens),
        itl_ms,
        read_in_ms: expected.filter(|_| !facts.stream).map(|expected| expected.ttft_ms),
    }
}

impl DecisionRecord {
    /// The policy that decided.
    pub fn deciding(&self) -> Deciding<'_> {
        self.snapshot.deciding(self.arm)
    }

    /// The size of the request as one endpoint will see it.
    pub fn work(&self, endpoint: usize) -> Work {
        let itl_ms = self.planned_itl_ms(endpoint, &self.learned);
        work(&self.facts, itl_ms, self.planned(endpoint).copied())
    }

    /// What predictions of its pace may come to at an endpoint without a broken promise, milliseconds per token; `None`
    /// where nothing is promised, or so much that the machine would not keep it for one request alone: a machine that gave
    /// way to those would serve one after the other, and still break the promise.
    pub fn planned_itl_ms(&self, endpoint: usize, learned: &Learned) -> Option<f64> {
        let pool = self.snapshot.target(endpoint)?.endpoint.pool;
        let (facts, pools) = (self.snapshot.portfolio.facts.get(pool)?, &self.snapshot.portfolio.facts);
        let class = self.deciding().policy.classes.get(self.class.0)?;
        let planned_ms = class.slo.itl_ms? * Margin::on(facts.kind, &learned.margins(&class.name)).itl;
        let alone_ms = Fleet { learned, ..Fleet::new(pools, &[]) }.service(pool)?.alone_itl_ms();
        (alone_ms <= planned_ms).then_some(planned_ms)
    }

    /// Sends it to one endpoint, which will then hold its prompt; `None` where there is no such endpoint.
    pub fn begin(&self, endpoint: usize, now: Micros) -> Option<Result<Dispatched, Shortage>> {
        self.begin_as(endpoint, self.work(endpoint), now)
    }

    /// The same, as the endpoint will see it by now.
    pub fn begin_as(&self, endpoint: usize, work: Work, now: Micros) -> Option<Result<Dispatched, Shortage>> {
        let begun = self.snapshot.target(endpoint)?.live.begin(now, work);
        Some(begun.map(|mut dispatched| {
            dispatched.reads(self.snapshot.prefixes(), &self.prefix, work.output_tokens);
            dispatched
        }))
    }

    /// What was found of an endpoint that the plan names.
    pub fn planned(&self, endpoint: usize) -> Option<&Planned> {
        self.planned.iter().find(|planned| planned.candidate.endpoint == endpoint)
    }

    /// The whole decision, every reason included: made again, of the same facts and the states of its `endpoints`, as it
    /// was made then.
    pub fn again(&self, states: &[EndpointState]) -> Decision {
        let facts = self.facts.facts();
        let Self { class, mechanisms, .. } = *self;
        let request = Request { policy: self.deciding().policy, facts: &facts, class, mechanisms };
        decide(&request, self.fleet(states), self.draw)
    }

    /// The machines as the decision saw them, with the states of its `endpoints`.
    pub fn fleet<'a>(&'a self, states: &'a [EndpointState]) -> Fleet<'a> {
        let (pools, names) = (&self.snapshot.portfolio.facts, self.snapshot.names());
        Fleet { pools, endpoints: states, learned: &self.learned, waiting: &self.waiting, cached: &[], names }
    }
}
