//! The gateway as a process: listens, asks, relays, shows. `pipeline.rs` tells the life of a request.
#![cfg_attr(test, allow(clippy::string_slice, reason = "tests may panic"))]

/// The command line.
pub mod cli;
/// What each command does.
pub mod commands;
/// The three files.
pub mod config;
/// One immutable view of them.
pub mod snapshot;
/// What was in force before, and what was refused.
pub mod generations;
/// Changes of the policy by command.
pub mod apply;
/// Hot swap.
pub mod reload;
/// A candidate policy beside the one in force.
pub mod trial;
/// Listeners, signals, drain.
pub mod serve;
/// What lives as long as the process.
pub mod gateway;
/// How short of memory it is.
pub mod overload;
/// What was spent, served and drawn, and what it makes of prices.
pub mod accounting;
/// What stands between a decision and the machines.
pub mod flow;
/// What it learns while it works.
pub mod learning;
/// Requests that wait for room.
pub mod queue;
/// What second attempts may spend.
pub mod extra_attempts;
/// Who calls.
pub mod identity;
/// The life of a request.
pub mod pipeline;
/// What is read of a request's body.
pub mod prompt;
/// Answers the gateway gives itself.
pub mod refusal;
/// What is remembered of a request.
pub mod record;
/// Records as explanations.
pub mod explained;
/// Decisions in files, to be made again.
pub mod decision_log;
/// What has passed, as operators look at it.
pub mod traffic;
/// Metrics, traces, logs.
pub mod telemetry;
/// The operators' listener.
pub mod admin;
/// What operators look at.
pub mod dashboard;
/// The fleet in virtual time: routers against simulated machines.
pub mod simulation;
