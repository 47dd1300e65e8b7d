//! How sure a figure is: the bootstrap over blocks of minutes of all seeds, which keeps what happens together together.

use fastrand::Rng;
use pointsman::simulation::report::Minute;

/// Minutes that are drawn together.
const BLOCK: usize = 5;
/// How often all blocks are drawn anew.
const DRAWS: usize = 400;

/// The middle 95 % of what the attainment could have been.
pub fn attainment(runs: &[&[Minute]]) -> (f64, f64) {
    interval(runs, |minutes| {
        let good: u64 = minutes.clone().map(|minute| minute.kept.good).sum();
        good as f64 / minutes.map(|minute| minute.kept.all).sum::<u64>().max(1) as f64
    })
}

/// The middle 95 % of what a thousand promises kept could have cost, US dollars.
pub fn usd_per_1k_good(runs: &[&[Minute]]) -> (f64, f64) {
    interval(runs, |minutes| {
        let usd: f64 = minutes.clone().map(|minute| minute.usd).sum();
        usd / minutes.map(|minute| minute.kept.good).sum::<u64>().max(1) as f64 * 1e3
    })
}

fn interval(runs: &[&[Minute]], figure: impl Fn(Drawn<'_>) -> f64) -> (f64, f64) {
    // Nobody came while the last answers ran out: that says nothing of promises.
    let came = |block: &&[Minute]| block.iter().any(|minute| minute.kept.all > 0);
    let blocks: Vec<&[Minute]> = runs.iter().flat_map(|minutes| minutes.chunks(BLOCK)).filter(came).collect();
    let mut random = Rng::with_seed(1);
    let mut figures: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let picks: Vec<usize> = blocks.iter().map(|_| random.usize(..blocks.len())).collect();
            figure(Drawn { blocks: &blocks, picks: &picks, minute: 0 })
        })
        .collect();
    figures.sort_by(f64::total_cmp);
    let at = |part: f64| figures.get((part * (DRAWS - 1) as f64) as usize).copied().unwrap_or(0.0);
    (at(0.025), at(0.975))
}

/// The minutes of the blocks that were drawn.
#[derive(Clone)]
struct Drawn<'a> {
    blocks: &'a [&'a [Minute]],
    picks: &'a [usize],
    minute: usize,
}

impl<'a> Iterator for Drawn<'a> {
    type Item = &'a Minute;

    fn next(&mut self) -> Option<&'a Minute> {
        loop {
            let (pick, rest) = self.picks.split_first()?;
            if let Some(minute) = self.blocks[*pick].get(self.minute) {
                self.minute += 1;
                return Some(minute);
            }
            (self.picks, self.minute) = (rest, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use pointsman::simulation::report::Kept;

    use super::*;

    #[test]
    fn an_interval_holds_the_figure_and_shrinks_with_more_minutes() {
        let minutes = |count: usize| -> Vec<Minute> {
            let good = |minute: usize| 80 + (minute * 7 % 20) as u64;
            (0..count).map(|minute| Minute { kept: Kept { good: good(minute), all: 100 }, usd: 1.0 }).collect()
        };
        let (few, many) = (minutes(50), minutes(2000));
        let ((low, high), (closer_low, closer_high)) = (attainment(&[&few]), attainment(&[&many]));
        assert!(low < 0.895 && 0.895 < high, "{low} {high}");
        assert!(closer_high - closer_low < high - low);
    }

    #[test]
    fn minutes_in_which_nobody_came_are_not_taken_for_broken_promises() {
        let mut minutes = vec![Minute { kept: Kept { good: 99, all: 100 }, usd: 1.0 }; 10];
        minutes.resize(20, Minute::default());
        assert_eq!(attainment(&[&minutes]), (0.99, 0.99));
        assert_eq!(attainment(&[&[]]), (0.0, 0.0), "nothing is known of nothing");
    }
}
