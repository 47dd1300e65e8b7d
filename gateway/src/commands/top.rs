//! `pointsman top`: a running gateway at a glance, once a second: figures, classes, endpoints, the last requests.

/// The frame as text.
mod frame;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::admin_client::{AdminArguments, AdminClient};
use crate::traffic::filter::parse;
use frame::{Seen, frame};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);
/// Back to the first place of the screen, and nothing below it.
const REPAINT: &str = "\x1b[H\x1b[J";

/// Arguments of `top`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Which of the last requests are listed, in one argument, such as 'slo:miss -class:batch'; all where not given. The
    /// figures are of all in any case.
    #[arg(value_name = "FILTER", allow_hyphen_values = true)]
    filter: Option<String>,
    /// How many of the last requests.
    #[arg(long, short = 'n', default_value_t = 8, value_name = "NUMBER")]
    last: usize,
    /// Look once and end, as where the output is no terminal.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Shows it until it is stopped.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let filter = arguments.filter.as_deref().unwrap_or_default();
    if let Err(report) = parse(filter) {
        anstream::eprint!("{}", report.render(true)); // colours are taken out again where no terminal shows them
        return Ok(ExitCode::FAILURE);
    }
    let client = AdminClient::new(&arguments.admin)?;
    let requests = format!(
        "/api/v1/requests?limit={}&filter={}",
        arguments.last.clamp(1, 200),
        utf8_percent_encode(filter, NON_ALPHANUMERIC)
    );
    let once = arguments.once || !std::io::stdout().is_terminal();
    let mut seen = look(&client, &requests)?;
    loop {
        let text = frame(client.url(), &seen);
        let text = if once { text } else { format!("{REPAINT}{text}") };
        match anstream::stdout().write_all(text.as_bytes()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            written => written?,
        }
        if once {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(EVERY);
        match look(&client, &requests) {
            Ok(new) => seen = new,
            // it may be restarting: what was seen last stays, and says that it is old
            Err(error) => seen.problem = error.to_string().lines().next().map(str::to_owned),
        }
    }
}

fn look(client: &AdminClient, requests: &str) -> anyhow::Result<Seen> {
    let ask = |path: &str| client.get(path)?.json();
    let of = |answer: &Value, key: &str| answer.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let seconds = ask("/api/v1/timeseries?by=all&window_s=60")?;
    let sums = ask(&format!("/api/v1/summary?window_s={}", frame::WINDOW_S))?;
    Ok(Seen {
        status: ask("/api/v1/status")?,
        seconds: of(&seconds, "series").first().cloned().unwrap_or_default(),
        all: sums.get("all").cloned().unwrap_or_default(),
        classes: of(&sums, "classes"),
        backends: of(&ask("/api/v1/backends")?, "backends"),
        requests: ask(requests)?,
        problem: None,
    })
}
