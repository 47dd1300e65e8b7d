//! Mutations of whole lines: TOML stays TOML more often than when bytes are flipped.

use libfuzzer_sys::fuzzer_mutate;

use crate::{Chance, put};

/// Mutates a text: its lines half of the time, its bytes otherwise. `snippets` are lines worth putting in.
pub fn mutate(data: &mut [u8], size: usize, most: usize, seed: u32, snippets: &str) -> usize {
    let mut chance = Chance::new(u64::from(seed));
    if chance.below(2) == 0 {
        return fuzzer_mutate(data, size, most);
    }
    let Ok(text) = std::str::from_utf8(&data[..size]) else { return fuzzer_mutate(data, size, most) };
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let known: Vec<&str> = snippets.lines().filter(|line| !line.is_empty()).collect();
    for _ in 0..=chance.below(3) {
        edit(&mut lines, &known, &mut chance);
    }
    let mut text = lines.join("\n");
    text.push('\n');
    put(text.as_bytes(), data, most)
}

fn edit(lines: &mut Vec<String>, known: &[&str], chance: &mut Chance) {
    let at = chance.below(lines.len());
    let other = chance.below(lines.len());
    match chance.below(6) {
        0 if !lines.is_empty() => drop(lines.remove(at)),
        1 if !lines.is_empty() => lines.swap(at, other),
        2 if !lines.is_empty() => lines.insert(at, lines[other].clone()),
        3 if !lines.is_empty() => lines[at] = mixed(&lines[at], chance.one_of(known)),
        4 if !lines.is_empty() => lines[at] = mixed(&lines[at], &lines[other].clone()),
        _ => lines.insert(at, chance.one_of(known).to_owned()),
    }
}

/// The key of one line with the value of another.
fn mixed(key: &str, value: &str) -> String {
    match (key.split_once('='), value.split_once('=')) {
        (Some((key, _)), Some((_, value))) => format!("{key}={value}"),
        _ => value.to_owned(),
    }
}
