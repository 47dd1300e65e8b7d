//! How long it takes to compile a policy of a thousand rules and to decide among many endpoints, as distributions over
//! calls: `cargo bench -p pointsman-policies --bench decision`. Goals: compile in 50 ms; decide in 20 µs (p99) with 20
//! rules and 64 endpoints, in 100 µs with 1,000.
#![expect(clippy::panic, clippy::indexing_slicing, reason = "a measurement may stop")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use pointsman_policies::classify::classify;
use pointsman_policies::decide::{Request, decide};
use pointsman_policies::facts::{Api, Facts};
use pointsman_policies::fleet::{
    Availability, EndpointState, Fleet, HardwareKind, LeaseState, ModelFacts, PoolFacts, Price, ServiceModel,
};
use pointsman_policies::language::{Source, compile};
use pointsman_policies::policy::Policy;

const MODEL: &str = "gpt-oss-120b";

fn main() {
    let yardstick = yardstick();
    compiling(yardstick);
    for (pools, each) in [(8, 8), (20, 50)] {
        for objective in ["cheapest-that-meets-slo", "weights"] {
            deciding(pools, each, objective, yardstick);
        }
    }
}

/// A piece of work that depends on the machine alone: sorting 1,000 numbers. Ratios to it compare between machines.
fn yardstick() -> Duration {
    let mut chance = Chance(7);
    let numbers: Vec<u64> = (0..1_000).map(|_| chance.number()).collect();
    let mut times = times(2_000, || {
        let mut copy = numbers.clone();
        copy.sort_unstable();
        black_box(copy);
    });
    times.sort_unstable();
    let median = times[times.len() / 2];
    println!("yardstick: 1,000 numbers sorted in {median:.1?}");
    median
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
    let fleet = Fleet { pools: &pools, endpoints: &endpoints };
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
        let request = Request { policy: &policy, facts: &facts, class: classified.class };
        black_box(decide(&request, fleet, chance.number()));
    });
    let name = format!("20 rules, {} endpoints, {objective}", endpoints.len());
    report(&name, calls, yardstick);
}

fn times(count: usize, mut call: impl FnMut()) -> Vec<Duration> {
    for _ in 0..count / 10 {
        call();
    }
    let timed = |_| {
        let began = Instant::now();
        call();
        began.elapsed()
    };
    (0..count).map(timed).collect()
}

fn report(name: &str, mut times: Vec<Duration>, yardstick: Duration) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let ratio = at(0.5).as_secs_f64() / yardstick.as_secs_f64();
    let (half, most, max) = (at(0.5), at(0.99), at(1.0));
    println!("{name}: p50 {half:.1?}, p99 {most:.1?}, max {max:.1?}, {ratio:.2} yardsticks");
}

fn compiled(text: &str, pools: &[PoolFacts]) -> Policy {
    let (policy, report) = compile(Source::new("policy.toml", text), pools);
    policy.unwrap_or_else(|| panic!("{report}"))
}

/// As many different conditions as a large company might write: 500 classify rules, 500 routes.
fn thousand_rules() -> String {
    let mut text = String::from("name = \"large\"\n");
    for class in ["realtime", "interactive", "standard", "batch"] {
        let _ = writeln!(text, "[class.{class}]\nttft_ms = 300\nitl_ms = \"10ms\"\n");
    }
    for rule in 0..500 {
        let class = ["realtime", "interactive", "standard", "batch"][rule % 4];
        let _ = writeln!(
            text,
            "[[classify]]\nname = \"rule-{rule}\"\nwhen = 'request.tenant == \"team-{rule}\" && request.headers[\"x-agent\"] == \"voice\"'\nclass = \"{class}\"\n"
        );
    }
    for route in 0..500 {
        let pool = route % 8;
        let _ = writeln!(
            text,
            "[[route]]\nname = \"route-{route}\"\nwhen = 'request.tenant in [\"team-{route}\", \"group-{route}\"] && request.input_tokens > {route}00'\npools = 'pool.hardware.kind == \"gpu\" || pool.name == \"pool-{pool}\"'\nobjective = \"fastest\"\n"
        );
    }
    text
}

