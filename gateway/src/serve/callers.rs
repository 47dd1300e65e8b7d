//! How many requests each caller has running, where that is bounded: by the key it shows, by its address where it shows
//! none. Whoever has nothing running takes no room here, so the table is never larger than the number of requests.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use http::{HeaderMap, HeaderName, header};

/// Headers in which callers show their keys.
const KEYS: [HeaderName; 3] =
    [header::AUTHORIZATION, HeaderName::from_static("x-api-key"), HeaderName::from_static("api-key")];

/// The callers with requests running. Keys are kept as hashes with a seed of this process.
#[derive(Debug, Default)]
pub struct Callers {
    running: DashMap<u64, u32>,
    seed: RandomState,
}

impl Callers {
    /// A place for one more request of whoever sends these headers, until it is dropped; `None` where it has `most` already.
    pub fn enter(self: &Arc<Callers>, headers: &HeaderMap, address: IpAddr, most: u32) -> Option<Place> {
        let caller = match KEYS.iter().find_map(|name| headers.get(name)) {
            Some(key) => self.seed.hash_one(key.as_bytes()),
            None => self.seed.hash_one(group(address)),
        };
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
    use http::HeaderValue;

    use super::*;

    fn with(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
    }

    #[test]
    fn each_caller_has_its_own_places_and_leaves_nothing_behind() {
        let callers = Arc::new(Callers::default());
        let (here, there): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let (none, key, other) = (HeaderMap::new(), with("authorization", "Bearer a"), with("x-api-key", "b"));
        let first = callers.enter(&none, here, 2);
        let second = callers.enter(&none, here, 2);
        assert!(first.is_some() && second.is_some() && callers.enter(&none, here, 2).is_none());
        assert!(callers.enter(&none, there, 2).is_some(), "another address is another caller");
        let keyed = [callers.enter(&key, here, 2), callers.enter(&key, there, 2)];
        assert!(keyed.iter().all(Option::is_some));
        assert!(callers.enter(&key, here, 2).is_none(), "a key counts wherever it is shown");
        assert!(callers.enter(&other, here, 2).is_some());
        drop(second);
        assert!(callers.enter(&none, here, 2).is_some());
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
