//! Any text as `portfolio.toml`: told the same each time, at places that are there; what is accepted can be decided on.
#![no_main]

use std::path::Path;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use pointsman_backends::portfolio::{Secrets, load};
use pointsman_fuzz::{Chance, lines, told, world};
use pointsman_policies::language::{Source, compile};

const SNIPPETS: &str = include_str!("../snippets/portfolio.toml");
/// Where nothing is: files that a text names are not found.
const NOWHERE: &str = "/nonexistent/pointsman-fuzz";

fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, seed: u32| {
    lines::mutate(data, size, most, seed, SNIPPETS)
});

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // A text that names files of this machine would read them.
    if text.contains("file") && (text.contains("\"/") || text.contains("'/") || text.contains("..")) {
        return;
    }
    let read = || load(Source::new("portfolio.toml", text), Path::new(NOWHERE), Secrets::Optional);
    let (portfolio, report) = read();
    told::sound(&report);
    let mut chance = Chance::of(data);
    if chance.below(4) == 0 {
        told::formats(text);
    }
    if chance.below(8) == 0 {
        told::same(&report, &read().1);
    }
    assert_eq!(portfolio.is_some(), !report.has_errors(), "a portfolio is there exactly where there is no error");
    let Some(portfolio) = portfolio else { return };
    assert_eq!(portfolio.facts.len(), portfolio.pools.len());
    let named: usize = portfolio.facts.iter().map(|pool| pool.endpoints.len()).sum();
    assert_eq!(named, portfolio.endpoints.len(), "every endpoint has a name");
    let (policy, report) = compile(Source::new("policy.toml", ""), &portfolio.facts);
    let policy = policy.unwrap_or_else(|| panic!("an empty policy fits any portfolio: {report}"));
    world::decides(&policy, &portfolio.facts, &mut chance);
});
