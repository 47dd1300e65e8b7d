//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Measures what proxies cost.
#[derive(Debug, Parser)]
#[command(name = "tests/bench/run")]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Parts of the bench that are processes of their own.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measures peers.
    Run(Wanted),
    /// The machine behind the proxies; prints its addresses.
    #[command(hide = true)]
    Mock {
        /// How many addresses it has.
        #[arg(long)]
        listeners: usize,
    },
    /// The floor: hands everything on.
    #[command(hide = true)]
    Floor {
        /// Where clients connect.
        #[arg(long)]
        listen: SocketAddr,
        /// Where everything goes.
        #[arg(long)]
        upstream: SocketAddr,
    },
    /// Another program, on one core, no longer than the bench itself.
    #[command(hide = true)]
    Bound {
        /// The core.
        #[arg(long)]
        core: usize,
        /// The program and its arguments.
        #[arg(last = true)]
        command: Vec<String>,
    },
}

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// Peers, in the order of each round; `all` for all of peers.toml.
    #[arg(long, value_delimiter = ',', default_value = "direct,hyper,pointsman,nginx,haproxy")]
    pub(crate) peers: Vec<String>,
    /// Loads, of those that the page tells of.
    #[arg(long, value_delimiter = ',', default_value = "serial,saturated,body32k,body256k,streams,streams2k")]
    pub(crate) loads: Vec<String>,
    /// How often everything is measured; medians are told.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Seconds of each load that is not streamed.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// Where the figures go, as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// A test of the bench itself: everything short and small. Fails where an answer was not right.
    #[arg(long)]
    pub(crate) quick: bool,
    /// The peers' file.
    #[arg(long, default_value = "tests/bench/peers.toml", hide = true)]
    pub(crate) file: PathBuf,
}
