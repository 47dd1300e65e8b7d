//! Who is compared: Pointsman and the baselines.

use std::sync::Arc;

use pointsman::config::set::ConfigSet;
use pointsman::simulation::pointsman::Pointsman;
use pointsman::simulation::router::Router;
use pointsman::snapshot::Snapshot;
use pointsman_backends::fleet;

use crate::baselines::{self, Baseline};
use crate::reference::Fleet;
use crate::tuning;

/// The name of our own.
const POINTSMAN: &str = "pointsman";

/// One policy of a run.
pub enum Candidate {
    /// The gateway's own flow control.
    Pointsman,
    /// A baseline.
    Baseline(&'static Baseline),
}

impl Candidate {
    /// Its name in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Candidate::Pointsman => POINTSMAN,
            Candidate::Baseline(baseline) => baseline.name,
        }
    }

    /// A router for one gateway.
    pub fn router(&self, fleet: &Fleet, seed: u64) -> Box<dyn Router> {
        match self {
            Candidate::Pointsman => Box::new(Pointsman::new(snapshot(fleet), seed)),
            Candidate::Baseline(baseline) => {
                let promises = tuning::promises(fleet);
                let world = tuning::world(fleet, &promises);
                baseline.build(&world, &tuning::settings(baseline, &world), seed)
            }
        }
    }
}

/// A generation on machines that nobody else knows: each gateway has its own account.
fn snapshot(fleet: &Fleet) -> Arc<Snapshot> {
    let set = &fleet.set;
    let set = ConfigSet {
        process: set.process.clone(),
        portfolio: Arc::clone(&set.portfolio),
        policy: Arc::clone(&set.policy),
        candidate: None,
        texts: set.texts.clone(),
        hash: set.hash.clone(),
    };
    Arc::new(Snapshot::build(1, set, None, &fleet::Fleet::default()))
}

/// Every name.
pub fn names() -> impl Iterator<Item = &'static str> {
    std::iter::once(POINTSMAN).chain(baselines::all().iter().map(|baseline| baseline.name))
}

/// By names; `all` means all of them. The name that nobody has, where there is one.
pub fn named(names: &[String]) -> Result<Vec<Candidate>, String> {
    let all = || std::iter::once(Candidate::Pointsman).chain(baselines::all().iter().map(Candidate::Baseline));
    let mut found = Vec::new();
    for name in names {
        if name == "all" {
            found.extend(all());
            continue;
        }
        let plain = |name: &str| name.replace(['-', '_', ' '], "");
        let exact = baselines::find(name).map(Candidate::Baseline);
        let near = || all().find(|candidate| plain(candidate.name()) == plain(name));
        found.push(exact.or_else(near).ok_or_else(|| name.clone())?);
    }
    Ok(found)
}
