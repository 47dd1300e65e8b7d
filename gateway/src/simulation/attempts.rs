//! Attempts under way: what was sent where, and what has become of it. Places are used again, so a key also says which
//! attempt it means.

use pointsman_backends::lease::Reservation;
use pointsman_policies::units::Micros;

use super::router::Predicted;

/// Names an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    place: u32,
    number: u32,
}

impl Key {
    /// As the number of a job.
    pub(super) fn job(self) -> u64 {
        u64::from(self.number) << 32 | u64::from(self.place)
    }

    /// The attempt that a job is of.
    pub(super) fn of_job(job: u64) -> Key {
        Key { place: job as u32, number: (job >> 32) as u32 }
    }
}

/// One attempt.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) request: u32,
    pub(super) endpoint: usize,
    pub(super) sent: Micros,
    /// When its first token left the machine.
    pub(super) first: Option<Micros>,
    pub(super) output_tokens: u64,
    pub(super) cached_tokens: u64,
    /// Prompt and context as its gateway accounts for them.
    pub(super) own_prefill: u64,
    pub(super) own_context: u64,
    pub(super) reservation: Option<Reservation>,
    /// What its router expects of it.
    pub(super) predicted: Option<Predicted>,
    /// Its gateway has given it up.
    pub(super) cancelled: bool,
    /// The machine has it.
    pub(super) running: bool,
    /// The machine lost it before its end.
    pub(super) cut: bool,
    /// The next attempt of the same request.
    pub(super) next: Option<Key>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    places: Vec<(u32, Option<Attempt>)>,
    free: Vec<u32>,
}

impl Attempts {
    pub(super) fn insert(&mut self, attempt: Attempt) -> Key {
        if let Some(place) = self.free.pop()
            && let Some((number, held)) = self.places.get_mut(place as usize)
        {
            *held = Some(attempt);
            return Key { place, number: *number };
        }
        self.places.push((1, Some(attempt)));
        Key { place: u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX), number: 1 }
    }

    pub(super) fn get(&self, key: Key) -> Option<&Attempt> {
        self.places.get(key.place as usize).filter(|(number, _)| *number == key.number)?.1.as_ref()
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Attempt> {
        self.places.get_mut(key.place as usize).filter(|(number, _)| *number == key.number)?.1.as_mut()
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Attempt> {
        let (number, held) = self.places.get_mut(key.place as usize).filter(|(number, _)| *number == key.number)?;
        let attempt = held.take()?;
        *number = number.wrapping_add(1) & 0x7fff_ffff; // the highest bit of a job tells neighbours
        self.free.push(key.place);
        Some(attempt)
    }

    /// Those that an endpoint's machine has.
    pub(super) fn running_at(&self, endpoint: usize) -> Vec<Key> {
        let places = self.places.iter().enumerate();
        let there =
            places.filter(|(_, (_, held))| held.as_ref().is_some_and(|one| one.running && one.endpoint == endpoint));
        there
            .map(|(place, (number, _))| Key { place: u32::try_from(place).unwrap_or(u32::MAX), number: *number })
            .collect()
    }
}
