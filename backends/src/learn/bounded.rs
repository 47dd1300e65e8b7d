//! A map that never grows past a bound: what was not asked for lately makes room, in constant time.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use serde::{Deserialize, Serialize};

/// Two generations: when the young one is full it becomes the old one, and what is still old then is forgotten. Whatever
/// is written or updated moves to the young.
#[derive(Clone, Debug)]
pub(super) struct Bounded<V> {
    young: ByKey<V>,
    old: ByKey<V>,
    per_generation: usize,
}

type ByKey<V> = HashMap<u64, V, BuildHasherDefault<AsItIs>>;

/// A [`key`] is a hash already.
#[derive(Clone, Copy, Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl<V> Bounded<V> {
    /// An empty map that never holds more than `capacity` entries.
    pub(super) fn new(capacity: usize) -> Bounded<V> {
        Bounded { young: ByKey::default(), old: ByKey::default(), per_generation: (capacity / 2).max(1) }
    }

    /// The entry, wherever it stands; reading does not keep it alive.
    pub(super) fn get(&self, key: u64) -> Option<&V> {
        self.young.get(&key).or_else(|| self.old.get(&key))
    }

    /// The entry to update, made where there is none.
    pub(super) fn entry(&mut self, key: u64, make: impl FnOnce() -> V) -> &mut V {
        if !self.young.contains_key(&key) && self.young.len() >= self.per_generation {
            self.old = std::mem::take(&mut self.young);
        }
        let old = &mut self.old;
        self.young.entry(key).or_insert_with(|| old.remove(&key).unwrap_or_else(make))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// The entries as they are saved, in order of their keys so that equal states give equal files.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Entries<V>(Vec<(u64, V)>);

impl<V: Clone> Bounded<V> {
    /// What is to be saved.
    pub(super) fn entries(&self) -> Entries<V> {
        let all = self.old.iter().chain(&self.young);
        let mut entries: Vec<(u64, V)> = all.map(|(key, value)| (*key, value.clone())).collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        Entries(entries)
    }

    /// Takes saved entries over, as far as there is room; `sound` refuses what cannot be used.
    pub(super) fn restore(&mut self, entries: Entries<V>, sound: impl Fn(&V) -> bool) {
        let room = self.per_generation;
        for (key, value) in entries.0.into_iter().filter(|(_, value)| sound(value)).take(room) {
            self.old.insert(key, value);
        }
    }
}

/// A key of several names; stable across processes.
pub(super) fn key(parts: &[&[u8]]) -> u64 {
    parts.iter().fold(0, |seed, part| xxhash_rust::xxh3::xxh3_64_with_seed(part, seed ^ part.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bound_and_keeps_what_is_used() {
        let mut map = Bounded::new(10);
        for round in 0..1_000_u64 {
            *map.entry(0, || 0_u64) += 1; // used all the time
            map.entry(round + 1, || 0);
            assert!(map.len() <= 10, "{} entries", map.len());
        }
        assert_eq!(map.get(0), Some(&1_000));
        assert_eq!(map.get(3), None);
    }

    #[test]
    fn what_is_saved_comes_back_as_far_as_it_is_sound() {
        let mut map = Bounded::new(10);
        for key in 0..4 {
            *map.entry(key, || 0.0) = if key == 2 { f64::NAN } else { key as f64 };
        }
        let mut again = Bounded::new(10);
        again.restore(map.entries(), |value: &f64| value.is_finite());
        assert_eq!((again.get(1), again.get(2), again.get(3)), (Some(&1.0), None, Some(&3.0)));
    }

    #[test]
    fn names_cannot_be_shifted_from_one_part_into_another() {
        assert_ne!(key(&[b"ab", b"c"]), key(&[b"a", b"bc"]));
        assert_ne!(key(&[b"a", b""]), key(&[b"", b"a"]));
    }
}
