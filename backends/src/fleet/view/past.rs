//! What was seen of endpoints, as it is remembered: moments near one another share what did not change between them. A
//! decision among a thousand machines would else be kept with the state of each.

use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_policies::fleet::{Cached, EndpointState, LeaseState};

/// A stretch of time holds at least so many changes: to begin another copies the states of all endpoints, in the midst of a
/// decision; and whoever remembers one moment of a stretch keeps all of it.
const LEAST_CHANGES: usize = 32;

/// How endpoints were when a stretch of time began, and what was noted of them since, in order.
#[derive(Debug, Default)]
struct Stretch {
    first: Vec<EndpointState>,
    noted: Mutex<Vec<(u32, EndpointState)>>,
}

/// The present stretch.
#[derive(Debug, Default)]
pub(super) struct Past {
    stretch: Arc<Stretch>,
    noted: usize,
}

impl Past {
    /// An endpoint is in another state from now on.
    pub(super) fn note(&mut self, index: usize, state: EndpointState) {
        self.stretch.noted.lock().push((index as u32, state));
        self.noted += 1;
    }

    /// Begins another stretch where none has begun or the present one has become long.
    pub(super) fn turn(&mut self, states: &[EndpointState]) {
        let most = (2 * states.len()).max(LEAST_CHANGES);
        if self.noted >= most || self.stretch.first.len() != states.len() {
            let noted = Mutex::new(Vec::with_capacity(most));
            *self = Past { stretch: Arc::new(Stretch { first: states.to_vec(), noted }), noted: 0 };
        }
    }

    /// This moment; `leases` are those of pools, which change all the time.
    pub(super) fn moment(&mut self, leases: Vec<(usize, LeaseState)>) -> Seen {
        let bytes = leases.len() * size_of::<(usize, LeaseState)>();
        let (stretch, noted) = (Arc::clone(&self.stretch), self.noted);
        Seen { stretch, noted, leases: Some(leases), own: Vec::new(), bytes }
    }
}

/// Endpoints at one moment; their states are put together when somebody asks.
#[derive(Clone, Debug)]
pub struct Seen {
    stretch: Arc<Stretch>,
    noted: usize,
    /// Of pools; as in the states where `None`.
    leases: Option<Vec<(usize, LeaseState)>>,
    /// Tokens of the one prompt they were looked at for that endpoints are believed to have.
    own: Vec<(u32, u64)>,
    bytes: usize,
}

impl Seen {
    /// States that nobody else remembers.
    pub fn of(states: Vec<EndpointState>) -> Seen {
        let stretch = Arc::new(Stretch { first: states, noted: Mutex::default() });
        Seen { stretch, noted: 0, leases: None, own: Vec::new(), bytes: 0 }
    }

    /// The same for the one prompt that they were looked at for, with who is believed to have some of it.
    pub fn for_prompt(self, cached: &[Cached]) -> Seen {
        let own: Vec<(u32, u64)> = cached.iter().map(|cached| (cached.endpoint as u32, cached.tokens)).collect();
        Seen { bytes: self.bytes + own.capacity() * size_of::<(u32, u64)>(), own, ..self }
    }

    /// What it takes that is its own, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What it keeps from being forgotten together with others: where that is in memory, the same for all who share it, and
    /// what it takes, bytes.
    pub fn shared(&self) -> (usize, usize) {
        let noted = self.stretch.noted.lock().capacity() * size_of::<(u32, EndpointState)>();
        let first = self.stretch.first.len() * size_of::<EndpointState>();
        (Arc::as_ptr(&self.stretch).addr(), size_of::<Stretch>() + first + noted)
    }

    /// How they were, in order.
    pub fn states(&self) -> Vec<EndpointState> {
        let mut states = self.stretch.first.clone();
        for (index, state) in self.stretch.noted.lock().iter().take(self.noted) {
            if let Some(known) = states.get_mut(*index as usize) {
                *known = *state;
            }
        }
        if let Some(leases) = &self.leases {
            for state in &mut states {
                let lease = leases.iter().find(|(pool, _)| *pool == state.pool);
                state.lease = lease.map(|(_, lease)| *lease);
            }
        }
        for (index, cached_tokens) in &self.own {
            if let Some(state) = states.get_mut(*index as usize) {
                state.cached_tokens = *cached_tokens;
            }
        }
        states
    }
}
