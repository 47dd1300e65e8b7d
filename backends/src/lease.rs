//! Rate limits as providers keep them: buckets of requests and tokens per minute, with room taken up front and settled
//! at the end. Pure: the clock is an argument. A simulated machine limits with it; the gateway accounts with it.

use pointsman_policies::fleet::LeaseState;
use pointsman_policies::units::Micros;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is left is told in such parts of a request, rounded down,
const REQUESTS_TOLD: f64 = 1.0 / 64.0;
/// and of a token: what hardly changes is hardly written again by a log of decisions.
const TOKENS_TOLD: f64 = 1.0;

/// What a provider allows in a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimits {
    /// Requests per minute; unlimited where absent.
    pub requests_per_minute: Option<f64>,
    /// Prompt and output tokens per minute; unlimited where absent.
    pub tokens_per_minute: Option<f64>,
    /// Whether the largest answer the caller allows is taken off the limit when the request is admitted.
    #[serde(default)]
    pub reserves_output: bool,
}

/// A bucket that refills at a steady rate. Its level may fall below zero when more is used than was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenBucket {
    capacity: f64,
    per_second: f64,
    level: f64,
    updated: Micros,
}

impl TokenBucket {
    /// A full bucket that holds one minute's worth.
    pub fn per_minute(amount: f64) -> TokenBucket {
        let capacity = if amount.is_finite() { amount.max(0.0) } else { f64::MAX };
        TokenBucket { capacity, per_second: capacity / 60.0, level: capacity, updated: Micros(0) }
    }

    /// What can be taken now; negative while in debt. A clock that goes back changes nothing.
    pub fn available(&self, now: Micros) -> f64 {
        let gained = (now - self.updated).as_secs() * self.per_second;
        (self.level + gained).min(self.capacity)
    }

    /// What it regains per second.
    pub fn per_second(&self) -> f64 {
        self.per_second
    }

    /// How long until `amount` can be taken: zero when it can be now. For more than the bucket ever holds, the time
    /// until it is full; the taking will still fail then.
    pub fn wait_for(&self, now: Micros, amount: f64) -> Micros {
        let missing = amount.min(self.capacity) - self.available(now);
        if missing <= 0.0 {
            return Micros(0);
        }
        // An endless wait (nothing is regained) saturates. Rounded up: a wait cut short would be refused again.
        Micros((missing / self.per_second * 1e6).ceil() as u64)
    }

    /// Takes `amount`, or leaves the bucket as it is and tells how long to wait.
    pub fn try_take(&mut self, now: Micros, amount: f64) -> Result<(), Micros> {
        // Filling up over a computed wait may end a rounding error below the amount.
        if self.available(now) + ROUNDING < amount {
            return Err(self.wait_for(now, amount));
        }
        self.change(now, -amount);
        Ok(())
    }

    /// Takes `amount` whether it is there or not: use that nobody foresaw is owed.
    pub fn charge(&mut self, now: Micros, amount: f64) {
        self.change(now, -amount);
    }

    /// Puts back what was taken and not used.
    pub fn give_back(&mut self, now: Micros, amount: f64) {
        self.change(now, amount);
    }

    /// From now on it regains this part of what it regains by itself: others use up the rest.
    pub fn slow_to(&mut self, now: Micros, share: f64) {
        self.change(now, 0.0);
        self.per_second = self.capacity / 60.0 * share.clamp(0.0, 1.0);
    }

    /// A bucket of another size from which as much is missing.
    fn resized(self, now: Micros, amount: f64) -> TokenBucket {
        let missing = self.capacity - self.available(now);
        let full = TokenBucket::per_minute(amount);
        TokenBucket { level: full.capacity - missing, updated: now, ..full }
    }

    fn change(&mut self, now: Micros, by: f64) {
        self.level = (self.available(now) + by).min(self.capacity);
        self.updated = self.updated.max(now);
    }
}

/// Tolerance for sums of refills, in requests or tokens.
const ROUNDING: f64 = 1e-6;

/// The limits of one account as they stand: a bucket of requests and one of tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Limiter {
    requests: Option<TokenBucket>,
    tokens: Option<TokenBucket>,
    reserves_output: bool,
}

