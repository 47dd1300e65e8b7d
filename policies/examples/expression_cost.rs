//! What one evaluation of a typical condition costs: `cargo run --release --example expression_cost`.
#![expect(clippy::panic, clippy::expect_used, reason = "a measurement may stop")]

use std::hint::black_box;
use std::time::Instant;

use pointsman_policies::facts::{Api, Facts};
use pointsman_policies::language::{Source, compile};
use pointsman_policies::policy::Env;

const EVALUATIONS: u32 = 10_000_000;

fn main() {
    let conditions = [
        "request.input_tokens > 60000",
        "request.path == \"/v1/batches\" || request.service_tier == \"flex\"",
        "request.stream && request.headers[\"x-agent\"] == \"voice\"",
        "request.tenant in [\"acme\", \"umbrella\"] && (request.input_tokens + request.output_tokens) / 2 > 512 && !(request.model.startsWith(\"gpt-\"))",
    ];
    let headers = vec![("host".to_owned(), "localhost".to_owned()), ("x-agent".to_owned(), "voice".to_owned())];
    let facts = Facts {
        headers: &headers,
        stream: true,
        tenant: "umbrella",
        input_tokens: 4096,
        ..Facts::plain(Api::ChatCompletions, "llama")
    };
    for text in conditions {
        let file = format!("[[route]]\nwhen = '{text}'\n");
        let (policy, report) = compile(Source::new("policy.toml", file), &[]);
        let policy = policy.unwrap_or_else(|| panic!("{report}"));
        let condition = policy.routes.first().and_then(|route| route.when.as_ref()).expect("a condition");
        let env = Env { facts: &facts, class: "standard", pool: None, load: None, utc_offset_s: 0 };
        let start = Instant::now();
        for _ in 0..EVALUATIONS {
            black_box(condition.holds(black_box(&env)));
        }
        let nanoseconds = start.elapsed().as_nanos() as f64 / f64::from(EVALUATIONS);
        println!("{nanoseconds:6.1} ns  {text}");
    }
}
