//! How much of a bound may be planned with, learned from promises kept and missed: adaptive conformal calibration.
//!
//! A request is taken for feasible if its prediction is at most `margin * bound`. For each such request
//!
//! ```text
//! kept:    margin += eta * alpha * w            alpha = 1 - the class's target
//! missed:  margin -= eta * (1 - alpha) * w      w = prediction / (margin * bound), at most 1
//! ```
//!
//! so the margin rests where the weighted share of misses is `alpha`, whatever the predictions are worth. The weight
//! lets those count that were close to the line, which is what the margin moves: a thousand easy ones do not talk it
//! into risk. A request that was taken for infeasible and kept its bound nevertheless raises the margin in the same
//! way; one that missed was foreseen and changes nothing. Nor does a miss that came so much later than predicted that no
//! margin could have foreseen it: a machine that stands still now and then would talk a class out of all others.

use std::collections::BTreeMap;

use pointsman_policies::fleet::HardwareKind;
use pointsman_policies::learned::{ClassMargins, Margin};
use pointsman_policies::units::three_digits;
use serde::{Deserialize, Serialize};

/// How far one request moves a margin. A third of it leaves 2 % of promises missed where 1 % is allowed until thousands of
/// requests have come.
const ETA: f64 = 0.03;
/// Margins stay between these. Above 1 what is predicted to miss would be planned.
const RANGE: (f64, f64) = (0.2, 1.0);
/// A first token that comes this many times later than predicted is no matter of margins: the machine stood still. Merged
/// Azure traces, first 1,167 s, where the H100s stand still for 3 s every 30 s, load 1.0, four seeds: 0.863 kept without
/// this bound, 0.908 with it. Times per token have none: few tokens beside one long prompt are as far off, and margins
/// have to learn from them.
const UNFORESEEABLE: f64 = 3.0;
/// A target of 1 cannot be calibrated for; this share of misses is always taken for allowed.
const LEAST_ALPHA: f64 = 0.005;
/// Nor is a class served that may miss most of its promises.
const MOST_ALPHA: f64 = 0.5;
/// Classes that are remembered though no policy has them now.
const MOST_CLASSES: usize = 256;
/// How much an infeasible request that kept its bound may weigh.
const MOST_WEIGHT: f64 = 2.0;

/// A margin within its range; the prior's where it is no number.
fn within(margin: Margin, kind: HardwareKind) -> Margin {
    let prior = Margin::prior(kind);
    let part = |own: f64, prior| if own.is_finite() { own.clamp(RANGE.0, RANGE.1) } else { prior };
    Margin { ttft: part(margin.ttft, prior.ttft), itl: part(margin.itl, prior.itl) }
}

/// The margins of all classes.
#[derive(Clone, Debug, Default)]
pub(super) struct Margins {
    classes: Vec<Class>,
    away: BTreeMap<String, ClassMargins>,
}

#[derive(Clone, Debug)]
struct Class {
    name: String,
    alpha: f64,
    margins: ClassMargins,
}

/// One promise, as it was predicted and as it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    /// What was predicted, milliseconds.
    pub(super) predicted_ms: f64,
    /// What was observed, milliseconds.
    pub(super) observed_ms: f64,
    /// What was promised, milliseconds.
    pub(super) bound_ms: f64,
}

