//! Any text as an expression, in any key that takes one: told at its place in the file, or evaluated on whatever comes.
//! The first eight bytes of an input choose key, requests and fleets.
#![no_main]

use std::fmt::Write as _;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use pointsman_fuzz::{Chance, told, words, world};
use pointsman_policies::language::{Source, compile};

const SEED_BYTES: usize = 8;

fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, seed: u32| {
    words::mutate(data, size, most, seed, SEED_BYTES)
});

fuzz_target!(|data: &[u8]| {
    let Some((seed, text)) = data.split_first_chunk::<SEED_BYTES>() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let mut chance = Chance::new(u64::from_le_bytes(*seed));
    let written = if chance.below(2) == 0 { literal(text) } else { None }.unwrap_or_else(|| basic(text));
    let files = [
        format!("[[classify]]\nwhen = {written}\nclass = \"batch\"\n"),
        format!("[[route]]\nwhen = {written}\nobjective = \"fastest\"\n"),
        format!("[[route]]\npools = {written}\n"),
        format!("[[route]]\nexclude = {written}\nfallback = [{{ pools = {written} }}]\n"),
    ];
    let file = files.get(usize::from(seed[0] % 4)).map_or("", String::as_str);
    let (policy, report) = compile(Source::new("policy.toml", file), world::pools());
    told::sound(&report);
    assert_eq!(policy.is_some(), !report.has_errors(), "a policy is there exactly where there is no error");
    if let Some(policy) = policy {
        world::decides(&policy, world::pools(), &mut chance);
    }
});

/// As a TOML literal string, where it can be one.
fn literal(text: &str) -> Option<String> {
    let plain = !text.contains(|char: char| char == '\'' || (char.is_control() && char != '\t'));
    plain.then(|| format!("'{text}'"))
}

/// As a TOML basic string.
fn basic(text: &str) -> String {
    let mut written = String::from('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => written.extend(['\\', char]),
            char if char.is_control() => drop(write!(written, "\\u{:04x}", u32::from(char))),
            char => written.push(char),
        }
    }
    written + "\""
}
