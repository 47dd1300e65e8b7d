//! What several kept requests hold together: what was noted of endpoints around their time. Each of it counts once, whoever
//! holds it, for it goes only with the last of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::record::Record;

/// What is held, by where it is.
#[derive(Debug, Default)]
pub(super) struct Shared {
    held: HashMap<usize, Held>,
    bytes: usize,
}

#[derive(Debug)]
struct Held {
    by: usize,
    bytes: usize,
}

impl Shared {
    /// What all of it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A request is kept.
    pub(super) fn hold(&mut self, record: &Record) {
        let Some(decision) = &record.decision else { return };
        let (place, bytes) = decision.endpoints.shared();
        let held = self.held.entry(place).or_insert_with(|| {
            self.bytes += bytes;
            Held { by: 0, bytes }
        });
        held.by += 1;
    }

    /// A request that was kept is so no longer.
    pub(super) fn let_go(&mut self, record: &Record) {
        let Some(decision) = &record.decision else { return };
        let Entry::Occupied(mut held) = self.held.entry(decision.endpoints.shared().0) else { return };
        held.get_mut().by -= 1;
        if held.get().by == 0 {
            self.bytes = self.bytes.saturating_sub(held.remove().bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pointsman_backends::fleet::Seen;
    use pointsman_policies::fleet::EndpointState;

    use super::*;
    use crate::decision_log::recorder::tests::{record as decided, snapshot};

    #[test]
    fn what_is_shared_counts_once_until_the_last_of_them_goes() {
        let folder = tempfile::tempdir().unwrap();
        let blank = decided(&snapshot(folder.path()));
        let at = |endpoints: &Seen| {
            let mut made = blank.decision.as_deref().unwrap().clone();
            made.endpoints = endpoints.clone();
            let mut record = Record::clone(&blank);
            record.decision = Some(Arc::new(made));
            record
        };
        let [one, other] = [100, 10].map(|count| Seen::of(vec![EndpointState::idle(0); count]));
        let mut shared = Shared::default();
        shared.hold(&at(&one));
        let alone = shared.bytes();
        assert!(alone >= 100 * size_of::<EndpointState>(), "{alone}");
        shared.hold(&at(&one));
        assert_eq!(shared.bytes(), alone, "the same, once more");
        shared.hold(&at(&other));
        let both = shared.bytes();
        assert!(both >= alone + 10 * size_of::<EndpointState>());
        shared.let_go(&at(&one));
        assert_eq!(shared.bytes(), both, "somebody holds it still");
        shared.let_go(&at(&one));
        assert_eq!(shared.bytes(), both - alone);
        shared.let_go(&at(&one));
        shared.let_go(&at(&other));
        assert_eq!((shared.bytes(), shared.held.len()), (0, 0));
    }
}
