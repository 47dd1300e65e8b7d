//! What was spent, served and drawn, by pool, vendor and site; and what follows from it: the price of what is owed anyway,
//! of what is scarce, and how far budgets are used up. A state machine with the clock as an argument, O(1) per request;
//! the gateway feeds it in real time, the simulation in virtual time. Saved and loaded, so that a restart forgets no
//! month's spend.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_policies::fleet::{EndpointState, Fleet, PoolFacts, PoolLoad};
use pointsman_policies::policy::{Cap, Policy};
use pointsman_policies::price::{JOULES_PER_KWH, LEAST_SHARED_TOKENS, Pace, Period, PoolPrice, Used};
use pointsman_policies::units::Micros;
use serde::{Deserialize, Serialize};

use crate::portfolio::Portfolio;

/// What was counted of one pool.
mod book;
/// Budgets of an hour, a day, a month.
mod budget;
/// What the controllers were given and made of it, for people and metrics.
mod statement;

use book::Book;
use budget::Spent;
pub use statement::{BudgetLine, CommitmentLine, PoolLine, SiteLine, Statement, VendorLine};

/// Shape of what is saved.
pub const VERSION: u32 = 1;
/// Pools, sites and vendors that are remembered though the portfolio has them no more.
const MOST_REMEMBERED: usize = 1_000;
/// A site's power gets dearer from this part of its cap on.
const POWER_FROM: f64 = 0.9;
/// Its price rises by one step where it is this part of the cap beyond that.
const POWER_BAND: f64 = 0.02;
/// Being beyond by as much adds another step in this time, seconds.
const POWER_TIME_S: f64 = 10.0;
/// One step of the price of scarce power: that of a dear kilowatt-hour, US dollars per joule.
const POWER_STEP_USD_PER_J: f64 = 0.5 / JOULES_PER_KWH;
/// At most so many steps.
const POWER_MOST: f64 = 100.0;
/// A vendor's prices rise from this part of its share on.
const VENDOR_FROM: f64 = 0.99;
/// They are doubled where it is this part of the share beyond that.
const VENDOR_BAND: f64 = 0.02;
/// Being beyond by as much adds as much again in this time, seconds.
const VENDOR_TIME_S: f64 = 120.0;
/// They rise at most by this factor, less one.
const VENDOR_MOST: f64 = 4.0;

/// What is owed for a pool each calendar month, used or not. At least one of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Commitment {
    /// US dollars, at the pool's prices.
    pub usd_per_month: Option<f64>,
    /// Tokens, prompts and answers together.
    pub tokens_per_month: Option<f64>,
}

/// A request that has been answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Prompt and answer.
    pub tokens: u64,
    /// Price, US dollars.
    pub usd: f64,
    /// Energy with PUE, joules.
    pub joules: f64,
}

/// What the accounts are kept by.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The pools, with what is owed for each.
    pub portfolio: &'a Portfolio,
    /// Whose limits hold, by whose clock.
    pub policy: &'a Policy,
}

impl<'a> Terms<'a> {
    fn pools(&self) -> &'a [PoolFacts] {
        &self.portfolio.facts
    }

    /// Whether anything follows for decisions from what is counted.
    pub fn matter(&self) -> bool {
        let limits = &self.policy.limits;
        let owed = self.portfolio.pools.iter().any(|pool| pool.commitment.is_some());
        let budget = Period::ALL.into_iter().any(|period| limits.budget(period).is_some());
        owed || budget || !limits.vendor_share.is_empty() || !limits.site_power_kw.is_empty()
    }

    fn commitment(&self, pool: usize) -> Option<Commitment> {
        self.portfolio.pools.get(pool)?.commitment
    }
}

/// Everything that was counted, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Accounts {
    version: u32,
    pools: BTreeMap<String, Book>,
    budgets: BTreeMap<Period, Spent>,
    power: BTreeMap<String, Pace>,
    vendors: BTreeMap<String, Pace>,
    /// When the controllers moved last, microseconds since 1970.
    moved_us: u64,
}

