//! Prices of a rate limit: a bucket that starts full, regains what it holds in a minute, and never holds more. A price
//! lasts a minute: prices that change faster than the bucket fills would pay for keeping it full again and again.

/// Prices are moved as if no more than this many times what is regained in a window were missing or left.
const MOST_EXCESS: f64 = 2.0;

/// How long a price lasts, milliseconds.
const BLOCK_MS: f64 = 60_000.0;

/// A bucket and what it costs to take from it in each minute.
#[derive(Clone, Debug)]
pub struct Stock {
    /// What it holds when full, and regains in a minute.
    full: f64,
    per_unit: Vec<f64>,
    taken: Vec<f64>,
}

impl Stock {
    /// A full bucket that holds a minute's worth, at prices of zero.
    pub fn per_minute(horizon_ms: f64, amount: f64) -> Stock {
        let minutes = (horizon_ms / BLOCK_MS).ceil().max(1.0) as usize;
        Stock { full: amount.max(1e-9), per_unit: vec![0.0; minutes], taken: vec![0.0; minutes] }
    }

    /// What all of it is worth: what it starts with at the first price, what it regains at each minute's, and what can be
    /// earned by keeping a full bucket wherever the price is about to rise.
    pub fn worth(&self) -> f64 {
        let first = self.per_unit.first().copied().unwrap_or(0.0);
        let rises: f64 = self.per_unit.windows(2).map(|pair| (pair[1] - pair[0]).max(0.0)).sum();
        self.full * (first + rises + self.per_unit.iter().sum::<f64>())
    }

    /// The cheapest minute between two moments (milliseconds), and its price.
    pub fn cheapest(&self, from_ms: f64, to_ms: f64) -> (usize, f64) {
        let window = |ms: f64| ((ms / BLOCK_MS).max(0.0) as usize).min(self.per_unit.len() - 1);
        let windows = window(from_ms)..=window(to_ms);
        let priced = windows.map(|at| (at, self.per_unit[at]));
        priced.min_by(|(_, one), (_, other)| one.total_cmp(other)).unwrap_or((0, 0.0))
    }

    /// Books what is taken.
    pub fn book(&mut self, window: usize, amount: f64) {
        self.taken[window] += amount;
    }

    /// Forgets what was taken.
    pub fn clear(&mut self) {
        self.taken.iter_mut().for_each(|taken| *taken = 0.0);
    }

    /// By how much more is taken than regained, minute by minute, as a part of what is regained; a full bucket counts
    /// where the price rises.
    pub fn excess(&self) -> Vec<f64> {
        let price = |at: usize| self.per_unit.get(at).copied();
        let excess = |at: usize| {
            let now = self.per_unit[at];
            let kept = if at == 0 || price(at - 1).is_some_and(|earlier| now > earlier) { self.full } else { 0.0 };
            let spent = if price(at + 1).is_some_and(|later| later > now) { self.full } else { 0.0 };
            let excess = (self.taken[at] - kept + spent) / self.full - 1.0;
            let excess = excess.clamp(-MOST_EXCESS, MOST_EXCESS);
            if excess < 0.0 && now == 0.0 { 0.0 } else { excess }
        };
        (0..self.per_unit.len()).map(excess).collect()
    }

    /// Moves prices as [`Prices::step`](super::prices::Prices::step) does.
    pub fn step(&mut self, by: f64) {
        let excess = self.excess();
        for (price, excess) in self.per_unit.iter_mut().zip(excess) {
            *price = (*price + by * excess / self.full).max(0.0);
        }
    }
}
