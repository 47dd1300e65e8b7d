//! Baselines that first choose a pool: by price, or by class from a table found by search.

use fastrand::Rng;
use pointsman::simulation::router::Ended;
use pointsman_policies::units::Micros;

use super::at_once::{Choice, Choose, Kept};

/// The least price per token, by lot among equals.
#[derive(Debug)]
pub struct LitellmCost {
    /// The lots among equals: the released code takes the first, which would leave the others of a pool idle.
    pub lots: Rng,
}

impl Choose for LitellmCost {
    fn choose(&mut self, choice: &Choice<'_>) -> Option<usize> {
        choice.least(&mut self.lots, |endpoint| {
            let price = choice.seen.pool(endpoint).and_then(|pool| pool.models.first()).map(|model| model.price);
            price.map_or(f64::INFINITY, |price| price.usd_per_m_input + price.usd_per_m_output)
        })
    }
}

/// A table from class to pool, and another baseline that chooses inside the pool; where no endpoint of the pool may be
/// asked, among all.
#[derive(Debug)]
pub struct ByClass<C> {
    /// The pool of each class.
    pub pools: Vec<usize>,
    /// Chooses inside.
    pub inside: C,
}

impl<C: Choose> Choose for ByClass<C> {
    fn choose(&mut self, choice: &Choice<'_>) -> Option<usize> {
        let pool = self.pools.get(choice.request.class).copied();
        let of_pool = |endpoint: &usize| choice.seen.endpoints.get(*endpoint).map(|seen| seen.pool) == pool;
        let open: Vec<usize> = choice.open.iter().copied().filter(of_pool).collect();
        let narrowed = Choice { open: if open.is_empty() { choice.open } else { &open }, ..*choice };
        self.inside.choose(&narrowed)
    }

    fn sent(&mut self, choice: &Choice<'_>, endpoint: usize) {
        self.inside.sent(choice, endpoint);
    }

    fn first_token(&mut self, now: Micros, request: &Kept, endpoint: usize, ttft_ms: f64) {
        self.inside.first_token(now, request, endpoint, ttft_ms);
    }

    fn ended(&mut self, now: Micros, request: &Kept, ended: &Ended) {
        self.inside.ended(now, request, ended);
    }

    fn turned_away(&mut self, request: &Kept, endpoint: usize) {
        self.inside.turned_away(request, endpoint);
    }
}
