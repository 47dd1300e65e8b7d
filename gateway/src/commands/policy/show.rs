//! `pointsman policy show`: one generation, or one attempt that was refused.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use super::words::{AtHand, Colour, ago, diagnostics, paint};
use super::{Asked, number, text};
use crate::generations::comparison::Comparison;

/// Arguments of `policy show`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A generation such as `12`, or a refused attempt such as `r3`; what is in force where not given.
    #[arg(value_name = "NUMBER")]
    which: Option<String>,
    /// Print the policy's text and nothing else.
    #[arg(long)]
    text: bool,
}

pub(super) fn run(asked: &Asked, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = match &arguments.which {
        Some(_) => Value::Null,
        None => asked.client.get("/api/v1/config")?.json()?,
    };
    let which = arguments.which.clone().unwrap_or_else(|| number(&config, "generation").to_string());
    let answer = asked.client.get(&format!("/api/v1/generations/{which}"))?.json()?;
    let policy = answer.pointer("/files/policy/text").and_then(Value::as_str).unwrap_or_default();
    if arguments.text && !asked.json {
        crate::commands::print(policy)?;
        return Ok(ExitCode::SUCCESS);
    }
    asked.tell(&answer, || format!("{}{}\n{policy}", head(&answer, policy), on_disk(&config)))
}

fn head(answer: &Value, policy: &str) -> String {
    let nothing = Value::Null;
    let entry = answer.get("generation").unwrap_or(&nothing);
    let (title, colour) = match text(entry, "state") {
        "in-force" => ("in force", Colour::Good),
        "refused" => ("refused", Colour::Bad),
        _ => ("was in force", Colour::Plain),
    };
    let name = match text(entry, "policy") {
        "" => format!("attempt {}", text(entry, "id")),
        name => format!("{name}@{}", text(entry, "id")),
    };
    let from = match text(entry, "from") {
        "" => String::new(),
        from => format!(" from {from}"),
    };
    let mut told = format!("{}  {}\n", paint(Colour::Strong, &name), paint(colour, title));
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(told, "  {}  {value}", paint(Colour::Faint, &format!("{key:<7}")));
    };
    line("when", &format!("{} ({})", ago(number(entry, "at_unix_ms")), text(entry, "at")));
    line("who", &format!("{}{from}, by {}", text(entry, "who"), text(entry, "source")));
    line("hash", &format!("{}, policy {}", text(entry, "hash"), text(entry, "policy_hash")));
    let file = answer.pointer("/files/policy/path").and_then(Value::as_str).unwrap_or_default();
    line("file", file);
    let records = entry.get("diagnostics").and_then(Value::as_array).cloned().unwrap_or_default();
    if !records.is_empty() {
        told.push('\n');
        told.push_str(&diagnostics(&records, Some(AtHand { theirs: file, ours: file, text: policy })));
    }
    if let Some(compared) = answer.get("compared").filter(|compared| !compared.is_null()) {
        let _ = writeln!(told, "\nagainst {}", text(compared, "with"));
        let files = compared.get("files").cloned().unwrap_or_default();
        if let Ok(files) = serde_json::from_value::<Comparison>(files) {
            told.push_str(&super::diff::files(&files));
        }
    }
    told
}

/// What stands in the files, where that is not in force.
fn on_disk(config: &Value) -> String {
    let records = config.pointer("/on_disk/diagnostics").and_then(Value::as_array).cloned().unwrap_or_default();
    let text = match config.pointer("/on_disk/state").and_then(Value::as_str) {
        Some("refused") => "the files on disk have errors and are not in force:",
        Some("differs") => "the files on disk have changed and will be in force in a moment",
        _ => return String::new(),
    };
    format!("\n{}\n{}", paint(Colour::Notice, text), diagnostics(&records, None))
}
