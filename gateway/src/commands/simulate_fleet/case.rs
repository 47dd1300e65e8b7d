//! One run, in figures: rates and costs of the whole fleet, though only a part of it may have been simulated.

use pointsman_policies::fleet::PoolFacts;
use pointsman_policies::policy::Policy;

use super::fleet::Fleet;
use super::traffic::{Slice, Traffic};
use crate::simulation::conditions::{Conditions, Metrics};
use crate::simulation::report::{Calibration, ClassReport, PoolReport, Report, Times};
use crate::simulation::world;

/// One load on one fleet.
#[derive(Debug)]
pub(super) struct Case {
    /// What multiplied the rate of requests.
    pub(super) load: f64,
    /// By class.
    pub(super) classes: Vec<Class>,
    /// By pool.
    pub(super) pools: Vec<Pool>,
    /// Requests a second.
    pub(super) rps: f64,
    /// Attained by all classes together, 0 to 1.
    pub(super) kept: f64,
    /// US dollars an hour.
    pub(super) usd_per_hour: f64,
    /// US dollars for a thousand promises kept.
    pub(super) usd_per_1k_good: f64,
    /// Mean power of all sites, kilowatts.
    pub(super) kw: f64,
    /// The highest mean power of ten seconds, kilowatts.
    pub(super) peak_kw: f64,
    /// Joules for each output token of a promise kept.
    pub(super) j_per_good_token: f64,
    /// How the gateway went about it.
    pub(super) conduct: Conduct,
    /// Requests that were simulated.
    pub(super) simulated: u64,
    /// Time a decision took in the middle, and of the slowest hundredth, nanoseconds.
    pub(super) decision_ns: [f64; 2],
}

/// How the gateway went about it: parts of all requests, and indices that are 1 where all is well.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conduct {
    /// Moves of held requests to another pool's line, 0 to 1.
    pub(super) moved: f64,
    /// Attempts beside another, 0 to 1.
    pub(super) hedged: f64,
    /// Jain's index of the tenants' attainment, and that of the tenant that fared worst; `None` where there is one tenant.
    pub(super) tenants: Option<(f64, f64)>,
    /// Whether requests ran after one another.
    pub(super) herding: f64,
    /// Times to first token over what was predicted, in the middle and of the slowest tenth.
    pub(super) ttft_came: Option<[f64; 2]>,
    /// The same of times per token.
    pub(super) itl_came: Option<[f64; 2]>,
}

impl Conduct {
    fn of(report: &Report) -> Conduct {
        let all = report.kept().all.max(1) as f64;
        let came = |times: &Times| Some([Calibration::ratio(times, 0.5)?, Calibration::ratio(times, 0.9)?]);
        let tenants = report.tenants.iter().filter(|kept| kept.all > 0).count();
        Conduct {
            moved: report.moves as f64 / all,
            hedged: report.hedges as f64 / all,
            tenants: (tenants > 1).then(|| (report.fairness(), report.worst_tenant())),
            herding: report.herding.index(),
            ttft_came: came(&report.calibration.ttft),
            itl_came: came(&report.calibration.itl),
        }
    }
}

/// One class.
#[derive(Clone, Debug)]
pub(super) struct Class {
    pub(super) name: String,
    pub(super) requests: u64,
    /// Attained, 0 to 1.
    pub(super) kept: f64,
    pub(super) target: f64,
    /// Which parts of the promise are missed by how many, 0 to 1; the worst first.
    pub(super) misses: Vec<(&'static str, f64)>,
    /// Of streams: in the middle and of the slowest hundredth, milliseconds.
    pub(super) ttft_ms: [f64; 2],
    /// Time in the gateway's queue, likewise.
    pub(super) held_ms: [f64; 2],
    pub(super) refused: u64,
    pub(super) broken: u64,
    pub(super) unfinished: u64,
    /// Answers by pool.
    pub(super) by_pool: Vec<u64>,
}

impl Class {
    /// Whether the target is reached.
    pub(super) fn keeps(&self) -> bool {
        self.kept + 1e-12 >= self.target
    }

    /// The part of the promise that fails most, in words.
    pub(super) fn fails(&self) -> Option<&'static str> {
        self.misses.first().filter(|(_, missed)| *missed > 0.0).map(|(part, _)| *part)
    }
}

/// One pool.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) endpoints: usize,
    /// Requests sent there, of the whole fleet.
    pub(super) sent: u64,
    /// Of these, answered with 429 or 503.
    pub(super) turned_away: u64,
    /// What was in use, 0 to 1, the most used first.
    pub(super) used: Vec<(&'static str, f64)>,
    pub(super) usd_per_hour: f64,
    pub(super) kw: f64,
    /// The part that was used of what is owed for it; `None` where nothing is owed.
    pub(super) commitment_used: Option<f64>,
}

impl Pool {
    /// What was most in use.
    pub(super) fn most_used(&self) -> (&'static str, f64) {
        self.used.first().copied().unwrap_or(("slots", 0.0))
    }

    /// How much of something was in use, where it has it.
    pub(super) fn used(&self, what: &str) -> Option<f64> {
        self.used.iter().find(|(name, _)| *name == what).map(|(_, used)| *used)
    }
}

/// What can be used up, in the order of tables.
pub(super) const RESOURCES: [&str; 4] = ["slots", "prefill", "memory", "rate limit"];

