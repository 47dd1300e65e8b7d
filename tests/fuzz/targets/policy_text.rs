//! Any text as `policy.toml`: told the same each time, at places that are there; what is accepted decides.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use pointsman_fuzz::{Chance, lines, told, world};
use pointsman_policies::language::{Source, compile};

const SNIPPETS: &str = include_str!("../snippets/policy.toml");

fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, seed: u32| {
    lines::mutate(data, size, most, seed, SNIPPETS)
});

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut chance = Chance::of(data);
    if chance.below(4) == 0 {
        told::formats(text);
    }
    // Some are read without a portfolio, as `check` does where that one is broken.
    let pools = if chance.below(8) == 0 { &[] } else { world::pools() };
    let (policy, report) = compile(Source::new("policy.toml", text), pools);
    told::sound(&report);
    assert_eq!(policy.is_some(), !report.has_errors(), "a policy is there exactly where there is no error");
    if chance.below(8) == 0 {
        let (again, same) = compile(Source::new("policy.toml", text), pools);
        told::same(&report, &same);
        assert_eq!(format!("{policy:?}"), format!("{again:?}"), "the same text makes the same policy");
    }
    if let Some(policy) = policy {
        world::decides(&policy, pools, &mut chance);
    }
});
