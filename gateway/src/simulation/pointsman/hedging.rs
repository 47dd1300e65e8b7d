//! Attempts beside slow ones, as the pipeline makes them.

use std::sync::Arc;

use pointsman_backends::fleet::Verdict;
use pointsman_policies::units::Micros;

use super::Pointsman;
use super::books::Used;
use super::running::Flight;
use crate::record::DecisionRecord;
use crate::simulation::router::Act;

impl Pointsman {
    /// Attempts beside those whose first token is late by now.
    pub(super) fn hedge(&mut self, now: Micros, acts: &mut Vec<Act>) {
        while let Some((_, request)) = self.hedges.first().copied().filter(|(at, _)| *at <= now) {
            self.hedges.pop_first();
            let Some(running) = self.running.get_mut(&request) else { continue };
            let Some((_, hedge)) = running.hedge.take() else { continue };
            let made = Arc::clone(&running.made);
            if !self.accounts.hedge(&made) {
                continue;
            }
            if let Some(Ok(dispatched)) = made.begin(hedge.endpoint, now) {
                running.beside = Some(Flight { endpoint: hedge.endpoint, dispatched });
                running.pending.tried.attempts += 1;
                acts.push(Act::Send { request, endpoint: hedge.endpoint });
            }
        }
    }

    /// Its first token has come, or it is over.
    pub(super) fn needs_no_hedge(&mut self, request: u32) {
        if self.hedges.is_empty() {
            return;
        }
        if let Some((at, _)) = self.running.get_mut(&request).and_then(|running| running.hedge.take()) {
            self.hedges.remove(&(at, request));
        }
    }

    /// Another answered first. What was begun in vain costs its prompt.
    pub(super) fn outrun(
        &mut self,
        now: Micros,
        request: u32,
        made: &DecisionRecord,
        flight: Flight,
        acts: &mut Vec<Act>,
    ) {
        let Flight { endpoint, dispatched } = flight;
        let input_tokens = made.facts.input_tokens;
        dispatched.live().report(Verdict::Neutral, now);
        dispatched.settle(now, input_tokens);
        self.books.book(now, &self.snapshot, (made, endpoint), Used { input_tokens, ..Used::default() });
        acts.push(Act::Cancel { request, endpoint });
    }
}
