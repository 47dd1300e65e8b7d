//! How long an answer will be: a sketch per tenant, model, class and size of prompt, each shrunk to one that knows more
//! and says less.

use pointsman_policies::facts::PRIOR_OUTPUT_TOKENS;
use serde::{Deserialize, Serialize};

use super::bounded::{Bounded, Entries, key};
use super::sketch::{Shares, Sketch};

/// Sketches kept at most; each is 128 bytes.
const MOST_SKETCHES: usize = 8_192;
/// A parent counts as much as this many answers of the child's own.
const PARENT_ANSWERS: f64 = 20.0;
/// Spread of the prior, natural logarithms: about that of public chat traces.
const PRIOR_SIGMA: f64 = 1.1;

/// What is expected of an answer, tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutputLength {
    /// The mean: for work and price.
    pub mean: f64,
    /// Half of the answers are shorter.
    pub p50: f64,
    /// Nine in ten are shorter: for memory and quota.
    pub p90: f64,
}

/// Who asks what of which model.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The tenant; empty where unknown.
    pub tenant: &'a str,
    /// The model as the client names it.
    pub model: &'a str,
    /// The class.
    pub class: &'a str,
    /// Prompt length, tokens.
    pub input_tokens: u64,
}

/// The learned lengths.
#[derive(Clone, Debug)]
pub struct OutputLengths {
    sketches: Bounded<Sketch>,
    prior: Shares,
}

impl Default for OutputLengths {
    fn default() -> OutputLengths {
        // A lognormal's median, from its mean.
        let median = PRIOR_OUTPUT_TOKENS as f64 * (-PRIOR_SIGMA * PRIOR_SIGMA / 2.0).exp();
        OutputLengths { sketches: Bounded::new(MOST_SKETCHES), prior: Shares::lognormal(median, PRIOR_SIGMA) }
    }
}

impl OutputLengths {
    /// The mean, cut at the caller's bound: for work and price.
    pub fn mean(&self, asked: &Asked<'_>, max_tokens: Option<u64>) -> f64 {
        self.shares(asked).mean(longest(max_tokens))
    }

    /// What is expected, cut at the caller's bound.
    pub fn expected(&self, asked: &Asked<'_>, max_tokens: Option<u64>) -> OutputLength {
        let (shares, longest) = (self.shares(asked), longest(max_tokens));
        OutputLength {
            mean: shares.mean(longest),
            p50: shares.quantile(0.5, longest),
            p90: shares.quantile(0.9, longest),
        }
    }

    fn shares(&self, asked: &Asked<'_>) -> Shares {
        asked.keys().iter().fold(self.prior, |parent, key| match self.sketches.get(*key) {
            Some(sketch) => sketch.shrunk_to(&parent, PARENT_ANSWERS),
            None => parent,
        })
    }

    /// An answer came to its end.
    pub fn learn(&mut self, asked: &Asked<'_>, output_tokens: u64) {
        for key in asked.keys() {
            self.sketches.entry(key, Sketch::default).add(output_tokens);
        }
    }

    pub(super) fn save(&self) -> Saved {
        Saved(self.sketches.entries())
    }

    pub(super) fn restore(&mut self, saved: Saved) {
        self.sketches.restore(saved.0, Sketch::is_sound);
    }
}

/// The sketches as saved.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Saved(Entries<Sketch>);

impl Asked<'_> {
    /// From the parent of all to the own.
    fn keys(&self) -> [u64; 3] {
        let (model, class, tenant) = (self.model.as_bytes(), self.class.as_bytes(), self.tenant.as_bytes());
        let bucket = [self.input_tokens.max(1).ilog2() as u8];
        [key(&[model, class]), key(&[model, class, &bucket]), key(&[model, class, &bucket, tenant])]
    }
}

fn longest(max_tokens: Option<u64>) -> f64 {
    max_tokens.map_or(f64::MAX, |bound| bound as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(tenant: &'static str, input_tokens: u64) -> Asked<'static> {
        Asked { tenant, model: "m", class: "interactive", input_tokens }
    }

    #[test]
    fn without_answers_the_prior_is_told() {
        let expected = OutputLengths::default().expected(&asked("a", 100), None);
        assert!((expected.mean - 200.0).abs() < 20.0, "{expected:?}");
        assert!(expected.p50 < expected.mean && expected.mean < expected.p90, "{expected:?}");
        let cut = OutputLengths::default().expected(&asked("a", 100), Some(16));
        assert!(cut.mean <= 16.0 && cut.p90 <= 16.0, "{cut:?}");
    }

    #[test]
    fn tenants_and_sizes_of_prompts_are_kept_apart_and_strangers_get_the_parents() {
        let mut lengths = OutputLengths::default();
        for _ in 0..300 {
            lengths.learn(&asked("terse", 100), 10);
            lengths.learn(&asked("chatty", 100), 1_000);
            lengths.learn(&asked("terse", 8_000), 400);
        }
        let median = |tenant, input| lengths.expected(&asked(tenant, input), None).p50;
        assert!(median("terse", 100) < 20.0, "{}", median("terse", 100));
        assert!(median("chatty", 110) > 700.0, "{}", median("chatty", 110));
        assert!((300.0..=600.0).contains(&median("terse", 8_100)), "{}", median("terse", 8_100));
        assert!((300.0..=600.0).contains(&median("stranger", 8_100)), "{}", median("stranger", 8_100));
    }

    #[test]
    fn a_few_answers_move_the_parents_estimate_only_so_far() {
        let mut lengths = OutputLengths::default();
        for _ in 0..500 {
            lengths.learn(&asked("many", 100), 100);
        }
        lengths.learn(&asked("new", 100), 10_000);
        let expected = lengths.expected(&asked("new", 100), None);
        assert!((80.0..=130.0).contains(&expected.p50), "{expected:?}");
    }

    #[test]
    fn lengths_that_double_are_followed_within_a_few_hundred_answers() {
        let mut lengths = OutputLengths::default();
        (0..1_000).for_each(|_| lengths.learn(&asked("a", 100), 150));
        (0..400).for_each(|_| lengths.learn(&asked("a", 100), 300));
        let p50 = lengths.expected(&asked("a", 100), None).p50;
        assert!((240.0..=370.0).contains(&p50), "{p50}");
    }

    #[test]
    fn what_is_saved_is_known_again() {
        let mut lengths = OutputLengths::default();
        (0..100).for_each(|_| lengths.learn(&asked("a", 100), 700));
        let text = serde_json::to_string(&lengths.save()).unwrap();
        let mut again = OutputLengths::default();
        again.restore(serde_json::from_str(&text).unwrap());
        assert_eq!(again.expected(&asked("a", 100), None), lengths.expected(&asked("a", 100), None));
    }
}
