//! What the tests that cross crates stand on: gateways and machines in this process or as processes of their own, a
//! client that shows every event as it comes, doubles that write down what reaches them. Everything is bounded in time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests may panic"
)]

/// How a test runs: alone or beside others, never for ever.
pub mod run;
/// Waiting for a condition.
pub mod wait;
/// The three files in a folder of their own.
pub mod files;
/// A gateway in this process.
pub mod gateway;
/// Programs as processes of their own.
pub mod process;
/// Simulated machines.
pub mod machines;
/// A machine that writes down what reaches it and answers as it is told.
pub mod double;
/// A client.
pub mod client;
/// Certificates made for one test.
pub mod certificates;
/// Signed tokens.
pub mod tokens;
/// A receiver of traces.
pub mod receiver;
/// Decisions and logs of them in virtual time, without machines.
pub mod virtual_time;
/// Load, and the ledger that must close.
pub mod load;
/// Live against simulated.
pub mod live;