/// What follows for decisions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Priced {
    /// What work costs beside its price, by pool.
    pub prices: Vec<PoolPrice>,
    /// What is used up.
    pub used: Used,
    /// The same for people.
    pub statement: Statement,
}

impl Accounts {
    /// Goes on from what was saved; what another version wrote is not understood.
    pub fn loaded(saved: Accounts) -> Option<Accounts> {
        (saved.version == VERSION).then_some(saved)
    }

    /// Whether nothing has been counted yet.
    pub fn is_empty(&self) -> bool {
        self.pools.values().all(Book::is_empty)
    }

    /// As it is saved: time that passes before it is loaded moves no controller.
    pub fn at_rest(&self) -> Accounts {
        Accounts { version: VERSION, moved_us: 0, ..self.clone() }
    }

    /// Books an answered request of a pool. `now` counts from 1970.
    pub fn book(&mut self, now: Micros, terms: &Terms<'_>, pool: usize, entry: &Entry) {
        let Some(facts) = terms.pools().get(pool) else { return };
        let utc_offset_s = terms.policy.utc_offset_s;
        let month = Period::Month.around(unix_s(now), utc_offset_s);
        if !self.pools.contains_key(&facts.name) {
            self.pools.insert(facts.name.clone(), Book::default());
        }
        let Some(book) = self.pools.get_mut(&facts.name) else { return };
        book.turn(month, now);
        // What is owed anyway was spent when it was signed: it counts towards no budget.
        let new_usd = book.add(now, entry, terms.commitment(pool));
        for period in Period::ALL {
            let spent = self.budgets.entry(period).or_default();
            spent.turn(period.around(unix_s(now), utc_offset_s), now);
            spent.add(new_usd);
        }
    }

    /// Moves the controllers on, to be called about once a second, and tells what follows for decisions. `endpoints` are
    /// what the gateway has in flight.
    pub fn tick(&mut self, now: Micros, terms: &Terms<'_>, endpoints: &[EndpointState]) -> Priced {
        let step_s = if self.moved_us == 0 { 0.0 } else { (now - Micros(self.moved_us)).as_secs() };
        (self.moved_us, self.version) = (now.0, VERSION);
        let seen = Seen { now, step_s, terms, loads: Fleet::new(terms.pools(), endpoints).loads() };
        let pools: Vec<PoolLine> = (0..terms.pools().len()).filter_map(|pool| self.pool_line(&seen, pool)).collect();
        let budgets = self.budget_lines(&seen, &pools);
        let sites = self.site_lines(&seen);
        let vendors = self.vendor_lines(&seen, &pools);
        let mut statement = Statement { pools, budgets, sites, vendors };
        let prices = statement.price(terms);
        // Nobody else reads them, and what is learned need not change every second.
        let counted = if terms.policy.limits.vendor_share.is_empty() { &[] } else { statement.pools.as_slice() };
        let tokens = counted.iter().map(|line| line.recent_tokens).collect();
        self.forget(terms.pools());
        Priced { prices, used: Used { budget: statement.pressing(), tokens }, statement }
    }

    fn pool_line(&mut self, seen: &Seen<'_>, pool: usize) -> Option<PoolLine> {
        let facts = seen.terms.pools().get(pool)?;
        let book = self.pools.entry(facts.name.clone()).or_default();
        book.turn(Period::Month.around(unix_s(seen.now), seen.terms.policy.utc_offset_s), seen.now);
        Some(book.line(seen.now, &facts.name, seen.terms.commitment(pool), seen.step_s))
    }

    fn budget_lines(&mut self, seen: &Seen<'_>, pools: &[PoolLine]) -> Vec<BudgetLine> {
        let policy = seen.terms.policy;
        let in_flight_usd = seen.in_flight_usd(pools);
        let most = policy.classes.len() as f64;
        let given = Period::ALL.into_iter().filter_map(|period| Some((period, policy.limits.budget(period)?)));
        let line = |(period, usd): (Period, f64)| {
            let spent = self.budgets.entry(period).or_default();
            spent.turn(period.around(unix_s(seen.now), policy.utc_offset_s), seen.now);
            spent.line(seen.now, (period, usd), in_flight_usd, (seen.step_s, most))
        };
        given.map(line).collect()
    }

