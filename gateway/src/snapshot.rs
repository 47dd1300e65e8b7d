//! One immutable view of everything a request needs, swapped whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use pointsman_backends::fleet::{Fleet, Live, Seen, View};
use pointsman_backends::portfolio::{Endpoint, Pool, Portfolio};
use pointsman_backends::prefixes::Prefixes;
use pointsman_policies::facts::Facts;
use pointsman_policies::fleet::{Cached, EndpointState, PoolFacts};
use pointsman_policies::home::name_hash;
use pointsman_policies::learned::Learned;
use pointsman_policies::policy::Policy;
use pointsman_policies::prefix::Prefix;
use pointsman_policies::trial::Arm;
use pointsman_policies::units::Micros;
use serde_json::json;

use crate::config::candidate::Candidate;
use crate::config::process::Process;
use crate::config::set::{ConfigSet, Texts};
use crate::trial::Trial;

/// Names the class: the caller's wish in a request, the outcome in an answer.
pub const CLASS_HEADER: HeaderName = HeaderName::from_static(CLASS_HEADER_NAME);
/// The same as text.
pub const CLASS_HEADER_NAME: &str = "x-pointsman-class";
/// Names policy and generation in an answer, `NAME@GENERATION`.
pub const POLICY_HEADER: HeaderName = HeaderName::from_static("x-pointsman-policy");
/// Names the endpoint that answered.
pub const ENDPOINT_HEADER: HeaderName = HeaderName::from_static("x-pointsman-endpoint");
/// Counts the attempts.
pub const ATTEMPTS_HEADER: HeaderName = HeaderName::from_static("x-pointsman-attempts");

/// A generation: process, portfolio and policy as they were when it was built.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts from 1.
    pub generation: u64,
    /// Hash of the three files.
    pub hash: String,
    /// The process.
    pub process: Process,
    /// The machines.
    pub portfolio: Arc<Portfolio>,
    /// The rules.
    pub policy: Arc<Policy>,
    /// The candidate that the policy names, tried or not.
    pub candidate: Option<Candidate>,
    /// The trial of it, as long as it was not rolled back.
    pub trial: Option<Arc<Trial>>,
    /// Headers that the policies read, in order, lower case.
    pub headers_read: Vec<String>,
    /// What they were read from.
    pub texts: Texts,
    /// `NAME@GENERATION`.
    pub version: Arc<str>,
    /// The same, as `x-pointsman-policy`.
    pub version_header: HeaderValue,
    /// The names of the policy's classes, as records keep them.
    pub class_names: Vec<Arc<str>>,
    /// Every model name once, in order.
    pub models: Vec<String>,
    /// The answer to `GET /v1/models`.
    pub model_list: Bytes,
    live: Vec<Arc<Live>>,
    names: Vec<u64>,
    pool_names: Vec<Arc<str>>,
    /// Which endpoint has the cache of a number.
    caches: Vec<Option<u32>>,
    view: Mutex<View>,
    prefixes: Arc<Prefixes>,
    pool_numbers: Vec<usize>,
    learned: ArcSwap<Learned>,
}

/// A policy, under the name by which it decides.
#[derive(Clone, Copy, Debug)]
pub struct Deciding<'a> {
    /// The rules.
    pub policy: &'a Arc<Policy>,
    /// Their text.
    pub text: &'a str,
    /// `NAME@GENERATION`, with `+canary` for a candidate.
    pub version: &'a Arc<str>,
    /// The same, as `x-pointsman-policy`.
    pub version_header: &'a HeaderValue,
    /// The names of its classes, as records keep them.
    pub class_names: &'a [Arc<str>],
}

/// An endpoint with everything needed to call it.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// What policies know of its pool.
    pub facts: &'a PoolFacts,
    /// Its pool.
    pub pool: &'a Pool,
    /// Its address.
    pub endpoint: &'a Endpoint,
    /// Its live state.
    pub live: &'a Arc<Live>,
    /// The name of its pool, as records keep it.
    pub pool_name: &'a Arc<str>,
}

