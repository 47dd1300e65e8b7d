//! Every policy under every scenario and load with every seed, as many at a time as there are processors.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use pointsman::simulation::report::Report;
use pointsman::simulation::router::Router;
use pointsman::simulation::workload::trace::Trace;
use pointsman::simulation::workload::{Shape, Workload};
use pointsman::simulation::world;
use pointsman_policies::units::Micros;

use crate::policies::Candidate;
use crate::reference::Fleet;
use crate::scenarios::Scenario;
use crate::verdict::Verdict;

/// What is run.
pub struct Plan<'a> {
    /// On what.
    pub fleet: &'a Fleet,
    /// What is asked.
    pub traces: &'a [Trace],
    /// The part of the traces.
    pub slice: Shape,
    /// Under what.
    pub scenarios: Vec<&'static Scenario>,
    /// How much.
    pub loads: Vec<f64>,
    /// By whom.
    pub candidates: Vec<Candidate>,
    /// How often.
    pub seeds: u64,
    /// At a time.
    pub threads: Option<usize>,
}

/// One scenario at one load.
pub struct Cell {
    /// The scenario.
    pub scenario: &'static Scenario,
    /// The load.
    pub load: f64,
    /// Requests of one seed.
    pub requests: usize,
    /// Requests per second.
    pub rps: f64,
    /// For each candidate, one report a seed.
    pub reports: Vec<Vec<Report>>,
    /// What is possible, where it was asked for.
    pub oracle: Option<Verdict>,
}

impl Plan<'_> {
    /// The workload of one run.
    pub fn workload(&self, scenario: &Scenario, load: f64, seed: u64) -> Workload {
        let shape = scenario.shape(Shape { load, seed, ..self.slice.clone() });
        Workload::build(self.traces, &shape)
    }

    /// Runs everything; `done` is told of each report.
    pub fn run(&self, done: impl Fn(usize, usize) + Sync) -> Vec<Cell> {
        let cells: Vec<(&'static Scenario, f64)> =
            self.scenarios.iter().flat_map(|scenario| self.loads.iter().map(|load| (*scenario, *load))).collect();
        let seeds = self.seeds as usize;
        let each = self.candidates.len() * seeds;
        let reports: Mutex<Vec<Option<Report>>> = Mutex::new((0..cells.len() * each).map(|_| None).collect());
        let (next, finished) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..self.processors() {
                scope.spawn(|| {
                    loop {
                        let job = next.fetch_add(1, Ordering::Relaxed);
                        let Some((scenario, load)) = cells.get(job / each.max(1)).filter(|_| each > 0) else { break };
                        let (candidate, seed) = (&self.candidates[job % each / seeds], (job % seeds) as u64 + 1);
                        let report = self.once(scenario, *load, candidate, seed);
                        reports.lock().unwrap()[job] = Some(report);
                        done(finished.fetch_add(1, Ordering::Relaxed) + 1, cells.len() * each);
                    }
                });
            }
        });
        let mut reports = reports.into_inner().unwrap().into_iter().flatten();
        let cell = |(scenario, load): &(&'static Scenario, f64)| {
            let work = self.workload(scenario, *load, 1);
            Cell {
                scenario,
                load: *load,
                requests: work.requests.len(),
                rps: work.requests.len() as f64 / work.span.as_secs().max(1e-6),
                reports: self.candidates.iter().map(|_| reports.by_ref().take(seeds).collect()).collect(),
                oracle: None,
            }
        };
        cells.iter().map(cell).collect()
    }

    fn once(&self, scenario: &Scenario, load: f64, candidate: &Candidate, seed: u64) -> Report {
        let work = self.workload(scenario, load, seed);
        let conditions = scenario.conditions(&self.fleet.set.portfolio, work.span, seed);
        let mut routers = self.routers(candidate, scenario, &work, seed);
        world::run(&self.fleet.setup(), &work, &conditions, &mut routers)
    }

    /// One router for each gateway that requests of a workload come to.
    pub fn routers(
        &self,
        candidate: &Candidate,
        scenario: &Scenario,
        work: &Workload,
        seed: u64,
    ) -> Vec<Box<dyn Router>> {
        let gateways = work.requests.iter().map(|request| usize::from(request.gateway) + 1).max().unwrap_or(1);
        let swap = scenario.swap().map(|swap| (Micros((work.span.0 as f64 * swap.at) as u64), swap));
        (0..gateways).map(|gateway| candidate.router(self.fleet, swap, seed * 100 + gateway as u64)).collect()
    }

    /// Adds what is possible to each cell, as many at a time as there are processors.
    pub fn judge(&self, cells: &mut [Cell], tries: usize, done: impl Fn(usize, usize) + Sync) {
        let all = cells.len();
        let (waiting, finished) = (Mutex::new(cells.iter_mut()), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..self.processors() {
                scope.spawn(|| {
                    loop {
                        let Some(cell) = waiting.lock().unwrap().next() else { break };
                        cell.oracle = Some(Verdict::of(self, cell.scenario, cell.load, tries));
                        done(finished.fetch_add(1, Ordering::Relaxed) + 1, all);
                    }
                });
            }
        });
    }

    fn processors(&self) -> usize {
        self.threads.or(std::thread::available_parallelism().ok().map(NonZero::get)).unwrap_or(1).max(1)
    }
}
