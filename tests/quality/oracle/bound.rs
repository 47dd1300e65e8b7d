//! More than this no router can reach: an upper bound on utility and on promises kept, by Lagrangian prices.
//!
//! **Why any prices give a bound.** Say every schedule uses of each resource `r` in each window at most what there is:
//! `sum of use(i, r) <= capacity(r)`. Then for any prices `p >= 0`
//!
//! ```text
//! utility of the best schedule <= sum over r of p(r) * capacity(r)
//!                               + sum over i of max(0, max over pools of value - cost - least(sum of p(r) * use(i, r)))
//! ```
//!
//! because a request that keeps its promise somewhere earns no more than its value less the price and pays for at least
//! what it must use, and one that does not earns nothing at best. Prices are moved towards where what is used is what
//! there is; whatever they are when we stop, the bound holds, and the least one seen is reported.
//!
//! **Why the machines' constraints are necessary.** Endpoints of a pool are alike, so their time is added up: a schedule
//! for each is one for the sum. Time here is the mean: step times are drawn from a lognormal of mean one after a schedule
//! has chosen the batch, so no schedule gains on it in the long run (thousands of steps in a window of many requests);
//! where a single request could be lucky, `need` lets it be.
//!
//! - *Machines that batch.* A step of `d` sequences takes at least `a + b d + c kv` and at least `prefilled / R`. Its
//!   time is spread over its answer tokens: each bears `b + c kv(own) + share of a`. So decoding adds up to no more than
//!   the time there is, and so does prefill; a mix of both constraints is covered as both have prices. The share of `a`
//!   is `a / d >= a / slots`. A request whose mean pace is promised to be `s` takes part in steps of mean size
//!   `D = (s - a - c kv) / b` at the most, and as `1 / d` is convex its shares add up to at least `a tokens / D`; over
//!   windows with different prices, by Cauchy and Schwarz, it pays at least `a tokens / D * (mean of sqrt(price))^2`.
//!   Where memory bounds the batch the base is shared by memory: `a kv(own) / capacity`. Preemption only adds work.
//! - *Prefill stalls decoding.* A step lasts `max(decode, prefill)`, so all steps together last as long as all decoding
//!   and all prefill less what they overlap, in each step at most the longest decode step there is, `M`. Prompts are
//!   computed in order of admission with a budget of `C` tokens a step. A step that spends its budget overlaps `M` for
//!   `C` tokens; in any other all its prompts are finished, each in one such step. So a prompt of `u` tokens overlaps
//!   `M u / C + min(M, u / R)` at most, and the rest of its prefill takes time that decoding cannot use.
//! - *Machines with slots.* A sequence holds its slot for exactly its fixed time, prefill and pace. It begins between its
//!   arrival and the last moment that keeps its promise.
//! - *Rate limits.* What is used in the end is taken when it is sent; reserving more only holds back. A bucket that
//!   starts full and never overflows is a stock; see `Stock::worth`.
//! - *Promises out of reach.* Where even alone, at once and with luck a machine is too late, it never keeps the promise.
//!
//! What the bound does not see: that stalls slow the pace of everybody in the batch, KV memory beyond the share of `a`,
//! that sequences cannot pause, that a window is a quarter of a second. So no router reaches it.

use super::instance::{Ask, Instance, Machines};
use super::need::{BaseShare, Need, Work, need};
use super::prices::{Prices, Purchase};
use super::stock::Stock;

/// Length of a window, milliseconds.
const WINDOW_MS: f64 = 250.0;
/// A step first aims at a bound lower by this part.
const FIRST_AIM: f64 = 0.1;
/// No step aims at more.
const MOST_AIM: f64 = 0.5;
/// After a better bound it aims at so many times as much.
const BOLDER: f64 = 1.2;
/// After so many rounds without one it goes back to the best prices and aims at half as much.
const PATIENCE: usize = 5;

/// What is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Value of promises kept less money spent, US dollars.
    Utility,
    /// How many promises are kept.
    Kept,
}

/// An upper bound on what any schedule reaches, the least found in so many rounds.
pub fn bound(instance: &Instance, goal: Goal, rounds: usize) -> f64 {
    let mut lagrangian = Lagrangian::new(instance, goal);
    let mut least = lagrangian.evaluate();
    let mut best = lagrangian.pools.clone();
    let (mut aim, mut now, mut stuck) = (FIRST_AIM, least, 0);
    for _ in 1..rounds {
        // Polyak's step: as long as it would take to reach the aim if the bound went on as steeply.
        let steepness: f64 = lagrangian.pools.iter().map(PoolPrices::steepness).sum();
        if steepness <= 0.0 {
            break;
        }
        let by = (now - least * (1.0 - aim)) / steepness;
        lagrangian.pools.iter_mut().for_each(|pool| pool.step(by));
        now = lagrangian.evaluate();
        if now < least * (1.0 - aim / 20.0) {
            (aim, stuck) = ((aim * BOLDER).min(MOST_AIM), 0);
        } else {
            stuck += 1;
        }
        if now < least {
            least = now;
            best.clone_from(&lagrangian.pools);
        }
        if stuck >= PATIENCE {
            (aim, stuck) = (aim / 2.0, 0);
            lagrangian.pools.clone_from(&best);
            now = least;
        }
    }
    least
}