/// 10 classify rules, 10 routes; the last that match are what most requests meet.
fn twenty_rules(objective: &str) -> String {
    let mut text = String::new();
    for rule in 0..9 {
        let _ = writeln!(
            text,
            "[[classify]]\nwhen = 'request.tenant == \"team-{rule}\" && request.stream'\nclass = \"realtime\""
        );
        let _ = writeln!(
            text,
            "[[route]]\nwhen = 'request.tenant == \"team-{rule}\" && request.input_tokens > 60000'\npools = 'pool.hardware.kind == \"gpu\"'"
        );
    }
    let weights = if objective == "weights" { "weights = { cost = 1, ttft = 2, itl = 1, energy = 0.5 }\n" } else { "" };
    let rest = "pools = 'pool.busy < 0.9'\nfallback = [{ pools = 'pool.hardware.kind == \"wafer\"' }]\naffinity = { by = \"session\" }\n";
    let _ = writeln!(text, "[[classify]]\nwhen = 'request.headers[\"x-agent\"] == \"robot\"'\nclass = \"batch\"");
    text + &format!("[[route]]\nobjective = \"{objective}\"\n{weights}{rest}")
}

fn pools(count: usize, each: usize) -> Vec<PoolFacts> {
    (0..count).map(|index| pool(index, each)).collect()
}

fn pool(index: usize, each: usize) -> PoolFacts {
    let kind = [HardwareKind::Gpu, HardwareKind::Wafer, HardwareKind::Gpu, HardwareKind::Lpu][index % 4];
    PoolFacts {
        name: format!("pool-{index}"),
        site: "valley".to_owned(),
        vendor: String::new(),
        endpoints: (0..each).map(|machine| format!("pool-{index}/10.0.{index}.{machine}:8000")).collect(),
        hardware: "h100".to_owned(),
        kind,
        labels: BTreeMap::new(),
        models: (0..4)
            .map(|other| model(if other == 3 { MODEL.to_owned() } else { format!("model-{other}") }))
            .collect(),
        service: ServiceModel {
            step_base_ms: 6.0 + index as f64,
            step_per_sequence_ms: 0.2,
            step_per_kv_token_ns: 100.0,
            prefill_tokens_per_s: 10_000.0,
            fixed_ttft_ms: 20.0,
            slots: 64,
            kv_tokens: Some(500_000),
            jitter_sigma: 0.0,
            tokens_per_event: 1.0,
            joules_per_output_token: None,
            power_kw: Some(10.0),
        },
        round_trip_ms: 1.0,
        carbon_g_per_kwh: Some(200.0),
        pue: 1.2,
    }
}

fn model(name: String) -> ModelFacts {
    ModelFacts { name, context: Some(131_072), price: Price { usd_per_m_input: 0.1, usd_per_m_output: 0.4 } }
}

/// Busy to different degrees; one in sixteen is not available.
fn endpoints(pools: &[PoolFacts], chance: &mut Chance) -> Vec<EndpointState> {
    let owners = pools.iter().enumerate().flat_map(|(index, pool)| pool.endpoints.iter().map(move |_| index));
    owners.map(|pool| endpoint(pool, chance)).collect()
}

fn endpoint(pool: usize, chance: &mut Chance) -> EndpointState {
    let in_flight = chance.below(40) as u32;
    let lease =
        LeaseState { requests: 100.0, tokens: 5e5, tokens_capacity: 1e6, tokens_per_s: 1e4, reserves_output: true };
    EndpointState {
        availability: match chance.below(16) {
            0 => Availability::BreakerOpen { retry_in_ms: 100.0 },
            _ => Availability::Ready,
        },
        in_flight,
        prefill_tokens: u64::from(in_flight) * 50,
        context_tokens: u64::from(in_flight) * 2_000,
        output_tokens_ahead: u64::from(in_flight) * 200,
        lease: (pool % 4 == 1).then_some(lease),
        ..EndpointState::idle(pool)
    }
}

/// The same numbers in every run (splitmix64).
struct Chance(u64);

impl Chance {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound as u64) as usize
    }
}
