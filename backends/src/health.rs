//! Whether an endpoint may be asked: what its failures and its own words say.

/// The circuit breaker, a pure state machine.
pub mod breaker;
