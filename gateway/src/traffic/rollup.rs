//! Every request summed up by moment and by class, endpoint and pool: one cell a second for ten minutes, one in ten seconds
//! for two hours, one in five minutes for three days. Moments without requests take no room.

use std::collections::{HashMap, VecDeque};

use super::names::Column;
use super::row::{PARTS, Row, Slo};
use super::sketch::Sketch;

/// Length of a step, seconds, and how many of them are kept.
pub const TIERS: [(u64, usize); 3] = [(1, 600), (10, 720), (300, 864)];
/// Series of one cell. What comes beyond is counted in [`Series::All`] only, which bounds what a large fleet takes.
const MOST_SERIES: usize = 128;
/// Classes that are counted from the start on.
const MOST_CLASSES: usize = 256;

/// What is summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Series {
    /// Everything.
    All,
    /// A class.
    Class(u16),
    /// A pool.
    Pool(u16),
    /// An endpoint.
    Endpoint(u16),
    /// A class on an endpoint, for a second.
    Flow(u16, u16),
    /// A class on a pool, in the longest steps.
    Cost(u16, u16),
    /// A tenant, in the longest steps.
    Tenant(u16),
}

/// What a request would have cost on the cheapest GPU pool that serves its model; modelled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AllGpu {
    /// By that pool's list price, US dollars; `None` where no GPU pool serves the model.
    pub usd: Option<f64>,
    /// There, with nothing in the cache and company as usual, joules; `None` where that is unknown.
    pub joules: Option<f64>,
}

impl AllGpu {
    /// Of a request that no machine has worked on.
    pub fn nothing() -> AllGpu {
        AllGpu { usd: Some(0.0), joules: Some(0.0) }
    }
}

/// Sums of one series over one step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Requests that ended.
    pub requests: u32,
    /// Of them those that the gateway or a machine failed.
    pub errors: u32,
    /// Promises kept.
    pub kept: u32,
    /// Promises missed.
    pub missed: u32,
    /// Of them those missed in a part, as [`PARTS`] has them.
    pub missed_of: [u32; PARTS.len()],
    /// Prompt tokens.
    pub input_tokens: u64,
    /// Answer tokens.
    pub output_tokens: u64,
    /// US dollars.
    pub usd: f64,
    /// Joules, modelled.
    pub joules: f64,
    /// What GPUs alone would have cost, US dollars.
    pub usd_all_gpu: f64,
    /// Requests that no GPU serves.
    pub not_on_gpu: u32,
    /// What GPUs alone would have taken, joules.
    pub joules_all_gpu: f64,
    /// Requests of which that is not known.
    pub no_gpu_joules: u32,
    /// Times to first token.
    pub ttft: Sketch,
    /// Times per output token.
    pub itl: Sketch,
}

impl Stats {
    fn add(&mut self, row: &Row, all_gpu: AllGpu) {
        self.requests += 1;
        self.errors += u32::from(row.is_error());
        self.kept += u32::from(row.slo() == Slo::Kept);
        self.missed += u32::from(row.slo() == Slo::Missed);
        self.missed_of.iter_mut().zip(parts(row)).for_each(|(sum, missed)| *sum += u32::from(missed));
        self.input_tokens += u64::from(row.input_tokens);
        self.output_tokens += u64::from(row.output_tokens);
        self.usd += f64::from(row.usd);
        self.joules += if row.joules.is_finite() { f64::from(row.joules) } else { 0.0 };
        match all_gpu.usd {
            Some(usd) => self.usd_all_gpu += usd,
            None => self.not_on_gpu += 1,
        }
        match all_gpu.joules {
            Some(joules) => self.joules_all_gpu += joules,
            None => self.no_gpu_joules += 1,
        }
        self.ttft.add(row.ttft_ms.into());
        self.itl.add(row.itl_ms.into());
    }

    /// Adds another's sums.
    pub fn merge(&mut self, other: &Stats) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.kept += other.kept;
        self.missed += other.missed;
        self.missed_of.iter_mut().zip(other.missed_of).for_each(|(sum, more)| *sum += more);
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.usd += other.usd;
        self.joules += other.joules;
        self.usd_all_gpu += other.usd_all_gpu;
        self.not_on_gpu += other.not_on_gpu;
        self.joules_all_gpu += other.joules_all_gpu;
        self.no_gpu_joules += other.no_gpu_joules;
        self.ttft.merge(&other.ttft);
        self.itl.merge(&other.itl);
    }

    /// What GPUs alone would have cost; `None` where one of the requests could not have been served by any.
    pub fn all_gpu(&self) -> Option<f64> {
        (self.not_on_gpu == 0).then_some(self.usd_all_gpu)
    }

    /// What GPUs alone would have taken, joules; `None` where that is not known of one of the requests.
    pub fn all_gpu_joules(&self) -> Option<f64> {
        (self.no_gpu_joules == 0).then_some(self.joules_all_gpu)
    }
}

