//! What baselines are set to: found by search on a trace that is not the one they are judged on, and kept as data.
//!
//! ```text
//! quality --tune tests/quality/tuned.json --trace azure2023_conv.csv --trace azure2023_code.csv --for 1167 --load 1.0,1.6
//! ```
//!
//! That is the first third of both Azure traces, with another seed than any run is judged on. Runs over the whole of them
//! have it in common with the search, which favours the baselines; runs with `--from 1167` and of other traces do not.
//!
//! A search tries the shipped settings and a seeded sample of the grid of all knobs, and keeps what earns most: the value
//! of promises kept less the money spent, summed over the loads.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fastrand::Rng;
use pointsman_policies::policy::Slo;
use serde_json::{Map, Value, json};

use crate::baselines::{Baseline, Knob, World};
use crate::matrix::Plan;
use crate::oracle::instance::Instance;
use crate::oracle::judge;
use crate::policies::Candidate;
use crate::reference::Fleet;

/// Settings found on the reference fleet.
const TUNED: &str = include_str!("tuned.json");
/// Settings tried for one baseline at the most.
const MOST_TRIED: usize = 100;
/// Decides which.
const SEED: u64 = 20_261;

/// The settings of a baseline: those found, where they fit the fleet, else those shipped.
pub fn settings(baseline: &Baseline, world: &World<'_>) -> Vec<f64> {
    let tuned: Value = serde_json::from_str(TUNED).unwrap_or_default();
    let found = |knob: &Knob| {
        let value = tuned[baseline.name]["settings"][&knob.name].as_f64();
        value.filter(|value| knob.values.contains(value)).unwrap_or(knob.default)
    };
    baseline.knobs(world).iter().map(found).collect()
}

/// The world of a fleet, for baselines.
pub fn world<'a>(fleet: &'a Fleet, promises: &'a [Slo]) -> World<'a> {
    World { pools: &fleet.set.portfolio.facts, promises }
}

/// The promises of a fleet's classes.
pub fn promises(fleet: &Fleet) -> Vec<Slo> {
    fleet.set.policy.classes.iter().map(|class| class.slo).collect()
}

