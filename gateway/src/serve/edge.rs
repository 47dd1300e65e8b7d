//! What a client may take before it is heard: connections in all, connections from one address, requests of one caller.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::callers::{Callers, Place, Who, group, leave};
use super::client::Client;
use crate::config::process::EdgeLimits;
use crate::gateway::Gateway;
use crate::identity::{self, Caller};
use crate::overload::{Level, STILL_ADMITTED};
use crate::refusal::Refusal;
use crate::telemetry::metrics::Metrics;

/// Counts connections and callers.
#[derive(Debug)]
pub struct Edge {
    connections: Arc<Semaphore>,
    most: usize,
    by_address: Arc<DashMap<IpAddr, u32>>,
    callers: Arc<Callers>,
    running: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl Edge {
    /// For so many connections.
    pub fn new(connections: usize, metrics: Arc<Metrics>) -> Edge {
        let most = connections.min(Semaphore::MAX_PERMITS);
        let connections = Arc::new(Semaphore::new(most));
        Edge {
            connections,
            most,
            by_address: Arc::default(),
            callers: Arc::default(),
            running: Arc::default(),
            metrics,
        }
    }

    /// Where what becomes of connections is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Waits until there may be one more connection.
    pub async fn room(&self) -> Room {
        Room(Arc::clone(&self.connections).acquire_owned().await.ok())
    }

    /// Gives that room to a connection from an address; `None` where the address has as many as it may.
    pub fn take(&self, room: Room, address: IpAddr, limits: &EdgeLimits) -> Option<Taken> {
        let most = match limits.connections_per_address {
            Some(most) => most,
            // Everybody on this host has the one address, and a gateway beside its application sees no other.
            None if address.to_canonical().is_loopback() => self.most,
            None => EdgeLimits::CONNECTIONS_PER_ADDRESS,
        };
        let address = group(address);
        {
            let mut open = self.by_address.entry(address).or_insert(0);
            if usize::try_from(*open).unwrap_or(usize::MAX) >= most {
                return None;
            }
            *open += 1;
        }
        self.metrics.connections().opened();
        let (by_address, metrics) = (Arc::clone(&self.by_address), Arc::clone(&self.metrics));
        Some(Taken { _room: room, by_address, address, metrics })
    }

    /// A client that has connected.
    pub fn client(&self, address: IpAddr) -> Client {
        Client::new(address, Arc::clone(&self.running))
    }

    /// Whether a request that has begun may go on: a place for it where callers are counted, or why it may not.
    pub fn admit(
        &self,
        gateway: &Gateway,
        headers: &HeaderMap,
        (peer, address): (Option<&Caller>, IpAddr),
    ) -> Result<Option<Place>, Refusal> {
        let running = self.running.load(Ordering::Relaxed);
        if gateway.overload().level() >= Level::Refuse && running > STILL_ADMITTED {
            return Err(Refusal::Overloaded);
        }
        let limits = gateway.snapshot().process.edge;
        let Some(most) = limits.requests_per_caller else { return Ok(None) };
        let who = match (identity::shown(gateway, headers), peer) {
            (Some(shown), _) => Who::Shows(shown),
            (None, Some(peer)) => Who::Named(&peer.name),
            (None, None) => Who::From(group(address)),
        };
        match self.callers.enter(who, most) {
            Some(place) => Ok(Some(place)),
            None => Err(Refusal::TooManyOfCaller(most)),
        }
    }
}

/// Room for one connection.
#[derive(Debug)]
pub struct Room(#[expect(dead_code, reason = "held until it is dropped")] Option<OwnedSemaphorePermit>);

/// Room that a connection has taken, until it is dropped.
#[derive(Debug)]
pub struct Taken {
    _room: Room,
    by_address: Arc<DashMap<IpAddr, u32>>,
    address: IpAddr,
    metrics: Arc<Metrics>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        leave(&self.by_address, self.address);
        self.metrics.connections().closed();
    }
}
