//! How near policies come to what is possible: their utility against that of one who knows everything, and against what
//! nobody can reach.

use pointsman::simulation::world::Setup;

use crate::matrix::Plan;
use crate::oracle::bound::{Goal, bound};
use crate::oracle::instance::Instance;
use crate::oracle::search::Effort;
use crate::oracle::{Judged, clairvoyant, judge};
use crate::scenarios::Scenario;

/// Rounds in which the bound is lowered.
const ROUNDS: usize = 200;

/// How often the oracle goes through a run.
const PASSES: usize = 3;

/// What is possible in one scenario at one load, with the first seed. Utility is the value of promises kept less the
/// money spent, as a part of the value of all promises.
pub struct Verdict {
    /// No router has more utility.
    pub utility_bound: f64,
    /// No router keeps a larger part of the promises.
    pub attainment_bound: f64,
    /// The utility of the schedule found.
    pub utility_found: f64,
    /// The part of promises it keeps.
    pub attainment_found: f64,
    /// By class, in the order of the workload's.
    pub classes_found: Vec<(String, f64)>,
    /// What it spends for a thousand promises kept, US dollars.
    pub usd_per_1k_good_found: f64,
    /// The utility of each policy.
    pub policies: Vec<(&'static str, f64)>,
}

impl Verdict {
    /// Runs every candidate once more and lets the oracle improve on the best of them.
    pub fn of(plan: &Plan<'_>, scenario: &Scenario, load: f64, tries: usize) -> Verdict {
        const SEED: u64 = 1;
        let work = plan.workload(scenario, load, SEED);
        let conditions = scenario.conditions(&plan.fleet.set.portfolio, work.span, SEED);
        let setup: Setup<'_> = plan.fleet.setup();
        let instance = Instance::of(&setup, &work);
        let total: f64 = instance.asks.iter().map(|ask| instance.value_usd(ask)).sum();
        let starts: Vec<Judged> = plan
            .candidates
            .iter()
            .map(|candidate| judge(&setup, &work, &conditions, plan.routers(candidate, scenario, &work, SEED)))
            .collect();
        let policies = plan.candidates.iter().zip(&starts).map(|(one, run)| (one.name(), run.utility_usd / total));
        let effort = Effort { tries, passes: PASSES, seed: SEED };
        let best = clairvoyant(&setup, &work, &conditions, &starts, effort);
        let found = |figure: fn(&Judged) -> f64| best.as_ref().map_or(0.0, figure);
        let classes = best.iter().flat_map(|best| &best.report.classes).filter(|class| class.kept.all > 0);
        Verdict {
            utility_bound: bound(&instance, Goal::Utility, ROUNDS) / total,
            attainment_bound: bound(&instance, Goal::Kept, ROUNDS) / instance.asks.len().max(1) as f64,
            utility_found: found(|best| best.utility_usd) / total,
            attainment_found: found(|best| best.report.kept().part()),
            classes_found: classes.map(|class| (class.name.clone(), class.kept.part())).collect(),
            usd_per_1k_good_found: found(|best| best.report.usd_per_1k_good()),
            policies: policies.collect(),
        }
    }

    /// The utility of a policy.
    pub fn utility(&self, policy: &str) -> Option<f64> {
        self.policies.iter().find(|(name, _)| *name == policy).map(|(_, utility)| *utility)
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut text = format!(
            "utility (value of promises kept less money, as a part of all value): bound {:.4}, clairvoyant {:.4}\n\
             attainment: bound {:.4}, clairvoyant {:.4} (",
            self.utility_bound, self.utility_found, self.attainment_bound, self.attainment_found
        );
        let classes = self.classes_found.iter().map(|(name, part)| format!("{name} {part:.4}"));
        text += &classes.collect::<Vec<_>>().join(", ");
        text += &format!("), $/1k {:.3}\n", self.usd_per_1k_good_found);
        let mut sorted: Vec<&(&str, f64)> = self.policies.iter().collect();
        sorted.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        for (name, utility) in sorted {
            let (of_found, of_bound) = (utility / self.utility_found * 100.0, utility / self.utility_bound * 100.0);
            text +=
                &format!("{name:22}{utility:>8.4}{of_found:>8.1} % of the clairvoyant{of_bound:>8.1} % of the bound\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pointsman::simulation::workload::Shape;
    use pointsman::simulation::workload::trace::Trace;

    use super::*;
    use crate::reference::Fleet;
    use crate::{policies, scenarios};

    #[test]
    fn nobody_beats_the_clairvoyant_and_the_clairvoyant_does_not_beat_the_bound() {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway/demo/azure2023-10min.csv");
        let traces = [Trace::load(&demo).expect("the demo's trace")];
        let fleet = Fleet::reference().expect("the reference fleet");
        let steady = scenarios::find("steady").expect("it is in the table");
        let plan = Plan {
            fleet: &fleet,
            traces: &traces,
            slice: Shape { for_s: 60.0, ..Shape::default() },
            scenarios: vec![steady],
            loads: vec![2.0],
            candidates: policies::named(&["all".to_owned()]).unwrap_or_default(),
            seeds: 1,
            threads: Some(1),
        };
        let verdict = Verdict::of(&plan, steady, 2.0, 40);
        println!("{}", verdict.text());
        assert!(verdict.policies.len() > 19);
        for (name, utility) in &verdict.policies {
            assert!(*utility <= verdict.utility_found, "{name}: {utility}");
        }
        assert!(verdict.utility_found <= verdict.utility_bound);
        assert!(verdict.attainment_found <= verdict.attainment_bound);
    }
}