impl Margins {
    /// Classes by name and target, in this order, the first of a name being the one that counts. Known ones keep their
    /// margins.
    pub(super) fn adopt<'c>(&mut self, classes: impl Iterator<Item = (&'c str, f64)>) {
        for class in std::mem::take(&mut self.classes) {
            self.away.insert(class.name, class.margins);
        }
        for (name, target) in classes {
            if self.class(name).is_some() {
                continue;
            }
            let margins = self.away.remove(name).unwrap_or_else(|| HardwareKind::ALL.map(Margin::prior));
            let alpha = (1.0 - target).clamp(LEAST_ALPHA, MOST_ALPHA);
            self.classes.push(Class { name: name.to_owned(), alpha, margins });
        }
        while self.away.len() > MOST_CLASSES {
            self.away.pop_last();
        }
    }

    pub(super) fn margin(&self, class: usize, kind: HardwareKind) -> Margin {
        let margins = self.classes.get(class).map(|class| &class.margins);
        margins.and_then(|margins| margins.get(kind as usize)).copied().unwrap_or(Margin::prior(kind))
    }

    /// The margins of every class that a policy has now, by its name, as they are told.
    pub(super) fn all(&self) -> BTreeMap<String, ClassMargins> {
        let told = |margin: Margin| Margin { ttft: three_digits(margin.ttft), itl: three_digits(margin.itl) };
        self.classes.iter().map(|class| (class.name.clone(), class.margins.map(told))).collect()
    }

    /// The index of a class by its name.
    pub(super) fn class(&self, name: &str) -> Option<usize> {
        self.classes.iter().position(|class| class.name == name)
    }

    /// How a promise about the first token, or about a whole answer, came out.
    pub(super) fn learn_ttft(&mut self, class: usize, kind: HardwareKind, promise: Promise) {
        let foreseeable = promise.observed_ms <= UNFORESEEABLE * promise.predicted_ms.max(0.0);
        if foreseeable || promise.observed_ms <= promise.bound_ms {
            self.learn(class, kind, promise, |margin| &mut margin.ttft);
        }
    }

    /// How a promise about the time per token came out.
    pub(super) fn learn_itl(&mut self, class: usize, kind: HardwareKind, promise: Promise) {
        self.learn(class, kind, promise, |margin| &mut margin.itl);
    }

    fn learn(&mut self, class: usize, kind: HardwareKind, promise: Promise, part: fn(&mut Margin) -> &mut f64) {
        let Some(class) = self.classes.get_mut(class) else { return };
        let Some(margin) = class.margins.get_mut(kind as usize) else { return };
        let margin = part(margin);
        let strain = promise.predicted_ms / (*margin * promise.bound_ms);
        if !strain.is_finite() || strain < 0.0 || !promise.observed_ms.is_finite() {
            return;
        }
        let kept = promise.observed_ms <= promise.bound_ms;
        let step = match (kept, strain <= 1.0) {
            (true, _) => class.alpha * strain.min(MOST_WEIGHT),
            (false, true) => -(1.0 - class.alpha) * strain,
            (false, false) => 0.0,
        };
        *margin = (*margin + ETA * step).clamp(RANGE.0, RANGE.1);
    }

    pub(super) fn save(&self) -> Saved {
        let mut all = self.away.clone();
        all.extend(self.classes.iter().map(|class| (class.name.clone(), class.margins)));
        Saved(all)
    }

    pub(super) fn restore(&mut self, saved: Saved) {
        let kinds = HardwareKind::ALL;
        for (name, margins) in saved.0 {
            let mut sound = kinds.map(Margin::prior);
            for ((to, from), kind) in sound.iter_mut().zip(margins).zip(kinds) {
                *to = within(from, kind);
            }
            match self.classes.iter_mut().find(|class| class.name == name) {
                Some(class) => class.margins = sound,
                None if self.away.len() < MOST_CLASSES => drop(self.away.insert(name, sound)),
                None => {}
            }
        }
    }
}

