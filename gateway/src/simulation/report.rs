//! What a run came to: promises kept by class, money, energy, and how the router went about it.

/// Whether requests run after one another.
mod herding;
/// Many times as one histogram.
mod times;
/// Whether predictions come true.
mod calibration;

use std::time::Duration;

use pointsman_policies::attain::{Observed, Part, parts_kept, parts_missed};
use pointsman_policies::policy::Slo;
use pointsman_policies::units::Micros;

pub use calibration::Calibration;
pub use herding::Herding;
pub use times::Times;

use super::usage::Usage;

/// Requests are also counted by the minute of their coming.
const MINUTE: Micros = Micros::from_secs(60);

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// Its answer came whole.
    Answered(Observed),
    /// The router refused it.
    Shed,
    /// Its answer broke off.
    Broken,
    /// It was still waiting or running when the run ended.
    Unfinished,
}

/// One request at its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// When it came.
    pub at: Micros,
    /// Index of its class in the workload.
    pub class: usize,
    /// Index of its tenant in the workload.
    pub tenant: usize,
    /// What its class is promised.
    pub slo: Slo,
    /// How it ended.
    pub end: End,
    /// The pool that answered.
    pub pool: Option<usize>,
}

/// Promises kept and made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Kept.
    pub good: u64,
    /// Made.
    pub all: u64,
}

impl Kept {
    /// The part that was kept, 0 to 1; 1 where none was made.
    pub fn part(&self) -> f64 {
        if self.all == 0 { 1.0 } else { self.good as f64 / self.all as f64 }
    }

    fn count(&mut self, kept: bool) {
        self.all += 1;
        self.good += u64::from(kept);
    }

    fn add(&mut self, other: Kept) {
        self.good += other.good;
        self.all += other.all;
    }
}

/// One class.
#[derive(Clone, Debug)]
pub struct ClassReport {
    /// Its name.
    pub name: String,
    /// Whole promises.
    pub kept: Kept,
    /// Its parts.
    pub ttft: Kept,
    /// Its parts.
    pub itl: Kept,
    /// Its parts.
    pub deadline: Kept,
    /// Refused.
    pub shed: u64,
    /// Broken off.
    pub broken: u64,
    /// Not done at the end.
    pub unfinished: u64,
    /// Time to first token of streams, microseconds.
    pub ttft_us: Times,
    /// From the coming of a request to when it was first sent to a machine, microseconds.
    pub held_us: Times,
    /// Answers by pool.
    pub by_pool: Vec<u64>,
}

/// One pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolReport {
    /// Its name.
    pub name: String,
    /// Attempts sent there.
    pub sent: u64,
    /// Of those, answered with 429 or 503.
    pub turned_away: u64,
    /// Prompt tokens.
    pub input_tokens: u64,
    /// Of those, from a prefix cache.
    pub cached_tokens: u64,
    /// Answer tokens.
    pub output_tokens: u64,
    /// Paid, US dollars.
    pub usd: f64,
    /// Used, joules with the site's PUE.
    pub joules: f64,
    /// How much of it was in use.
    pub usage: Usage,
    /// The part that was used of what is owed for it in the run's time; `None` where nothing is owed.
    pub commitment_used: Option<f64>,
}

/// One minute of arrivals.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Minute {
    /// Promises.
    pub kept: Kept,
    /// Paid in it, US dollars.
    pub usd: f64,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The router.
    pub router: String,
    /// By class, in the workload's order.
    pub classes: Vec<ClassReport>,
    /// By tenant, in the workload's order.
    pub tenants: Vec<Kept>,
    /// By pool, in the portfolio's order.
    pub pools: Vec<PoolReport>,
    /// By minute.
    pub minutes: Vec<Minute>,
    /// From the first to the last arrival.
    pub span: Micros,
    /// Time to first token of all streams, microseconds.
    pub ttft_us: Times,
    /// Real time of the router's decisions at arrivals, nanoseconds. The one figure that differs from run to run.
    pub decision_ns: Times,
    /// Output tokens of requests whose promise was kept.
    pub good_output_tokens: u64,
    /// The most power over any ten seconds, kilowatts.
    pub peak_kw: f64,
    /// Second and further attempts beside another.
    pub hedges: u64,
    /// Moves of held requests from one pool's line to another's.
    pub moves: u64,
    /// Tokens of attempts that were given up because another had answered.
    pub outrun_tokens: u64,
    /// Acts that named a request or endpoint they could not: mistakes of the router.
    pub mistakes: u64,
    /// How evenly pools were used.
    pub herding: Herding,
    /// Whether what the router predicted came true.
    pub calibration: Calibration,
    /// Events simulated.
    pub events: u64,
}