impl Snapshot {
    /// Builds a generation on the fleet's live endpoints.
    pub fn build(generation: u64, set: ConfigSet, trial: Option<Arc<Trial>>, fleet: &Fleet) -> Snapshot {
        let ConfigSet { process, portfolio, policy, candidate, texts, hash } = set;
        let version = format!("{}@{generation}", policy.name);
        let version_header = HeaderValue::try_from(&version).unwrap_or(HeaderValue::from_static("policy"));
        let models = model_names(&portfolio);
        let model_list = Bytes::from(model_list(&models).to_string());
        let live = fleet.adopt(&portfolio);
        let pools = portfolio.endpoints.iter().map(|endpoint| endpoint.pool);
        let view = View::new(live.iter().cloned().zip(pools));
        let pool_numbers = fleet.pool_numbers(&portfolio);
        let names = portfolio.facts.iter().flat_map(|pool| &pool.endpoints).map(|name| name_hash(name)).collect();
        let version = version.into();
        let class_names = class_names(&policy);
        let pool_names = portfolio.facts.iter().map(|pool| pool.name.as_str().into()).collect();
        let headers_read = headers_read(&policy, trial.as_deref());
        Snapshot {
            generation,
            hash,
            process,
            portfolio,
            policy,
            candidate,
            trial,
            headers_read,
            texts,
            version,
            version_header,
            class_names,
            pool_names,
            models,
            model_list,
            view: Mutex::new(view),
            names,
            caches: caches(&live),
            live,
            prefixes: Arc::clone(fleet.prefixes()),
            pool_numbers,
            learned: ArcSwap::from_pointee(Learned::default()),
        }
    }

    /// What it was built from, for a generation that differs in nothing that is read from files.
    pub fn set(&self) -> ConfigSet {
        ConfigSet {
            process: self.process.clone(),
            portfolio: Arc::clone(&self.portfolio),
            policy: Arc::clone(&self.policy),
            candidate: self.candidate.clone(),
            texts: self.texts.clone(),
            hash: self.hash.clone(),
        }
    }

    /// Who decides a request.
    pub fn arm(&self, facts: &Facts<'_>, request_id: &str) -> Arm {
        self.trial.as_ref().map_or(Arm::Incumbent, |trial| trial.arm(facts, request_id))
    }

