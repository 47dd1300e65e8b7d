//! What the decision may do: compute, allocate, hash without chance, measure with spans that it was given.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

/// Nothing of this is refused.
pub fn computed(text: &str, elapsed: Duration, draw: u64) -> (BTreeMap<String, u64>, BTreeSet<u64>) {
    let count = xxh3_64(text.as_bytes()).wrapping_add(draw) ^ elapsed.as_millis() as u64;
    (BTreeMap::from([(text.to_uppercase(), count)]), BTreeSet::from([count, draw]))
}
