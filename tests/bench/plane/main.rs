//! What a proxy costs: Pointsman, a bare pass-through and others side by side, under the same load, one core for the proxy.
//! `tests/bench/run` builds and starts it; `tests/bench/README.md` says what is measured, and what came out.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a measurement may stop")]

/// What is run.
mod arguments;
/// Peers as `peers.toml` tells of them.
mod peers;
/// One peer after the other, one round after the other.
mod rounds;
/// The loads.
mod scenario;
/// Many connections at once, from one thread.
mod load;
/// Answers as they arrive.
mod answer;
/// Processes: bound to a core, measured, ended.
mod process;
/// The machine behind the proxies.
mod mock;
/// The floor: a proxy that does nothing.
mod floor;
/// What came out, as JSON and as a table.
mod report;

use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    process::raise_file_limit();
    match Arguments::parse().command {
        Command::Run(wanted) => rounds::run(&wanted),
        Command::Mock { listeners } => mock::run(listeners),
        Command::Floor { listen, upstream } => floor::run(listen, upstream),
        Command::Bound { core, command } => process::become_bound(core, &command),
    }
}
