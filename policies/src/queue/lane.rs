//! What goes before what: requests of one standing, one order of shedding and one priority wait in a lane.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{Held, LOOK_AHEAD};
use crate::fleet::Waiting;
use crate::units::Micros;

/// Who goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The most urgent.
    #[default]
    Urgency,
    /// Whoever came first, and nobody is given up for being late.
    Coming,
}

impl Order {
    /// Where it waits.
    pub(super) fn lane(self, held: &Held) -> LaneKey {
        match self {
            Order::Urgency => {
                let standing = if held.shed_order.is_some() { Standing::Sheddable } else { Standing::InTime };
                LaneKey { standing, shed_order: Reverse(held.shed_order), priority: Reverse(held.priority) }
            }
            // Before whoever comes now, whatever its class.
            Order::Coming => {
                LaneKey { standing: Standing::InTime, shed_order: Reverse(None), priority: Reverse(i32::MAX) }
            }
        }
    }

    /// Its turn in its lane: the least goes first.
    pub(super) fn turn(self, held: &Held) -> Turn {
        match self {
            Order::Urgency => (held.due, held.ticket),
            Order::Coming => (held.since, held.ticket),
        }
    }
}

/// A place in a lane.
pub(super) type Turn = (Micros, u64);

/// What comes first, before class and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// Its promise can still be kept.
    InTime,
    /// It cannot: nothing is gained by sending it before somebody else's.
    Late,
    /// It may be refused.
    Sheddable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneKey {
    pub(super) standing: Standing,
    /// Who goes last is late first, and shed.
    pub(super) shed_order: Reverse<Option<i32>>,
    pub(super) priority: Reverse<i32>,
}

/// Requests of one pool, one standing, one order of shedding and one priority, soonest due first.
#[derive(Clone, Debug, Default)]
pub(super) struct Lane {
    pub(super) held: BTreeMap<Turn, Held>,
    input_tokens: u64,
    output_tokens: u64,
}

impl Lane {
    pub(super) fn insert(&mut self, turn: Turn, held: Held) {
        self.input_tokens += held.input_tokens;
        self.output_tokens += held.output_tokens;
        self.held.insert(turn, held);
    }

    pub(super) fn remove(&mut self, turn: &Turn) -> Option<Held> {
        let held = self.held.remove(turn)?;
        self.input_tokens -= held.input_tokens;
        self.output_tokens -= held.output_tokens;
        Some(held)
    }

    pub(super) fn waiting(&self, now: Micros, pool: usize, key: LaneKey, before: Option<Turn>) -> Option<Waiting> {
        let late = key.standing == Standing::Late;
        let (priority, slack) = match late {
            true => (i32::MIN, None),
            false => (key.priority.0, self.held.range((now, 0)..).next().map(|((due, _), _)| (*due - now).as_ms())),
        };
        let mut sum = Waiting {
            pool,
            priority,
            requests: u32::try_from(self.held.len()).unwrap_or(u32::MAX),
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            least_slack_ms: slack,
        };
        if let Some(before) = before {
            sum = Waiting { requests: 0, input_tokens: 0, output_tokens: 0, ..sum };
            for held in self.held.range(..before).take(LOOK_AHEAD).map(|(_, held)| held) {
                sum.requests += 1;
                sum.input_tokens += held.input_tokens;
                sum.output_tokens += held.output_tokens;
            }
        }
        (sum.requests > 0).then_some(sum)
    }
}
