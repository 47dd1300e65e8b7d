//! Learned models of the machines and of the work: pure state machines, the clock an argument, every event in constant
//! time, everything bounded, saved and loaded.
//!
//! ```text
//! usage   ──► bytes per token, output lengths ──► facts
//! streams ──► service models, hidden load     ──► estimates
//! promises kept and missed ──► margins        ──► what counts as feasible
//! ```

/// What one answered request tells.
pub mod observation;
/// What an endpoint carried between two moments.
pub mod meter;
/// Bytes of text to a token.
pub mod bytes_per_token;
/// How long an answer will be.
pub mod output_length;
/// Spreads of lengths.
mod sketch;
/// How the machines of a pool serve.
pub mod service;
/// Recursive least squares.
mod regression;
/// Slots of flat machines.
mod knee;
/// Load that nobody tells us of.
pub mod hidden_load;
/// How much of a bound may be planned with.
mod margins;
/// Whether machines have changed.
pub mod drift;
/// Maps that never grow past a bound.
mod bounded;
/// What outlives the process.
pub mod saved;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use pointsman_policies::fleet::{HardwareKind, PoolFacts, ServiceModel};
use pointsman_policies::learned::{ClassMargins, Known, Margin};
use pointsman_policies::mechanisms::Mechanisms;
use pointsman_policies::policy::Class;
use pointsman_policies::units::Micros;

use bytes_per_token::BytesPerToken;
use drift::{Drift, DriftTest, Drifts, Time};
use hidden_load::Hidden;
use margins::{Margins, Promise};
use observation::{Factors, Observation};
use output_length::OutputLengths;
use service::{Confidence, Residual, Service};

/// Pools and classes that are remembered though the portfolio does not have them now.
const MOST_AWAY: usize = 1_024;

/// So many answers tell how a pool serves.
const SEEN_ENOUGH: u32 = 16;
/// What was seen of a pool is old when nobody has used it for so long.
const LONG_UNHEARD: Micros = Micros::from_secs(60);

/// How far one observation moves the mean error of predictions: about the last fifty count.
const ERROR_STEP: f64 = 0.02;
/// Of errors that are normal on the logarithmic scale, the standard deviation over the mean without its sign.
const SIGMA_PER_MEAN_ERROR: f64 = 1.2533;

/// Everything learned. Pools, endpoints and classes are indices of what was last [adopted](Learner::adopt).
#[derive(Clone, Debug, Default)]
pub struct Learner {
    mechanisms: Mechanisms,
    /// How many bytes make a token.
    pub bytes_per_token: BytesPerToken,
    /// How long answers are.
    pub output_lengths: OutputLengths,
    pools: Vec<Pool>,
    endpoints: Vec<Endpoint>,
    by_name: HashMap<String, usize>,
    services: Vec<ServiceModel>,
    margins: Margins,
    drifts: Drifts,
    /// When the last observation of anything was.
    latest: Micros,
    /// Pools that the portfolio has no more, or not yet.
    away: BTreeMap<String, service::Saved>,
}

#[derive(Clone, Debug)]
struct Pool {
    name: String,
    kind: HardwareKind,
    service: Service,
    ttft_drift: DriftTest,
    itl_drift: DriftTest,
    ttft_error: Option<f64>,
    itl_error: Option<f64>,
    /// Answers since the beginning, or since it changed; counted as far as that matters.
    seen: u32,
    /// When the last was.
    heard: Micros,
}

#[derive(Clone, Debug)]
struct Endpoint {
    name: String,
    pool: usize,
    hidden: Hidden,
}

impl Learner {
    /// Knows nothing yet.
    pub fn new(mechanisms: Mechanisms) -> Learner {
        Learner { mechanisms, ..Learner::default() }
    }

