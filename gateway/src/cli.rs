//! The command line: one source of configuration is the file, so flags say which file and little more.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands;

/// An inference gateway that puts each request on the hardware that suits it.
#[derive(Debug, Parser)]
#[command(name = "pointsman", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve: read the three files, listen, watch the files.
    Serve(ServeArguments),
    /// Show it: simulated machines, public trace traffic, a policy file to edit. Needs nothing.
    Demo(commands::demo::Arguments),
    /// Check files and print every problem with its place; exits 1 if there is an error.
    Check(CheckArguments),
    /// Format files: spaces, blank lines, quotes; comments, key order and meaning stay.
    Fmt(commands::fmt::Arguments),
    /// Explain one decision: class, route, every candidate with its figures, every rejection with its number, the plan.
    Explain(Box<commands::explain::Arguments>),
    /// Print the JSON Schemas of the files.
    Schema(SchemaArguments),
    /// Print what can be written in a file, as a page to read.
    Reference(commands::reference::Arguments),
    /// List the policies to start from, or print one.
    Library(commands::library::Arguments),
    /// Print the hardware catalog.
    Hardware,
    /// Decide recorded traffic again: exactly as it was, or under a candidate policy, with the difference.
    Replay(commands::replay::Arguments),
    /// See, compare and change the policy of a running gateway.
    Policy(commands::policy::Arguments),
    /// Show a running gateway at a glance, once a second: figures, classes, endpoints, the last requests.
    Top(commands::top::Arguments),
    /// Show requests of a running gateway as they end, filtered.
    Tail(commands::tail::Arguments),
    /// Show one request of a running gateway: where its time went, and why it went there.
    Trace(commands::trace::Arguments),
    /// Take an endpoint of a running gateway out of service: nothing new is sent there.
    Drain(commands::drain::Arguments),
    /// Give it back.
    Undrain(commands::drain::Arguments),
    /// Make, list and revoke API keys.
    Keys(commands::keys::Arguments),
    /// Run a simulated machine behind a real port.
    Simulate(commands::simulate::Arguments),
    /// Simulate the whole fleet under a load: promises kept, cost, energy, where it saturates first, what if.
    SimulateFleet(Box<commands::simulate_fleet::Arguments>),
}

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub struct ServeArguments {
    /// The process file; it names the other two.
    #[arg(long, default_value = "pointsman.toml", value_name = "FILE")]
    pub config: PathBuf,
    /// Record every decision into this file, for `pointsman replay`; takes precedence over `[record]`.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Take the listening sockets over from the process that serves with the same state folder, where one does; it
    /// finishes what it has and ends. No connection is refused or reset.
    #[arg(long)]
    pub inherit: bool,
}

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct CheckArguments {
    /// Process, portfolio and policy files, in any order; `pointsman.toml` where none is given.
    #[arg(value_name = "FILES")]
    pub files: Vec<PathBuf>,
    /// How the problems are written; the exit status is the same in each.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: commands::check::Format,
    /// What else makes the exit status 1.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub deny: Option<commands::check::Deny>,
}

/// Arguments of `schema`.
#[derive(Debug, clap::Args)]
pub struct SchemaArguments {
    /// Which file's schema; all, one after the other, where not given.
    pub file: Option<commands::schema::File>,
}

/// Parses the arguments and runs the command.
pub fn run() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(arguments) => commands::serve::run(&arguments),
        Command::Demo(arguments) => commands::demo::run(&arguments),
        Command::Check(arguments) => commands::check::run(&arguments),
        Command::Fmt(arguments) => commands::fmt::run(&arguments),
        Command::Explain(arguments) => commands::explain::run(&arguments),
        Command::Schema(arguments) => commands::schema::run(&arguments),
        Command::Reference(arguments) => commands::reference::run(&arguments),
        Command::Library(arguments) => commands::library::run(&arguments),
        Command::Hardware => commands::hardware::run(),
        Command::Replay(arguments) => commands::replay::run(&arguments),
        Command::Policy(arguments) => commands::policy::run(&arguments),
        Command::Top(arguments) => commands::top::run(&arguments),
        Command::Tail(arguments) => commands::tail::run(&arguments),
        Command::Trace(arguments) => commands::trace::run(&arguments),
        Command::Drain(arguments) => commands::drain::drain(&arguments),
        Command::Undrain(arguments) => commands::drain::undrain(&arguments),
        Command::Keys(arguments) => commands::keys::run(&arguments),
        Command::Simulate(arguments) => commands::simulate::run(&arguments),
        Command::SimulateFleet(arguments) => commands::simulate_fleet::run(&arguments),
    };
    done.unwrap_or_else(|error| {
        anstream::eprintln!("pointsman: {error:#}");
        ExitCode::FAILURE
    })
}
