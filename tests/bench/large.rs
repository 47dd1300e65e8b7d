//! A large company's policy, portfolio and fleet, the same in every run.

use std::fmt::Write as _;
use std::path::Path;

use pointsman_backends::portfolio::{Secrets, load};
use pointsman_policies::fleet::{Availability, EndpointState, LeaseState, PoolFacts};
use pointsman_policies::language::Source;

/// What everybody asks for.
pub(crate) const MODEL: &str = "gpt-oss-120b";

/// As many different conditions as a large company might write: 500 classify rules, 500 routes.
pub(crate) fn thousand_rules() -> String {
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
pub(crate) fn twenty_rules(objective: &str) -> String {
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

/// A portfolio file of so many pools with so many endpoints each: GPUs, wafers, GPUs, LPUs, and over again.
pub(crate) fn portfolio(pools: usize, each: usize) -> String {
    let mut text = String::from("[site.valley]\npue = 1.2\ncarbon_g_per_kwh = 210\nround_trip_ms = 0.5\n");
    for pool in 0..pools {
        let hardware = ["h100", "cs3", "h200", "groq-lpu"][pool % 4];
        let endpoints: Vec<String> = (0..each).map(|machine| format!("http://10.0.{pool}.{machine}:8000")).collect();
        let _ = writeln!(
            text,
            "[pool.pool-{pool}]\nsite = \"valley\"\nhardware = \"{hardware}\"\nendpoints = {endpoints:?}"
        );
        if pool % 4 == 1 {
            let _ = writeln!(
                text,
                "limits = {{ requests_per_minute = 100000, tokens_per_minute = 90000000, reserves_output = true }}"
            );
        }
        for model in ["llama-3.1-8b", "qwen3-32b", MODEL] {
            let _ = writeln!(
                text,
                "[pool.pool-{pool}.model.\"{model}\"]\ncontext = 131072\nusd_per_m = {{ input = 0.1, output = 0.4 }}"
            );
        }
    }
    text
}

/// Its pools.
pub(crate) fn pools(count: usize, each: usize) -> Vec<PoolFacts> {
    let source = Source::new("portfolio.toml", portfolio(count, each));
    let (portfolio, report) = load(source, Path::new(""), Secrets::Optional);
    portfolio.unwrap_or_else(|| panic!("{report}")).facts
}

/// Busy to different degrees; one in sixteen is not available.
pub(crate) fn endpoints(pools: &[PoolFacts], chance: &mut Chance) -> Vec<EndpointState> {
    let owners = pools.iter().enumerate().flat_map(|(index, pool)| pool.endpoints.iter().map(move |_| index));
    owners.map(|pool| endpoint(pool, chance)).collect()
}

fn endpoint(pool: usize, chance: &mut Chance) -> EndpointState {
    let in_flight = chance.below(40) as u32;
    let lease = LeaseState {
        requests: 100.0,
        tokens: 5e5,
        tokens_capacity: 1e6,
        requests_per_s: 0.1,
        tokens_per_s: 1e4,
        reserves_output: true,
    };
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
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound as u64) as usize
    }
}