    /// The pools of a portfolio and the classes of the policies that decide, from now on; names that are known keep what
    /// was learned. Policies that share the name of a class share its margins, calibrated for the first one's target.
    pub fn adopt<'c>(&mut self, pools: &[PoolFacts], classes: impl IntoIterator<Item = &'c Class>) {
        self.margins.adopt(classes.into_iter().map(|class| (class.name.as_str(), class.target)));
        let mut errors = HashMap::new();
        for pool in std::mem::take(&mut self.pools) {
            errors.insert(pool.name.clone(), (pool.ttft_error, pool.itl_error));
            self.away.insert(pool.name, pool.service.save());
        }
        let mut known: HashMap<String, Endpoint> =
            std::mem::take(&mut self.endpoints).into_iter().map(|endpoint| (endpoint.name.clone(), endpoint)).collect();
        for (at, facts) in pools.iter().enumerate() {
            let mut service = Service::new(facts);
            if let Some(saved) = self.away.remove(&facts.name) {
                service.restore(&saved);
            }
            let (ttft_error, itl_error) = errors.remove(&facts.name).unwrap_or_default();
            let (ttft_drift, itl_drift) = (DriftTest::default(), DriftTest::default());
            let confidence = service.confidence();
            let seen = confidence.first_tokens.saturating_add(confidence.streams).min(u64::from(SEEN_ENOUGH));
            self.pools.push(Pool {
                name: facts.name.clone(),
                kind: facts.kind,
                service,
                ttft_drift,
                itl_drift,
                ttft_error,
                itl_error,
                seen: seen as u32,
                heard: self.latest,
            });
            for name in &facts.endpoints {
                let new = || Endpoint { name: name.clone(), pool: at, hidden: Hidden::new(facts.kind) };
                let endpoint = known.remove(name).unwrap_or_else(new);
                self.endpoints.push(Endpoint { pool: at, ..endpoint });
            }
        }
        while self.away.len() > MOST_AWAY {
            self.away.pop_last();
        }
        self.by_name = self.endpoints.iter().enumerate().map(|(at, known)| (known.name.clone(), at)).collect();
        self.services = self.pools.iter().map(|pool| pool.told(self.mechanisms)).collect();
    }

    /// The index of an endpoint by its name.
    pub fn endpoint(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The index of a class by its name.
    pub fn class(&self, name: &str) -> Option<usize> {
        self.margins.class(name)
    }

    /// Takes in everything that an answered request tells.
    pub fn observe(&mut self, seen: &Observation) {
        self.observe_first_byte(seen);
        self.observe_end(seen);
    }

    /// Takes in what the first byte tells; nothing that comes later is read. What is heard at once is worth more, so
    /// this may be called long before [`observe_end`](Self::observe_end).
    pub fn observe_first_byte(&mut self, seen: &Observation) {
        let Some(endpoint) = self.endpoints.get_mut(seen.endpoint) else { return };
        let Some(pool) = self.pools.get_mut(endpoint.pool) else { return };
        follow(&mut pool.ttft_error, seen.ttft_ms(), seen.predicted.ttft_ms);
        if let Some(residual) = pool.service.learn_ttft(seen) {
            endpoint.hidden.ttft.learn(seen.first_byte, residual.log, residual.weight);
            if let Some(drift) = pool.drift(Time::Ttft, residual, seen.first_byte) {
                self.drifts.add(drift);
            }
        }
        self.calibrate_first_token(seen);
        self.refresh(seen.endpoint);
    }

    /// Takes in what the end tells.
    pub fn observe_end(&mut self, seen: &Observation) {
        let Some(endpoint) = self.endpoints.get_mut(seen.endpoint) else { return };
        let Some(pool) = self.pools.get_mut(endpoint.pool) else { return };
        self.latest = self.latest.max(seen.last_byte);
        (pool.heard, pool.seen) = (self.latest, (pool.seen + 1).min(SEEN_ENOUGH));
        follow(&mut pool.itl_error, seen.itl_ms(), seen.predicted.itl_ms);
        if let Some(residual) = pool.service.learn_itl(seen) {
            endpoint.hidden.itl.learn(seen.last_byte, residual.log, residual.weight);
            if let Some(drift) = pool.drift(Time::Itl, residual, seen.last_byte) {
                self.drifts.add(drift);
            }
        }
        self.calibrate_rest(seen);
        self.refresh(seen.endpoint);
    }

    /// The service model of each pool as learned, in the portfolio's order.
    pub fn services(&self) -> &[ServiceModel] {
        &self.services
    }

    /// How far predictions of a pool's times have been off lately: the mean of the logarithm of observed over predicted,
    /// without its sign.
    pub fn error(&self, pool: usize, time: Time) -> Option<f64> {
        let pool = self.pools.get(pool)?;
        match time {
            Time::Ttft => pool.ttft_error,
            Time::Itl => pool.itl_error,
        }
    }

    /// How well the way in which each pool serves is known; empty where all are known well.
    pub fn known(&self) -> Vec<Known> {
        let known: Vec<Known> = self.pools.iter().map(|pool| pool.known(self.latest)).collect();
        let doubts = self.mechanisms.services && known.iter().any(|known| *known != Known::Well);
        if doubts { known } else { Vec::new() }
    }

    /// The same of the pool of one endpoint.
    pub fn known_of(&self, endpoint: usize) -> Known {
        let pool = self.endpoints.get(endpoint).and_then(|endpoint| self.pools.get(endpoint.pool));
        pool.map_or(Known::Well, |pool| pool.known(self.latest))
    }

    /// How sure a pool's model is.
    pub fn confidence(&self, pool: usize) -> Option<Confidence> {
        self.pools.get(pool).map(|pool| pool.service.confidence())
    }

    /// The factors of an endpoint for load that nobody sees.
    pub fn factors(&self, endpoint: usize, now: Micros) -> Factors {
        self.hidden(endpoint).map_or(Factors::NEUTRAL, |hidden| hidden.factors(now))
    }

    /// The same, for whoever reads them at another time; `None` where they are switched off.
    pub fn hidden(&self, endpoint: usize) -> Option<Hidden> {
        self.endpoints.get(endpoint).filter(|_| self.mechanisms.hidden_load).map(|endpoint| endpoint.hidden)
    }

    /// The part of its bounds that a class may plan with on a kind of machine.
    pub fn margin(&self, class: usize, kind: HardwareKind) -> Margin {
        self.margins.margin(class, kind)
    }

    /// The margins of every class, by its name.
    pub fn margins(&self) -> BTreeMap<String, ClassMargins> {
        self.margins.all()
    }

    /// The last changes of machines that were noticed, the oldest first.
    pub fn drifts(&self) -> impl Iterator<Item = &Drift> {
        self.drifts.kept()
    }

    /// How many changes were noticed since the start.
    pub fn drifts_noticed(&self) -> u64 {
        self.drifts.noticed()
    }

    fn refresh(&mut self, endpoint: usize) {
        let Some(at) = self.endpoints.get(endpoint).map(|endpoint| endpoint.pool) else { return };
        if let Some((service, pool)) = self.services.get_mut(at).zip(self.pools.get(at)) {
            *service = pool.told(self.mechanisms);
        }
    }

    fn calibrate_first_token(&mut self, seen: &Observation) {
        let (Some(observed_ms), Some(bound_ms)) = (seen.ttft_ms(), seen.slo.ttft_ms) else { return };
        let waited_ms = seen.waited_ms;
        let (predicted_ms, observed_ms) = (waited_ms + seen.predicted.ttft_ms, waited_ms + observed_ms);
        let promise = Promise { predicted_ms, observed_ms, bound_ms };
        self.calibrate(seen, Time::Ttft, promise);
    }

    /// Pace, deadline, and whole answers, which are promised as [`pointsman_policies::attain::parts_kept`] says.
    fn calibrate_rest(&mut self, seen: &Observation) {
        if let (Some(observed_ms), Some(bound_ms)) = (seen.itl_ms(), seen.slo.itl_ms) {
            self.calibrate(
                seen,
                Time::Itl,
                Promise { predicted_ms: seen.predicted.itl_planned_ms, observed_ms, bound_ms },
            );
        }
        let waited_ms = seen.waited_ms;
        let (predicted_ms, observed_ms) = (waited_ms + seen.predicted.total_ms, waited_ms + seen.total_ms());
        let whole = Promise { predicted_ms, observed_ms, bound_ms: 0.0 };
        if let Some(ttft_ms) = seen.slo.ttft_ms.filter(|_| !seen.streamed) {
            let bound_ms = ttft_ms + seen.slo.itl_ms.unwrap_or(0.0) * seen.later_tokens();
            self.calibrate(seen, Time::Ttft, Promise { bound_ms, ..whole });
        } else if let (None, Some(bound_ms)) = (seen.slo.ttft_ms, seen.slo.deadline_ms) {
            self.calibrate(seen, Time::Ttft, Promise { bound_ms, ..whole });
        }
    }

    fn calibrate(&mut self, seen: &Observation, time: Time, promise: Promise) {
        let pool = self.endpoints.get(seen.endpoint).and_then(|endpoint| self.pools.get(endpoint.pool));
        let Some(kind) = pool.map(|pool| pool.kind).filter(|_| self.mechanisms.margins) else { return };
        match time {
            Time::Ttft => self.margins.learn_ttft(seen.class, kind, promise),
            Time::Itl => self.margins.learn_itl(seen.class, kind, promise),
        }
    }
}

