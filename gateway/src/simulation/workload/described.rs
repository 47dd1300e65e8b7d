//! A load that is described rather than recorded: a rate, how unevenly requests come, how long prompts and answers are.

use pointsman_policies::units::Micros;
use rand::SeedableRng;
use rand_distr::{Distribution, Gamma, LogNormal};
use rand_pcg::Pcg64Mcg;

use super::trace::{Row, Trace};

/// The longest prompt or answer that is drawn, tokens.
const LONGEST_TOKENS: f64 = 1e6;

/// A described load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Described {
    /// Requests per second.
    pub rps: f64,
    /// How long it lasts, seconds.
    pub duration_s: f64,
    /// Coefficient of variation of the time between requests: 1 is Poisson, more comes in bursts.
    pub burstiness: f64,
    /// Prompts.
    pub input: Lengths,
    /// Answers.
    pub output: Lengths,
}

/// Lengths, drawn from a lognormal distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lengths {
    /// The median, tokens.
    pub median_tokens: f64,
    /// The ninetieth percentile, tokens.
    pub p90_tokens: f64,
}

impl Lengths {
    fn distribution(&self) -> Option<LogNormal<f64>> {
        const NORMAL_P90: f64 = 1.281_551_565_5;
        let median = self.median_tokens.max(1.0);
        let sigma = (self.p90_tokens.max(median) / median).ln() / NORMAL_P90;
        LogNormal::new(median.ln(), sigma).ok()
    }
}

impl Described {
    /// Draws it. Nothing comes where a figure is no number or not above zero.
    pub fn trace(&self, seed: u64) -> Trace {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let squared = self.burstiness * self.burstiness;
        // A gamma distribution whose mean is one over the rate and whose spread is the burstiness.
        let gaps = Gamma::new(1.0 / squared, squared / self.rps).ok();
        let lengths = self.input.distribution().zip(self.output.distribution());
        let Some((gaps, (input, output))) = gaps.zip(lengths) else { return Trace::of("described", Vec::new()) };
        let mut rows = Vec::new();
        let mut at_s = 0.0;
        loop {
            at_s += gaps.sample(&mut random);
            if at_s.is_nan() || at_s > self.duration_s {
                return Trace::of("described", rows);
            }
            let length = |drawn: f64| drawn.round().clamp(1.0, LONGEST_TOKENS) as u32;
            let at = Micros((at_s * 1e6).round() as u64);
            rows.push(Row::plain(at, length(input.sample(&mut random)), length(output.sample(&mut random))));
        }
    }
}
