//! What a machine says of itself, and what of it arrives: reports taken at an interval, seen late, some never.

use std::collections::VecDeque;

use pointsman_policies::units::Micros;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// What an inference server exposes of itself at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// When it was true.
    pub at: Micros,
    /// Jobs that have a place.
    pub running: u32,
    /// Jobs accepted that wait for a place.
    pub waiting: u32,
    /// KV memory in use, tokens.
    pub kv_tokens: u64,
    /// The part of the KV memory in use, 0 to 1; zero where nothing bounds it.
    pub kv_used: f64,
    /// Prompt tokens taken in that carried hashes of their blocks, since the start.
    pub looked_up_tokens: u64,
    /// Of these, tokens found in the prefix cache.
    pub found_tokens: u64,
    /// Prompt tokens of jobs that ended, since the start.
    pub prompt_tokens: u64,
    /// Tokens generated since the start.
    pub output_tokens: u64,
    /// What it draws, watts; zero where its power is not known.
    pub watts: f64,
}

impl Report {
    /// The part of the prompt tokens with hashes that was found in the prefix cache.
    pub fn hit_rate(&self) -> f64 {
        if self.looked_up_tokens == 0 { 0.0 } else { self.found_tokens as f64 / self.looked_up_tokens as f64 }
    }
}

/// How reports of a machine arrive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scrape {
    /// Between two reports.
    pub interval: Micros,
    /// From when a report is true to when it is seen.
    pub age: Micros,
    /// Chance that a report is never seen; 1 loses all.
    pub loss: f64,
}

/// The reports of one machine on their way. The caller asks [`next`](Self::next), takes a report of the engine then and
/// hands it in.
#[derive(Clone, Debug)]
pub struct Reports {
    scrape: Scrape,
    next: Micros,
    /// Under way, the oldest first.
    under_way: VecDeque<Report>,
    seen: Option<Report>,
    random: Pcg64Mcg,
}

impl Reports {
    /// None so far. The seed decides when within an interval this machine is asked, and which reports are lost.
    pub fn new(scrape: Scrape, seed: u64) -> Reports {
        let scrape = Scrape { interval: scrape.interval.max(Micros(1)), ..scrape };
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let next = Micros((scrape.interval.0 as f64 * random.random::<f64>()) as u64);
        Reports { scrape, next, under_way: VecDeque::new(), seen: None, random }
    }

    /// When the next report is to be taken.
    pub fn next(&self) -> Micros {
        self.next
    }

    /// Hands in a report that was taken at [`next`](Self::next).
    pub fn take(&mut self, report: Report) {
        self.next += self.scrape.interval;
        self.arrive(report.at);
        if self.random.random::<f64>() >= self.scrape.loss {
            self.under_way.push_back(report);
        }
    }

    /// The latest report that has arrived; it is true of its own time, not of now.
    pub fn seen(&mut self, now: Micros) -> Option<&Report> {
        self.arrive(now);
        self.seen.as_ref()
    }

    /// Forgets what is on its way and delays what follows otherwise: monitoring fails, or comes back.
    pub fn change(&mut self, scrape: Scrape) {
        self.under_way.clear();
        self.scrape = Scrape { interval: scrape.interval.max(Micros(1)), ..scrape };
    }

    fn arrive(&mut self, now: Micros) {
        while let Some(report) = self.under_way.front().filter(|report| report.at + self.scrape.age <= now) {
            self.seen = Some(*report);
            self.under_way.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(scrape: Scrape, seed: u64) -> Vec<Option<u64>> {
        let mut reports = Reports::new(scrape, seed);
        (0..200)
            .map(|second| {
                let now = Micros::from_secs(second);
                while reports.next() <= now {
                    let at = reports.next();
                    reports.take(Report { at, ..Report::default() });
                }
                reports.seen(now).map(|report| (now - report.at).0 / 1000)
            })
            .collect()
    }

    #[test]
    fn a_report_is_seen_no_younger_than_its_age_and_at_most_an_interval_older() {
        for age_s in [0, 5, 15] {
            let scrape = Scrape { interval: Micros::from_secs(2), age: Micros::from_secs(age_s), loss: 0.0 };
            let ages = run(scrape, 1);
            assert!(
                ages[20..].iter().all(|age| age.is_some_and(|ms| (age_s * 1000..=age_s * 1000 + 2000).contains(&ms)))
            );
            assert_eq!(ages, run(scrape, 1));
            assert_ne!(ages, run(scrape, 2));
        }
    }

    #[test]
    fn lost_reports_leave_the_last_one_standing() {
        let scrape = |loss| Scrape { interval: Micros::from_secs(1), age: Micros(0), loss };
        assert!(run(scrape(1.0), 1).iter().all(Option::is_none));
        let mean = |ages: Vec<Option<u64>>| ages[20..].iter().flatten().sum::<u64>() / 180;
        let (all, some) = (mean(run(scrape(0.0), 1)), mean(run(scrape(0.6), 1)));
        assert!(some > all + 1000, "{some} ms against {all} ms");
    }
}
