//! `pointsman simulate-fleet`: what the machines and rules of a set of files come to under a load, in virtual time: promises
//! kept, money, energy, where it saturates first, and what more or fewer machines would change.

/// The files, as they are or with other machines.
mod fleet;
/// The load.
mod traffic;
/// Other machines.
mod what_if;
/// All runs.
mod study;
/// One run, in figures.
mod case;
/// How high the load may rise.
mod limit;
/// The answer in a few sentences.
mod verdict;
/// The result for people.
mod text;
/// The result for tools.
mod json;
/// The result as a page.
mod html;
/// Its charts.
mod chart;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};

use fleet::Fleet;
use study::Study;
use traffic::{Lengths, Share, Traffic};
use what_if::Change;

/// Arguments of `simulate-fleet`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The process file; it names the portfolio and the policy.
    #[arg(long, default_value = "pointsman.toml", value_name = "FILE")]
    config: PathBuf,
    /// A trace: Azure's CSV, CSV with `t_s,client,input_tokens,output_tokens`, or Mooncake's JSON lines; several are merged.
    #[arg(long = "trace", value_name = "FILE", required_unless_present = "rps", conflicts_with = "rps")]
    traces: Vec<PathBuf>,
    /// A described load instead of a trace: requests per second.
    #[arg(long, value_name = "NUMBER")]
    rps: Option<f64>,
    /// Prompts of a described load: the median and the ninetieth percentile, tokens.
    #[arg(long, value_name = "MEDIAN,P90", default_value = "1000,2700", conflicts_with = "traces")]
    input: Lengths,
    /// Answers of a described load: the median and the ninetieth percentile, tokens.
    #[arg(long, value_name = "MEDIAN,P90", default_value = "130,420", conflicts_with = "traces")]
    output: Lengths,
    /// How unevenly requests of a described load come: 1 is Poisson, more is in bursts (coefficient of variation).
    #[arg(long, value_name = "NUMBER", default_value_t = 1.0, conflicts_with = "traces")]
    burstiness: f64,
    /// How much of the traces, or how long a described load lasts; all of the traces, or one hour.
    #[arg(long, value_name = "NUMBER")]
    hours: Option<f64>,
    /// Which part of the requests is of which class, such as `realtime=0.25,interactive=0.75`.
    #[arg(long, value_name = "CLASS=PART", value_delimiter = ',')]
    classes: Vec<Share>,
    /// What multiplies the rate of requests.
    #[arg(long, value_name = "FACTORS", value_delimiter = ',', default_value = "0.7,1.0,1.3")]
    load: Vec<f64>,
    /// The model that everybody asks for; the one that most pools serve where not given.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Other machines, instead of one endpoint more in each pool and each site lost: `pool.NAME.endpoints+1` (or `-1`, `=4`),
    /// `pool.NAME.limits*2`, `pool.NAME.slots*2`; may be given more than once.
    #[arg(long = "what-if", value_name = "CHANGE")]
    what_if: Vec<String>,
    /// Also without this site; may be given more than once.
    #[arg(long = "without-site", value_name = "NAME")]
    without_site: Vec<String>,
    /// Only the loads: neither where it saturates nor what if.
    #[arg(long, conflicts_with_all = ["what_if", "without_site"])]
    brief: bool,
    /// Simulate one in so many endpoints of every pool, with as much less traffic; figures are told for all of them.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    one_in: u32,
    /// Decides what is drawn: classes, tenants, jitter.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Also write the result as JSON; `-` prints it instead of the tables.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write the result as a page with charts, complete in itself.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  pointsman simulate-fleet --trace traffic.csv --html fleet.html
  pointsman simulate-fleet --rps 8 --input 1500,6000 --output 200,600 --classes interactive=0.8,batch=0.2
  pointsman simulate-fleet --rps 8 --what-if pool.wafer.endpoints+1 --without-site valley

Simulated: machines behave as the hardware catalog and `[pool.NAME.service]` say, the gateway's own code decides.";

/// Simulates; exit status 1 where the files or arguments cannot be used.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let Some(load) = arguments.load.iter().find(|load| !(load.is_finite() && **load > 0.0)) {
        bail!("--load {load} is not above zero; give factors such as 0.7,1.0,1.3");
    }
    if arguments.html.as_ref().is_some_and(|file| file.as_os_str() == "-") {
        bail!("--html - would write a page between the tables; give it a file");
    }
    let Some(fleet) = Fleet::load(&arguments.config, arguments.model.as_deref())? else {
        return Ok(ExitCode::FAILURE);
    };
    let whole = fleet.endpoints();
    let fleet = fleet.one_in(arguments.one_in)?;
    let traffic = Traffic::of(arguments, fleet.policy())?;
    let changes = changes(arguments, &fleet)?;
    let study = Study::run(arguments, &fleet, &traffic, &changes, whole);
    let json = json::json(&study);
    let to_stdout = arguments.json.as_ref().is_some_and(|file| file.as_os_str() == "-");
    if let Some(file) = arguments.json.as_ref().filter(|_| !to_stdout) {
        std::fs::write(file, format!("{json:#}\n")).with_context(|| format!("cannot write `{}`", file.display()))?;
    }
    if let Some(file) = &arguments.html {
        std::fs::write(file, html::page(&study)).with_context(|| format!("cannot write `{}`", file.display()))?;
    }
    super::print(&if to_stdout { format!("{json:#}\n") } else { text::text(&study) })?;
    Ok(ExitCode::SUCCESS)
}

/// What is asked for; else one endpoint more in each pool that serves the model, and each site lost where there are several.
fn changes(arguments: &Arguments, fleet: &Fleet) -> anyhow::Result<Vec<Change>> {
    if arguments.brief {
        return Ok(Vec::new());
    }
    let asked = arguments.what_if.iter().map(|text| Change::parse(text, fleet));
    let lost = arguments.without_site.iter().map(|name| Change::without_site(name, fleet));
    let asked: Vec<Change> = asked.chain(lost).collect::<anyhow::Result<_>>()?;
    Ok(if asked.is_empty() { Change::usual(fleet) } else { asked })
}
