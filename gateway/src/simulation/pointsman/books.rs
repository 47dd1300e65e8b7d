//! What was spent, served and drawn, on the clock of the simulation.

use pointsman_backends::accounts::{Accounts, Entry, Statement};
use pointsman_policies::power::joules;
use pointsman_policies::units::Micros;

use crate::accounting::{self, publish};
use crate::record::DecisionRecord;
use crate::simulation::router::{BEGINNING_S, Ended};
use crate::snapshot::Snapshot;

/// The accounts of one gateway.
#[derive(Default)]
pub(super) struct Books {
    pub(super) wanted: bool,
    pub(super) statement: Statement,
    pub(super) due: Micros,
    accounts: Accounts,
}

/// What an attempt used, tokens.
#[derive(Clone, Copy, Default)]
pub(super) struct Used {
    pub(super) input_tokens: u64,
    /// Of these, those that the machine had.
    pub(super) cached_tokens: u64,
    pub(super) output_tokens: u64,
}

impl Used {
    pub(super) fn of(ended: &Ended) -> Used {
        let Ended { input_tokens, cached_tokens, output_tokens, .. } = *ended;
        Used { input_tokens, cached_tokens, output_tokens }
    }
}

impl Books {
    /// A day of ten thousand machines has no time for accounts that nobody reads.
    pub(super) fn wanted(wanted: bool) -> Books {
        Books { wanted, ..Books::default() }
    }

    /// Books what an attempt used.
    pub(super) fn book(
        &mut self,
        now: Micros,
        snapshot: &Snapshot,
        (made, endpoint): (&DecisionRecord, usize),
        used: Used,
    ) {
        let Some(target) = snapshot.target(endpoint).filter(|_| self.wanted) else { return };
        let Some(model) = target.facts.model(&made.facts.model) else { return };
        let neighbours = made.planned(endpoint).map_or(0, |planned| planned.state.in_flight);
        let Used { input_tokens, cached_tokens, output_tokens } = used;
        let computed = input_tokens.saturating_sub(cached_tokens);
        let entry = Entry {
            tokens: input_tokens + output_tokens,
            usd: model.price.usd(input_tokens, output_tokens),
            joules: joules(target.facts, computed, output_tokens, neighbours).unwrap_or(0.0),
        };
        self.accounts.book(unix(now), &snapshot.terms(), target.endpoint.pool, &entry);
    }

    pub(super) fn publish(&mut self, now: Micros, snapshot: &Snapshot) {
        if self.wanted && now >= self.due {
            self.due = now + accounting::EVERY;
            let endpoints = snapshot.endpoint_states(now);
            self.statement = publish(&mut self.accounts, snapshot, &endpoints, unix(now));
        }
    }
}

fn unix(now: Micros) -> Micros {
    Micros::from_secs(BEGINNING_S) + now
}
