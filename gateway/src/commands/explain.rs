//! `pointsman explain`: one decision with every reason. Of a request that is only supposed, against files or the live
//! fleet; of one that a running gateway remembers; or of one in a decision log.

/// The request that is supposed.
mod supposed;
/// Policy and machines from files.
mod files;
/// What was learned by a gateway of the same files.
mod past;
/// A running gateway.
mod live;
/// A decision log.
mod recorded;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use pointsman_policies::explain::{Explanation, Style};

use super::admin_client::AdminArguments;
use supposed::RequestArguments;

/// What to do where nothing is asked.
const EXAMPLES: &str = "say which request to explain
  help: one that is only supposed, against pointsman.toml or a policy of yours:
          pointsman explain --model gpt-oss-120b --stream --input-tokens 60000
          pointsman explain --policy policy.toml --body request.json -H 'x-agent: voice'
        the same on the machines of a running gateway as they are now:
          pointsman explain --live --body request.json
        one that a running gateway has decided, by its x-request-id or trace id:
          pointsman explain --id req_4bf92f3577b34da6a3ce929d0e0e4736
        one of a scenario file:
          pointsman explain --scenarios policy.scenarios.toml --name 'a voice agent gets the wafer'";

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A request that was decided, by its x-request-id or trace id: by a running gateway, or in a decision log.
    #[arg(long, value_name = "ID", conflicts_with_all = ["body", "model", "scenarios", "live"])]
    id: Option<String>,
    /// A decision log that holds the request of `--id`; several, where it was rotated.
    #[arg(long, value_name = "FILE", requires = "id", num_args = 1..)]
    log: Vec<PathBuf>,
    #[command(flatten)]
    request: RequestArguments,
    /// A scenario file whose request and fleet to explain; see `--name`.
    #[arg(long, value_name = "FILE", requires = "name", conflicts_with_all = ["body", "model", "live", "fleet"])]
    scenarios: Option<PathBuf>,
    /// The scenario's name.
    #[arg(long, value_name = "NAME", requires = "scenarios")]
    name: Option<String>,
    /// The policy; that of the process file, or the one beside the scenarios, where not given. With `--log`, a candidate
    /// that decides the recorded request instead.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The portfolio; `portfolio.toml` beside the policy, else that of the process file, where not given.
    #[arg(long, value_name = "FILE", conflicts_with = "live")]
    portfolio: Option<PathBuf>,
    /// The process file, which names policy and portfolio.
    #[arg(long, default_value = "pointsman.toml", value_name = "FILE")]
    config: PathBuf,
    /// Ask a running gateway what it would decide now; with `--policy`, what that policy would.
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    admin: AdminArguments,
    /// A state of the machines, described as `[fleet.NAME]` of a scenario file; all idle and ready where not given.
    #[arg(long, value_name = "FILE[:NAME]", conflicts_with_all = ["id", "live"])]
    fleet: Option<String>,
    /// The random number that draws lots among near-ties.
    #[arg(long, value_name = "NUMBER", conflicts_with = "id")]
    draw: Option<u64>,
    /// Print the explanation as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Explains; exit status 1 where the files have errors.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let explanation = match &arguments.id {
        Some(_) if arguments.log.is_empty() && (arguments.policy.is_some() || arguments.portfolio.is_some()) => {
            bail!("`--id` with `--policy` or `--portfolio` wants a decision log\n  help: name it with `--log FILE`")
        }
        Some(id) if arguments.log.is_empty() => live::decided(arguments, id)?,
        Some(id) => match recorded::decided(arguments, id)? {
            Some(explanation) => explanation,
            None => return Ok(ExitCode::FAILURE),
        },
        None if arguments.scenarios.is_none() && !arguments.request.is_given() => bail!(EXAMPLES),
        None if arguments.live => live::supposed(arguments)?,
        None => match files::explain(arguments)? {
            Some(explanation) => explanation,
            None => return Ok(ExitCode::FAILURE),
        },
    };
    super::print(&text(&explanation, arguments.json)?)?;
    Ok(ExitCode::SUCCESS)
}

fn text(explanation: &Explanation, json: bool) -> anyhow::Result<String> {
    if json {
        return Ok(format!("{}\n", serde_json::to_string_pretty(explanation)?));
    }
    Ok(explanation.render(Style { color: true })) // taken out again where no terminal shows it
}
