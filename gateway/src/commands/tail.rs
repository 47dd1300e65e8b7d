//! `pointsman tail`: requests of a running gateway as they end, filtered as everywhere else.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::admin_client::{AdminArguments, AdminClient};
use super::policy::words::{Colour, columns};
use crate::traffic::filter::parse;

/// How often it looks for new ones.
const EVERY: Duration = Duration::from_millis(500);
/// The most that are taken at one look; how many more there were is said.
const MOST_AT_ONCE: usize = 500;

/// Arguments of `tail`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Which requests, in one argument: terms that must all hold, such as 'slo:miss class:realtime ttft>300ms
    /// -backend:gpu'; all where not given.
    #[arg(value_name = "FILTER", allow_hyphen_values = true)]
    filter: Option<String>,
    /// How many of the last ones to begin with.
    #[arg(long, short = 'n', default_value_t = 10, value_name = "NUMBER")]
    last: usize,
    /// End after those, instead of waiting for more.
    #[arg(long)]
    once: bool,
    /// Print each as one line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Shows them until it is stopped or nobody reads on.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let filter = arguments.filter.as_deref().unwrap_or_default();
    if let Err(report) = parse(filter) {
        anstream::eprint!("{}", report.render(true)); // colours are taken out again where no terminal shows them
        return Ok(ExitCode::FAILURE);
    }
    let client = AdminClient::new(&arguments.admin)?;
    let path = format!("/api/v1/requests?filter={}", utf8_percent_encode(filter, NON_ALPHANUMERIC));
    let mut answer = client.get(&format!("{path}&limit={}", arguments.last.clamp(1, MOST_AT_ONCE)))?.json()?;
    let mut first = true;
    loop {
        let text = shown(&answer, arguments.json, std::mem::take(&mut first));
        match anstream::stdout().write_all(text.as_bytes()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            written => written?,
        }
        if arguments.once {
            return Ok(ExitCode::SUCCESS);
        }
        let seen = answer.get("seen").and_then(Value::as_u64).unwrap_or_default();
        std::thread::sleep(EVERY);
        let new = match seen.checked_sub(1) {
            Some(last) => format!("{path}&after={last}&limit={MOST_AT_ONCE}"),
            None => format!("{path}&limit={MOST_AT_ONCE}"),
        };
        answer = client.get(&new)?.json()?;
    }
}

fn shown(answer: &Value, json: bool, with_head: bool) -> String {
    let none = Vec::new();
    let requests = answer.get("requests").and_then(Value::as_array).unwrap_or(&none);
    if json {
        return requests.iter().rev().map(|request| format!("{request}\n")).collect();
    }
    let matched = answer.get("matched").and_then(Value::as_u64).unwrap_or_default();
    let left_out = if with_head { 0 } else { matched.saturating_sub(requests.len() as u64) };
    let mut text = String::new();
    if with_head && requests.is_empty() {
        text.push_str("nothing yet; waiting for requests that match\n");
    }
    if left_out > 0 {
        text.push_str(&format!("… {left_out} more, too many to show\n"));
    }
    let head = with_head.then(|| HEAD.map(|title| (Colour::Faint, fill(title))).to_vec());
    let rows: Vec<_> =
        head.into_iter().filter(|_| !requests.is_empty()).chain(requests.iter().rev().map(row)).collect();
    text + &columns(&rows)
}

/// The requests of an answer with a head, the newest last.
pub(super) fn listed(answer: &Value) -> String {
    shown(answer, false, true)
}

/// Columns keep their widths from one look to the next.
const HEAD: [(&str, usize); 9] = [
    ("time", 12),
    ("class", 12),
    ("endpoint", 22),
    ("status", 16),
    ("ttft", 8),
    ("itl", 8),
    ("total", 8),
    ("tokens", 11),
    ("trace", 0),
];

fn fill((text, width): (&str, usize)) -> String {
    format!("{text:<width$}")
}

fn row(request: &Value) -> Vec<(Colour, String)> {
    let text = |key: &str| request.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| request.get(key).and_then(Value::as_u64).unwrap_or_default();
    let time = |key: &str| request.get(key).and_then(Value::as_f64).map_or("-".to_owned(), duration);
    let came = SystemTime::UNIX_EPOCH + Duration::from_millis(number("unix_ms"));
    let came = humantime::format_rfc3339_millis(came).to_string();
    let status = match (text("outcome"), number("status")) {
        ("answered", status) => status.to_string(),
        (outcome, 0) => outcome.to_owned(),
        (outcome, status) => format!("{status} {outcome}"),
    };
    let failed = number("status") >= 500 || text("outcome") == "broken";
    let (status_colour, time_colour) = match (failed, text("slo")) {
        (true, _) => (Colour::Bad, Colour::Plain),
        (false, "missed") => (Colour::Notice, Colour::Notice),
        _ => (Colour::Plain, Colour::Plain),
    };
    let tokens = format!("{}+{}", number("input_tokens"), number("output_tokens"));
    let cells = [
        (Colour::Faint, came.get(11..23).unwrap_or_default().to_owned()),
        (Colour::Plain, text("class").to_owned()),
        (Colour::Plain, text("endpoint").to_owned()),
        (status_colour, status),
        (time_colour, time("ttft_ms")),
        (time_colour, time("itl_ms")),
        (time_colour, time("total_ms")),
        (Colour::Plain, tokens),
        (Colour::Faint, text("trace_id").to_owned()),
    ];
    cells.into_iter().zip(HEAD).map(|((colour, text), (_, width))| (colour, fill((&text, width)))).collect()
}

/// A time in the unit that fits.
pub(super) fn duration(ms: f64) -> String {
    match ms {
        ms if ms < 1.0 => format!("{:.0}us", ms * 1e3),
        ms if ms < 100.0 => format!("{ms:.1}ms"),
        ms if ms < 10_000.0 => format!("{ms:.0}ms"),
        ms => format!("{:.1}s", ms / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requests_are_one_line_each_the_newest_last() {
        let request = |seq: u64, change: Value| {
            let mut request = json!({
                "seq": seq, "trace_id": "0af7651916cd43dd8448eb211c80319c", "unix_ms": 1_764_576_000_123_u64 + seq,
                "class": "interactive", "endpoint": "gpu/10.0.0.1:8000", "outcome": "answered", "status": 200,
                "ttft_ms": 210.04, "itl_ms": 9.13, "total_ms": 2_210.0, "input_tokens": 812, "output_tokens": 220,
                "slo": "kept",
            });
            let members = request.as_object_mut().unwrap();
            members.extend(change.as_object().unwrap().clone());
            request
        };
        let requests = [
            request(
                2,
                json!({ "outcome": "refused", "status": 503, "ttft_ms": null, "itl_ms": null, "total_ms": 0.4, "endpoint": "" }),
            ),
            request(1, json!({ "slo": "missed", "total_ms": 12_345.0 })),
            request(0, json!({})),
        ];
        let answer = json!({ "requests": requests, "matched": 5 });
        let plain = |text: String| anstream::adapter::strip_str(&text).to_string();
        insta::assert_snapshot!(plain(shown(&answer, false, true)) + &plain(shown(&answer, false, false)));
        assert_eq!(shown(&answer, true, true).lines().count(), 3);
        assert!(shown(&json!({ "requests": [] }), false, true).contains("nothing yet"));
    }
}
