//! The decision: facts about a request and a view of the fleet go in, a plan with a reason for every candidate comes
//! out. Pure: no clock, no I/O, no async, no randomness, no metrics; whatever of these is needed is an argument.
#![deny(clippy::disallowed_methods)]
#![cfg_attr(test, allow(clippy::string_slice, reason = "tests may panic"))]

/// Micros and tokens: the units that travel between crates.
pub mod units;
/// What is known of a request when it arrives.
pub mod facts;
/// What is known of the machines now.
pub mod fleet;
/// The compiled rules.
pub mod policy;
/// TOML and CEL text → a checked policy, with diagnostics that point at the character.
pub mod language;