    fn site_lines(&mut self, seen: &Seen<'_>) -> Vec<SiteLine> {
        let pools = || seen.terms.pools().iter().zip(&seen.loads);
        let names: BTreeSet<&String> = seen.terms.pools().iter().map(|pool| &pool.site).collect();
        let line = |site: &String| {
            let kw = pools().filter(|(pool, _)| pool.site == *site).map(|(_, load)| load.kw).sum();
            let cap = seen.terms.policy.limits.site_power_kw.iter().find(|cap| cap.name == *site);
            let steps = cap.map_or(0.0, |cap| {
                let over = (kw / cap.most - POWER_FROM) / POWER_BAND;
                self.power.entry(site.clone()).or_default().step(over, seen.step_s, POWER_TIME_S, POWER_MOST)
            });
            let usd_per_joule = steps * POWER_STEP_USD_PER_J;
            SiteLine { site: site.clone(), kw, cap_kw: cap.map(|cap| cap.most), usd_per_joule }
        };
        names.into_iter().filter(|site| !site.is_empty()).map(line).collect()
    }

    fn vendor_lines(&mut self, seen: &Seen<'_>, pools: &[PoolLine]) -> Vec<VendorLine> {
        let in_flight = seen.loads.iter().map(|load| load.context_tokens as f64);
        let tokens: Vec<f64> = pools.iter().zip(in_flight).map(|(line, tokens)| line.recent_tokens + tokens).collect();
        let all = tokens.iter().sum::<f64>().max(LEAST_SHARED_TOKENS);
        let line = |cap: &Cap| {
            let served: f64 = cap.pools.iter().filter_map(|pool| tokens.get(*pool)).sum();
            let over = (served / all / cap.most - VENDOR_FROM) / VENDOR_BAND;
            let pace = self.vendors.entry(cap.name.clone()).or_default();
            let lambda = pace.step(over, seen.step_s, VENDOR_TIME_S, VENDOR_MOST);
            VendorLine { vendor: cap.name.clone(), share: served / all, allowed: cap.most, lambda }
        };
        seen.terms.policy.limits.vendor_share.iter().map(line).collect()
    }

    /// Keeps what is saved within bounds, whatever portfolios come and go.
    fn forget(&mut self, pools: &[PoolFacts]) {
        if self.pools.len() > MOST_REMEMBERED {
            self.pools.retain(|name, _| pools.iter().any(|pool| pool.name == *name));
        }
        if self.power.len() > MOST_REMEMBERED {
            self.power.retain(|name, _| pools.iter().any(|pool| pool.site == *name));
        }
        if self.vendors.len() > MOST_REMEMBERED {
            self.vendors.retain(|name, _| pools.iter().any(|pool| pool.vendor == *name));
        }
    }
}

/// What one tick sees.
struct Seen<'a> {
    now: Micros,
    step_s: f64,
    terms: &'a Terms<'a>,
    loads: Vec<PoolLoad>,
}

impl Seen<'_> {
    /// What is under way, at the price of each pool's dearest model, US dollars; without what is owed anyway.
    fn in_flight_usd(&self, pools: &[PoolLine]) -> f64 {
        let pool_usd = |((facts, load), line): ((&PoolFacts, &PoolLoad), &PoolLine)| {
            if line.commitment.is_some_and(|commitment| commitment.is_left) {
                return 0.0;
            }
            let prices = || facts.models.iter().map(|model| model.price);
            let input = prices().map(|price| price.usd_per_m_input).fold(0.0, f64::max);
            let output = prices().map(|price| price.usd_per_m_output).fold(0.0, f64::max);
            let prompts = load.context_tokens.saturating_sub(load.output_tokens_ahead) as f64;
            (prompts * input + load.output_tokens_ahead as f64 * output) / 1e6
        };
        self.terms.pools().iter().zip(&self.loads).zip(pools).map(pool_usd).sum()
    }
}

fn unix_s(now: Micros) -> i64 {
    i64::try_from(now.0 / 1_000_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