/// Requests, what each needs where, and the prices.
struct Lagrangian {
    wishes: Vec<Wish>,
    pools: Vec<PoolPrices>,
    horizon_ms: f64,
    purchase: Purchase,
}

/// A request with the pools where its promise can be kept.
struct Wish {
    at_ms: f64,
    places: Vec<Place>,
}

/// One of them: what is earned there before time is paid for, and what is needed.
#[derive(Clone, Copy)]
struct Place {
    pool: usize,
    earned: f64,
    need: Need,
}

/// Prices of one pool.
#[derive(Clone)]
enum PoolPrices {
    Shared { decode: Prices, prefill: Prices },
    Slots { slots: Prices, requests: Option<Stock>, tokens: Option<Stock> },
}

impl Lagrangian {
    fn new(instance: &Instance, goal: Goal) -> Lagrangian {
        let mean_kv = mean(instance.asks.iter().map(|ask| ask.input_tokens as f64 + ask.output_tokens as f64 / 2.0));
        let shares: Vec<BaseShare> =
            instance.machines.iter().map(|machines| BaseShare::of(&machines.profile, mean_kv)).collect();
        let wish = |ask: &Ask| {
            let value = instance.value_usd(ask);
            let place = |(pool, (machines, share)): (usize, (&Machines, &BaseShare))| {
                let need = need(machines, ask, *share)?;
                let earned = if goal == Goal::Kept { 1.0 } else { value - need.usd };
                (earned > 0.0).then_some(Place { pool, earned, need })
            };
            let places = instance.machines.iter().zip(&shares).enumerate().filter_map(place).collect();
            Wish { at_ms: ask.at.as_ms(), places }
        };
        let wishes: Vec<Wish> = instance.asks.iter().map(wish).collect();
        let finite = |ms: f64| if ms.is_finite() { ms } else { 0.0 };
        let ends = wishes.iter().flat_map(|wish| {
            wish.places.iter().map(|place| wish.at_ms + finite(place.need.last_within_ms) + WINDOW_MS)
        });
        let horizon_ms = ends.fold(WINDOW_MS, f64::max);
        let windows = (horizon_ms / WINDOW_MS).ceil() as usize;
        let pools: Vec<PoolPrices> =
            instance.machines.iter().map(|machines| PoolPrices::new(machines, windows, horizon_ms)).collect();
        Lagrangian { wishes, pools, horizon_ms, purchase: Purchase::default() }
    }

    /// The bound at these prices; books what is used.
    fn evaluate(&mut self) -> f64 {
        self.pools.iter_mut().for_each(PoolPrices::ready);
        let mut sum: f64 = self.pools.iter().map(PoolPrices::worth).sum();
        for wish in &self.wishes {
            let purchase = &mut self.purchase;
            let net = |place: &Place| {
                let paid = self.pools[place.pool].least(wish.at_ms, self.horizon_ms, &place.need, purchase);
                (place.earned - paid, *place)
            };
            let best = wish.places.iter().map(net).max_by(|(one, _), (other, _)| one.total_cmp(other));
            if let Some((earned, place)) = best.filter(|(earned, _)| *earned > 0.0) {
                sum += earned;
                self.pools[place.pool].book(wish.at_ms, self.horizon_ms, &place.need, purchase);
            }
        }
        sum
    }
}

impl PoolPrices {
    fn new(machines: &Machines, windows: usize, horizon_ms: f64) -> PoolPrices {
        let count = machines.count as f64;
        let prices = |at_once: f64| Prices::new(windows, WINDOW_MS, WINDOW_MS * at_once);
        if machines.profile.batches() {
            return PoolPrices::Shared { decode: prices(count), prefill: prices(count) };
        }
        let stock = |amount: f64| Stock::per_minute(horizon_ms, amount);
        PoolPrices::Slots {
            slots: prices(count * f64::from(machines.profile.service.slots.max(1))),
            requests: machines.limits.requests_per_minute.map(stock),
            tokens: machines.limits.tokens_per_minute.map(stock),
        }
    }

    fn ready(&mut self) {
        match self {
            PoolPrices::Shared { decode, prefill } => {
                decode.index();
                prefill.index();
            }
            PoolPrices::Slots { slots, requests, tokens } => {
                slots.index();
                requests.iter_mut().chain(tokens).for_each(Stock::clear);
            }
        }
    }

