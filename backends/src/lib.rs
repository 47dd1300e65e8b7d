//! The machines: what they are, what they can do, how to talk to them, and simulated ones that behave alike.
#![cfg_attr(test, allow(clippy::string_slice, reason = "tests may panic"))]

/// What each kind of machine can do, every number with its source.
pub mod hardware;
/// Rate limits as providers keep them.
pub mod lease;
/// Simulated machines, in virtual time and behind a real port.
pub mod simulators;
