//! The figures of one policy in one cell, over all seeds.

use pointsman::simulation::report::{Calibration, Kept, Minute, PoolReport, Report, Times};

use crate::intervals;

/// All figures.
pub struct Summary {
    /// The policy.
    pub name: &'static str,
    /// Whole promises.
    pub kept: Kept,
    /// Of the attainment, 95 %.
    pub attainment_95: (f64, f64),
    /// By class.
    pub classes: Vec<ClassSummary>,
    /// US dollars for a thousand promises kept.
    pub usd_per_1k_good: f64,
    /// Of that, 95 %.
    pub usd_95: (f64, f64),
    /// Joules for each answer token of a promise kept.
    pub j_per_good_token: f64,
    /// Promises kept per second.
    pub goodput_rps: f64,
    /// Milliseconds.
    pub p99_ttft_ms: f64,
    /// The index.
    pub herding: f64,
    /// Microseconds.
    pub decision_us: (f64, f64),
    /// Most power over 10 s, kilowatts.
    pub peak_kw: f64,
    /// Jain's index.
    pub fairness: f64,
    /// The attainment of the tenant that fared worst.
    pub worst_tenant: f64,
    /// Parts of all requests.
    pub rates: Rates,
    /// Attempts by pool.
    pub pools: Vec<(String, f64)>,
    /// By pool for which something is owed, the part of it that was used.
    pub commitments: Vec<(String, f64)>,
    /// Of prompts, the part that was found in a prefix cache.
    pub cached_share: f64,
    /// What came over what was predicted.
    pub calibration: Calibration,
    /// Mistakes of the router.
    pub mistakes: u64,
}

/// Parts of all requests, 0 to 1.
pub struct Rates {
    /// Refused.
    pub shed: f64,
    /// Broken off.
    pub broken: f64,
    /// Not done.
    pub unfinished: f64,
    /// Attempts beside another.
    pub hedged: f64,
    /// Moves of held requests from one pool's line to another's.
    pub moved: f64,
    /// Tokens of attempts that another outran, as a part of all tokens paid for.
    pub outrun_tokens: f64,
    /// Attempts that were answered with 429 or 503.
    pub turned_away: f64,
}

