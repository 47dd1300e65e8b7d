//! Logs on stderr, as text for people or JSON for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::process::{LogFormat, TelemetryShape};

/// Starts logging; `RUST_LOG` takes precedence over the file. An unusable filter is told and `info` is used.
pub fn start(telemetry: &TelemetryShape) {
    let wanted = std::env::var("RUST_LOG")
        .ok()
        .or_else(|| telemetry.log.as_ref().map(|filter| filter.value.clone()))
        .unwrap_or_else(|| "info".to_owned());
    let (filter, problem) = match EnvFilter::try_new(&wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A second start in one process (tests) keeps the first.
    let started = match telemetry.log_format {
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    if let (Ok(()), Some(error)) = (started, problem) {
        tracing::warn!("log filter `{wanted}` cannot be used: {error}");
    }
}
