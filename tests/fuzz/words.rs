//! Mutations of the words of an expression: fields, operators and values in place of one another.

use libfuzzer_sys::fuzzer_mutate;
use pointsman_policies::language::fields;

use crate::{Chance, put};

/// Operators, brackets, calls and values; the fields are taken from the language itself.
const WORDS: [&str; 53] = [
    "&&",
    "||",
    "!",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "?",
    ":",
    "in",
    "(",
    ")",
    "[",
    "]",
    ",",
    ".",
    ".startsWith(",
    ".endsWith(",
    ".contains(",
    "size(",
    "has(",
    "true",
    "false",
    "null",
    "0",
    "1",
    "60000",
    "9223372036854775807",
    "-9223372036854775808",
    "0.5",
    "1e308",
    "1u",
    "0x10",
    "\"\"",
    "\"gpu\"",
    "\"wafer\"",
    "\"batch\"",
    "\"é\"",
    "\"\\u0041\"",
    "r\"\\\"",
    "'voice'",
    "[\"a\", \"b\"]",
    "b\"x\"",
    "{}",
    "\"x-agent\"",
    "\"tier\"",
];

/// Mutates the text after the first `skip` bytes: its words half of the time, its bytes otherwise.
pub fn mutate(data: &mut [u8], size: usize, most: usize, seed: u32, skip: usize) -> usize {
    let mut chance = Chance::new(u64::from(seed));
    let text = data.get(skip..size).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let Some(text) = text.filter(|_| chance.below(2) == 0) else { return fuzzer_mutate(data, size, most) };
    let mut words: Vec<String> = split(text);
    for _ in 0..=chance.below(3) {
        edit(&mut words, &mut chance);
    }
    let text = words.join("");
    skip + put(text.as_bytes(), &mut data[skip..], most.saturating_sub(skip))
}

fn edit(words: &mut Vec<String>, chance: &mut Chance) {
    let at = chance.below(words.len());
    match chance.below(5) {
        0 if !words.is_empty() => drop(words.remove(at)),
        1 if !words.is_empty() => words.insert(at, words[chance.below(words.len())].clone()),
        2 | 3 if !words.is_empty() => words[at] = word(chance),
        _ => words.insert(at, format!(" {} ", word(chance))),
    }
}

fn word(chance: &mut Chance) -> String {
    let known: Vec<&str> = fields().map(|field| field.name).collect();
    match chance.below(6) {
        0 | 1 => chance.one_of(&known).to_owned(),
        2 => format!("{} == {}", chance.one_of(&known), chance.one_of(&WORDS[28..])),
        3 => format!("({} {} {})", chance.one_of(&known), chance.one_of(&WORDS[..17]), chance.one_of(&known)),
        _ => chance.one_of(&WORDS).to_owned(),
    }
}

/// Words, spaces and signs; strings stay whole where they are closed.
fn split(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut last = ' ';
    let mut quote = None;
    for char in text.chars() {
        let wordlike = |char: char| char.is_alphanumeric() || char == '_' || char == '.';
        let joined = quote.is_some() || (wordlike(char) && wordlike(last));
        match words.last_mut().filter(|_| joined) {
            Some(word) => word.push(char),
            None => words.push(char.to_string()),
        }
        quote = match quote {
            None if char == '"' || char == '\'' => Some(char),
            Some(open) if open == char => None,
            open => open,
        };
        last = char;
    }
    words
}
