//! `pointsman policy apply` and `rollback`: another policy in force.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, header};
use pointsman_policies::language::MAX_TEXT_BYTES;
use serde_json::{Value, json};

use super::words::{AtHand, Colour, diagnostics, differences, paint};
use super::{Asked, number, text};
use crate::admin::policy::FILE_HEADER;
use crate::commands::admin_client::Refused;
use crate::generations::comparison::FileComparison;

/// Arguments of `policy apply`.
#[derive(Debug, clap::Args)]
pub(super) struct ApplyArguments {
    /// The policy; `-` for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Say what would come of it, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Only where the policy in force has this hash, as `policy show` tells it.
    #[arg(long, value_name = "HASH")]
    if_match: Option<String>,
}

/// Arguments of `policy rollback`.
#[derive(Debug, clap::Args)]
pub(super) struct RollbackArguments {
    /// The generation whose policy shall be in force; the last one with another policy where not given.
    #[arg(long, value_name = "NUMBER")]
    to: Option<u64>,
    /// Say what would come of it, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn apply(asked: &Asked, arguments: &ApplyArguments) -> anyhow::Result<ExitCode> {
    let policy = read(&arguments.file)?;
    let current = asked.client.get("/api/v1/policy")?;
    let etag = match &arguments.if_match {
        Some(hash) => format!("\"{}\"", hash.trim_matches('"')),
        None => current.header(header::ETAG).to_owned(),
    };
    let ours = arguments.file.display().to_string();
    let at_hand = AtHand { theirs: current.header(FILE_HEADER), ours: &ours, text: &policy };
    let (method, path) = match arguments.dry_run {
        true => (Method::POST, "/api/v1/policy/check"),
        false => (Method::PUT, "/api/v1/policy"),
    };
    let headers = [(header::IF_MATCH, etag.as_str()), (header::CONTENT_TYPE, "application/toml")];
    match asked.client.send(method, path, &headers, Bytes::from(policy.clone())) {
        Ok(reply) => tell(asked, &reply.json()?, "", Some(at_hand)),
        Err(error) => refuse(asked, error, at_hand),
    }
}

pub(super) fn rollback(asked: &Asked, arguments: &RollbackArguments) -> anyhow::Result<ExitCode> {
    let wish = arguments.to.map_or_else(|| json!({}), |to| json!({ "to": to }));
    let answer = asked.client.post(&format!("/api/v1/rollback{}", query(arguments.dry_run)), &wish)?.json()?;
    if asked.json {
        return asked.tell(&answer, String::new);
    }
    let to = number(&answer, "to");
    let done = tell(
        asked,
        answer.get("change").unwrap_or(&Value::Null),
        &format!(" with the policy of generation {to}"),
        None,
    )?;
    if answer.get("portfolio_differs").and_then(Value::as_bool) == Some(true) {
        let left = format!(
            "  the portfolio is another than in generation {to} and stays as it is: pointsman policy diff {to}\n"
        );
        super::super::print(&paint(Colour::Notice, &left))?;
    }
    Ok(done)
}

fn query(dry_run: bool) -> &'static str {
    if dry_run { "?dry_run=true" } else { "" }
}

/// What came of it, in words; a dry run that would be refused is a failure.
pub(super) fn tell(asked: &Asked, answer: &Value, with: &str, at_hand: Option<AtHand<'_>>) -> anyhow::Result<ExitCode> {
    let comparison = answer.get("comparison").cloned().unwrap_or_default();
    let comparison: FileComparison = serde_json::from_value(comparison).context("the answer cannot be understood")?;
    let result = text(answer, "result");
    let done = asked.tell(answer, || {
        let version = paint(Colour::Strong, text(answer, "policy"));
        let head = match result {
            "in-force" => format!("{} {version} is in force{with}", paint(Colour::Good, "✓")),
            "unchanged" => format!("{version} is in force already{with}"),
            "would-apply" => format!("this would replace {version}{with}"),
            _ => format!("{} this would be refused, {version} would stay{with}", paint(Colour::Bad, "✗")),
        };
        let records = answer.get("diagnostics").and_then(Value::as_array).cloned().unwrap_or_default();
        let told = diagnostics(&records, at_hand);
        let changes = if result == "unchanged" { String::new() } else { differences(&comparison, "  ") };
        let hindrance = answer.get("hindrance").map(|why| {
            let why = format!("  not by command, though: {}\n  help: {}\n", text(why, "message"), text(why, "help"));
            paint(Colour::Notice, &why)
        });
        format!("{head}\n{changes}{told}{}", hindrance.unwrap_or_default())
    })?;
    Ok(if result == "would-be-refused" { ExitCode::FAILURE } else { done })
}

/// A refusal that has diagnostics shows them with the lines they are about.
pub(super) fn refuse(asked: &Asked, error: anyhow::Error, at_hand: AtHand<'_>) -> anyhow::Result<ExitCode> {
    let records = error
        .downcast_ref::<Refused>()
        .and_then(|refused| refused.error.get("diagnostics")?.as_array().cloned())
        .unwrap_or_default();
    if records.is_empty() {
        return Err(error);
    }
    if asked.json {
        let refused = error.downcast_ref::<Refused>().map(|refused| json!({ "error": refused.error }));
        asked.tell(&refused.unwrap_or_default(), String::new)?;
        return Ok(ExitCode::FAILURE);
    }
    let head = format!("{} {error}", paint(Colour::Bad, "✗"));
    let first = head.lines().next().unwrap_or_default();
    anstream::eprint!("{}\n{first}\n", diagnostics(&records, Some(at_hand)));
    Ok(ExitCode::FAILURE)
}

pub(super) fn read(file: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let most = MAX_TEXT_BYTES as u64 + 1;
    let shown = file.display();
    if file == Path::new("-") {
        std::io::stdin().take(most).read_to_end(&mut bytes).context("cannot read standard input")?;
    } else {
        let opened = std::fs::File::open(file).with_context(|| format!("cannot read `{shown}`"))?;
        opened.take(most).read_to_end(&mut bytes).with_context(|| format!("cannot read `{shown}`"))?;
    }
    if bytes.len() > MAX_TEXT_BYTES {
        bail!("`{shown}` has more than the {MAX_TEXT_BYTES} bytes that a policy may have");
    }
    String::from_utf8(bytes).with_context(|| format!("`{shown}` is not UTF-8"))
}
