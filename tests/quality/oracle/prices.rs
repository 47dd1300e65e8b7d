//! Prices of time on the machines of a pool, one for each window, and what they make requests pay at the least.

/// Ranges longer than this many windows are priced at their cheapest window: valid, a little lower, and quick.
const MOST_WINDOWS: usize = 96;

/// A price is moved as if no more than this many times what there is were wanted beyond it: a burst shall not decide how
/// far all others are moved.
const MOST_EXCESS: f64 = 2.0;

/// One resource of a pool: so much of it in each window, and a price for it.
#[derive(Clone, Debug)]
pub struct Prices {
    window_ms: f64,
    /// What there is in one window, milliseconds of machine time.
    capacity_ms: f64,
    /// What a millisecond costs in each window.
    pub per_ms: Vec<f64>,
    /// What is used of each window at these prices, milliseconds.
    pub used_ms: Vec<f64>,
    /// Sums of prices before each window, times its length.
    before: Vec<f64>,
    /// The index of the cheapest window among 1, 2, 4, ... from each on.
    cheapest: Vec<Vec<u32>>,
}

/// What is paid, and how it is spread over windows.
#[derive(Clone, Debug, Default)]
pub struct Purchase {
    /// Windows, and the part of the work done there.
    pub parts: Vec<(usize, f64)>,
}

impl Prices {
    /// Prices of zero.
    pub fn new(windows: usize, window_ms: f64, capacity_ms: f64) -> Prices {
        let mut prices = Prices {
            window_ms,
            capacity_ms,
            per_ms: vec![0.0; windows],
            used_ms: vec![0.0; windows],
            before: Vec::new(),
            cheapest: Vec::new(),
        };
        prices.index();
        prices
    }

    /// What all of it costs, in all windows.
    pub fn worth(&self) -> f64 {
        self.capacity_ms * self.per_ms.iter().sum::<f64>()
    }

    /// Makes prices ready to be read, and forgets what was used.
    pub fn index(&mut self) {
        self.used_ms.iter_mut().for_each(|used| *used = 0.0);
        self.before.clear();
        let mut sum = 0.0;
        for price in &self.per_ms {
            self.before.push(sum);
            sum += price * self.window_ms;
        }
        self.before.push(sum);
        let windows = self.per_ms.len();
        self.cheapest.clear();
        self.cheapest.push((0..windows as u32).collect());
        let mut width = 1;
        while 2 * width <= windows {
            let last = &self.cheapest[self.cheapest.len() - 1];
            let better = |(at, one): (usize, &u32)| {
                let other = last[at + width];
                if self.per_ms[other as usize] < self.per_ms[*one as usize] { other } else { *one }
            };
            let next = last[..=windows - 2 * width].iter().enumerate().map(better).collect();
            self.cheapest.push(next);
            width *= 2;
        }
    }

    /// Where work of this length is cheapest between two moments (milliseconds), if no window takes more of it than lasts.
    /// Fills `purchase`; the mean price of a millisecond.
    pub fn cheapest_spread(&self, from_ms: f64, to_ms: f64, length_ms: f64, purchase: &mut Purchase) -> f64 {
        purchase.parts.clear();
        let (first, last) = (self.window(from_ms), self.window(to_ms));
        if first == last || last - first >= MOST_WINDOWS || length_ms <= 0.0 {
            let at = self.cheapest_window(first, last);
            purchase.parts.push((at, 1.0));
            return self.per_ms[at];
        }
        let part = |at: usize| {
            let begins = (at as f64 * self.window_ms).max(from_ms);
            let ends = ((at + 1) as f64 * self.window_ms).min(to_ms);
            ((ends - begins).max(0.0) / length_ms).min(1.0)
        };
        purchase.parts.extend((first..=last).map(|at| (at, part(at))));
        let price = |at: usize| self.per_ms[at];
        purchase.parts.sort_by(|(one, _), (other, _)| price(*one).total_cmp(&price(*other)));
        let (mut left, mut paid, mut taken) = (1.0, 0.0, 0);
        for (at, part) in &mut purchase.parts {
            *part = part.min(left);
            left -= *part;
            paid += *part * price(*at);
            taken += 1;
            if left <= 1e-9 {
                break;
            }
        }
        purchase.parts.truncate(taken);
        paid
    }