/// Promises of a class since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promises {
    /// Kept.
    pub kept: u64,
    /// Missed.
    pub missed: u64,
    /// Of them those missed in a part, as [`PARTS`] has them.
    pub missed_of: [u64; PARTS.len()],
    /// Nothing to judge.
    pub none: u64,
}

/// One step of one tier.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Seconds since 1970 at which it begins.
    pub unix_s: u64,
    /// Its sums.
    pub series: HashMap<Series, Stats>,
}

/// All sums.
#[derive(Clone, Debug, Default)]
pub struct Rollups {
    tiers: [VecDeque<Cell>; TIERS.len()],
    promises: HashMap<u16, Promises>,
}

impl Rollups {
    /// Counts a request at the moment of its end.
    pub fn add(&mut self, row: &Row, all_gpu: AllGpu) {
        let end_s = row.unix_ms.saturating_add(row.total_ms.max(0.0) as u64) / 1_000;
        let (class, pool, endpoint) = (row.name(Column::Class), row.name(Column::Pool), row.name(Column::Endpoint));
        for ((step_s, most), cells) in TIERS.into_iter().zip(&mut self.tiers) {
            let Some(cell) = cell(cells, end_s - end_s % step_s, step_s, most) else { continue };
            let besides = match step_s {
                1 => [Some(Series::Flow(class, endpoint)), None],
                300 => [Some(Series::Cost(class, pool)), Some(Series::Tenant(row.name(Column::Tenant)))],
                _ => [None, None],
            };
            let all = [Series::All, Series::Class(class), Series::Pool(pool), Series::Endpoint(endpoint)];
            for series in all.into_iter().chain(besides.into_iter().flatten()) {
                if cell.series.len() < MOST_SERIES || cell.series.contains_key(&series) {
                    cell.series.entry(series).or_default().add(row, all_gpu);
                }
            }
        }
        if self.promises.len() < MOST_CLASSES || self.promises.contains_key(&class) {
            let promises = self.promises.entry(class).or_default();
            match row.slo() {
                Slo::Kept => promises.kept += 1,
                Slo::Missed => promises.missed += 1,
                Slo::None => promises.none += 1,
            }
            promises.missed_of.iter_mut().zip(parts(row)).for_each(|(sum, missed)| *sum += u64::from(missed));
        }
    }

    /// Promises by class since the start, whatever policies have come and gone.
    pub fn promises(&self) -> &HashMap<u16, Promises> {
        &self.promises
    }

    /// Cells with steps of so many seconds that begin in a span, the oldest first; none where there is no such tier.
    pub fn cells(&self, step_s: u64, from_s: u64, until_s: u64) -> impl Iterator<Item = &Cell> {
        let tier = TIERS.iter().position(|(step, _)| *step == step_s).and_then(|tier| self.tiers.get(tier));
        tier.into_iter().flatten().filter(move |cell| (from_s..until_s).contains(&cell.unix_s))
    }

    /// The sums of a span, by series, from the finest steps that reach back so far.
    pub fn window(&self, window_s: u64, now_s: u64) -> HashMap<Series, Stats> {
        let step_s = step_for(window_s);
        let mut sums: HashMap<Series, Stats> = HashMap::new();
        for cell in self.cells(step_s, now_s.saturating_sub(window_s), u64::MAX) {
            for (series, stats) in &cell.series {
                sums.entry(*series).or_default().merge(stats);
            }
        }
        sums
    }
}

/// The finest step that is kept for so long, seconds.
pub fn step_for(window_s: u64) -> u64 {
    let reaches = |(step_s, most): &&(u64, usize)| *step_s * *most as u64 >= window_s;
    TIERS.iter().find(reaches).or(TIERS.last()).map_or(1, |(step_s, _)| *step_s)
}

/// Of each of [`PARTS`], whether it was missed.
fn parts(row: &Row) -> impl Iterator<Item = bool> {
    let bits = row.missed_bits();
    (0..PARTS.len()).map(move |bit| bits & (1 << bit) != 0)
}

