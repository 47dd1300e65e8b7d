//! The machines: what the portfolio says of them, what is known of them now, how they are called, and simulated ones.
#![cfg_attr(test, allow(clippy::string_slice, reason = "tests may panic"))]

/// The portfolio file.
pub mod portfolio;
/// Places.
pub mod site;
/// Pools as written.
pub mod pool;
/// One address.
pub mod endpoint;
/// Secrets by reference.
pub mod secret;
/// The hardware catalog.
pub mod hardware;
/// Live state by endpoint.
pub mod fleet;
/// What endpoints have in their prefix caches.
pub mod prefixes;
/// What a provider's rate limit has left.
pub mod lease;
/// One attempt.
pub mod call;
/// Connections.
pub mod connect;
/// TLS on both sides.
pub mod tls;
/// The guard held to the last byte.
pub mod inflight;
/// What was spent, served and drawn, and what follows for prices.
pub mod accounts;
/// How much a machine is sent at once.
pub mod window;
/// Wire formats.
pub mod dialects;
/// Framing of streams.
pub mod frames;
/// Breakers.
pub mod health;
/// What is learned of machines and work.
pub mod learn;
/// Simulated machines, in virtual time and behind a real port.
pub mod simulators;
