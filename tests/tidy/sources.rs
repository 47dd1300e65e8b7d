//! What one source file may look like: opening, length, name, exceptions from lints, tests that do not run.

use crate::tree::{File, bites, files, is_rust, is_shipped, keep, lines_with};

const MOST_LINES: usize = 600;

/// Names that say nothing of what is in there.
const VAGUE: [&str; 10] =
    ["util", "utils", "common", "helper", "helpers", "misc", "manager", "handler", "handlers", "processor"];

/// Lints that keep panics out of the data path.
const PANICS: [&str; 8] = [
    "clippy::unwrap_used",
    "clippy::expect_used",
    "clippy::panic",
    "clippy::unreachable",
    "clippy::todo",
    "clippy::unimplemented",
    "clippy::indexing_slicing",
    "clippy::string_slice",
];

fn opening(file: &File) -> Vec<String> {
    let opened = file.text.lines().next().is_some_and(|line| line.starts_with("//! ") && line.len() > 8);
    if opened { Vec::new() } else { vec!["open the file with a `//!` sentence that says what it is for".to_owned()] }
}

fn length(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    if lines <= MOST_LINES {
        return Vec::new();
    }
    vec![format!("has {lines} lines, at most {MOST_LINES}: which second idea wants a file of its own?")]
}

fn name(file: &File) -> Vec<String> {
    let stems = file.path.split('/').map(|part| part.split('.').next().unwrap_or(part));
    let vague = stems.filter(|stem| VAGUE.contains(stem)).map(|stem| format!("`{stem}` says nothing: name the idea"));
    let old = file.path.ends_with("/mod.rs").then(|| "name the file after the module, not `mod.rs`".to_owned());
    let inline = file.text.lines().filter_map(module).filter(|name| VAGUE.contains(name));
    vague.chain(old).chain(inline.map(|name| format!("module `{name}` says nothing: name the idea"))).collect()
}

/// The name of the module that a line declares.
pub(crate) fn module(line: &str) -> Option<&str> {
    let words = line.split("//").next()?.trim();
    let (_, rest) = words.split_once("mod ").filter(|(before, _)| before.is_empty() || before.starts_with("pub"))?;
    Some(rest.trim_end_matches([';', '{', ' ']))
}

fn skipped(file: &File) -> Vec<String> {
    let ignored = lines_with(
        &file.text,
        concat!("#[ig", "nore"),
        "a test that does not run proves nothing: mend it or remove it",
    );
    let left = lines_with(&file.text, concat!("to", "do!("), "finish it");
    ignored.into_iter().chain(left).collect()
}

/// In shipped code a panic lint is never allowed, only expected, so that the exception goes when its cause does.
fn exceptions(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    for attribute in attributes(&file.text) {
        let touches = PANICS.iter().any(|lint| attribute.contains(lint)) || attribute.contains("clippy::all");
        if !touches || attribute.contains("cfg_attr(test") {
            continue;
        }
        if attribute.contains("allow(") {
            complaints.push(format!("`{attribute}`: use `expect` with a reason, or return an error"));
        } else if attribute.contains("expect(") && !attribute.contains("reason =") {
            complaints.push(format!("`{attribute}`: say why with `reason = \"...\"`"));
        }
    }
    complaints
}

/// Attributes with everything up to their closing bracket at the end of a line.
fn attributes(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("#[").chain(text.match_indices("#![")).filter_map(|(start, _)| {
        let rest = text.get(start..)?;
        let end = rest.find("]\n").unwrap_or(rest.len());
        rest.get(..end + 1)
    })
}

#[test]
fn every_rule_bites() {
    bites(opening, "gateway/src/a.rs", "//! What it is for.\nfn a() {}", 0);
    bites(opening, "gateway/src/a.rs", "use std::fmt;\n//! What it is for.", 1);
    bites(opening, "gateway/src/a.rs", "//!\n", 1);
    bites(opening, "gateway/src/a.rs", "", 1);
    bites(length, "gateway/src/a.rs", &"\n".repeat(600), 0);
    bites(length, "gateway/src/a.rs", &"\n".repeat(601), 1);
    bites(name, "gateway/src/pool.rs", "/// Sites.\npub mod site;\n", 0);
    bites(name, "gateway/src/pool/mod.rs", "", 1);
    bites(name, "gateway/src/utils.rs", "", 1);
    bites(name, "gateway/src/helpers/pool.rs", "", 1);
    bites(name, "gateway/src/pool.rs", "pub(crate) mod helper {\n", 1);
    bites(skipped, "gateway/src/a.rs", concat!("#[ig", "nore = \"slow\"]\n to", "do!()"), 2);
    bites(skipped, "gateway/src/a.rs", "#[test]\nfn a() {}", 0);
    bites(exceptions, "gateway/src/a.rs", "#[allow(clippy::unwrap_used, reason = \"x\")]\nfn a() {}", 1);
    bites(exceptions, "gateway/src/a.rs", "#![allow(\n    clippy::panic,\n)]\nfn a() {}", 1);
    bites(exceptions, "gateway/src/a.rs", "#[expect(clippy::panic)]\n", 1);
    bites(exceptions, "gateway/src/a.rs", "#[expect(clippy::panic, reason = \"[x]\")]\n", 0);
    bites(exceptions, "gateway/src/a.rs", "#![cfg_attr(test, allow(clippy::string_slice, reason = \"x\"))]\n", 0);
}

#[test]
fn every_file_says_what_it_is_for() {
    keep(&files(is_rust), opening);
}

#[test]
fn no_file_is_too_long() {
    keep(&files(is_rust), length);
}

#[test]
fn names_say_what_is_meant() {
    keep(&files(is_rust), name);
}

#[test]
fn no_test_is_skipped_and_nothing_is_left_undone() {
    keep(&files(is_rust), skipped);
}

#[test]
fn panics_are_expected_with_a_reason_or_not_at_all() {
    keep(&files(is_shipped), exceptions);
}
