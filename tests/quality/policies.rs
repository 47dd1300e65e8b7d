//! Who is compared: Pointsman and the baselines.

use std::sync::Arc;

use pointsman::simulation::pointsman::Pointsman;
use pointsman::simulation::router::Router;
use pointsman::snapshot::Snapshot;
use pointsman_policies::mechanisms::Mechanisms;
use pointsman_policies::units::Micros;

use crate::arguments::Without;
use crate::baselines::{self, Baseline};
use crate::reference::Fleet;
use crate::scenarios::Swap;
use crate::tuning;

/// The name of our own.
const POINTSMAN: &str = "pointsman";

/// One policy of a run.
pub enum Candidate {
    /// The gateway's own flow control.
    Pointsman,
    /// The same but for one mechanism.
    Without(Without),
    /// A baseline.
    Baseline(&'static Baseline),
}

impl Candidate {
    /// Its name in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Candidate::Pointsman => POINTSMAN,
            Candidate::Without(mechanism) => mechanism.row(),
            Candidate::Baseline(baseline) => baseline.name,
        }
    }

    /// A router for one gateway; `swap` is when another policy takes over.
    pub fn router(&self, fleet: &Fleet, swap: Option<(Micros, Swap)>, seed: u64) -> Box<dyn Router> {
        match self {
            Candidate::Pointsman => Box::new(pointsman(fleet, Mechanisms::default(), swap, seed)),
            Candidate::Without(mechanism) => Box::new(pointsman(fleet, mechanism.mechanisms(), swap, seed)),
            Candidate::Baseline(baseline) => {
                let promises = tuning::promises(fleet);
                let world = tuning::world(fleet, &promises);
                baseline.build(&world, &tuning::settings(baseline, &world), seed)
            }
        }
    }
}

/// A gateway on machines that nobody else knows: each has its own account.
fn pointsman(fleet: &Fleet, mechanisms: Mechanisms, swap: Option<(Micros, Swap)>, seed: u64) -> Pointsman {
    let machines = pointsman_backends::fleet::Fleet::default();
    let generation = |number, set| Arc::new(Snapshot::build(number, set, None, &machines));
    let router = Pointsman::new(generation(1, fleet.copy()), seed).with(mechanisms);
    let Some((at, swap)) = swap else { return router };
    let text = (swap.policy)(&fleet.set.texts.policy.text);
    router.followed_by(at, generation(2, fleet.with_policy(&text)))
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
