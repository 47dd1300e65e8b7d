//! `pointsman trace`: one request of a running gateway, where its time went and why it went there.

use std::process::ExitCode;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pointsman_policies::explain::{Explanation, Style};
use serde_json::Value;

use super::admin_client::{AdminArguments, AdminClient};
use super::policy::words::{Colour, paint};
use super::tail::duration;

/// Width of the bars, characters.
const BAR: usize = 40;
/// Width of the names before them, characters.
const NAME: usize = 26;

/// Arguments of `trace`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The request, by its x-request-id or the 32 digits of its trace; `pointsman tail` shows those.
    #[arg(value_name = "ID")]
    id: String,
    /// Print the gateway's own answer, JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Shows it.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let client = AdminClient::new(&arguments.admin)?;
    let id = utf8_percent_encode(arguments.id.trim(), NON_ALPHANUMERIC);
    let trace = client.get(&format!("/api/v1/traces/{id}"))?.json()?;
    let text = if arguments.json { format!("{}\n", serde_json::to_string_pretty(&trace)?) } else { shown(&trace) };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn shown(trace: &Value) -> String {
    let empty = Value::Null;
    let request = trace.get("request").unwrap_or(&empty);
    let mut text = head(request);
    let none = Vec::new();
    let spans = trace.get("spans").and_then(Value::as_array).unwrap_or(&none);
    if spans.is_empty() {
        text.push_str("\nonly the row is kept of it: the whole is kept of failures and missed promises, and of some of the rest\n");
        return text;
    }
    let whole_ms = spans.iter().filter_map(|span| span.get("to_ms")?.as_f64()).fold(0.001, f64::max);
    text.push('\n');
    text.extend(spans.iter().map(|span| bar(span, whole_ms)));
    let why = trace.get("why").cloned().and_then(|why| serde_json::from_value::<Explanation>(why).ok());
    if let Some(why) = why {
        text.push('\n');
        text.push_str(&why.render(Style { color: true }));
    }
    text
}

fn head(request: &Value) -> String {
    let text = |key: &str| request.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| request.get(key).and_then(Value::as_u64).unwrap_or_default();
    let time = |key: &str| request.get(key).and_then(Value::as_f64).map_or("-".to_owned(), duration);
    let slo = match text("slo") {
        "missed" => {
            let none = Vec::new();
            let parts = request.get("slo_missed").and_then(Value::as_array).unwrap_or(&none);
            let parts: Vec<&str> = parts.iter().filter_map(Value::as_str).collect();
            paint(Colour::Bad, format!("promise missed {}", parts.join(", ")).trim_end())
        }
        "kept" => paint(Colour::Good, "promise kept"),
        _ => "nothing promised".to_owned(),
    };
    format!(
        "{}\n{} {} by {}@{}, {} {}, {slo}\nttft {}  itl {}  total {}  tokens {}+{} ({} cached)  ${:.6}\n",
        paint(Colour::Strong, text("trace_id")),
        text("class"),
        text("model"),
        text("policy"),
        number("generation"),
        text("outcome"),
        number("status"),
        time("ttft_ms"),
        time("itl_ms"),
        time("total_ms"),
        number("input_tokens"),
        number("output_tokens"),
        number("cached_tokens"),
        request.get("usd").and_then(Value::as_f64).unwrap_or_default(),
    )
}

fn bar(span: &Value, whole_ms: f64) -> String {
    let text = |key: &str| span.get(key).and_then(Value::as_str).unwrap_or_default();
    let ms = |key: &str| span.get(key).and_then(Value::as_f64).unwrap_or_default();
    let failed = span.get("failed").and_then(Value::as_bool).unwrap_or_default();
    let depth = span.get("depth").and_then(Value::as_u64).unwrap_or_default() as usize;
    let (from, to) = (ms("from_ms"), ms("to_ms"));
    let place = |at: f64| ((at / whole_ms * BAR as f64).round() as usize).min(BAR);
    let start = place(from).min(BAR - 1);
    let length = place(to).saturating_sub(start).max(1);
    let colour = match (failed, text("kind")) {
        (true, _) => Colour::Bad,
        (false, "queue") => Colour::Notice,
        (false, "decode") => Colour::Good,
        _ => Colour::Plain,
    };
    let name = format!("{}{}", "  ".repeat(depth), text("name"));
    let name: String = name.chars().take(NAME).collect();
    let mark = if failed { "✗ " } else { "" };
    let rest = BAR - start - length;
    let line = format!(
        "{name:<NAME$} {:>8} {}{}{} {mark}{}",
        duration(to - from),
        " ".repeat(start),
        paint(colour, &"█".repeat(length)),
        " ".repeat(rest),
        text("told"),
    );
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_trace_is_a_head_and_bars() {
        let span = |name: &str, kind: &str, depth: u64, (from, to): (f64, f64), failed: bool, told: &str| json!({ "name": name, "kind": kind, "depth": depth, "from_ms": from, "to_ms": to, "failed": failed, "told": told });
        let trace = json!({
            "request": {
                "trace_id": "0af7651916cd43dd8448eb211c80319c", "class": "interactive", "model": "gpt-oss-120b",
                "policy": "balanced", "generation": 3, "outcome": "answered", "status": 200, "slo": "missed",
                "slo_missed": ["ttft"], "ttft_ms": 1_210.0, "itl_ms": 9.1, "total_ms": 3_210.0, "input_tokens": 812,
                "output_tokens": 220, "cached_tokens": 512, "usd": 0.00031,
            },
            "spans": [
                span("request", "request", 0, (0.0, 3_210.0), false, "answered, 200"),
                span("classify", "classify", 1, (0.1, 0.11), false, "interactive, by the default"),
                span("queue gpu", "queue", 1, (0.2, 800.0), false, "12 stood before it; sent"),
                span("gpu/10.0.0.1:8000", "attempt", 1, (800.0, 900.0), true, "connection refused"),
                span("gpu/10.0.0.2:8000", "attempt", 1, (900.0, 3_210.0), false, "answered, 200"),
                span("prefill", "prefill", 2, (900.0, 1_210.0), false, "812 tokens"),
                span("decode", "decode", 2, (1_210.0, 3_210.0), false, "220 tokens, 9.1 ms each"),
            ],
            "why": null,
        });
        insta::assert_snapshot!(anstream::adapter::strip_str(&shown(&trace)).to_string());
        let row_only = json!({ "request": trace["request"], "spans": [], "why": null });
        assert!(shown(&row_only).contains("only the row is kept"));
    }
}
