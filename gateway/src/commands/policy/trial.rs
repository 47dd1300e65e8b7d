//! `pointsman policy shadow`, `canary`, `trial`, `promote`, `stop` and `resume`: a candidate beside the policy in force.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::Asked;
use super::change::{read, refuse, tell};
use super::trial_words::words;
use super::words::{AtHand, Colour, paint};
use crate::trial::view::TrialView;

/// How often `--watch` looks again.
const WATCH_EVERY: Duration = Duration::from_secs(2);
/// Terminal codes: cursor to the top left, clear from there.
const HOME_AND_CLEAR: &str = "\x1b[H\x1b[2J";

/// Arguments of `policy shadow`.
#[derive(Debug, clap::Args)]
pub(super) struct ShadowArguments {
    /// The candidate; the one on trial where not given.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Share of requests that it decides besides, such as `10%`; all where not given.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    sample: Option<f64>,
}

/// Arguments of `policy canary`.
#[derive(Debug, clap::Args)]
pub(super) struct CanaryArguments {
    /// The candidate; the one on trial where not given.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Share that it decides, such as `5%`.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    share: Option<f64>,
    /// What stays together.
    #[arg(long, value_parser = ["session", "tenant", "request"])]
    by: Option<String>,
    /// A tenant that it decides for whole; may be given several times.
    #[arg(long = "tenant", value_name = "NAME")]
    tenants: Vec<String>,
    /// How much worse a class may be kept, such as `2%`.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    margin: Option<f64>,
    /// How sure the guard must be to roll it back, such as `99%`.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    confidence: Option<f64>,
    /// Requests of a class that each side must have had before it is judged.
    #[arg(long, value_name = "NUMBER")]
    min_requests: Option<u64>,
}

/// Arguments of `policy trial`.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArguments {
    /// Look again every two seconds, until interrupted.
    #[arg(long)]
    watch: bool,
}

/// Shares are written as `5%` or `0.05`, so that `5` is nobody's guess.
fn share(text: &str) -> Result<f64, String> {
    let parsed = match text.trim().strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.trim().parse::<f64>(),
    };
    let within = parsed.ok().filter(|share| (0.0..=1.0).contains(share));
    within.ok_or_else(|| "write a share such as `5%` or `0.05`".to_owned())
}

pub(super) fn shadow(asked: &Asked, arguments: &ShadowArguments) -> anyhow::Result<ExitCode> {
    begin(asked, arguments.file.as_deref(), json!({ "mode": "shadow", "sample": arguments.sample }))
}

pub(super) fn canary(asked: &Asked, arguments: &CanaryArguments) -> anyhow::Result<ExitCode> {
    let tenants = Some(&arguments.tenants).filter(|tenants| !tenants.is_empty());
    let wish = json!({
        "mode": "canary",
        "share": arguments.share,
        "by": arguments.by,
        "tenants": tenants,
        "margin": arguments.margin,
        "confidence": arguments.confidence,
        "min_requests": arguments.min_requests,
    });
    begin(asked, arguments.file.as_deref(), wish)
}

fn begin(asked: &Asked, file: Option<&Path>, wish: Value) -> anyhow::Result<ExitCode> {
    let mut wish: Map<String, Value> = match wish {
        Value::Object(wish) => wish.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Map::new(),
    };
    let mut text = String::new();
    let mut theirs = String::new();
    if let Some(file) = file {
        text = read(file)?;
        wish.insert("text".to_owned(), text.clone().into());
        let name = file.file_name().map(|name| name.to_string_lossy()).filter(|name| name.ends_with(".toml"));
        if let Some(name) = name {
            let policy = understand(asked.client.get("/api/v1/trial")?.json()?)?.incumbent.file;
            theirs = Path::new(&policy).with_file_name(&*name).display().to_string();
            wish.insert("name".to_owned(), name.into());
        }
    }
    let ours = file.map(|file| file.display().to_string()).unwrap_or_default();
    match asked.client.post("/api/v1/trial", &Value::Object(wish)) {
        Ok(reply) => told(asked, &reply.json()?),
        Err(error) => refuse(asked, error, AtHand { theirs: &theirs, ours: &ours, text: &text }),
    }
}

pub(super) fn promote(asked: &Asked) -> anyhow::Result<ExitCode> {
    act(asked, "promote")
}

pub(super) fn stop(asked: &Asked) -> anyhow::Result<ExitCode> {
    act(asked, "stop")
}

/// Nothing of the policy changes by it.
pub(super) fn resume(asked: &Asked) -> anyhow::Result<ExitCode> {
    let answer = asked.client.post("/api/v1/trial/resume", &json!({}))?.json()?;
    let view = understand(answer.get("trial").cloned().unwrap_or_default())?;
    asked.tell(&answer, || {
        let done = paint(Colour::Good, "✓");
        format!("{done} it is tried again, counted anew\n\n{}", words(&view, now_unix_s()))
    })
}

fn act(asked: &Asked, what: &str) -> anyhow::Result<ExitCode> {
    told(asked, &asked.client.post(&format!("/api/v1/trial/{what}"), &json!({}))?.json()?)
}

/// What has changed, and how the trial stands now.
fn told(asked: &Asked, answer: &Value) -> anyhow::Result<ExitCode> {
    if asked.json {
        return asked.tell(answer, String::new);
    }
    let done = tell(asked, answer.get("change").unwrap_or(&Value::Null), "", None)?;
    let view = understand(answer.get("trial").cloned().unwrap_or_default())?;
    if view.candidate.is_some() {
        super::super::print(&format!("\n{}", words(&view, now_unix_s())))?;
    }
    Ok(done)
}

pub(super) fn status(asked: &Asked, arguments: &StatusArguments) -> anyhow::Result<ExitCode> {
    loop {
        let answer = asked.client.get("/api/v1/trial")?.json()?;
        let view = understand(answer.clone())?;
        let clear = if arguments.watch && !asked.json { HOME_AND_CLEAR } else { "" };
        let done = asked.tell(&answer, || format!("{clear}{}", words(&view, now_unix_s())))?;
        if !arguments.watch {
            return Ok(done);
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

fn understand(view: Value) -> anyhow::Result<TrialView> {
    serde_json::from_value(view).context("the answer cannot be understood; is the gateway of another version?")
}

fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_written_with_its_unit_or_below_one() {
        assert_eq!(share("5%"), Ok(0.05));
        assert_eq!(share(" 99.5 % "), Ok(0.995));
        assert_eq!(share("0.05"), Ok(0.05));
        for wrong in ["5", "-1%", "101%", "five", "", "%", "nan"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
