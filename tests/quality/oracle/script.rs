//! A router that does what a plan says.

use std::collections::BTreeSet;
use std::rc::Rc;

use pointsman::simulation::router::{Act, Arrival, Ended, Router, Seen, TurnedAway};
use pointsman_policies::units::Micros;

use super::record::Step;

/// The router.
pub struct Script {
    plan: Rc<Vec<Option<Step>>>,
    /// Requests that have come and are to be sent later.
    later: BTreeSet<(Micros, u32)>,
}

impl Script {
    /// A router of one gateway; those of several share the plan.
    pub fn boxed(plan: &Rc<Vec<Option<Step>>>) -> Box<dyn Router> {
        Box::new(Script { plan: Rc::clone(plan), later: BTreeSet::new() })
    }

    fn act(&self, request: u32) -> Act {
        match self.plan.get(request as usize).copied().flatten() {
            Some(step) => Act::Send { request, endpoint: step.endpoint },
            None => Act::Refuse { request, retry_after_ms: 0.0 },
        }
    }
}

impl Router for Script {
    fn name(&self) -> &str {
        "clairvoyant"
    }

    fn arrive(&mut self, now: Micros, arrival: &Arrival<'_>, _: &Seen<'_>, acts: &mut Vec<Act>) {
        match self.plan.get(arrival.id as usize).copied().flatten().filter(|step| step.at > now) {
            Some(step) => drop(self.later.insert((step.at, arrival.id))),
            None => acts.push(self.act(arrival.id)),
        }
    }

    fn ended(&mut self, _: Micros, ended: &Ended, _: &Seen<'_>, acts: &mut Vec<Act>) {
        if ended.broken && ended.ttft_ms.is_none() {
            acts.push(Act::Refuse { request: ended.request, retry_after_ms: 0.0 });
        }
    }

    fn turned_away(&mut self, _: Micros, away: &TurnedAway, _: &Seen<'_>, acts: &mut Vec<Act>) {
        acts.push(Act::Refuse { request: away.request, retry_after_ms: 0.0 });
    }

    fn next_wake(&self) -> Option<Micros> {
        self.later.first().map(|(at, _)| *at)
    }

    fn wake(&mut self, now: Micros, _: &Seen<'_>, acts: &mut Vec<Act>) {
        while let Some((_, request)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.pop_first();
            acts.push(self.act(request));
        }
    }
}