impl Limiter {
    /// A limiter with both buckets full. Without limits it admits everything.
    pub fn new(limits: RateLimits) -> Limiter {
        Limiter {
            requests: limits.requests_per_minute.map(TokenBucket::per_minute),
            tokens: limits.tokens_per_minute.map(TokenBucket::per_minute),
            reserves_output: limits.reserves_output,
        }
    }

    /// Other limits from now on. What was used up stays used up.
    pub fn change_to(&mut self, now: Micros, limits: RateLimits) {
        let resized = |bucket: Option<TokenBucket>, amount: Option<f64>| match (bucket, amount) {
            (Some(bucket), Some(amount)) => Some(bucket.resized(now, amount)),
            (_, amount) => amount.map(TokenBucket::per_minute),
        };
        self.requests = resized(self.requests, limits.requests_per_minute);
        self.tokens = resized(self.tokens, limits.tokens_per_minute);
        self.reserves_output = limits.reserves_output;
    }

    /// From now on the limits regain this part of what they allow: others use up the rest.
    pub fn slow_to(&mut self, now: Micros, share: f64) {
        for bucket in [&mut self.requests, &mut self.tokens].into_iter().flatten() {
            bucket.slow_to(now, share);
        }
    }

    /// Admits a request: takes one request, its prompt and, where the provider reserves, the largest answer it
    /// allows. Takes nothing when refused.
    pub fn try_take(&mut self, now: Micros, prompt_tokens: u64, max_output: u64) -> Result<Reservation, Shortage> {
        let tokens = self.needed(prompt_tokens, max_output);
        if let Some(bucket) = &mut self.requests {
            bucket.try_take(now, 1.0).map_err(|retry_after| Shortage { limit: Limit::Requests, retry_after })?;
        }
        if let Some(Err(retry_after)) = self.tokens.as_mut().map(|bucket| bucket.try_take(now, tokens)) {
            if let Some(bucket) = &mut self.requests {
                bucket.give_back(now, 1.0);
            }
            return Err(Shortage { limit: Limit::Tokens, retry_after });
        }
        Ok(Reservation { tokens })
    }

    /// How long until such a request would be admitted; zero when it would be now.
    pub fn wait_for(&self, now: Micros, prompt_tokens: u64, max_output: u64) -> Micros {
        let requests = self.requests.map_or(Micros(0), |bucket| bucket.wait_for(now, 1.0));
        let needed = self.needed(prompt_tokens, max_output);
        requests.max(self.tokens.map_or(Micros(0), |bucket| bucket.wait_for(now, needed)))
    }

    /// Corrects a reservation to the tokens really used: returns what is left of it, or takes what is missing.
    pub fn settle(&mut self, now: Micros, reservation: Reservation, used_tokens: u64) {
        if let Some(bucket) = &mut self.tokens {
            bucket.change(now, reservation.tokens - used_tokens as f64);
        }
    }

    /// Undoes an admission whose request was never sent.
    pub fn give_back(&mut self, now: Micros, reservation: Reservation) {
        if let Some(bucket) = &mut self.requests {
            bucket.give_back(now, 1.0);
        }
        if let Some(bucket) = &mut self.tokens {
            bucket.give_back(now, reservation.tokens);
        }
    }

    /// What is left now, as the decision reads it; `None` without limits.
    pub fn state(&self, now: Micros) -> Option<LeaseState> {
        (self.requests.is_some() || self.tokens.is_some()).then(|| LeaseState {
            requests: self.requests.map_or(f64::INFINITY, |bucket| told(bucket.available(now), REQUESTS_TOLD)),
            tokens: self.tokens.map_or(f64::INFINITY, |bucket| told(bucket.available(now), TOKENS_TOLD)),
            tokens_capacity: self.tokens.map_or(f64::INFINITY, |bucket| bucket.capacity),
            requests_per_s: self.requests.map_or(f64::INFINITY, |bucket| bucket.per_second()),
            tokens_per_s: self.tokens.map_or(f64::INFINITY, |bucket| bucket.per_second()),
            reserves_output: self.reserves_output,
        })
    }

    fn needed(&self, prompt_tokens: u64, max_output: u64) -> f64 {
        let output = if self.reserves_output { max_output } else { 0 };
        prompt_tokens.saturating_add(output) as f64
    }
}

