//! What is kept of requests and answers so that streams which break can go on elsewhere: within one bound for all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that one stream keeps, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Keeping {
    bytes: usize,
    most_of_all: usize,
    of_all: Arc<AtomicUsize>,
}

impl Keeping {
    /// Nothing yet, of what may be kept for all.
    pub(super) fn new(of_all: &Arc<AtomicUsize>, most_of_all: usize) -> Keeping {
        Keeping { bytes: 0, most_of_all, of_all: Arc::clone(of_all) }
    }

    /// Keeps so many from now on; whether there is room for them. Fewer always have room.
    pub(super) fn hold(&mut self, bytes: usize) -> bool {
        if bytes == self.bytes {
            return true; // most events make no difference
        }
        if bytes < self.bytes {
            self.of_all.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            self.bytes = bytes;
            return true;
        }
        let more = bytes - self.bytes;
        let fits = |all: usize| all.checked_add(more).filter(|all| *all <= self.most_of_all);
        let has_room = self.of_all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if has_room {
            self.bytes = bytes;
        }
        has_room
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.of_all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_keep_no_more_than_they_may() {
        let of_all = Arc::<AtomicUsize>::default();
        let (mut one, mut other) = (Keeping::new(&of_all, 100), Keeping::new(&of_all, 100));
        assert!(one.hold(60) && other.hold(40) && !other.hold(41) && !one.hold(usize::MAX));
        assert!(one.hold(10) && other.hold(90) && !one.hold(11));
        drop(other);
        assert_eq!(of_all.load(Ordering::Relaxed), 10);
        drop(one);
        assert_eq!(of_all.load(Ordering::Relaxed), 0);
    }
}
