//! `pointsman policy diff`: two generations, compared by what they mean.

use std::process::ExitCode;

use anyhow::Context;

use super::words::{Colour, differences, paint};
use super::{Asked, text};
use crate::generations::comparison::{Comparison, FileComparison};

/// Arguments of `policy diff`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The old one: a generation such as `12`, a refused attempt such as `r3`, `current`, or `file` for what is on disk.
    #[arg(value_name = "FROM")]
    from: String,
    /// The new one.
    #[arg(value_name = "TO", default_value = "current")]
    to: String,
}

pub(super) fn run(asked: &Asked, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { from, to } = arguments;
    let answer = asked.client.get(&format!("/api/v1/generations/diff?from={from}&to={to}"))?.json()?;
    let comparison = answer.get("files").cloned().unwrap_or_default();
    let comparison: Comparison = serde_json::from_value(comparison).context("the answer cannot be understood")?;
    asked.tell(&answer, || {
        let title = format!("{} → {}", text(&answer, "from"), text(&answer, "to"));
        format!("{}\n{}", paint(Colour::Strong, &title), files(&comparison))
    })
}

/// The differences file by file; files that are the same are passed over where another is not.
pub(super) fn files(comparison: &Comparison) -> String {
    let Comparison { policy, portfolio, process, candidate } = comparison;
    let files = [
        ("policy", Some(policy)),
        ("candidate", candidate.as_ref()),
        ("portfolio", Some(portfolio)),
        ("process", Some(process)),
    ];
    let told = |(name, file): &(&str, Option<&FileComparison>)| {
        let file = file.filter(|file| !file.same_text)?;
        Some(format!("  {}\n{}", paint(Colour::Faint, name), differences(file, "    ")))
    };
    let told: String = files.iter().filter_map(told).collect();
    if told.is_empty() { format!("  {}\n", paint(Colour::Faint, "the same texts")) } else { told }
}
