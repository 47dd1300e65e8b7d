//! What was counted of one pool: this month's spend, tokens and energy, the tokens of late, the credit of a commitment.

use pointsman_policies::price::{Credit, Span};
use pointsman_policies::units::Micros;
use serde::{Deserialize, Serialize};

use super::statement::{CommitmentLine, PoolLine};
use super::{Commitment, Entry};

/// Of tokens served, half are forgotten after this long, seconds.
const TOKENS_HALF_LIFE_S: f64 = 3_600.0;

/// One pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Book {
    month: Counting,
    usd: f64,
    tokens: f64,
    joules: f64,
    recent_tokens: f64,
    recent_at_us: u64,
    credit: Credit,
}

/// A span of the calendar, and since when in it anything has been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Counting {
    span: Span,
    since_s: f64,
}

impl Counting {
    /// Goes on to the span in which `now` lies; whether it is a new one. Whoever begins to count within a span answers
    /// for the rest of it only.
    pub(super) fn turn(&mut self, span: Span, now: Micros) -> bool {
        if self.span == span {
            return false;
        }
        let counted_before = self.span.ends_s > 0 && self.span.ends_s <= span.begins_s;
        self.since_s = if counted_before { span.begins_s as f64 } else { now.as_secs() };
        self.span = span;
        true
    }

    /// The part of the span that is answered for, 0 to 1.
    pub(super) fn part(&self) -> f64 {
        (self.counted_s() / self.span.length_s()).clamp(0.0, 1.0)
    }

    /// How much of that part has passed, 0 to 1.
    pub(super) fn passed(&self, now: Micros) -> f64 {
        ((now.as_secs() - self.since_s) / self.counted_s()).clamp(0.0, 1.0)
    }

    /// How long the part is, seconds.
    pub(super) fn counted_s(&self) -> f64 {
        (self.span.ends_s as f64 - self.since_s).max(1.0)
    }

    /// How much of it is left, seconds.
    pub(super) fn left_s(&self, now: Micros) -> f64 {
        (self.span.ends_s as f64 - now.as_secs()).max(0.0)
    }
}

impl Book {
    /// Goes on to the month in which `now` lies.
    pub(super) fn turn(&mut self, month: Span, now: Micros) {
        if self.month.turn(month, now) {
            (self.usd, self.tokens, self.joules) = (0.0, 0.0, 0.0);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tokens == 0.0 && self.usd == 0.0 && self.recent_tokens == 0.0
    }

    /// Counts an entry; returns what of its price is not owed anyway, US dollars.
    pub(super) fn add(&mut self, now: Micros, entry: &Entry, commitment: Option<Commitment>) -> f64 {
        let tokens = entry.tokens as f64;
        self.recent_tokens = self.recent(now) + tokens;
        self.recent_at_us = now.0;
        let left = commitment.map_or(0.0, |commitment| self.left(commitment));
        self.usd += entry.usd;
        self.tokens += tokens;
        self.joules += entry.joules;
        entry.usd * (1.0 - left.min(1.0))
    }

    /// Tokens of late.
    fn recent(&self, now: Micros) -> f64 {
        let past_s = (now - Micros(self.recent_at_us)).as_secs();
        self.recent_tokens * (-past_s / TOKENS_HALF_LIFE_S).exp2()
    }

    /// 1 while what is owed for the month is not consumed, 0 from then on.
    fn left(&self, commitment: Commitment) -> f64 {
        let part = self.month.part();
        let usd = commitment.usd_per_month.is_some_and(|owed| self.usd < owed * part);
        let tokens = commitment.tokens_per_month.is_some_and(|owed| self.tokens < owed * part);
        f64::from(u8::from(usd || tokens))
    }

    /// Moves the credit on.
    pub(super) fn line(&mut self, now: Micros, name: &str, commitment: Option<Commitment>, step_s: f64) -> PoolLine {
        let commitment = commitment.map(|commitment| self.commitment_line(now, commitment, step_s));
        PoolLine {
            pool: name.to_owned(),
            usd_this_month: self.usd,
            tokens_this_month: self.tokens,
            joules_this_month: self.joules,
            recent_tokens: self.recent(now),
            commitment,
            ..PoolLine::default()
        }
    }

    fn commitment_line(&mut self, now: Micros, commitment: Commitment, step_s: f64) -> CommitmentLine {
        let (part, passed) = (self.month.part(), self.month.passed(now));
        let usd = commitment.usd_per_month.map(|owed| (owed * part, self.usd));
        let tokens = commitment.tokens_per_month.map(|owed| (owed * part, self.tokens));
        let behind = |(owed, used): &(f64, f64)| passed - used / owed.max(1e-9);
        let paths = [usd, tokens].into_iter().flatten();
        let (owed, used) = paths.max_by(|a, b| behind(a).total_cmp(&behind(b))).unwrap_or_default();
        let owed_by_now = owed * passed;
        let credit = self.credit.step(owed_by_now, used, owed.max(1e-9) / self.month.counted_s(), step_s);
        CommitmentLine {
            unit: if usd.is_some_and(|usd| usd == (owed, used)) { "usd" } else { "tokens" },
            owed,
            owed_by_now,
            used,
            credit,
            is_left: used < owed,
        }
    }
}