/// Tunes every baseline of the plan on its traces and keeps what is found in a file; `told` is given a line for each.
pub fn tune(plan: &Plan<'_>, traces: &str, file: &Path, mut told: impl FnMut(String)) -> Result<(), String> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|_| "{}".to_owned());
    let mut kept: Map<String, Value> =
        serde_json::from_str(&text).map_err(|error| format!("{} is no JSON object: {error}", file.display()))?;
    let promises = promises(plan.fleet);
    let world = world(plan.fleet, &promises);
    for candidate in &plan.candidates {
        let Candidate::Baseline(baseline) = candidate else { continue };
        let knobs = baseline.knobs(&world);
        if knobs.is_empty() {
            continue;
        }
        let tried = sample(&knobs);
        let utilities = utilities(plan, baseline, &world, &tried);
        let (at, best) = utilities
            .iter()
            .copied()
            .enumerate()
            .max_by(|(_, one), (_, other)| one.total_cmp(other))
            .unwrap_or((0, 0.0));
        let settings: Map<String, Value> =
            knobs.iter().zip(&tried[at]).map(|(knob, value)| (knob.name.clone(), json!(value))).collect();
        told(format!("{:22} shipped {:.4}, found {best:.4}: {}", baseline.name, utilities[0], json!(settings)));
        let on =
            json!({ "trace": traces, "from_s": plan.slice.from_s, "for_s": plan.slice.for_s, "loads": plan.loads });
        let row = json!({ "settings": settings, "tried": tried.len(), "on": on, "utility": best,
            "utility_as_shipped": utilities[0] });
        kept.insert(baseline.name.to_owned(), row);
        let text = serde_json::to_string_pretty(&kept).map_err(|error| error.to_string())?;
        std::fs::write(file, text + "\n").map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    Ok(())
}

/// The shipped settings, and a seeded sample of all others; all of them where they are few.
fn sample(knobs: &[Knob]) -> Vec<Vec<f64>> {
    let mut tried = vec![knobs.iter().map(|knob| knob.default).collect::<Vec<f64>>()];
    let all: usize = knobs.iter().map(|knob| knob.values.len()).product();
    let mut numbers: Vec<usize> = (0..all).collect();
    Rng::with_seed(SEED).shuffle(&mut numbers);
    for mut number in numbers {
        let mut setting = |knob: &Knob| {
            let value = knob.values[number % knob.values.len()];
            number /= knob.values.len();
            value
        };
        let settings: Vec<f64> = knobs.iter().map(&mut setting).collect();
        if tried.len() < MOST_TRIED && !tried.contains(&settings) {
            tried.push(settings);
        }
    }
    tried
}

/// What each of several settings earns, as a part of all value.
fn utilities(plan: &Plan<'_>, baseline: &Baseline, world: &World<'_>, tried: &[Vec<f64>]) -> Vec<f64> {
    let found: Mutex<Vec<f64>> = Mutex::new(vec![f64::NEG_INFINITY; tried.len()]);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..plan.threads.unwrap_or(1).max(1) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(settings) = tried.get(at) else { break };
                    let (mut earned, mut possible) = (0.0, 0.0);
                    for scenario in &plan.scenarios {
                        for load in &plan.loads {
                            let work = plan.workload(scenario, *load, SEED);
                            let conditions = scenario.conditions(&plan.fleet.set.portfolio, work.span, SEED);
                            let setup = plan.fleet.setup();
                            let router = baseline.build(world, settings, SEED);
                            let instance = Instance::of(&setup, &work);
                            earned += judge(&setup, &work, &conditions, vec![router]).utility_usd;
                            possible += instance.asks.iter().map(|ask| instance.value_usd(ask)).sum::<f64>();
                        }
                    }
                    found.lock().unwrap()[at] = earned / possible;
                }
            });
        }
    });
    found.into_inner().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baselines;

    #[test]
    fn settings_found_are_ones_that_a_search_may_choose_found_on_the_first_part_of_the_traces_only() {
        let tuned: Map<String, Value> = serde_json::from_str(TUNED).expect("an object");
        let fleet = Fleet::reference().expect("the reference fleet");
        let promises = promises(&fleet);
        let world = world(&fleet, &promises);
        for (name, row) in &tuned {
            let on = &row["on"];
            assert_eq!((on["from_s"].as_f64(), on["for_s"].as_f64()), (Some(0.0), Some(1_167.0)), "{name}: {on}");
            let baseline = baselines::find(name).unwrap_or_else(|| panic!("`{name}` is no baseline"));
            for (at, knob) in baseline.knobs(&world).iter().enumerate() {
                let found = row["settings"][&knob.name].as_f64().unwrap_or_else(|| panic!("{name}: {}", knob.name));
                assert!(knob.values.contains(&found), "{name}: {} = {found}", knob.name);
                assert_eq!(settings(baseline, &world)[at], found, "{name}: what was found is used");
            }
            assert!(row["utility"].as_f64() >= row["utility_as_shipped"].as_f64(), "{name}");
        }
    }

    #[test]
    fn a_search_tries_the_shipped_settings_first_and_nothing_twice() {
        let knob = |name: &str, values: &[f64]| Knob { name: name.to_owned(), default: 2.0, values: values.to_vec() };
        let few = sample(&[knob("a", &[1.0, 2.0]), knob("b", &[2.0, 3.0, 4.0])]);
        assert_eq!((few.len(), &few[0]), (6, &vec![2.0, 2.0]));
        let values = [1.0, 2.0, 3.0, 4.0, 5.0];
        let many = sample(&["a", "b", "c"].map(|name| knob(name, &values)));
        assert_eq!(many.len(), MOST_TRIED);
        assert!(many.iter().enumerate().all(|(at, one)| !many[..at].contains(one)));
    }
}
