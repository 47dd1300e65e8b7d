//! Simulated machines: the service model of the hardware catalog as a discrete-event engine, driven in virtual time by
//! tests and benches, and in real time behind a port that speaks as an inference server does.

/// One machine: its service model, queue, limits.
pub mod profile;
/// Work that runs: a job, its progress, what it emits.
pub mod sequence;
/// The machine as a state machine driven by a clock argument.
pub mod engine;
/// What happens to it from outside.
pub mod change;
/// What it says of itself, and how that arrives.
pub mod report;
/// Its queue, account and chance.
mod intake;
/// Machines whose running sequences share every step.
mod batch;
/// Steps between two changes of a batch.
mod run;
/// Prompts that begin alike.
mod prefix;
/// Machines whose running sequences do not slow each other.
mod flat;
/// Load nobody can see.
mod weather;
/// What it draws.
mod power;
/// Faults on demand.
pub mod faults;
/// A provider's limits that several machines share.
pub mod account;
/// An engine in real time, and the streams its callers read.
mod machine;
/// What it says.
mod words;
/// The dialect on the wire: requests and answers.
mod openai;
/// Its errors.
mod failure;
/// Streamed answers.
mod body;
/// What it answers, path by path.
mod routes;
/// The machine behind a port.
pub mod server;
/// The service model fitted to measured machines.
pub mod fit;
