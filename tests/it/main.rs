//! The whole gateway from outside: what it promises to clients, to machines and to operators, one module a theme.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests may panic"
)]

/// Answers and their headers.
mod answers;
/// What has passed, as operators look at it.
mod requests;
/// The dashboard's files.
mod dashboard;
/// HTTP/1.1, HTTP/2, TLS.
mod protocols;
/// Processes that follow one another.
mod restart;
/// Certificates, both ways.
mod certificates;
/// Who may send requests.
mod identity;
/// Requests that are refused.
mod bad_input;
/// What one client can take from others.
mod edge;
/// Too little memory.
mod overload;
/// HTTP/2 clients that ask for everything but work.
mod http2_floods;
/// Clients that read more slowly than their machine writes.
mod slow_readers;
/// Clients and machines that are too slow.
mod slow;
mod smuggling;
/// Requests that are held until a machine has room.
mod queue;
/// Second attempts beside slow ones.
mod hedge;
/// Failures before the first byte.
mod failover;
/// How often a route may try again.
mod retry_budget;
/// Failures after the first byte.
mod broken_streams;
/// Streams that break and go on elsewhere.
mod continued_streams;
/// Machines that are killed under load.
mod killed_machines;
/// Clients that leave.
mod disconnect;
/// Files that change.
mod hot_swap;
/// Files that change while requests run.
mod swap_under_load;
/// Which version decided, while versions change under full load.
mod versions_under_load;
/// Candidates on trial.
mod trial;
/// What was in force before, and changes by command.
mod generations;
/// The same from the command line.
mod policy_command;
/// Who may ask the operators' listener.
mod operators;
/// Recording and replay.
mod replay;
/// Whole fleets, simulated by command.
mod simulate_fleet;
/// The simulation against the real gateway and real time.
mod live_and_simulated;
/// Shutdown.
mod shutdown;
/// Explanations.
mod explain;
/// Traces.
mod traces;
/// Metrics, health, logs.
mod metrics;
/// What Prometheus and Grafana are given exists.
mod observability;
/// What is learned, and from what.
mod learning;
/// Prompts that machines have read before.
mod prefixes;
/// Commands and shipped files.
mod shipped;
/// `fmt`.
mod formats;
/// What `check` tells.
mod checks;
/// Policies to start from, examples and reference of what can be written.
mod library;
/// Secrets.
mod secrets;
/// Accidents that others had.
mod accidents;
