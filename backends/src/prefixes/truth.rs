//! How much of what is claimed to be in a prefix cache there is, by what its engine tells.

use pointsman_policies::estimate::batches;
use pointsman_policies::fleet::HardwareKind;

/// Until so many tokens have been claimed to be cached, the prior counts as much as what was found.
const PRIOR_TOKENS: f64 = 4_096.0;
/// What was found counts half as much after so many answers.
const HALF_LIFE_ANSWERS: f64 = 32.0;
/// Less than this is not worth believing.
const LEAST_TRUTH: f64 = 0.05;
/// An engine that has not told after so many answers for which something was claimed is one that does not tell.
const SILENT_ANSWERS: u32 = 32;
/// Of such a one the prior is believed by half: a cache may be switched off, and nobody would ever know.
const UNTOLD: f64 = 0.5;

/// What was claimed to be cached, and how much of that was.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Truth {
    prior: f64,
    claimed: f64,
    found: f64,
    /// Answers in a row that did not tell.
    silent: u32,
    tells: bool,
}

impl Truth {
    /// Engines that batch keep prefixes unless they are told not to. Nothing is expected of the others before they tell.
    pub(super) fn expect_of(&mut self, kind: HardwareKind) {
        self.prior = f64::from(u8::from(batches(kind)));
    }

    /// An answer told what was found of what was claimed, tokens.
    pub(super) fn told(&mut self, claimed: f64, found: f64) {
        self.silent = 0;
        self.tells = true;
        self.learn(claimed, found);
    }

    /// An answer for which something was claimed did not tell.
    pub(super) fn not_told(&mut self) {
        self.silent = self.silent.saturating_add(1);
        self.tells &= self.silent < SILENT_ANSWERS;
    }

    /// Whether its answers tell.
    pub(super) fn answers_tell(&self) -> bool {
        self.tells
    }

    pub(super) fn learn(&mut self, claimed: f64, found: f64) {
        let kept = (-1.0 / HALF_LIFE_ANSWERS).exp2();
        self.claimed = self.claimed * kept + claimed;
        self.found = self.found * kept + found;
    }

    pub(super) fn part(&self) -> f64 {
        let prior = if self.silent < SILENT_ANSWERS { self.prior } else { self.prior * UNTOLD };
        let part = (prior * PRIOR_TOKENS + self.found) / (PRIOR_TOKENS + self.claimed);
        if part < LEAST_TRUTH { 0.0 } else { part.min(1.0) }
    }
}
