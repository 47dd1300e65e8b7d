//! What is seen of a gateway, as one screen of text.

use serde_json::Value;

use crate::commands::policy::words::{Colour, columns, paint};
use crate::commands::tail::{duration, listed};

/// Heights of a bar, from nothing.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Figures are of the last so many seconds.
pub(super) const WINDOW_S: u32 = 10;
/// Endpoints that are listed, the busiest first: a screen has no room for a large fleet.
const MOST_ENDPOINTS: usize = 12;

/// What was asked of the gateway.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// `/api/v1/status`
    pub(super) status: Value,
    /// All requests by second.
    pub(super) seconds: Value,
    /// All requests of the last ten seconds.
    pub(super) all: Value,
    /// The same by class.
    pub(super) classes: Vec<Value>,
    /// The endpoints.
    pub(super) backends: Vec<Value>,
    /// The last requests.
    pub(super) requests: Value,
    /// Why it is not as new as it should be.
    pub(super) problem: Option<String>,
}

/// Per second.
fn rate(sum: f64) -> f64 {
    sum / f64::from(WINDOW_S)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn real(value: &Value, key: &str) -> Option<f64> {
    value.get(key).and_then(Value::as_f64)
}

/// One screen.
pub(super) fn frame(url: &str, seen: &Seen) -> String {
    let mut out = format!("{}  {}  {url}", paint(Colour::Strong, "pointsman"), text(&seen.status, "policy"));
    if let Some(problem) = &seen.problem {
        out.push_str(&format!("  {}", paint(Colour::Bad, &format!("as it was: {problem}"))));
    }
    out.push_str(&format!("\n\n{}\n{}\n\n", figures(&seen.all), sparkline(&seen.seconds)));
    out.push_str(&columns(&classes(&seen.classes)));
    out.push('\n');
    out.push_str(&endpoints(&seen.backends));
    out.push('\n');
    out.push_str(&listed(&seen.requests));
    out
}

fn figures(all: &Value) -> String {
    let figure = |key: &str| real(all, key);
    let sum = |key: &str| figure(key).unwrap_or_default();
    let time = |key: &str| figure(key).map_or("-".to_owned(), duration);
    let tokens = sum("input_tokens") + sum("output_tokens");
    let per_token = if tokens > 0.0 { format!("{:.2}", sum("joules") / tokens) } else { "-".to_owned() };
    format!(
        "{:.1} requests/s   ttft p95 {}   itl p95 {}   promises {}   errors {:.1}/s   ${:.2}/h   {per_token} J/token (modelled)",
        rate(sum("requests")),
        time("ttft_p95_ms"),
        time("itl_p95_ms"),
        kept(sum("slo_kept"), sum("slo_missed")),
        rate(sum("errors")),
        rate(sum("usd")) * 3_600.0,
    )
}

fn kept(kept: f64, missed: f64) -> String {
    if kept + missed > 0.0 { format!("{:.1} %", kept / (kept + missed) * 100.0) } else { "-".to_owned() }
}

/// Requests of each second, relative to the busiest.
fn sparkline(seconds: &Value) -> String {
    let none = Vec::new();
    let all = seconds.get("requests").and_then(Value::as_array).unwrap_or(&none);
    let counts: Vec<f64> = all.iter().filter_map(Value::as_f64).collect();
    let most = counts.iter().copied().fold(1.0, f64::max);
    let bar = |count: &f64| {
        let height = (count / most * (BARS.len() - 1) as f64).ceil() as usize;
        BARS.get(height).copied().unwrap_or('█')
    };
    let bars: String = counts.iter().map(bar).collect();
    format!("{bars} {}", paint(Colour::Faint, &format!("requests by second, at most {most}")))
}

type Cells = Vec<(Colour, String)>;

fn head(titles: &[&str]) -> Cells {
    titles.iter().map(|title| (Colour::Faint, (*title).to_owned())).collect()
}

fn classes(all: &[Value]) -> Vec<Cells> {
    let titles = ["class", "req/s", "promises", "ttft p50", "p95", "itl p95", "tok/s", "$/h", "errors"];
    let row = |class: &Value| {
        let sum = |key: &str| real(class, key).unwrap_or_default();
        let time = |key: &str| (Colour::Plain, real(class, key).map_or("-".to_owned(), duration));
        let errors = sum("errors");
        let missed = if sum("slo_missed") > 0.0 { Colour::Notice } else { Colour::Plain };
        let name = text(class, "name");
        vec![
            (Colour::Strong, if name.is_empty() { "(none)" } else { name }.to_owned()),
            (Colour::Plain, format!("{:.1}", rate(sum("requests")))),
            (missed, kept(sum("slo_kept"), sum("slo_missed"))),
            time("ttft_p50_ms"),
            time("ttft_p95_ms"),
            time("itl_p95_ms"),
            (Colour::Plain, format!("{:.0}", rate(sum("output_tokens")))),
            (Colour::Plain, format!("{:.2}", rate(sum("usd")) * 3_600.0)),
            (if errors > 0.0 { Colour::Bad } else { Colour::Plain }, format!("{errors:.0}")),
        ]
    };
    std::iter::once(head(&titles)).chain(all.iter().map(row)).collect()
}

fn endpoints(all: &[Value]) -> String {
    let titles = ["endpoint, last minute", "state", "in flight", "ttft p95", "tok/s", "J/token", "errors"];
    let mut sorted: Vec<&Value> = all.iter().collect();
    let busy = |one: &&Value| std::cmp::Reverse(real(one, "in_flight").unwrap_or_default() as u64);
    sorted.sort_by_key(busy);
    let row = |one: &&Value| {
        let nothing = Value::Null;
        let minute = one.get("minute").unwrap_or(&nothing);
        let state = text(one, "state");
        let errors = real(minute, "errors").unwrap_or_default();
        let in_flight = real(one, "in_flight").unwrap_or_default();
        vec![
            (Colour::Plain, text(one, "endpoint").to_owned()),
            (if state == "ready" { Colour::Good } else { Colour::Bad }, state.to_owned()),
            (Colour::Plain, format!("{in_flight:.0}/{:.0}", real(one, "slots").unwrap_or_default())),
            (Colour::Plain, real(minute, "ttft_p95_ms").map_or("-".to_owned(), duration)),
            (Colour::Plain, format!("{:.0}", real(minute, "output_tokens_per_s").unwrap_or_default())),
            (Colour::Plain, real(minute, "joules_per_token").map_or("-".to_owned(), |figure| format!("{figure:.2}"))),
            (if errors > 0.0 { Colour::Bad } else { Colour::Plain }, format!("{errors:.0}")),
        ]
    };
    let rows: Vec<Cells> = std::iter::once(head(&titles)).chain(sorted.iter().take(MOST_ENDPOINTS).map(row)).collect();
    let more = sorted.len().saturating_sub(MOST_ENDPOINTS);
    let rest = if more > 0 { format!("… and {more} with less to do\n") } else { String::new() };
    columns(&rows) + &rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sums(name: &str, requests: u64, missed: u64) -> Value {
        json!({
            "name": name, "requests": requests, "errors": missed, "slo_kept": requests - missed, "slo_missed": missed,
            "input_tokens": 8_000, "output_tokens": 2_000, "usd": 0.01, "joules": 5_000.0, "ttft_p50_ms": 200.0,
            "ttft_p95_ms": 410.5, "itl_p95_ms": null,
        })
    }

    #[test]
    fn a_gateway_at_a_glance() {
        let minute =
            json!({ "ttft_p95_ms": 400.0, "output_tokens_per_s": 312.0, "joules_per_token": 3.21, "errors": 2 });
        let backend = |place: usize, state: &str| json!({ "endpoint": format!("gpu/10.0.0.{place}:8000"), "state": state, "in_flight": place, "slots": 64, "minute": minute });
        let seen = Seen {
            status: json!({ "policy": "balanced@3" }),
            seconds: json!({ "requests": [0, 1, 2, 3, 4, 5, 6, 7, 8, 4, 0, 16] }),
            all: sums("all", 120, 3),
            classes: vec![sums("batch", 20, 0), sums("interactive", 100, 3)],
            backends: (1..15).map(|place| backend(place, if place == 14 { "breaker-open" } else { "ready" })).collect(),
            requests: json!({ "requests": [], "matched": 0 }),
            problem: Some("cannot reach a gateway".to_owned()),
        };
        let plain = anstream::adapter::strip_str(&frame("http://127.0.0.1:7071", &seen)).to_string();
        insta::assert_snapshot!(plain);
        let nothing = frame("http://127.0.0.1:7071", &Seen::default());
        assert!(nothing.contains("0.0 requests/s"), "a gateway that has seen nothing: {nothing}");
    }
}