/// Simulates one load on one fleet.
pub(super) fn simulate(fleet: &Fleet, traffic: &Traffic, slice: Slice, load: f64, seed: u64) -> Case {
    let workload = traffic.workload(slice, load);
    let mut routers = [fleet.router(seed)];
    let report = world::run(&fleet.setup(), &workload, &conditions(seed), &mut routers);
    Case::of(&report, fleet, load, workload.requests.len() as u64)
}

/// Whether every class keeps its target.
pub(super) fn keeps_targets(fleet: &Fleet, traffic: &Traffic, slice: Slice, load: f64, seed: u64) -> bool {
    let workload = traffic.workload(slice, load);
    let mut routers = [fleet.router(seed)];
    world::keeps_targets(&fleet.setup(), &workload, &conditions(seed), &mut routers)
}

/// The gateway knows what it sent; engines are not asked.
fn conditions(seed: u64) -> Conditions {
    Conditions { seed, metrics: Metrics::LOST, ..Conditions::default() }
}

impl Case {
    fn of(report: &Report, fleet: &Fleet, load: f64, simulated: u64) -> Case {
        let scale = f64::from(fleet.one_in);
        let span_s = report.span.as_secs();
        // Requests that all come at one moment have no rate.
        let seconds = if span_s > 0.0 { span_s } else { 1.0 };
        // What machines draw while the last answers are waited for is not of this load.
        let kw: f64 = report.pools.iter().map(|pool| pool.usage.kw()).sum();
        let hourly = |usd: f64| usd / seconds * 3600.0 * scale;
        let pools = report.pools.iter().zip(fleet.pools());
        Case {
            load,
            classes: report.classes.iter().filter(|class| class.kept.all > 0).map(|one| class(one, fleet)).collect(),
            pools: pools.map(|(one, facts)| pool(one, facts, (seconds, scale))).collect(),
            rps: simulated as f64 / seconds * scale,
            kept: report.kept().part(),
            usd_per_hour: hourly(report.usd()),
            usd_per_1k_good: report.usd_per_1k_good(),
            kw: kw * scale,
            peak_kw: report.peak_kw * scale,
            j_per_good_token: kw * 1e3 * seconds / report.good_output_tokens.max(1) as f64,
            conduct: Conduct::of(report),
            simulated,
            decision_ns: [0.5, 0.99].map(|part| report.decision_ns.quantile(part)),
        }
    }

    /// Whether every class keeps its target.
    pub(super) fn keeps(&self) -> bool {
        self.classes.iter().all(Class::keeps)
    }

    /// Classes that miss their target, the worst first.
    pub(super) fn failing(&self) -> Vec<&Class> {
        let mut failing: Vec<&Class> = self.classes.iter().filter(|class| !class.keeps()).collect();
        failing.sort_by(|one, other| (one.kept - one.target).total_cmp(&(other.kept - other.target)));
        failing
    }
}

fn class(of: &ClassReport, fleet: &Fleet) -> Class {
    let scaled = |count: u64| count * u64::from(fleet.one_in);
    let quantiles = |times: &Times| [0.5, 0.99].map(|part| times.quantile(part) / 1e3);
    let parts = [("time to first token", of.ttft), ("time per token", of.itl), ("deadline", of.deadline)];
    let mut misses: Vec<(&'static str, f64)> =
        parts.into_iter().filter(|(_, part)| part.all > 0).map(|(name, part)| (name, 1.0 - part.part())).collect();
    misses.sort_by(|one, other| other.1.total_cmp(&one.1));
    Class {
        name: of.name.clone(),
        requests: scaled(of.kept.all),
        kept: of.kept.part(),
        target: target(fleet.policy(), &of.name),
        misses,
        ttft_ms: quantiles(&of.ttft_us),
        held_ms: quantiles(&of.held_us),
        refused: scaled(of.shed),
        broken: scaled(of.broken),
        unfinished: scaled(of.unfinished),
        by_pool: of.by_pool.iter().map(|count| scaled(*count)).collect(),
    }
}

fn target(policy: &Policy, class: &str) -> f64 {
    let found = policy.class_by_name(class).and_then(|id| policy.classes.get(id.0));
    found.map_or(0.0, |class| class.target)
}

fn pool(of: &PoolReport, facts: &PoolFacts, (seconds, scale): (f64, f64)) -> Pool {
    let endpoints = facts.endpoints.len();
    let computed = of.input_tokens.saturating_sub(of.cached_tokens) as f64;
    let whole = |count: u64| (count as f64 * scale) as u64;
    // Where slots compute prompts side by side, the time of each is part of what its slot is taken for.
    let one_after_the_other = pointsman_policies::estimate::batches(facts.kind);
    let prefill = (one_after_the_other && endpoints > 0)
        .then(|| computed / facts.service.prefill_tokens_per_s / seconds / endpoints as f64);
    let [slots, filling, memory, limit] = RESOURCES;
    let used = [
        Some((slots, of.usage.slots())),
        prefill.map(|used| (filling, used)),
        of.usage.memory().map(|used| (memory, used)),
        of.usage.limits().map(|used| (limit, used)),
    ];
    let mut used: Vec<(&'static str, f64)> = used.into_iter().flatten().collect();
    used.sort_by(|one, other| other.1.total_cmp(&one.1));
    Pool {
        name: of.name.clone(),
        endpoints: whole(endpoints as u64) as usize,
        sent: whole(of.sent),
        turned_away: whole(of.turned_away),
        used,
        usd_per_hour: of.usd / seconds * 3600.0 * scale,
        kw: of.usage.kw() * scale,
        commitment_used: of.commitment_used,
    }
}