/// The cell of a moment; `None` where it is forgotten already.
fn cell(cells: &mut VecDeque<Cell>, unix_s: u64, step_s: u64, most: usize) -> Option<&mut Cell> {
    let newest = cells.back().map_or(0, |cell| cell.unix_s);
    let oldest = newest.max(unix_s).saturating_sub(step_s * (most as u64 - 1));
    if unix_s < oldest {
        return None;
    }
    while cells.front().is_some_and(|cell| cell.unix_s < oldest) {
        cells.pop_front();
    }
    let place = cells.partition_point(|cell| cell.unix_s < unix_s);
    if cells.get(place).is_none_or(|cell| cell.unix_s != unix_s) {
        cells.insert(place, Cell { unix_s, series: HashMap::new() });
    }
    cells.get_mut(place)
}

#[cfg(test)]
mod tests {
    use super::super::names::Names;
    use super::super::row::tests::row;
    use super::*;

    const FREE: AllGpu = AllGpu { usd: Some(0.5), joules: Some(2.0) };

    fn one(names: &mut Names, class: &str, second: u64, slo: Slo) -> Row {
        row(names, &[(Column::Class, class), (Column::Endpoint, "gpu/1")], |row| {
            (row.unix_ms, row.ttft_ms, row.slo, row.usd) = (second * 1_000, 100.0, slo as u8, 0.25);
        })
    }

    #[test]
    fn each_request_counts_in_every_tier_at_its_end() {
        let (mut rollups, mut names) = (Rollups::default(), Names::default());
        let late = one(&mut names, "batch", 1_000, Slo::Missed);
        rollups.add(&one(&mut names, "batch", 1_007, Slo::Kept), FREE);
        let pace = Slo::Missed as u8 | 0b010 << 2;
        rollups.add(&Row { total_ms: 4_000.0, slo: pace, ..late }, AllGpu { usd: None, joules: None });
        let seconds: Vec<u64> = rollups.cells(1, 0, u64::MAX).map(|cell| cell.unix_s).collect();
        assert_eq!(seconds, [1_004, 1_007], "in order, whichever came first");
        let sums = rollups.window(3_600, 1_010);
        let class = Series::Class(names.number(Column::Class, "batch"));
        let stats = &sums[&class];
        assert_eq!((stats.requests, stats.kept, stats.missed, stats.usd), (2, 1, 1, 0.5));
        assert_eq!((stats.all_gpu(), sums[&Series::All].requests), (None, 2), "one of them no GPU serves");
        assert!(sums.keys().all(|series| !matches!(series, Series::Flow(..))));
        let promises = Promises { kept: 1, missed: 1, none: 0, missed_of: [0, 1, 0] };
        assert_eq!(rollups.promises()[&names.number(Column::Class, "batch")], promises);
        assert_eq!((stats.missed_of, sums[&Series::All].missed_of), ([0, 1, 0], [0, 1, 0]), "by part");
    }

    #[test]
    fn old_steps_are_forgotten_and_what_comes_for_them_too() {
        let (mut rollups, mut names) = (Rollups::default(), Names::default());
        for second in 0..2_000 {
            rollups.add(&one(&mut names, "batch", second, Slo::Kept), FREE);
        }
        assert_eq!(rollups.cells(1, 0, u64::MAX).count(), 600);
        rollups.add(&one(&mut names, "batch", 3, Slo::Kept), FREE);
        assert_eq!(rollups.cells(1, 0, u64::MAX).next().unwrap().unix_s, 1_400);
        assert_eq!(rollups.window(600, 2_000)[&Series::All].requests, 600);
        assert_eq!(rollups.window(7_200, 2_000)[&Series::All].requests, 2_001);
        assert_eq!([600, 601, 7_200, 21_600, 259_200].map(step_for), [1, 10, 10, 300, 300]);
    }

    #[test]
    fn many_endpoints_share_a_bound() {
        let (mut rollups, mut names) = (Rollups::default(), Names::default());
        for endpoint in 0..1_000 {
            let name = format!("gpu/{endpoint}");
            rollups.add(&row(&mut names, &[(Column::Endpoint, &name)], |_| ()), FREE);
        }
        assert!(rollups.cells(1, 0, u64::MAX).all(|cell| cell.series.len() <= MOST_SERIES));
        assert_eq!(rollups.window(60, 10)[&Series::All].requests, 1_000);
    }
}
