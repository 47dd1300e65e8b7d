//! `pointsman policy`: what is in force in a running gateway, what was, what differs, and changes.

/// `pointsman policy list`
mod list;
/// `pointsman policy show`
mod show;
/// `pointsman policy diff`
mod diff;
/// `pointsman policy apply` and `rollback`
mod change;
/// `pointsman policy shadow`, `canary`, `trial`, `promote`, `stop` and `resume`
mod trial;
/// A trial in words.
mod trial_words;
/// Columns, times and colours.
pub(super) mod words;

use std::process::ExitCode;

use serde_json::Value;

use super::admin_client::{AdminArguments, AdminClient};

/// Arguments of `policy`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    admin: AdminArguments,
    /// Print the gateway's own answer, JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List what was in force and what was refused, the newest first.
    List(list::Arguments),
    /// Show one of them: who, when, what it changed, its text; what is in force where none is named.
    Show(show::Arguments),
    /// Compare two of them by what they mean.
    Diff(diff::Arguments),
    /// Put a file in force as the policy; checked first, refused whole.
    Apply(change::ApplyArguments),
    /// Put an earlier policy in force again.
    Rollback(change::RollbackArguments),
    /// Let a candidate decide besides, without consequence, and compare.
    Shadow(trial::ShadowArguments),
    /// Let a candidate decide for a share; its guard takes it back where it does worse.
    Canary(trial::CanaryArguments),
    /// Tell how the candidate on trial does.
    Trial(trial::StatusArguments),
    /// Put the candidate on trial in the place of the policy.
    Promote,
    /// End the trial; the policy stays.
    Stop,
    /// Try a candidate again that was rolled back.
    Resume,
}

/// Asks the gateway and tells what it says.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let client = AdminClient::new(&arguments.admin)?;
    let asked = Asked { client, json: arguments.json };
    match &arguments.command {
        Command::List(arguments) => list::run(&asked, arguments),
        Command::Show(arguments) => show::run(&asked, arguments),
        Command::Diff(arguments) => diff::run(&asked, arguments),
        Command::Apply(arguments) => change::apply(&asked, arguments),
        Command::Rollback(arguments) => change::rollback(&asked, arguments),
        Command::Shadow(arguments) => trial::shadow(&asked, arguments),
        Command::Canary(arguments) => trial::canary(&asked, arguments),
        Command::Trial(arguments) => trial::status(&asked, arguments),
        Command::Promote => trial::promote(&asked),
        Command::Stop => trial::stop(&asked),
        Command::Resume => trial::resume(&asked),
    }
}

/// A gateway to ask, and how to tell what it says.
struct Asked {
    client: AdminClient,
    json: bool,
}

impl Asked {
    /// Prints the answer as it came, or in words.
    fn tell(&self, answer: &Value, words: impl FnOnce() -> String) -> anyhow::Result<ExitCode> {
        let text = if self.json { format!("{answer:#}\n") } else { words() };
        super::print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A member that is text; empty where it is not there.
fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A member that is a number; 0 where it is not there.
fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}