    fn worth(&self) -> f64 {
        match self {
            PoolPrices::Shared { decode, prefill } => decode.worth() + prefill.worth(),
            PoolPrices::Slots { slots, requests, tokens } => {
                slots.worth() + requests.iter().chain(tokens).map(Stock::worth).sum::<f64>()
            }
        }
    }

    /// The sum of squares of what is used too much or too little.
    fn steepness(&self) -> f64 {
        let square = |excess: f64| excess * excess;
        match self {
            PoolPrices::Shared { decode, prefill } => decode.excess().chain(prefill.excess()).map(square).sum(),
            PoolPrices::Slots { slots, requests, tokens } => {
                let stocks = requests.iter().chain(tokens).flat_map(Stock::excess);
                slots.excess().chain(stocks).map(square).sum()
            }
        }
    }

    fn step(&mut self, by: f64) {
        match self {
            PoolPrices::Shared { decode, prefill } => {
                decode.step(by);
                prefill.step(by);
            }
            PoolPrices::Slots { slots, requests, tokens } => {
                slots.step(by);
                requests.iter_mut().chain(tokens).for_each(|stock| stock.step(by));
            }
        }
    }

    /// What a request pays here at the least.
    fn least(&self, at_ms: f64, horizon_ms: f64, need: &Need, purchase: &mut Purchase) -> f64 {
        match (self, &need.work) {
            (PoolPrices::Shared { decode, prefill }, Work::Shared(work)) => {
                let (begin_ms, first_ms, last_ms) = spans(at_ms, horizon_ms, need);
                let prefilled = prefill.cheapest_spread(begin_ms, first_ms, work.prefill_ms, purchase);
                let decoded = decode.cheapest_spread(begin_ms, last_ms, work.decode_at_least_ms, purchase);
                let root: f64 = purchase.parts.iter().map(|(at, part)| part * decode.per_ms[*at].sqrt()).sum();
                let base = (work.crowded_ms * decoded).max(work.paced_ms * root * root);
                let stalled = if work.stall_ms > 0.0 {
                    decode.cheapest_spread(begin_ms, first_ms, work.stall_ms, purchase) * work.stall_ms
                } else {
                    0.0
                };
                prefilled * work.prefill_ms + stalled + decoded * work.own_ms + base
            }
            (PoolPrices::Slots { slots, requests, tokens }, Work::Slot(slot)) => {
                let last_ms = (at_ms + slot.slack_ms).min(horizon_ms);
                let (held, _) = slots.cheapest_hold(at_ms, last_ms, slot.held_ms);
                let of = |stock: &Option<Stock>, amount: f64| {
                    stock.as_ref().map_or(0.0, |stock| stock.cheapest(at_ms, last_ms).1 * amount)
                };
                held + of(requests, 1.0) + of(tokens, slot.tokens)
            }
            _ => 0.0,
        }
    }

    /// Books what [`least`](Self::least) paid for.
    fn book(&mut self, at_ms: f64, horizon_ms: f64, need: &Need, purchase: &mut Purchase) {
        match (self, &need.work) {
            (PoolPrices::Shared { decode, prefill }, Work::Shared(work)) => {
                let (begin_ms, first_ms, last_ms) = spans(at_ms, horizon_ms, need);
                prefill.cheapest_spread(begin_ms, first_ms, work.prefill_ms, purchase);
                prefill.book_spread(purchase, work.prefill_ms);
                decode.cheapest_spread(begin_ms, last_ms, work.decode_at_least_ms, purchase);
                decode.book_spread(purchase, work.own_ms + work.crowded_ms.max(work.paced_ms));
                if work.stall_ms > 0.0 {
                    decode.cheapest_spread(begin_ms, first_ms, work.stall_ms, purchase);
                    decode.book_spread(purchase, work.stall_ms);
                }
            }
            (PoolPrices::Slots { slots, requests, tokens }, Work::Slot(slot)) => {
                let last_ms = (at_ms + slot.slack_ms).min(horizon_ms);
                let (_, begin_ms) = slots.cheapest_hold(at_ms, last_ms, slot.held_ms);
                slots.book_hold(begin_ms, slot.held_ms);
                for (stock, amount) in requests
                    .iter_mut()
                    .map(|stock| (stock, 1.0))
                    .chain(tokens.iter_mut().map(|stock| (stock, slot.tokens)))
                {
                    let (window, _) = stock.cheapest(at_ms, last_ms);
                    stock.book(window, amount);
                }
            }
            _ => {}
        }
    }
}

/// When work can begin, when the prompt must be computed and the last token be there at the latest, milliseconds; the
/// horizon where nothing says so.
fn spans(at_ms: f64, horizon_ms: f64, need: &Need) -> (f64, f64, f64) {
    let by = |within_ms: f64| (at_ms + within_ms).min(horizon_ms);
    let begin_ms = at_ms + need.begins_after_ms;
    (begin_ms, by(need.prefilled_within_ms).max(begin_ms), by(need.last_within_ms).max(begin_ms))
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}
