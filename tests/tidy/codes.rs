//! What a program can be told of a problem: every code that is used has its meaning in the table, and no other is there.

use std::collections::BTreeSet;

use crate::tree::{File, bites, files, is_shipped, keep};

const TABLE: &str = "policies/src/language/diagnostic/codes.rs";

/// What is followed by a code.
const BEFORE: [&str; 6] = [
    "Diagnostic::error(",
    "Diagnostic::warning(",
    "Diagnostic::note(",
    "report.error(",
    "report.warning(",
    "self.unknown(",
];

/// The codes of a file, but for those of its tests.
fn used(text: &str) -> BTreeSet<&str> {
    let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
    let places = BEFORE.iter().flat_map(|before| shipped.split(before).skip(1));
    places.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next()).collect()
}

/// The codes of the table.
fn listed(table: &str) -> BTreeSet<&str> {
    table.lines().filter_map(|line| line.trim().strip_prefix("(\"")?.split('"').next()).collect()
}

fn untold(file: &File, table: &str) -> Vec<String> {
    let listed = listed(table);
    let unknown = used(&file.text).into_iter().filter(|code| !listed.contains(code));
    unknown.map(|code| format!("`{code}` is not in {TABLE}: say there what it stands for")).collect()
}

fn unused(table: &File, sources: &str) -> Vec<String> {
    let quoted = |code: &&str| sources.contains(&format!("\"{code}\""));
    listed(&table.text).into_iter().filter(|code| !quoted(code)).map(|code| format!("nobody tells `{code}`")).collect()
}

fn sources() -> Vec<File> {
    files(|path| is_shipped(path) && path != TABLE && !path.ends_with("tests.rs"))
}

#[test]
fn every_rule_bites() {
    let table = "    (\"bad-name\", \"A name.\"),\n";
    bites(
        |file| untold(file, table),
        "a.rs",
        "Diagnostic::error(\n  \"bad-name\", x); report.warning(\"new\", 1..2, y)",
        1,
    );
    bites(|file| untold(file, table), "a.rs", "x();\n#[cfg(test)]\nDiagnostic::error(\"made-up\", y)", 0);
    bites(|file| unused(file, "(\"bad-name\", \"x\")"), TABLE, table, 0);
    bites(|file| unused(file, "nothing"), TABLE, table, 1);
}

#[test]
fn every_code_has_a_meaning() {
    let tables = files(|path| path == TABLE);
    keep(&sources(), |file| tables.iter().flat_map(|table| untold(file, &table.text)).collect());
    let all: String = sources().into_iter().map(|file| file.text).collect();
    keep(&tables, |table| unused(table, &all));
}
