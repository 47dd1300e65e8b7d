//! How fast policies are compiled, swapped and decided with, as distributions over calls:
//!
//!     cargo build --release -p pointsman && cargo bench -p pointsman-tests [-- PART...]
//!
//! Parts: `machines`, `compiling`, `swapping`, `deciding`, `searching`, `tracing`, `gateway`; all where none is named. The last two are
//! gateways of their own under load; they need the program.
//!
//! Goals: 1,000 rules compiled in 50 ms; a swap in 1 ms; a decision in 20 µs (p99) with 20 rules and 64 endpoints, in
//! 100 µs with 1,000; a filter over 200,000 kept requests in 20 ms, a contrast in 50 ms; tracing and what is
//! kept for the dashboard in 2 µs of a core a request and 0.3 µs an event. It prints and judges nothing: times of a busy machine prove nothing.
#![expect(clippy::panic, clippy::expect_used, clippy::indexing_slicing, reason = "a measurement may stop")]

/// Times of many calls.
mod measure;
/// What is measured on.
mod large;
/// Simulated machines.
mod engines;
/// Looking through kept requests.
mod searching;
/// What it takes to keep and send what passes.
mod tracing;
/// The gateway itself.
mod gateway;

use std::hint::black_box;
use std::time::Duration;

use pointsman::config::set;
use pointsman::gateway::Gateway;
use pointsman::telemetry::Telemetry;
use pointsman_backends::portfolio::Secrets;
use pointsman_policies::classify::classify;
use pointsman_policies::decide::{Request, decide};
use pointsman_policies::facts::{Api, Facts};
use pointsman_policies::fleet::{Fleet, PoolFacts};
use pointsman_policies::language::{Source, compile};
use pointsman_policies::policy::Policy;
use pointsman_tests::files::{Files, PROCESS};

use large::{Chance, MODEL, endpoints, pools, portfolio, thousand_rules, twenty_rules};
use measure::{report, timed_after, times, yardstick};

/// Pools and endpoints of each: 64 and 1,000 endpoints.
const FLEETS: [(usize, usize); 2] = [(8, 8), (20, 50)];

fn main() {
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |part: &str| named.is_empty() || named.iter().any(|name| name == part);
    let yardstick = yardstick();
    if wanted("machines") {
        engines::serving();
    }
    if wanted("compiling") {
        compiling(yardstick);
    }
    if wanted("searching") {
        searching::searching(yardstick);
    }
    if wanted("tracing") {
        tracing::costs();
    }
    for (pools, each) in FLEETS {
        if wanted("swapping") {
            swapping(pools, each, yardstick);
        }
        if wanted("deciding") {
            for objective in ["cheapest-that-meets-slo", "weights"] {
                deciding(pools, each, objective, yardstick);
            }
        }
        if wanted("gateway") {
            gateway::deciding(pools, each, gateway::SHORT);
            gateway::deciding(pools, each, gateway::BUSY);
            gateway::deciding(pools, each, gateway::LONG);
        }
    }
}

fn compiling(yardstick: Duration) {
    let pools = pools(8, 8);
    report("an empty policy compiled", times(500, || drop(black_box(compiled("", &pools)))), yardstick);
    let text = thousand_rules();
    let parse = times(50, || drop(black_box(toml::de::DeTable::parse_recoverable(&text))));
    report("TOML of a 1,000-rule policy parsed", parse, yardstick);
    let all = times(50, || drop(black_box(compiled(&text, &pools))));
    report(&format!("1,000 rules in {} kB compiled", text.len() / 1_000), all, yardstick);
}

fn deciding(pool_count: usize, each: usize, objective: &str, yardstick: Duration) {
    let pools = pools(pool_count, each);
    let policy = compiled(&twenty_rules(objective), &pools);
    let headers = vec![("host".to_owned(), "localhost".to_owned()), ("x-agent".to_owned(), "voice".to_owned())];
    let mut chance = Chance(11);
    let endpoints = endpoints(&pools, &mut chance);
    let fleet = Fleet::new(&pools, &endpoints);
    let calls = times(50_000, || {
        let facts = Facts {
            headers: &headers,
            stream: chance.below(2) == 0,
            tenant: ["acme", "umbrella", "initech"][chance.below(3)],
            session: "a-session",
            input_tokens: 100 + chance.below(70_000) as u64,
            output_tokens: 300,
            ..Facts::plain(Api::ChatCompletions, MODEL)
        };
        let Some(classified) = classify(&policy, &facts) else { return };
        let request = Request::new(&policy, &facts, classified.class);
        black_box(decide(&request, fleet, chance.number()));
    });
    let name = format!("20 rules, {} endpoints, {objective}", endpoints.len());
    report(&name, calls, yardstick);
}

/// Building a generation on the live fleet and putting it in force; reading and checking the files comes before.
fn swapping(pool_count: usize, each: usize, yardstick: Duration) {
    let files = Files::new(PROCESS, &portfolio(pool_count, each), &twenty_rules("fastest"));
    let load = || set::load(&files.process_file(), Secrets::Required).set.expect("a sound set");
    let gateway = Gateway::new(load(), Telemetry::new().0);
    let reading = times(20, || drop(black_box(load())));
    report(&format!("a set of {} endpoints read and checked", pool_count * each), reading, yardstick);
    let swaps = timed_after(300, load, |set| drop(black_box(gateway.swap(set))));
    report(&format!("a set of {} endpoints put in force", pool_count * each), swaps, yardstick);
}

fn compiled(text: &str, pools: &[PoolFacts]) -> Policy {
    let (policy, report) = compile(Source::new("policy.toml", text), pools);
    policy.unwrap_or_else(|| panic!("{report}"))
}
