//! Whether an endpoint may be asked: what its failures and its own words say.

/// The circuit breaker, a pure state machine.
pub mod breaker;
/// Asking a machine whether it is well.
pub mod probe;
/// Machines that have just come.
pub mod slow_start;
/// What an engine says of its load.
pub mod engine_report;
/// Asking an engine.
pub mod scrape;
/// Metrics of engines, as text.
pub mod metrics_text;
