//! Who is compared: Pointsman and the baselines.

use pointsman::simulation::router::Router;
use pointsman_policies::policy::Slo;

use crate::baselines::{self, Baseline};
use crate::reference::Fleet;

/// One policy of a run.
pub enum Candidate {
    /// A baseline.
    Baseline(&'static Baseline),
}

impl Candidate {
    /// Its name in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Candidate::Baseline(baseline) => baseline.name,
        }
    }

    /// A router for one gateway.
    pub fn router(&self, fleet: &Fleet, seed: u64) -> Box<dyn Router> {
        match self {
            Candidate::Baseline(baseline) => {
                let promises: Vec<Slo> = fleet.set.policy.classes.iter().map(|class| class.slo).collect();
                let world = baselines::World { pools: &fleet.set.portfolio.facts, promises: &promises };
                baseline.build(&world, &[], seed)
            }
        }
    }
}

/// By names; `all` means all of them. The name that nobody has, where there is one.
pub fn named(names: &[String]) -> Result<Vec<Candidate>, String> {
    let all = || baselines::all().iter().map(Candidate::Baseline);
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
