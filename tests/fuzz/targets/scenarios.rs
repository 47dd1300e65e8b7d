//! Any text as `NAME.scenarios.toml`, run against the library's balanced policy: told at places that are there, the same
//! each time.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use pointsman_fuzz::{Chance, lines, told, world};
use pointsman_policies::fleet::{EndpointState, Fleet};
use pointsman_policies::language::{Source, compile};
use pointsman_policies::policy::Policy;
use pointsman_policies::scenario::{Ran, parse, run};

const SNIPPETS: &str = include_str!("../snippets/scenarios.toml");
const POLICY: &str = include_str!("../../../policies/library/balanced.toml");

fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, seed: u32| {
    lines::mutate(data, size, most, seed, SNIPPETS)
});

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(ran) = ran(text) else { return };
    told::sound(&ran.report);
    assert!(ran.held <= ran.scenarios);
    let all_hold = ran.held == ran.scenarios;
    let told_so = ran.report.iter().any(|one| one.code == "scenario-fails");
    assert!(!(all_hold && told_so), "what fails does not hold");
    assert!(all_hold || ran.report.has_errors(), "what does not hold is told");
    if Chance::of(data).below(8) == 0 {
        told::same(&ran.report, &self::ran(text).expect("it was read before").report);
    }
});

/// What comes of a text; `None` where it is no file of scenarios.
fn ran(text: &str) -> Option<Ran> {
    let (file, report) = parse(Source::new("fuzzed.scenarios.toml", text));
    told::sound(&report);
    let pools = world::pools();
    let owners = pools.iter().enumerate().flat_map(|(index, pool)| pool.endpoints.iter().map(move |_| index));
    let endpoints: Vec<EndpointState> = owners.map(EndpointState::idle).collect();
    Some(run(&file?, report, policy(), Fleet::new(pools, &endpoints)))
}

fn policy() -> &'static Policy {
    static SHIPPED: OnceLock<Policy> = OnceLock::new();
    SHIPPED.get_or_init(|| {
        let (policy, report) = compile(Source::new("balanced.toml", POLICY), world::pools());
        policy.unwrap_or_else(|| panic!("{report}"))
    })
}
