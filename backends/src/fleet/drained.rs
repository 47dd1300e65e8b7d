//! An endpoint that an operator has taken out of service: nothing new is sent there until it is given back. It stays so
//! through reloads, as long as the portfolio has it; a restart forgets it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// Who took it out of service, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drained {
    /// The operator, as they call themselves.
    pub by: String,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
}

/// Whether it is out of service.
#[derive(Debug, Default)]
pub(super) struct Drain {
    is_on: AtomicBool,
    by: Mutex<Option<Arc<Drained>>>,
}

impl Drain {
    /// Whether it is; asked by every decision that looks at it.
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// By whom, where it is.
    pub(super) fn by(&self) -> Option<Arc<Drained>> {
        self.by.lock().clone()
    }

    /// Out of service, or with `None` back in it; whether that is a change.
    pub(super) fn set(&self, drained: Option<Drained>) -> bool {
        let mut by = self.by.lock();
        let changes = by.is_some() != drained.is_some();
        if changes {
            self.is_on.store(drained.is_some(), Ordering::Relaxed);
            *by = drained.map(Arc::new);
        }
        changes
    }
}
