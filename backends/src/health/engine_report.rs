//! What an inference engine says of itself, and what of that the gateway did not know already.

use std::collections::VecDeque;

use pointsman_policies::units::Micros;

/// In this time half of what was reported is no longer counted on, seconds.
const HALF_LIFE_S: f64 = 5.0;
/// What is older than this says nothing, seconds.
const OLDEST_S: f64 = 30.0;
/// By how much predictions are widened where metrics are wanted and none have come for long.
const WIDEST: f64 = 0.25;
/// Moments closer than this are one.
const SAME_MOMENT: Micros = Micros(100_000);
/// Moments remembered: reports up to about half a minute old can be told from the gateway's own work.
const MOST_MOMENTS: usize = 256;

/// One reading of an engine's metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EngineReport {
    /// Requests in the batch.
    pub running: u32,
    /// Requests accepted that wait for a place.
    pub waiting: u32,
    /// The part of the KV memory in use, 0 to 1, where the engine tells.
    pub kv_used: Option<f64>,
    /// The part of prompt tokens found in the prefix cache, 0 to 1, where the engine tells it as such.
    pub prefix_hit_rate: Option<f64>,
    /// Prompt tokens looked up in the prefix cache since the start, and those found, where the engine counts them.
    pub prefix_totals: Option<(f64, f64)>,
}

/// What a report says that the one before did not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct News {
    /// The part of prompt tokens that the machine found in its prefix cache since; `None` where it read none, or does not
    /// tell.
    pub prefix_hit_rate: Option<f64>,
    /// It was started again: what it counts has become less.
    pub restarted: bool,
}

/// Work on a machine: the gateway's own, or what others sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Requests.
    pub in_flight: u32,
    /// Their tokens.
    pub context_tokens: u64,
}

impl Share {
    fn max(self, other: Share) -> Share {
        Share {
            in_flight: self.in_flight.max(other.in_flight),
            context_tokens: self.context_tokens.max(other.context_tokens),
        }
    }
}

/// What the gateway had on the machine from one moment on.
#[derive(Clone, Copy, Debug)]
struct Moment {
    from: Micros,
    /// The most until the next moment.
    most: Share,
    /// What was there in the end.
    last: Share,
}

/// The last report of a machine, as far as it goes beyond what the gateway counts itself.
#[derive(Clone, Debug, Default)]
pub struct Reported {
    at: Option<Micros>,
    last: EngineReport,
    in_flight: f64,
    context_tokens: f64,
    prefix_totals: Option<(f64, f64)>,
    own: VecDeque<Moment>,
}

impl Reported {
    /// What the gateway itself has on the machine from now on; reports may come late and are held against this.
    pub fn note(&mut self, now: Micros, own: Share) {
        match self.own.back_mut() {
            Some(moment) if now < moment.from + SAME_MOMENT => {
                moment.most = moment.most.max(own);
                moment.last = own;
            }
            _ => {
                self.own.push_back(Moment { from: now, most: own, last: own });
                if self.own.len() > MOST_MOMENTS {
                    self.own.pop_front();
                }
            }
        }
    }

    /// A report came that was true at a moment. What arrived or left about then is given the benefit of the doubt. One
    /// that is older than what is remembered is left out. `kv_tokens` is the memory of the machine.
    pub fn take(&mut self, at: Micros, report: &EngineReport, kv_tokens: Option<u64>) -> News {
        let news = self.news(report);
        self.prefix_totals = report.prefix_totals.or(self.prefix_totals);
        let Some(own) = self.own_about(at) else { return news };
        self.in_flight = (f64::from(report.running) + f64::from(report.waiting) - f64::from(own.in_flight)).max(0.0);
        let held = report.kv_used.zip(kv_tokens).map(|(part, capacity)| part.clamp(0.0, 1.0) * capacity as f64);
        self.context_tokens = held.map_or(0.0, |held| (held - own.context_tokens as f64).max(0.0));
        (self.at, self.last) = (Some(at), *report);
        news
    }

    /// What others have on the machine: fully counted when fresh, half after a half-life, not at all when it is old.
    pub fn foreign(&self, now: Micros) -> Share {
        if self.in_flight == 0.0 && self.context_tokens == 0.0 {
            return Share::default();
        }
        let weight = self.weight(now);
        Share {
            in_flight: (self.in_flight * weight).round() as u32,
            context_tokens: (self.context_tokens * weight) as u64,
        }
    }

    /// The factor by which predictions are widened: 1 with a fresh report, more the less the last one is believed.
    pub fn widening(&self, now: Micros) -> f64 {
        1.0 + WIDEST * (1.0 - self.weight(now))
    }

    /// When what was last reported was true.
    pub fn at(&self) -> Option<Micros> {
        self.at
    }

    /// What was last reported, of the machine as a whole, and how many seconds ago it was true.
    pub fn last(&self, now: Micros) -> Option<(EngineReport, f64)> {
        Some((self.last, self.age_s(now)?))
    }

    /// Seconds since what was last reported was true.
    pub fn age_s(&self, now: Micros) -> Option<f64> {
        self.at.map(|at| (now - at).as_secs())
    }

