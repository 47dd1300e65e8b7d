//! What the bench is told.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use pointsman_policies::mechanisms::Mechanisms;

/// Decision quality: policies on the same traces, machines and promises, in virtual time.
#[derive(Debug, Parser)]
#[command(name = "quality")]
pub struct Arguments {
    /// A trace: Azure's CSV, `t_s,client,input_tokens,output_tokens`, or Mooncake's JSON lines; several are merged.
    #[arg(long = "trace", value_name = "FILE", required_unless_present = "list")]
    pub traces: Vec<PathBuf>,
    /// What multiplies the rate of requests.
    #[arg(long, value_name = "FACTORS", value_delimiter = ',', default_value = "0.7,1.0,1.3,1.6")]
    pub load: Vec<f64>,
    /// What happens meanwhile: names, or `all`.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "steady")]
    pub scenario: Vec<String>,
    /// Which policies: names, or `all`.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "all")]
    pub policies: Vec<String>,
    /// Pointsman once more, with one mechanism switched off, to see what that one is worth: a row for each.
    #[arg(long, value_name = "MECHANISMS", value_delimiter = ',')]
    pub without: Vec<Without>,
    /// How many seeds: each draws classes, tenants and jitter anew.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// Write the figures as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a page of plots.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Another fleet, by its process file.
    #[arg(long, value_name = "FILE")]
    pub fleet: Option<PathBuf>,
    /// Leave out what comes before this time of the traces, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    pub from: f64,
    /// Only so much of the traces, seconds.
    #[arg(long = "for", value_name = "SECONDS", default_value_t = f64::INFINITY)]
    pub length: f64,
    /// Tell how near policies come to what is possible: an upper bound, and a schedule by one who knows everything, found
    /// by so many tries for each ten seconds of the run. 20 where --json or --html is given; 0 leaves it out.
    #[arg(long, value_name = "TRIES", num_args = 0..=1, default_missing_value = "800")]
    pub oracle: Option<usize>,
    /// Search for settings of the baselines on these traces instead, and keep them in this file.
    #[arg(long, value_name = "FILE")]
    pub tune: Option<PathBuf>,
    /// Tell the baselines with their formulas and sources, and the scenarios, and do nothing else.
    #[arg(long)]
    pub list: bool,
    /// Runs at a time; all processors where not given.
    #[arg(long, value_name = "NUMBER")]
    pub threads: Option<usize>,
}

/// A mechanism of Pointsman that can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Without {
    /// The order of the line: who waits goes in the order of coming, whatever is promised, and nobody is given up
    Queue,
    /// Learned margins: predictions may use up the same part of every promise for ever
    Margins,
    /// The regard for others: machines are filled though those who are served there would miss their pace
    Victims,
    /// The factor for load that nobody tells of: neighbours on a rented machine, a throttled card
    HiddenLoad,
    /// Learned service models: machines are taken to be what the portfolio says
    Services,
    /// The regard for prefix caches: it is all the same who has read a prompt before
    Affinity,
    /// Exploration: machines that nobody uses are believed to be what they were
    Exploration,
}

impl Without {
    /// The name of its row.
    pub fn row(self) -> &'static str {
        match self {
            Without::Queue => "without queue",
            Without::Margins => "without margins",
            Without::Victims => "without victims",
            Without::HiddenLoad => "without hidden-load",
            Without::Services => "without services",
            Without::Affinity => "without affinity",
            Without::Exploration => "without exploration",
        }
    }

    /// All the others.
    pub fn mechanisms(self) -> Mechanisms {
        let all = Mechanisms::default();
        match self {
            Without::Queue => Mechanisms { queue: false, ..all },
            Without::Margins => Mechanisms { margins: false, ..all },
            Without::Victims => Mechanisms { victims: false, ..all },
            Without::HiddenLoad => Mechanisms { hidden_load: false, ..all },
            Without::Services => Mechanisms { services: false, ..all },
            Without::Affinity => Mechanisms { affinity: false, ..all },
            Without::Exploration => Mechanisms { exploration: false, ..all },
        }
    }
}