fn told(figure: f64, unit: f64) -> f64 {
    (figure / unit).floor() * unit
}

/// Tokens taken for one request, to be settled when it ends.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "a reservation that is not settled is never returned"]
pub struct Reservation {
    tokens: f64,
}

/// Why a limiter refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The limit that was reached.
    pub limit: Limit,
    /// How long until the same request would be admitted.
    pub retry_after: Micros,
}

/// One of a provider's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Requests per minute.
    Requests,
    /// Tokens per minute.
    Tokens,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(requests: f64, tokens: f64, reserves_output: bool) -> Limiter {
        Limiter::new(RateLimits {
            requests_per_minute: Some(requests),
            tokens_per_minute: Some(tokens),
            reserves_output,
        })
    }

    #[test]
    fn a_refusal_tells_when_the_bucket_will_hold_enough() {
        // (taken first, then wanted, wait in microseconds) from a bucket of 60 a minute: one a second
        for (taken, wanted, wait) in
            [(0.0, 60.0, 0), (60.0, 1.0, 1_000_000), (50.0, 20.0, 10_000_000), (60.0, 99.0, 60_000_000)]
        {
            let mut bucket = TokenBucket::per_minute(60.0);
            bucket.try_take(Micros(0), taken).expect("full");
            assert_eq!(bucket.wait_for(Micros(0), wanted), Micros(wait), "{taken} {wanted}");
            assert_eq!(bucket.try_take(Micros(wait), wanted).is_ok(), wanted <= 60.0, "{taken} {wanted}");
        }
    }

    #[test]
    fn reserving_takes_the_largest_answer_and_settling_returns_the_rest() {
        let mut limiter = limiter(100.0, 6000.0, true);
        let reservation = limiter.try_take(Micros(0), 1000, 4000).expect("5000 of 6000");
        let refused = limiter.try_take(Micros(0), 1000, 1000).expect_err("only 1000 left");
        assert_eq!(refused, Shortage { limit: Limit::Tokens, retry_after: Micros::from_secs(10) });
        limiter.settle(Micros(0), reservation, 1200);
        let state = limiter.state(Micros(0)).expect("limited");
        assert_eq!((state.requests, state.tokens), (99.0, 4800.0));
    }

    #[test]
    fn without_reserving_the_answer_is_owed_afterwards() {
        let mut limiter = limiter(100.0, 6000.0, false);
        let reservation = limiter.try_take(Micros(0), 5000, 4000).expect("the prompt fits");
        limiter.settle(Micros(0), reservation, 9000);
        assert_eq!(limiter.state(Micros(0)).expect("limited").tokens, -3000.0);
        assert_eq!(limiter.wait_for(Micros(0), 0, 0), Micros::from_secs(30));
    }

    #[test]
    fn limits_that_change_keep_what_was_used_and_neighbours_slow_the_refill() {
        let mut limiter = limiter(100.0, 6000.0, false);
        let _ = limiter.try_take(Micros(0), 2000, 0).expect("there is room");
        let half = RateLimits { requests_per_minute: None, tokens_per_minute: Some(3000.0), reserves_output: true };
        limiter.change_to(Micros(0), half);
        let state = limiter.state(Micros(0)).expect("limited");
        assert_eq!((state.requests, state.tokens, state.reserves_output), (f64::INFINITY, 1000.0, true));
        limiter.slow_to(Micros(0), 0.5);
        assert_eq!(limiter.wait_for(Micros(0), 2000, 0), Micros::from_secs(40));
        limiter.slow_to(Micros::from_secs(20), 1.0);
        assert_eq!(limiter.state(Micros::from_secs(20)).expect("limited").tokens, 1500.0);
        assert_eq!(limiter.wait_for(Micros::from_secs(20), 2000, 0), Micros::from_secs(10));
    }

    #[test]
    fn requests_are_limited_apart_from_tokens() {
        let mut limiter = limiter(2.0, 1e9, true);
        for _ in 0..2 {
            let _ = limiter.try_take(Micros(0), 1, 1).expect("two a minute");
        }
        let refused = limiter.try_take(Micros(0), 1, 1).expect_err("the third");
        assert_eq!(refused, Shortage { limit: Limit::Requests, retry_after: Micros::from_secs(30) });
    }
}
