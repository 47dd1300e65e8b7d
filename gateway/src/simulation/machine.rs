//! A simulated endpoint in the fleet: an engine, and when it is looked at next.

use pointsman_backends::hardware;
use pointsman_backends::simulators::change::Change;
use pointsman_backends::simulators::engine::Engine;
use pointsman_backends::simulators::profile::{Detail, Profile};
use pointsman_policies::fleet::PoolFacts;
use pointsman_policies::units::Micros;

use super::conditions::Neighbour;
use super::router::Reported;

/// What a pool's machines are, without their provider's limits: those are the pool's together.
pub fn profile(pool: &PoolFacts) -> Profile {
    let catalog = hardware::find(&pool.hardware);
    let base = catalog.map_or_else(|| Profile::new(pool.kind, pool.service.clone()), Profile::of);
    Profile {
        service: pool.service.clone(),
        limits: Default::default(),
        context_tokens: pool.models.iter().filter_map(|model| model.context).max(),
        detail: Detail::Ends,
        ..base
    }
}

/// What is rented within limits idles for others: nobody here is charged for its idle power.
pub(super) fn metered(profile: Profile, rented: bool) -> Profile {
    Profile { idle_power_share: if rented { 0.0 } else { profile.idle_power_share }, ..profile }
}

/// What decides the chance of an endpoint's machine in a run with this seed.
pub fn seed(run: u64, endpoint: usize) -> u64 {
    run.wrapping_mul(10_007).wrapping_add(endpoint as u64)
}

/// One endpoint. A clone goes on as the original would, so that a what-if can run ahead of it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What serves.
    pub engine: Engine,
    pub(super) pool: usize,
    pub(super) up: bool,
    /// When the heap of events has it next.
    pub(super) due: Micros,
    pub(super) neighbour: Option<Neighbour>,
}

impl Machine {
    /// An idle machine of a pool.
    pub fn new(profile: &Profile, pool: usize, seed: u64) -> Machine {
        Machine { engine: Engine::new(profile.clone(), seed), pool, up: true, due: Micros::NEVER, neighbour: None }
    }

    /// It fails; what it held is lost: jobs, each with the tokens of its answer that were made by then.
    pub(super) fn fail(&mut self, now: Micros) -> Vec<(u64, u64)> {
        self.up = false;
        self.due = Micros::NEVER;
        let mut broken = Vec::new();
        self.engine.apply(now, Change::Down, &mut broken);
        broken
    }

    /// It is back, empty.
    pub(super) fn come_back(&mut self, now: Micros) {
        self.up = true;
        self.engine.apply(now, Change::Up, &mut Vec::new());
    }

    pub(super) fn joules(&self, now: Micros) -> f64 {
        self.engine.energy(now).joules
    }

    pub(super) fn reported(&self, now: Micros) -> Reported {
        let report = self.engine.report(now);
        Reported { at: now, running: report.running, waiting: report.waiting, kv_tokens: report.kv_tokens }
    }
}
