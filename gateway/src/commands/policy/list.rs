//! `pointsman policy list`: what was in force and what was refused.

use std::process::ExitCode;

use serde_json::Value;

use super::words::{Colour, ago, columns};
use super::{Asked, number, text};

/// Arguments of `policy list`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// How many, the newest first.
    #[arg(long, default_value_t = 20, value_name = "NUMBER")]
    limit: usize,
}

pub(super) fn run(asked: &Asked, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let answer = asked.client.get(&format!("/api/v1/generations?limit={}", arguments.limit))?.json()?;
    asked.tell(&answer, || {
        let none = Vec::new();
        let entries = answer.get("generations").and_then(Value::as_array).unwrap_or(&none);
        let head = ["", "", "policy", "when", "who", "how", "what"];
        let mut rows = vec![head.map(|title| (Colour::Faint, title.to_owned())).to_vec()];
        rows.extend(entries.iter().map(row));
        columns(&rows)
    })
}

fn row(entry: &Value) -> Vec<(Colour, String)> {
    let (mark, colour) = match text(entry, "state") {
        "in-force" => ("●", Colour::Good),
        "refused" => ("✗", Colour::Bad),
        _ => (" ", Colour::Plain),
    };
    let policy = match text(entry, "policy") {
        "" => "refused",
        name => name,
    };
    vec![
        (colour, mark.to_owned()),
        (colour, text(entry, "id").to_owned()),
        (colour, policy.to_owned()),
        (Colour::Plain, ago(number(entry, "at_unix_ms"))),
        (Colour::Plain, text(entry, "who").to_owned()),
        (Colour::Plain, text(entry, "source").to_owned()),
        (Colour::Plain, text(entry, "summary").to_owned()),
    ]
}
