//! What the best router could reach: an upper bound that no schedule exceeds, and a schedule found by search with
//! everything known in advance. The truth lies between.

/// The problem as the oracle sees it.
pub mod instance;
/// What a request needs of a machine at the least.
mod need;
/// Prices of time.
mod prices;
/// Prices of a rate limit.
mod stock;
/// The bound.
pub mod bound;
/// What a router did, and how each request fared.
pub mod record;
/// A router that does what a plan says.
pub mod script;
/// Machines by themselves.
mod what_if;
/// The schedule of one who knows everything.
pub mod search;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;

use pointsman::simulation::conditions::Conditions;
use pointsman::simulation::report::Report;
use pointsman::simulation::router::Router;
use pointsman::simulation::workload::Workload;
use pointsman::simulation::world::{Setup, run};

use instance::Instance;
use record::{Record, Step, Watched};
use script::Script;
use search::Effort;

/// One run, judged by what it earned.
pub struct Judged {
    /// Value of the promises kept less the money spent, US dollars.
    pub utility_usd: f64,
    /// What was sent where and when.
    pub plan: Vec<Option<Step>>,
    /// Everything else.
    pub report: Report,
}

/// Runs routers, one for each gateway, and judges what they earn.
pub fn judge<'a>(
    setup: &Setup<'_>,
    workload: &Workload,
    conditions: &Conditions,
    routers: Vec<Box<dyn Router + 'a>>,
) -> Judged {
    let record = Rc::new(RefCell::new(Record::default()));
    let mut watched: Vec<_> = routers.into_iter().map(|router| Watched::boxed(router, &record)).collect();
    let report = run(setup, workload, conditions, &mut watched);
    let record = record.borrow();
    let instance = Instance::of(setup, workload);
    Judged {
        utility_usd: record.utility_usd(workload, &instance, &report),
        plan: record.plan(workload.requests.len()),
        report,
    }
}

/// A schedule of one who knows everything, no worse than the best of the schedules it is given: those that routers made
/// in runs under the same conditions. Without disturbances: it does not foresee failures and neighbours.
pub fn clairvoyant(
    setup: &Setup<'_>,
    workload: &Workload,
    conditions: &Conditions,
    starts: &[Judged],
    effort: Effort,
) -> Option<Judged> {
    let instance = Instance::of(setup, workload);
    let best = starts.iter().max_by(|one, other| one.utility_usd.total_cmp(&other.utility_usd))?;
    let improved = if conditions.disturbances.is_empty() {
        search::improve(setup, workload, &instance, conditions.seed, &best.plan, effort)
    } else {
        best.plan.clone()
    };
    let gateways = workload.requests.iter().map(|request| usize::from(request.gateway) + 1).max().unwrap_or(1);
    let plan = Rc::new(improved);
    let routers = (0..gateways).map(|_| Script::boxed(&plan)).collect();
    let judged = judge(setup, workload, conditions, routers);
    // A hedge or a second attempt of the best start is no part of its plan: then the start itself is the better schedule.
    Some(Judged { utility_usd: judged.utility_usd.max(best.utility_usd), ..judged })
}