/// Lets a mean error follow one observation.
fn follow(error: &mut Option<f64>, observed_ms: Option<f64>, predicted_ms: f64) {
    let Some(off) = observed_ms.map(|observed_ms| (observed_ms / predicted_ms).ln().abs()) else { return };
    if off.is_finite() {
        let before = error.unwrap_or(off);
        *error = Some(before + ERROR_STEP * (off - before));
    }
}

impl Pool {
    fn told(&self, mechanisms: Mechanisms) -> ServiceModel {
        if !mechanisms.services {
            return self.service.prior().clone();
        }
        let model = self.service.model();
        let jitter_sigma = self.ttft_error.map_or(model.jitter_sigma, |error| error * SIGMA_PER_MEAN_ERROR);
        ServiceModel { jitter_sigma, ..model }
    }

    fn known(&self, now: Micros) -> Known {
        if self.seen < SEEN_ENOUGH || self.ttft_drift.suspects() || self.itl_drift.suspects() {
            Known::Little
        } else if now > self.heard + LONG_UNHEARD {
            Known::LongAgo
        } else {
            Known::Well
        }
    }

    fn drift(&mut self, time: Time, residual: Residual, at: Micros) -> Option<Drift> {
        let test = match time {
            Time::Ttft => &mut self.ttft_drift,
            Time::Itl => &mut self.itl_drift,
        };
        let factor = test.learn(residual.log * residual.weight)?;
        self.seen = 0;
        match time {
            Time::Ttft => self.service.doubt_ttft(),
            Time::Itl => self.service.doubt_itl(),
        }
        Some(Drift { pool: self.name.clone(), time, factor, at })
    }
}
