//! Which endpoints something has happened to, in the order in which it did: who looks at a thousand of them need not ask
//! each.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

/// Changes that are kept, four bytes each: who looks less often asks every endpoint.
const KEPT: usize = 1 << 14;

/// What happened to the endpoints of a fleet.
#[derive(Debug, Default)]
pub(super) struct Changes {
    numbers: AtomicU32,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// How many were forgotten.
    first: u64,
    endpoints: VecDeque<u32>,
}

impl Changes {
    /// A number for an endpoint that is new.
    pub(super) fn number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Something has happened to an endpoint; to be said after it has.
    pub(super) fn note(&self, number: u32) {
        let mut kept = self.kept.lock();
        if kept.endpoints.len() == KEPT {
            kept.endpoints.pop_front();
            kept.first += 1;
        }
        kept.endpoints.push_back(number);
    }

    /// Tells the numbers of those to which something has happened since so many changes, and how many there are now.
    /// `Err` where not all of them are remembered.
    pub(super) fn since(&self, heard: u64, changed: &mut Vec<u32>) -> Result<u64, u64> {
        let kept = self.kept.lock();
        let now = kept.first + kept.endpoints.len() as u64;
        if heard < kept.first || heard > now {
            return Err(now);
        }
        changed.extend(kept.endpoints.range((heard - kept.first) as usize..));
        Ok(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_who_looks_is_told_what_is_new_to_him_or_that_it_is_too_much() {
        let changes = Changes::default();
        let since = |heard| {
            let mut told = Vec::new();
            changes.since(heard, &mut told).map(|now| (now, told))
        };
        assert_eq!(since(u64::MAX), Err(0), "who has never looked");
        (0..3).for_each(|number| changes.note(number));
        assert_eq!((since(0), since(2), since(3)), (Ok((3, vec![0, 1, 2])), Ok((3, vec![2])), Ok((3, vec![]))));
        (0..KEPT as u32).for_each(|number| changes.note(number));
        assert_eq!((since(2), since(3).map(|(_, told)| told.len())), (Err(3 + KEPT as u64), Ok(KEPT)));
    }
}
