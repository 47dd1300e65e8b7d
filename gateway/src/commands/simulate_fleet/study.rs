//! All runs: the loads that were asked for, the search for the limit, and the same for every change of the fleet. Runs go
//! on all cores; none knows of another, so the result is the same every time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Arguments;
use super::case::{Case, keeps_targets, simulate};
use super::fleet::Fleet;
use super::limit::{Bounds, FAR, HIGHEST, LOWEST, NEAR, search};
use super::traffic::{Slice, Traffic};
use super::what_if::Change;

/// Threads that simulate; more would only take memory.
const MOST_THREADS: usize = 16;
/// A search looks at the busiest stretch of so many requests: it simulates it about ten times for each change.
const SEARCHED_REQUESTS: usize = 20_000;

/// What came of it.
#[derive(Debug)]
pub(super) struct Study {
    /// Name of the policy.
    pub(super) policy: String,
    /// The model that everybody asks for.
    pub(super) model: String,
    /// Pools that have endpoints.
    pub(super) pools: usize,
    /// Endpoints of the whole fleet.
    pub(super) endpoints: usize,
    /// One of so many was simulated.
    pub(super) one_in: u32,
    /// The load in words.
    pub(super) traffic: String,
    /// What decided all that was drawn.
    pub(super) seed: u64,
    /// By load.
    pub(super) cases: Vec<Case>,
    /// Where it saturates; `None` where nobody asked.
    pub(super) limit: Option<Limit>,
    /// By change.
    pub(super) what_ifs: Vec<WhatIf>,
    /// How long it took.
    pub(super) took: Duration,
}

/// Where it saturates.
#[derive(Debug)]
pub(super) struct Limit {
    /// Between which loads.
    pub(super) bounds: Bounds,
    /// Just beyond: what fails and what is used up then; `None` where nothing ever fails.
    pub(super) beyond: Option<Case>,
    /// What was searched.
    pub(super) slice: Slice,
}

/// One change of the fleet.
#[derive(Debug)]
pub(super) struct WhatIf {
    /// In words.
    pub(super) words: String,
    /// What came of it, or why it cannot be.
    pub(super) outcome: Result<(Bounds, Case), String>,
}

impl Study {
    /// Runs everything. `endpoints` is the number of the whole fleet.
    pub(super) fn run(
        arguments: &Arguments,
        fleet: &Fleet,
        traffic: &Traffic,
        changes: &[Change],
        endpoints: usize,
    ) -> Study {
        let began = Instant::now();
        let seed = arguments.seed;
        let cases = parallel(&arguments.load, |load| simulate(fleet, traffic, traffic.all(), *load, seed));
        let slice = traffic.busiest(SEARCHED_REQUESTS);
        let limit = (!arguments.brief).then(|| limit(fleet, traffic, slice, seed));
        let near = limit.as_ref().map_or(1.0, |limit| near(&limit.bounds));
        let load = reference(&arguments.load);
        let what_ifs = parallel(changes, |change| WhatIf {
            words: change.words(fleet),
            outcome: change.apply(fleet).map(|changed| {
                let bounds = search((near, NEAR), |load| keeps_targets(&changed, traffic, slice, load, seed));
                (bounds, simulate(&changed, traffic, traffic.all(), load, seed))
            }),
        });
        Study {
            policy: fleet.policy().name.clone(),
            model: fleet.model.clone(),
            pools: fleet.pools().iter().filter(|pool| !pool.endpoints.is_empty()).count(),
            endpoints,
            one_in: fleet.one_in,
            traffic: traffic.words.clone(),
            seed,
            cases,
            limit,
            what_ifs,
            took: began.elapsed(),
        }
    }

    /// The case that changes are compared with.
    pub(super) fn reference(&self) -> Option<&Case> {
        let loads: Vec<f64> = self.cases.iter().map(|case| case.load).collect();
        self.cases.iter().find(|case| case.load == reference(&loads))
    }
}

/// Load 1, or the first where it was not asked for.
fn reference(loads: &[f64]) -> f64 {
    loads.iter().copied().find(|load| *load == 1.0).or(loads.first().copied()).unwrap_or(1.0)
}

fn limit(fleet: &Fleet, traffic: &Traffic, slice: Slice, seed: u64) -> Limit {
    let bounds = search((1.0, FAR), |load| keeps_targets(fleet, traffic, slice, load, seed));
    let beyond = bounds.fails.map(|load| simulate(fleet, traffic, slice, load, seed));
    Limit { bounds, beyond, slice }
}

/// A load near the limit.
fn near(bounds: &Bounds) -> f64 {
    bounds.keeps.or(bounds.fails).unwrap_or(1.0).clamp(LOWEST, HIGHEST)
}

/// Each on the next free thread; the results in the order of what was given.
fn parallel<T: Sync, R: Send>(given: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(MOST_THREADS));
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, R)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..threads.min(given.len()) {
            scope.spawn(|| {
                while let Some((index, one)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|index| Some((index, given.get(index)?)))
                {
                    let result = work(one);
                    done.lock().push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner();
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}
