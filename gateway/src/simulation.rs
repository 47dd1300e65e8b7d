//! The fleet in virtual time: requests of a trace come to a gateway, its router sends them to simulated machines, and
//! every answer is judged against the promise of its class. Deterministic: integer microseconds, one heap of events,
//! seeds as arguments. Nothing here reads a clock but to time the router itself.
//!
//! ```text
//! workload ──► router ──► network ──► engines ──► network ──► router ──► outcomes ──► report
//! ```

/// What a router is told and what it may do.
pub mod router;
/// Pointsman's own.
pub mod pointsman;
/// What is asked, when, by whom.
pub mod workload;
/// What happens to the fleet meanwhile.
pub mod conditions;
/// The events.
pub mod world;
/// Attempts under way.
mod attempts;
/// One simulated endpoint.
pub mod machine;
/// How much of the machines was in use.
pub mod usage;
/// What a run came to.
pub mod report;