/// The margins as saved, by class.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Saved(BTreeMap<String, ClassMargins>);

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    use super::*;

    const GPU: HardwareKind = HardwareKind::Gpu;

    fn margins(target: f64) -> Margins {
        let mut margins = Margins::default();
        margins.adopt([("interactive", target)].into_iter());
        margins
    }

    #[test]
    fn a_machine_that_stands_still_says_nothing_of_predictions() {
        let after = |observed_ms: f64| {
            let mut margins = margins(0.99);
            for _ in 0..100 {
                margins.learn_ttft(0, GPU, Promise { predicted_ms: 600.0, observed_ms, bound_ms: 1_000.0 });
            }
            margins.margin(0, GPU).ttft
        };
        let prior = Margin::prior(GPU).ttft;
        assert!(after(1_500.0) < 0.65, "somewhat slower than predicted, so less is to be believed: {}", after(1_500.0));
        assert!(after(3_000.0) == prior, "{}", after(3_000.0));
    }

    /// Takes requests whose truth is `slower` times the prediction, give or take a half, as they come, and sends those
    /// that seem feasible. The share of promises missed in the second half.
    fn missed(target: f64, slower: f64) -> f64 {
        let mut random = Pcg64Mcg::seed_from_u64(7);
        let mut margins = margins(target);
        let (mut sent, mut missed) = (0.0, 0.0);
        for round in 0..200_000 {
            let predicted_ms = random.random_range(50.0..1_500.0);
            let observed_ms = predicted_ms * slower * random.random_range(0.5..1.5);
            if predicted_ms > margins.margin(0, GPU).ttft * 1_000.0 {
                continue;
            }
            if round > 100_000 {
                sent += 1.0;
                missed += f64::from(u8::from(observed_ms > 1_000.0));
            }
            margins.learn_ttft(0, GPU, Promise { predicted_ms, observed_ms, bound_ms: 1_000.0 });
        }
        missed / sent
    }

    #[test]
    fn the_share_of_misses_comes_to_the_target_whatever_predictions_are_worth() {
        for (target, slower) in [(0.95, 1.0), (0.95, 2.0), (0.9, 1.5), (0.99, 1.5)] {
            let (missed, alpha) = (missed(target, slower), 1.0 - target);
            assert!(missed <= alpha * 1.1 && missed >= alpha * 0.3, "{missed} at {target}, {slower}");
        }
    }

    #[test]
    fn misses_that_were_foreseen_change_nothing_and_pessimism_is_unlearned() {
        let mut margins = margins(0.95);
        let before = margins.margin(0, GPU);
        let foreseen = Promise { predicted_ms: 950.0, observed_ms: 2_000.0, bound_ms: 1_000.0 };
        margins.learn_itl(0, GPU, foreseen);
        assert_eq!(margins.margin(0, GPU), before);
        (0..1_000).for_each(|_| margins.learn_itl(0, GPU, Promise { observed_ms: 800.0, ..foreseen }));
        assert!(margins.margin(0, GPU).itl > 0.9, "{:?}", margins.margin(0, GPU));
        assert_eq!(margins.margin(0, GPU).ttft, before.ttft);
    }

    #[test]
    fn a_machine_that_stood_still_teaches_first_tokens_nothing_and_paces_much() {
        let mut margins = margins(0.95);
        let before = margins.margin(0, GPU);
        let far_off = Promise { predicted_ms: 300.0, observed_ms: 2_000.0, bound_ms: 1_000.0 };
        margins.learn_ttft(0, GPU, far_off);
        assert_eq!(margins.margin(0, GPU), before);
        margins.learn_itl(0, GPU, far_off);
        assert!(margins.margin(0, GPU).itl < before.itl);
        margins.learn_ttft(0, GPU, Promise { observed_ms: 1_001.0, predicted_ms: 400.0, ..far_off });
        assert!(margins.margin(0, GPU).ttft < before.ttft);
    }

    #[test]
    fn nothing_hostile_leads_out_of_the_range() {
        let mut random = Pcg64Mcg::seed_from_u64(3);
        let mut margins = margins(1.0);
        let odd = [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300, 500.0];
        let mut pick = || odd[random.random_range(0..odd.len())];
        for _ in 0..20_000 {
            margins.learn_ttft(0, GPU, Promise { predicted_ms: pick(), observed_ms: pick(), bound_ms: pick() });
            let margin = margins.margin(0, GPU).ttft;
            assert!((RANGE.0..=RANGE.1).contains(&margin), "{margin}");
        }
    }

    #[test]
    fn a_policy_that_drops_a_class_and_takes_it_back_finds_its_margin() {
        let mut margins = margins(0.95);
        let miss = Promise { predicted_ms: 400.0, observed_ms: 1_100.0, bound_ms: 1_000.0 };
        margins.learn_ttft(0, GPU, miss);
        let learned = margins.margin(0, GPU);
        assert!(learned.ttft < Margin::prior(GPU).ttft);
        margins.adopt([("batch", 0.5)].into_iter());
        assert_eq!(margins.margin(0, GPU), Margin::prior(GPU));
        margins.adopt([("batch", 0.5), ("interactive", 0.95)].into_iter());
        assert_eq!(margins.margin(1, GPU), learned);
        let mut again = Margins::default();
        again.restore(serde_json::from_str(&serde_json::to_string(&margins.save()).unwrap()).unwrap());
        again.adopt([("interactive", 0.95)].into_iter());
        assert_eq!(again.margin(0, GPU), learned);
        assert_eq!(again.margin(9, HardwareKind::Wafer), Margin::prior(HardwareKind::Wafer));
    }
}