/// One class.
pub struct ClassSummary {
    /// Its name.
    pub name: String,
    /// Whole promises.
    pub kept: Kept,
    /// Its parts, with their names.
    pub parts: [(&'static str, Kept); 3],
    /// Refused.
    pub shed: u64,
    /// Milliseconds.
    pub p99_ttft_ms: f64,
    /// Answers by pool.
    pub by_pool: Vec<u64>,
}

impl Summary {
    /// Of the reports of all seeds.
    pub fn of(name: &'static str, reports: &[Report]) -> Summary {
        let sum = |figure: fn(&Report) -> f64| reports.iter().map(figure).sum::<f64>();
        let kept = total(reports.iter().map(Report::kept));
        let all = kept.all.max(1) as f64;
        let minutes: Vec<&[Minute]> = reports.iter().map(|report| report.minutes.as_slice()).collect();
        let (mut ttft_us, mut decision_ns) = (Times::default(), Times::default());
        let mut calibration = Calibration::default();
        for report in reports {
            calibration.add(&report.calibration);
            ttft_us.add(&report.ttft_us);
            decision_ns.add(&report.decision_ns);
        }
        let of_classes = |count: fn(&pointsman::simulation::report::ClassReport) -> u64| {
            reports.iter().flat_map(|report| &report.classes).map(count).sum::<u64>() as f64 / all
        };
        let classes = reports.first().map_or(0, |report| report.classes.len());
        let tokens = |count: fn(&PoolReport) -> u64| {
            reports.iter().flat_map(|report| &report.pools).map(count).sum::<u64>() as f64
        };
        let runs = reports.len().max(1) as f64;
        let pools = reports.first().map_or(0, |report| report.pools.len());
        let sent = |pool: usize| reports.iter().map(|report| report.pools[pool].sent).sum::<u64>() as f64;
        Summary {
            name,
            kept,
            attainment_95: intervals::attainment(&minutes),
            classes: (0..classes).map(|class| class_summary(reports, class)).collect(),
            usd_per_1k_good: sum(Report::usd) / kept.good.max(1) as f64 * 1e3,
            usd_95: intervals::usd_per_1k_good(&minutes),
            j_per_good_token: sum(Report::joules) / sum(|report| report.good_output_tokens as f64).max(1.0),
            goodput_rps: sum(Report::goodput_rps) / runs,
            p99_ttft_ms: ttft_us.quantile(0.99) / 1e3,
            herding: sum(|report| report.herding.index()) / runs,
            decision_us: (decision_ns.quantile(0.5) / 1e3, decision_ns.quantile(0.99) / 1e3),
            peak_kw: reports.iter().map(|report| report.peak_kw).fold(0.0, f64::max),
            fairness: sum(Report::fairness) / runs,
            worst_tenant: reports.iter().map(Report::worst_tenant).fold(1.0, f64::min),
            rates: Rates {
                shed: of_classes(|class| class.shed),
                broken: of_classes(|class| class.broken),
                unfinished: of_classes(|class| class.unfinished),
                hedged: sum(|report| report.hedges as f64) / all,
                moved: sum(|report| report.moves as f64) / all,
                outrun_tokens: sum(|report| report.outrun_tokens as f64) / sum(tokens_paid).max(1.0),
                turned_away: sum(|report| report.pools.iter().map(|pool| pool.turned_away).sum::<u64>() as f64) / all,
            },
            pools: (0..pools).map(|pool| (reports[0].pools[pool].name.clone(), sent(pool) / all)).collect(),
            commitments: (0..pools).filter_map(|pool| commitment_used(reports, pool)).collect(),
            cached_share: tokens(|pool| pool.cached_tokens) / tokens(|pool| pool.input_tokens).max(1.0),
            calibration,
            mistakes: reports.iter().map(|report| report.mistakes).sum(),
        }
    }
}

/// What was used of what is owed for a pool, in the mean of the runs.
fn commitment_used(reports: &[Report], pool: usize) -> Option<(String, f64)> {
    let used: Vec<f64> = reports.iter().filter_map(|report| report.pools[pool].commitment_used).collect();
    let name = || reports[0].pools[pool].name.clone();
    (!used.is_empty()).then(|| (name(), used.iter().sum::<f64>() / used.len() as f64))
}

/// Paid for.
fn tokens_paid(report: &Report) -> f64 {
    report.pools.iter().map(|pool| (pool.input_tokens + pool.output_tokens) as f64).sum()
}

fn class_summary(reports: &[Report], class: usize) -> ClassSummary {
    let each = || reports.iter().map(|report| &report.classes[class]);
    let mut ttft_us = Times::default();
    each().for_each(|class| ttft_us.add(&class.ttft_us));
    let pools = each().map(|class| class.by_pool.len()).max().unwrap_or(0);
    ClassSummary {
        name: reports[0].classes[class].name.clone(),
        kept: total(each().map(|class| class.kept)),
        parts: [
            ("ttft", total(each().map(|class| class.ttft))),
            ("itl", total(each().map(|class| class.itl))),
            ("deadline", total(each().map(|class| class.deadline))),
        ],
        shed: each().map(|class| class.shed).sum(),
        p99_ttft_ms: ttft_us.quantile(0.99) / 1e3,
        by_pool: (0..pools).map(|pool| each().map(|class| class.by_pool[pool]).sum()).collect(),
    }
}

fn total(kept: impl Iterator<Item = Kept>) -> Kept {
    kept.fold(Kept::default(), |sum, one| Kept { good: sum.good + one.good, all: sum.all + one.all })
}