    /// What it costs at the least to hold something this long, if it begins between two moments (milliseconds); and when
    /// it then begins.
    pub fn cheapest_hold(&self, from_ms: f64, to_ms: f64, held_ms: f64) -> (f64, f64) {
        let (first, last) = (self.window(from_ms), self.window(to_ms));
        if last - first >= MOST_WINDOWS {
            let at = self.cheapest_window(first, self.window(to_ms + held_ms));
            // All of it at the price of the cheapest window: no real stay costs less.
            return (self.per_ms[at] * held_ms, (at as f64 * self.window_ms).clamp(from_ms, to_ms));
        }
        let mut best = (self.held(from_ms, held_ms), from_ms);
        let mut consider = |begin_ms: f64| {
            if begin_ms > from_ms && begin_ms <= to_ms {
                let paid = self.held(begin_ms, held_ms);
                if paid < best.0 {
                    best = (paid, begin_ms);
                }
            }
        };
        consider(to_ms);
        // The cost is linear between moments at which the beginning or the end crosses from one window to the next.
        for at in first..=last + 1 {
            consider(at as f64 * self.window_ms);
        }
        for at in self.window(from_ms + held_ms)..=self.window(to_ms + held_ms) + 1 {
            consider(at as f64 * self.window_ms - held_ms);
        }
        best
    }

    /// Books work spread over windows.
    pub fn book_spread(&mut self, purchase: &Purchase, work_ms: f64) {
        for (at, part) in &purchase.parts {
            self.used_ms[*at] += part * work_ms;
        }
    }

    /// Books something held from a moment on.
    pub fn book_hold(&mut self, begin_ms: f64, held_ms: f64) {
        let end_ms = begin_ms + held_ms;
        for at in self.window(begin_ms)..=self.window(end_ms) {
            let begins = (at as f64 * self.window_ms).max(begin_ms);
            let ends = ((at + 1) as f64 * self.window_ms).min(end_ms);
            self.used_ms[at] += (ends - begins).max(0.0);
        }
    }

    /// By how much more is used than there is, window by window, as a part of what there is.
    pub fn excess(&self) -> impl Iterator<Item = f64> + '_ {
        let excess = |(price, used): (&f64, &f64)| {
            let excess = (used / self.capacity_ms - 1.0).min(MOST_EXCESS);
            // A window that costs nothing cannot cost less.
            if excess < 0.0 && *price == 0.0 { 0.0 } else { excess }
        };
        self.per_ms.iter().zip(&self.used_ms).map(excess)
    }

    /// Moves every price by its excess times a step, which is what a whole window of the pool then costs more.
    pub fn step(&mut self, by: f64) {
        let excess: Vec<f64> = self.excess().collect();
        for (price, excess) in self.per_ms.iter_mut().zip(excess) {
            *price = (*price + by * excess / self.capacity_ms).max(0.0);
        }
    }

    fn held(&self, begin_ms: f64, held_ms: f64) -> f64 {
        self.sum_to(begin_ms + held_ms) - self.sum_to(begin_ms)
    }

    /// The price of everything before a moment; nothing is paid after the last window.
    fn sum_to(&self, ms: f64) -> f64 {
        let at = (ms / self.window_ms) as usize;
        match self.per_ms.get(at) {
            Some(price) => self.before[at] + price * (ms - at as f64 * self.window_ms),
            None => self.before[self.per_ms.len()],
        }
    }

    fn window(&self, ms: f64) -> usize {
        ((ms / self.window_ms).max(0.0) as usize).min(self.per_ms.len() - 1)
    }

    fn cheapest_window(&self, first: usize, last: usize) -> usize {
        let level = (last - first + 1).ilog2() as usize;
        let row = &self.cheapest[level];
        let (one, other) = (row[first] as usize, row[last + 1 - (1 << level)] as usize);
        if self.per_ms[other] < self.per_ms[one] { other } else { one }
    }
}