impl Report {
    pub(super) fn new(router: &str, classes: &[String], tenants: usize, pools: Vec<String>, span: Micros) -> Report {
        let class = |name: &String| ClassReport {
            name: name.clone(),
            kept: Kept::default(),
            ttft: Kept::default(),
            itl: Kept::default(),
            deadline: Kept::default(),
            shed: 0,
            broken: 0,
            unfinished: 0,
            ttft_us: Times::default(),
            held_us: Times::default(),
            by_pool: vec![0; pools.len()],
        };
        Report {
            router: router.to_owned(),
            classes: classes.iter().map(class).collect(),
            tenants: vec![Kept::default(); tenants],
            pools: pools.into_iter().map(|name| PoolReport { name, ..PoolReport::default() }).collect(),
            minutes: Vec::new(),
            span,
            ttft_us: Times::default(),
            decision_ns: Times::default(),
            good_output_tokens: 0,
            peak_kw: 0.0,
            hedges: 0,
            moves: 0,
            outrun_tokens: 0,
            mistakes: 0,
            herding: Herding::default(),
            calibration: Calibration::default(),
            events: 0,
        }
    }

    pub(super) fn settle(&mut self, outcome: &Outcome) {
        let good = self.judge(outcome);
        if let Some(tenant) = self.tenants.get_mut(outcome.tenant) {
            tenant.count(good);
        }
        self.in_minute(outcome.at, |minute| minute.kept.count(good));
        if let End::Answered(observed) = outcome.end {
            self.good_output_tokens += if good { observed.output_tokens } else { 0 };
        }
    }

    /// Whether the whole promise was kept; counts its parts.
    fn judge(&mut self, outcome: &Outcome) -> bool {
        let Some(class) = self.classes.get_mut(outcome.class) else { return false };
        let mut good = true;
        let mut count = |part: Part, kept: bool| {
            good &= kept;
            match part {
                Part::Ttft => class.ttft.count(kept),
                Part::Itl => class.itl.count(kept),
                Part::Deadline => class.deadline.count(kept),
            }
        };
        match outcome.end {
            End::Answered(observed) => parts_kept(&outcome.slo, &observed).for_each(|(part, kept)| count(part, kept)),
            _ => parts_missed(&outcome.slo).for_each(|part| count(part, false)),
        }
        match outcome.end {
            End::Answered(observed) => {
                if let Some(ttft_ms) = observed.ttft_ms.filter(|_| observed.streamed) {
                    class.ttft_us.record(Micros::from_ms(ttft_ms).0);
                    self.ttft_us.record(Micros::from_ms(ttft_ms).0);
                }
                if let Some(count) = outcome.pool.and_then(|pool| class.by_pool.get_mut(pool)) {
                    *count += 1;
                }
            }
            End::Shed => class.shed += 1,
            End::Broken => class.broken += 1,
            End::Unfinished => class.unfinished += 1,
        }
        good &= matches!(outcome.end, End::Answered(_));
        class.kept.count(good);
        good
    }

    /// Counts something in the minute of its time.
    pub(super) fn in_minute(&mut self, at: Micros, count: impl FnOnce(&mut Minute)) {
        let index = (at.0 / MINUTE.0) as usize;
        if self.minutes.len() <= index {
            self.minutes.resize(index + 1, Minute::default());
        }
        if let Some(minute) = self.minutes.get_mut(index) {
            count(minute);
        }
    }

    pub(super) fn decided(&mut self, took: Duration) {
        self.decision_ns.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// All requests together.
    pub fn kept(&self) -> Kept {
        let mut all = Kept::default();
        self.classes.iter().for_each(|class| all.add(class.kept));
        all
    }

    /// Paid for all attempts, US dollars.
    pub fn usd(&self) -> f64 {
        self.pools.iter().map(|pool| pool.usd).sum()
    }

    /// Paid for a thousand promises kept, US dollars.
    pub fn usd_per_1k_good(&self) -> f64 {
        self.usd() / self.kept().good.max(1) as f64 * 1e3
    }

    /// Used, joules.
    pub fn joules(&self) -> f64 {
        self.pools.iter().map(|pool| pool.joules).sum()
    }

    /// Used for each output token of a promise kept, joules.
    pub fn j_per_good_token(&self) -> f64 {
        self.joules() / self.good_output_tokens.max(1) as f64
    }

    /// Promises kept per second.
    pub fn goodput_rps(&self) -> f64 {
        self.kept().good as f64 / self.span.as_secs().max(1e-6)
    }

    /// The 99th percentile of the time to first token of streams, milliseconds.
    pub fn p99_ttft_ms(&self) -> f64 {
        self.ttft_us.quantile(0.99) / 1e3
    }

    /// The attainment of the tenant that fared worst.
    pub fn worst_tenant(&self) -> f64 {
        self.tenants.iter().filter(|kept| kept.all > 0).map(Kept::part).fold(1.0, f64::min)
    }

    /// Jain's index of the tenants' attainment: 1 where all fare alike.
    pub fn fairness(&self) -> f64 {
        let parts: Vec<f64> = self.tenants.iter().filter(|kept| kept.all > 0).map(Kept::part).collect();
        let (sum, squares) = (parts.iter().sum::<f64>(), parts.iter().map(|part| part * part).sum::<f64>());
        if squares == 0.0 { 1.0 } else { sum * sum / (parts.len() as f64 * squares) }
    }
}
