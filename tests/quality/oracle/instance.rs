//! The problem as the oracle sees it: machines that are alike counted together, requests with everything that a router
//! can only guess.

use std::collections::HashSet;

use pointsman::simulation::machine::profile;
use pointsman::simulation::router::BLOCK_TOKENS;
use pointsman::simulation::workload::{Request, Workload};
use pointsman::simulation::world::Setup;
use pointsman_backends::lease::RateLimits;
use pointsman_backends::simulators::profile::Profile;
use pointsman_policies::fleet::Price;
use pointsman_policies::policy::Slo;
use pointsman_policies::units::Micros;

/// A promise kept is worth this many times what the request costs in the dearest pool that serves it: keeping a promise
/// always pays, and keeping it cheaply pays more.
pub const VALUE_OVER_PRICE: f64 = 4.0;

/// Machines that can stand in for each other.
#[derive(Clone, Debug)]
pub struct Machines {
    /// What each is.
    pub profile: Profile,
    /// How many there are.
    pub count: usize,
    /// Their provider's limits on all of them together.
    pub limits: RateLimits,
    /// What tokens cost there.
    pub price: Price,
    /// To the machine and back, milliseconds.
    pub round_trip_ms: f64,
}

impl Machines {
    /// What a request costs there, US dollars.
    pub fn usd(&self, ask: &Ask) -> f64 {
        let input = ask.input_tokens as f64 * self.price.usd_per_m_input;
        let output = ask.output_tokens as f64 * self.price.usd_per_m_output;
        (input + output) / 1e6
    }
}

/// A request with what only the end tells.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// When it arrives.
    pub at: Micros,
    /// Length of the prompt, tokens.
    pub input_tokens: u64,
    /// Of these, tokens that no machine can have in memory already.
    pub uncached_tokens: u64,
    /// Length of the answer, tokens.
    pub output_tokens: u64,
    /// What it is promised.
    pub slo: Slo,
    /// Whether the answer is streamed: what is promised to whole answers is told at
    /// [`parts_kept`](pointsman_policies::attain::parts_kept).
    pub streamed: bool,
}

impl Ask {
    /// The whole answer must be there within this many milliseconds; infinite where nothing says so.
    pub fn whole_within_ms(&self) -> f64 {
        let deadline_ms = self.slo.deadline_ms.unwrap_or(f64::INFINITY);
        let promised_ms = match (self.slo.ttft_ms, self.slo.itl_ms) {
            (Some(ttft_ms), Some(itl_ms)) => ttft_ms + itl_ms * self.gaps(),
            (Some(ttft_ms), None) if !self.streamed => ttft_ms,
            _ => f64::INFINITY,
        };
        deadline_ms.min(promised_ms)
    }

    /// The first token must be there within this many milliseconds; infinite where nothing says so.
    pub fn first_within_ms(&self) -> f64 {
        let streamed_ms = self.slo.ttft_ms.filter(|_| self.streamed).unwrap_or(f64::INFINITY);
        streamed_ms.min(self.whole_within_ms())
    }

    /// The mean time between tokens may be at most this many milliseconds; infinite where nothing says so.
    pub fn gap_within_ms(&self) -> f64 {
        self.slo.itl_ms.filter(|_| self.streamed && self.output_tokens > 1).unwrap_or(f64::INFINITY)
    }

    /// Times between tokens that the answer has.
    pub fn gaps(&self) -> f64 {
        self.output_tokens.saturating_sub(1) as f64
    }
}

/// Machines and requests together.
#[derive(Clone, Debug, Default)]
pub struct Instance {
    /// Machines, pool by pool.
    pub machines: Vec<Machines>,
    /// Requests, in order of arrival.
    pub asks: Vec<Ask>,
}

impl Instance {
    /// What is simulated, as the oracle sees it.
    pub fn of(setup: &Setup<'_>, workload: &Workload) -> Instance {
        let portfolio = setup.portfolio;
        let machines = portfolio.facts.iter().zip(&portfolio.pools).map(|(facts, pool)| Machines {
            profile: profile(facts),
            count: facts.endpoints.len(),
            limits: pool.limits.unwrap_or_default(),
            price: facts.model(setup.model).map(|model| model.price).unwrap_or_default(),
            round_trip_ms: facts.round_trip_ms,
        });
        let promise = |name: &String| {
            let class = setup.policy.class_by_name(name).and_then(|class| setup.policy.classes.get(class.0));
            class.map_or(Slo::default(), |class| class.slo)
        };
        let promises: Vec<Slo> = workload.classes.iter().map(promise).collect();
        let mut met: HashSet<u64> = HashSet::new();
        let ask = |request: &Request| {
            let prefix = workload.prefix(request);
            let known = prefix.iter().take_while(|block| met.contains(*block)).count() as u64;
            met.extend(prefix);
            let input_tokens = u64::from(request.input_tokens);
            let cached_tokens = (known * BLOCK_TOKENS).min(input_tokens);
            Ask {
                at: request.at,
                input_tokens,
                uncached_tokens: input_tokens - cached_tokens,
                output_tokens: u64::from(request.output_tokens).max(1),
                slo: promises[usize::from(request.class)],
                streamed: request.stream,
            }
        };
        Instance { machines: machines.collect(), asks: workload.requests.iter().map(ask).collect() }
    }

    /// What it is worth to keep the promise of a request, US dollars.
    pub fn value_usd(&self, ask: &Ask) -> f64 {
        VALUE_OVER_PRICE * self.machines.iter().map(|machines| machines.usd(ask)).fold(0.0, f64::max)
    }
}
