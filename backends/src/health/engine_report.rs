//! What an inference engine says of itself, and what of that the gateway did not know already.

use pointsman_policies::units::Micros;

/// In this time half of what was reported is no longer counted on, seconds.
const HALF_LIFE_S: f64 = 5.0;
/// What is older than this says nothing, seconds.
const OLDEST_S: f64 = 30.0;
/// By how much an estimate is widened where metrics are wanted and none have come for long.
const WIDEST: f64 = 0.25;

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

/// What the gateway itself had on the machine at the moment of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Requests sent and not yet finished.
    pub in_flight: u32,
    /// Their prompt and expected answer tokens.
    pub context_tokens: u64,
}

/// Work on a machine that others sent, as far as it is still believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    /// Requests.
    pub in_flight: u32,
    /// Tokens they hold in KV memory.
    pub context_tokens: u64,
}

/// The last report of a machine, as far as it goes beyond what the gateway counts itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reported {
    at: Option<Micros>,
    in_flight: f64,
    context_tokens: f64,
    prefix_totals: Option<(f64, f64)>,
    prefix_hit_rate: Option<f64>,
}

impl Reported {
    /// A report came. `before` and `after` are what the gateway had there when it asked and when it was answered; what
    /// arrived or left in between is given the benefit of the doubt. `kv_tokens` is the memory of the machine.
    pub fn take(&mut self, now: Micros, report: &EngineReport, before: Own, after: Own, kv_tokens: Option<u64>) {
        let own = f64::from(before.in_flight.max(after.in_flight));
        let own_tokens = before.context_tokens.max(after.context_tokens) as f64;
        self.in_flight = (f64::from(report.running) + f64::from(report.waiting) - own).max(0.0);
        let held = report.kv_used.zip(kv_tokens).map(|(part, capacity)| part.clamp(0.0, 1.0) * capacity as f64);
        self.context_tokens = held.map_or(0.0, |held| (held - own_tokens).max(0.0));
        self.prefix_hit_rate = report.prefix_hit_rate.or_else(|| self.hit_rate_since(report.prefix_totals));
        self.prefix_totals = report.prefix_totals;
        self.at = Some(now);
    }

    /// What others have on the machine: fully counted when fresh, half after a half-life, not at all when it is old.
    pub fn foreign(&self, now: Micros) -> Foreign {
        let weight = self.weight(now);
        Foreign {
            in_flight: (self.in_flight * weight).round() as u32,
            context_tokens: (self.context_tokens * weight) as u64,
        }
    }

    /// The factor by which estimates are widened: 1 with a fresh report, more the less the last one is believed.
    pub fn widening(&self, now: Micros) -> f64 {
        1.0 + WIDEST * (1.0 - self.weight(now))
    }

    /// Seconds since the last report.
    pub fn age_s(&self, now: Micros) -> Option<f64> {
        self.at.map(|at| (now - at).as_secs())
    }

    /// The part of prompt tokens that the machine found in its prefix cache lately.
    pub fn prefix_hit_rate(&self) -> Option<f64> {
        self.prefix_hit_rate
    }

    fn weight(&self, now: Micros) -> f64 {
        match self.age_s(now) {
            Some(age) if age < OLDEST_S => (-age / HALF_LIFE_S).exp2(),
            _ => 0.0,
        }
    }

    /// The share of hits since the report before; the last known where nothing was looked up or the engine restarted.
    fn hit_rate_since(&self, totals: Option<(f64, f64)>) -> Option<f64> {
        let (queries, hits) = totals?;
        let (queries_before, hits_before) = self.prefix_totals.unwrap_or_default();
        let (queries, hits) = (queries - queries_before, hits - hits_before);
        if queries > 0.0 && hits >= 0.0 { Some((hits / queries).min(1.0)) } else { self.prefix_hit_rate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Own = Own { in_flight: 3, context_tokens: 1_000 };

    fn reported(running: u32, waiting: u32) -> Reported {
        let report = EngineReport { running, waiting, kv_used: Some(0.5), ..EngineReport::default() };
        let mut reported = Reported::default();
        reported.take(Micros::from_secs(10), &report, OWN, OWN, Some(10_000));
        reported
    }

    #[test]
    fn only_what_others_sent_is_added() {
        let at = Micros::from_secs(10);
        assert_eq!(reported(5, 2).foreign(at), Foreign { in_flight: 4, context_tokens: 4_000 });
        assert_eq!(reported(2, 0).foreign(at).in_flight, 0, "a report that lags behind us takes nothing off");
        assert_eq!(Reported::default().foreign(at), Foreign::default());
    }

    #[test]
    fn what_comes_and_goes_while_asking_is_not_taken_for_foreign() {
        let report = EngineReport { running: 5, ..EngineReport::default() };
        let mut reported = Reported::default();
        reported.take(Micros(0), &report, Own { in_flight: 5, ..OWN }, Own { in_flight: 2, ..OWN }, None);
        assert_eq!(reported.foreign(Micros(0)), Foreign::default());
    }

    #[test]
    fn the_older_a_report_the_less_it_counts_and_the_wider_the_estimate() {
        let reported = reported(11, 0);
        let at = |second| reported.foreign(Micros::from_secs(second)).in_flight;
        assert_eq!((at(10), at(15), at(20), at(60)), (8, 4, 2, 0));
        let wider = |second| reported.widening(Micros::from_secs(second));
        assert!((wider(10), wider(60)) == (1.0, 1.25) && wider(12) < wider(20), "{} {}", wider(12), wider(20));
    }

    #[test]
    fn counters_of_the_prefix_cache_become_a_recent_rate() {
        let mut reported = Reported::default();
        let mut rate = |queries, hits| {
            let report = EngineReport { prefix_totals: Some((queries, hits)), ..EngineReport::default() };
            reported.take(Micros(0), &report, OWN, OWN, None);
            reported.prefix_hit_rate()
        };
        assert_eq!(rate(100.0, 20.0), Some(0.2));
        assert_eq!(rate(200.0, 100.0), Some(0.8));
        assert_eq!(rate(200.0, 100.0), Some(0.8), "nothing was asked");
        assert_eq!(rate(10.0, 1.0), Some(0.8), "it was restarted");
        assert_eq!(rate(20.0, 6.0), Some(0.5));
    }
}
