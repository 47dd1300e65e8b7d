//! How the states of endpoints have changed: what an operator sees as a strip of colours.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;

/// Changes that are kept of an endpoint.
const MOST_CHANGES: usize = 120;

/// An endpoint was found to be in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// When, milliseconds since 1970.
    pub unix_ms: u64,
    /// `ready`, `breaker-open`, `back-pressure`, `draining`.
    pub state: &'static str,
}

/// Changes of every endpoint of the portfolio in force.
#[derive(Clone, Debug, Default)]
pub struct Strips(HashMap<String, VecDeque<Change>>);

impl Strips {
    /// Looks at all endpoints; those that have changed since the last look, but for new ones. Endpoints that are gone are
    /// forgotten.
    pub fn look<'e>(
        &mut self,
        unix_ms: u64,
        states: impl Iterator<Item = (&'e str, &'static str)>,
    ) -> Vec<(String, Change)> {
        let mut changed = Vec::new();
        let mut before = std::mem::take(&mut self.0);
        for (endpoint, state) in states {
            let (name, mut strip) =
                before.remove_entry(endpoint).unwrap_or_else(|| (endpoint.to_owned(), VecDeque::new()));
            let last = strip.back().map(|change| change.state);
            if last != Some(state) {
                let change = Change { unix_ms, state };
                changed.extend(last.map(|_| (name.clone(), change)));
                strip.push_back(change);
            }
            if strip.len() > MOST_CHANGES {
                strip.pop_front();
            }
            self.0.insert(name, strip);
        }
        changed
    }

    /// The changes of an endpoint, the oldest first.
    pub fn of(&self, endpoint: &str) -> Vec<Change> {
        self.0.get(endpoint).into_iter().flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_kept_and_told_and_what_is_gone_is_forgotten() {
        let mut strips = Strips::default();
        let mut look = |at: u64, states: &[(&'static str, &'static str)]| strips.look(at, states.iter().copied());
        assert!(look(1, &[("a", "ready"), ("b", "ready")]).is_empty(), "nobody has changed yet");
        assert!(look(2, &[("a", "ready"), ("b", "ready")]).is_empty());
        let open = Change { unix_ms: 3, state: "breaker-open" };
        assert_eq!(look(3, &[("a", "breaker-open")]), [("a".to_owned(), open)]);
        assert_eq!(strips.of("a"), [Change { unix_ms: 1, state: "ready" }, open]);
        assert!(strips.of("b").is_empty());
        for at in 4..1_000 {
            strips.look(at, [("a", if at % 2 == 0 { "ready" } else { "draining" })].into_iter());
        }
        assert_eq!(strips.of("a").len(), MOST_CHANGES);
    }
}
