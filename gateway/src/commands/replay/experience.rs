//! What a prediction was worth: how often the promise was kept where it looked like that. A policy plans with a margin,
//! so "likely" is cautious; this says what such predictions came to on this traffic and these machines.

use std::collections::BTreeMap;

use pointsman_policies::fleet::HardwareKind;

/// Strains within half a power of two are alike; those that are likely to be kept end at 0.
const STEPS: f64 = 2.0;
/// Beyond so many steps they are all alike.
const FARTHEST: f64 = 12.0;
/// Fewer outcomes than this say nothing of their own.
const LEAST: u64 = 20;

/// Predictions that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Alike {
    kind: HardwareKind,
    stream: bool,
    step: i8,
}

impl Alike {
    /// Predictions like this one.
    pub(super) fn of(kind: HardwareKind, stream: bool, strain: f64) -> Alike {
        let step = (strain.max(f64::MIN_POSITIVE).log2() * STEPS).ceil().clamp(-FARTHEST, FARTHEST);
        Alike { kind, stream, step: step as i8 }
    }

    fn is_likely(self) -> bool {
        self.step <= 0
    }
}

/// How often they were made, and what came of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcomes {
    /// First choices of the incumbent.
    pub(super) incumbent: u64,
    /// First choices of the candidate.
    pub(super) candidate: u64,
    /// Requests that went there and were judged.
    pub(super) judged: u64,
    /// Of those, with the promise kept.
    pub(super) kept: u64,
}

/// Outcomes by prediction.
#[derive(Debug, Default)]
pub(super) struct Experience(BTreeMap<Alike, Outcomes>);

impl Experience {
    /// The outcomes of predictions like these.
    pub(super) fn at(&mut self, alike: Alike) -> &mut Outcomes {
        self.0.entry(alike).or_default()
    }

    /// Adds what was counted after this.
    pub(super) fn add(&mut self, later: Experience) {
        for (alike, outcomes) in later.0 {
            let mine = self.at(alike);
            mine.incumbent += outcomes.incumbent;
            mine.candidate += outcomes.candidate;
            mine.judged += outcomes.judged;
            mine.kept += outcomes.kept;
        }
    }

    /// Of so many requests, the share whose promise the incumbent and the candidate can be expected to keep; `None`
    /// where too little was observed.
    pub(super) fn expected(&self, requests: u64) -> Option<(f64, f64)> {
        let sums = |likely: Option<bool>| {
            let alike = self.0.iter().filter(|(alike, _)| likely.is_none_or(|likely| alike.is_likely() == likely));
            alike.fold((0, 0), |(judged, kept), (_, outcomes)| (judged + outcomes.judged, kept + outcomes.kept))
        };
        let rate = |(judged, kept): (u64, u64)| (judged >= LEAST).then(|| kept as f64 / judged as f64);
        rate(sums(None))?;
        let (mut incumbent, mut candidate) = (0.0, 0.0);
        for (alike, outcomes) in &self.0 {
            let likely = alike.is_likely();
            let own = rate((outcomes.judged, outcomes.kept));
            let kept = own.or_else(|| rate(sums(Some(likely)))).unwrap_or(if likely { 1.0 } else { 0.0 });
            incumbent += kept * outcomes.incumbent as f64;
            candidate += kept * outcomes.candidate as f64;
        }
        Some((incumbent / requests.max(1) as f64, candidate / requests.max(1) as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_are_worth_what_came_of_them() {
        let mut experience = Experience::default();
        assert_eq!(experience.expected(10), None, "nothing was observed");
        let tight = Alike::of(HardwareKind::Gpu, true, 0.9);
        assert_eq!(tight, Alike::of(HardwareKind::Gpu, true, 1.0), "both are likely, and close");
        assert!(tight.is_likely() && !Alike::of(HardwareKind::Gpu, true, 1.01).is_likely());
        *experience.at(tight) = Outcomes { incumbent: 100, candidate: 20, judged: 100, kept: 80 };
        let over = Alike::of(HardwareKind::Gpu, true, 1.3);
        *experience.at(over) = Outcomes { incumbent: 0, candidate: 80, judged: 0, kept: 0 };
        // 100 x 0.8; 20 x 0.8 + 80 x 0, since nothing was seen of those that are not likely.
        assert_eq!(experience.expected(100), Some((0.8, 0.16)));
        *experience.at(Alike::of(HardwareKind::Cpu, true, 3.0)) =
            Outcomes { judged: 40, kept: 10, ..Outcomes::default() };
        // Now a quarter of the unlikely was kept.
        assert_eq!(experience.expected(100), Some((0.8, 0.36)));
    }
}
