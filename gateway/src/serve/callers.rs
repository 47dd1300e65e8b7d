//! How many requests each caller has running, where that is bounded: by the proof it shows, by its certificate, by its address
//! where it has neither. Whoever has nothing running takes no room here, so the table is never larger than the number of requests.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

/// Who a request is counted for.
#[derive(Clone, Copy, Debug, Hash)]
pub enum Who<'a> {
    /// Whoever shows this key or token.
    Shows(&'a [u8]),
    /// Whoever has a certificate of this name.
    Named(&'a str),
    /// Whoever comes from there.
    From(IpAddr),
}

/// The callers with requests running. Keys are kept as hashes with a seed of this process.
#[derive(Debug, Default)]
pub struct Callers {
    running: DashMap<u64, u32>,
    seed: RandomState,
}

impl Callers {
    /// A place for one more request of a caller, until it is dropped; `None` where it has `most` already.
    pub fn enter(self: &Arc<Callers>, who: Who<'_>, most: u32) -> Option<Place> {
        let caller = self.seed.hash_one(who);
        let mut running = self.running.entry(caller).or_insert(0);
        if *running >= most {
            return None;
        }
        *running += 1;
        Some(Place { callers: Arc::clone(self), caller })
    }

    /// Callers that are remembered.
    pub fn len(&self) -> usize {
        self.running.len()
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }
}

/// One request of a caller.
#[derive(Debug)]
pub struct Place {
    callers: Arc<Callers>,
    caller: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        leave(&self.callers.running, self.caller);
    }
}

/// Takes one off, and forgets who has none left.
pub(super) fn leave<K: Eq + std::hash::Hash>(counts: &DashMap<K, u32>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        if *count.get() > 1 {
            *count.get_mut() -= 1;
        } else {
            count.remove();
        }
    }
}

/// Addresses that one client commonly has together: an IPv4 address, an IPv6 network of 64 bits.
pub(super) fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(network.into())
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_has_its_own_places_and_leaves_nothing_behind() {
        let callers = Arc::new(Callers::default());
        let [here, there] = ["192.0.2.1", "192.0.2.2"].map(|address| Who::From(address.parse().unwrap()));
        let (key, other, named) = (Who::Shows(b"a"), Who::Shows(b"b"), Who::Named("a"));
        let first = callers.enter(here, 2);
        let second = callers.enter(here, 2);
        assert!(first.is_some() && second.is_some() && callers.enter(here, 2).is_none());
        assert!(callers.enter(there, 2).is_some(), "another address is another caller");
        let keyed = [callers.enter(key, 2), callers.enter(key, 2)];
        assert!(keyed.iter().all(Option::is_some) && callers.enter(key, 2).is_none());
        assert!(callers.enter(other, 2).is_some() && callers.enter(named, 2).is_some());
        drop(second);
        assert!(callers.enter(here, 2).is_some());
        drop((first, keyed));
        assert!(callers.is_empty(), "{} remembered", callers.len());
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        let grouped = |text: &str| group(text.parse().unwrap()).to_string();
        assert_eq!(grouped("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(grouped("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(grouped("192.0.2.7"), "192.0.2.7");
    }
}