    /// The policy of an arm.
    pub fn deciding(&self, arm: Arm) -> Deciding<'_> {
        match (&self.trial, arm) {
            (Some(trial), Arm::Candidate) => Deciding {
                policy: &trial.candidate.policy,
                text: &trial.candidate.text,
                version: &trial.version,
                version_header: &trial.version_header,
                class_names: &trial.class_names,
            },
            _ => Deciding {
                policy: &self.policy,
                text: &self.texts.policy.text,
                version: &self.version,
                version_header: &self.version_header,
                class_names: &self.class_names,
            },
        }
    }

    /// An endpoint by its index in the fleet view.
    pub fn target(&self, endpoint: usize) -> Option<Target<'_>> {
        let live = self.live.get(endpoint)?;
        let endpoint = self.portfolio.endpoints.get(endpoint)?;
        let pool = self.portfolio.pools.get(endpoint.pool)?;
        let facts = self.portfolio.facts.get(endpoint.pool)?;
        let pool_name = self.pool_names.get(endpoint.pool)?;
        Some(Target { facts, pool, endpoint, live, pool_name })
    }

    /// Every endpoint in order.
    pub fn targets(&self) -> impl Iterator<Item = Target<'_>> {
        (0..self.live.len()).filter_map(|index| self.target(index))
    }

    /// What a pool is known by in every generation that has it.
    pub fn pool_number(&self, pool: usize) -> Option<usize> {
        self.pool_numbers.get(pool).copied()
    }

    /// The pool of this generation that a number stands for.
    pub fn pool_of(&self, number: usize) -> Option<usize> {
        self.pool_numbers.iter().position(|known| *known == number)
    }

    /// What has been learned of the machines.
    pub fn learned(&self) -> Arc<Learned> {
        self.learned.load_full()
    }

    /// Puts in place what has been learned, in the order of this generation's pools and classes. `change` may run more
    /// than once where others put in place what they have learned at the same moment.
    pub fn learn(&self, change: impl Fn(&mut Learned)) {
        self.learned.rcu(|learned| {
            let mut learned = Learned::clone(learned);
            change(&mut learned);
            learned
        });
    }

    /// The state of every endpoint now, in order.
    pub fn endpoint_states(&self, now: Micros) -> Vec<EndpointState> {
        self.view.lock().look(now).to_vec()
    }

    /// The same, with what is to be remembered of it. Nothing is copied as long as nobody else still decides.
    pub fn see(&self, now: Micros) -> (Arc<Vec<EndpointState>>, Seen) {
        let mut view = self.view.lock();
        let states = Arc::clone(view.look(now));
        (states, view.seen())
    }

    /// The same for one prompt.
    pub fn endpoint_states_for(&self, now: Micros, prefix: &Prefix, input_tokens: u64) -> Vec<EndpointState> {
        let mut states = self.endpoint_states(now);
        for cached in self.cached(prefix, input_tokens) {
            if let Some(state) = states.get_mut(cached.endpoint) {
                state.cached_tokens = cached.tokens;
            }
        }
        states
    }

    /// Who is believed to have some of a prompt in its cache, in order.
    pub fn cached(&self, prefix: &Prefix, input_tokens: u64) -> Vec<Cached> {
        self.prefixes.held(prefix, input_tokens, |number| {
            let place = self.caches.get(number as usize).copied().flatten()? as usize;
            Some((place, self.live.get(place)?.cache()))
        })
    }

    /// The names of the endpoints as homes are found by them.
    pub fn names(&self) -> &[u64] {
        &self.names
    }

    /// What endpoints have in their prefix caches.
    pub fn prefixes(&self) -> &Arc<Prefixes> {
        &self.prefixes
    }

    /// The answer to `GET /v1/models` for a caller that may ask for some of them.
    pub fn models_where(&self, allowed: impl Fn(&str) -> bool) -> Bytes {
        Bytes::from(model_list(self.models.iter().filter(|name| allowed(name))).to_string())
    }

    /// Whether any pool serves a model.
    pub fn serves(&self, model: &str) -> bool {
        self.models.binary_search_by(|known| known.as_str().cmp(model)).is_ok()
    }
}

fn caches(live: &[Arc<Live>]) -> Vec<Option<u32>> {
    let mut caches = Vec::new();
    for (place, live) in (0..).zip(live) {
        let number = live.cache().number() as usize;
        caches.resize(caches.len().max(number + 1), None);
        caches.get_mut(number).into_iter().for_each(|cache| *cache = Some(place));
    }
    caches
}

/// The names of a policy's classes, as records keep them.
pub fn class_names(policy: &Policy) -> Vec<Arc<str>> {
    policy.classes.iter().map(|class| class.name.as_str().into()).collect()
}

fn headers_read(policy: &Policy, trial: Option<&Trial>) -> Vec<String> {
    let candidate = trial.map(|trial| &trial.candidate.policy.headers_read);
    let names: BTreeSet<&String> = policy.headers_read.iter().chain(candidate.into_iter().flatten()).collect();
    names.into_iter().cloned().collect()
}

fn model_names(portfolio: &Portfolio) -> Vec<String> {
    let mut names: Vec<String> =
        portfolio.facts.iter().flat_map(|pool| pool.models.iter().map(|model| model.name.clone())).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// One model as the OpenAI API describes it. The gateway does not know when a model was made, so `created` is 0.
pub fn model_entry(name: &str) -> serde_json::Value {
    json!({ "id": name, "object": "model", "created": 0, "owned_by": "pointsman" })
}

fn model_list<'m>(models: impl IntoIterator<Item = &'m String>) -> serde_json::Value {
    let entries: Vec<_> = models.into_iter().map(|name| model_entry(name)).collect();
    json!({ "object": "list", "data": entries })
}