    fn weight(&self, now: Micros) -> f64 {
        match self.age_s(now) {
            Some(age) if age < OLDEST_S => (-age / HALF_LIFE_S).exp2(),
            _ => 0.0,
        }
    }

    /// The most that the gateway had there about a moment; `None` where that is forgotten.
    fn own_about(&self, at: Micros) -> Option<Share> {
        let (from, to) = (at - SAME_MOMENT, at + SAME_MOMENT);
        let mut own = Share::default();
        for moment in self.own.iter().rev().filter(|moment| moment.from <= to) {
            if moment.from + SAME_MOMENT < from {
                return Some(own.max(moment.last));
            }
            own = own.max(moment.most);
        }
        (self.own.len() < MOST_MOMENTS).then_some(own)
    }

    fn news(&self, report: &EngineReport) -> News {
        let told = News { prefix_hit_rate: report.prefix_hit_rate, restarted: false };
        // What was counted before the first report is of times when nobody here knew what it was asked.
        let Some(((queries, hits), (queries_before, hits_before))) = report.prefix_totals.zip(self.prefix_totals)
        else {
            return told;
        };
        let (queries, hits) = (queries - queries_before, hits - hits_before);
        let rate = (queries > 0.0 && hits >= 0.0).then(|| (hits / queries).min(1.0));
        News { prefix_hit_rate: told.prefix_hit_rate.or(rate), restarted: queries < 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Share = Share { in_flight: 3, context_tokens: 1_000 };

    fn reported(running: u32, waiting: u32) -> Reported {
        let report = EngineReport { running, waiting, kv_used: Some(0.5), ..EngineReport::default() };
        let mut reported = Reported::default();
        reported.note(Micros::from_secs(1), OWN);
        reported.take(Micros::from_secs(10), &report, Some(10_000));
        reported
    }

    #[test]
    fn only_what_others_sent_is_added() {
        let at = Micros::from_secs(10);
        assert_eq!(reported(5, 2).foreign(at), Share { in_flight: 4, context_tokens: 4_000 });
        assert_eq!(reported(2, 0).foreign(at).in_flight, 0, "a report that lags behind us takes nothing off");
        assert_eq!(Reported::default().foreign(at), Share::default());
    }

    #[test]
    fn a_report_that_comes_late_is_held_against_what_was_there_when_it_was_true() {
        let at = Micros::from_secs;
        let mut reported = Reported::default();
        reported.note(at(1), Share { in_flight: 10, ..OWN });
        reported.note(at(6), Share { in_flight: 2, ..OWN });
        reported.take(at(5), &EngineReport { running: 12, ..EngineReport::default() }, None);
        assert_eq!(reported.foreign(at(5)).in_flight, 2);
        assert_eq!(reported.age_s(at(8)), Some(3.0));
        let long = (0..1_000).map(|tenth| Micros(tenth * 100_000));
        long.for_each(|now| reported.note(now, OWN));
        reported.take(at(5), &EngineReport { running: 500, ..EngineReport::default() }, None);
        assert_eq!(reported.foreign(at(5)).in_flight, 2, "what is forgotten cannot be held against a report");
    }

    #[test]
    fn what_comes_and_goes_while_asking_is_not_taken_for_foreign() {
        let mut reported = Reported::default();
        reported.note(Micros(1_000_000), Share { in_flight: 2, ..OWN });
        reported.note(Micros(1_020_000), Share { in_flight: 5, ..OWN });
        reported.note(Micros(1_040_000), Share { in_flight: 1, ..OWN });
        reported.take(Micros(1_090_000), &EngineReport { running: 5, ..EngineReport::default() }, None);
        assert_eq!(reported.foreign(Micros(1_090_000)), Share::default());
    }

    #[test]
    fn the_older_a_report_the_less_it_counts_and_the_wider_the_prediction() {
        let reported = reported(11, 0);
        let at = |second| reported.foreign(Micros::from_secs(second)).in_flight;
        assert_eq!((at(10), at(15), at(20), at(60)), (8, 4, 2, 0));
        let wider = |second| reported.widening(Micros::from_secs(second));
        assert!((wider(10), wider(60)) == (1.0, 1.25) && wider(12) < wider(20), "{} {}", wider(12), wider(20));
    }

    #[test]
    fn counters_of_the_prefix_cache_become_a_recent_rate_and_tell_of_a_restart() {
        let mut reported = Reported::default();
        let mut news = |queries, hits| {
            let report = EngineReport { prefix_totals: Some((queries, hits)), ..EngineReport::default() };
            let news = reported.take(Micros(0), &report, None);
            (news.prefix_hit_rate, news.restarted)
        };
        assert_eq!(news(100.0, 20.0), (None, false), "nobody knows what it was asked before");
        assert_eq!(news(200.0, 100.0), (Some(0.8), false));
        assert_eq!(news(200.0, 100.0), (None, false), "nothing was asked");
        assert_eq!(news(10.0, 1.0), (None, true));
        assert_eq!(news(20.0, 6.0), (Some(0.5), false));
        let gauge = EngineReport { prefix_hit_rate: Some(0.3), ..EngineReport::default() };
        assert_eq!(reported.take(Micros(0), &gauge, None).prefix_hit_rate, Some(0.3));
    }
}
