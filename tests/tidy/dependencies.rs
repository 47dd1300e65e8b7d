//! Who may depend on what: versions in one place, and a decision that nothing of the world can reach. What it may not
//! call is shown by `tests/purity/run`.

use std::process::Command;

use toml::{Table, Value};

use crate::tree::{File, bites, files, keep, root};

/// The members, and what their manifests may call dependencies.
const MEMBERS: [&str; 5] = [
    "policies/Cargo.toml",
    "backends/Cargo.toml",
    "gateway/Cargo.toml",
    "tests/Cargo.toml",
    "tests/bench/plane/Cargo.toml",
];
const SECTIONS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// Crates that bring a clock, randomness, I/O, tasks, metrics or shared state.
const IMPURE: [&str; 16] = [
    "tokio",
    "hyper",
    "mio",
    "socket2",
    "reqwest",
    "tracing",
    "opentelemetry",
    "prometheus-client",
    "rand",
    "fastrand",
    "getrandom",
    "dashmap",
    "arc-swap",
    "notify",
    "async-trait",
    "futures-util",
];

fn versions(file: &File) -> Vec<String> {
    let Ok(manifest) = file.text.parse::<Table>() else { return vec!["cannot be read as TOML".to_owned()] };
    let targets = manifest.get("target").and_then(Value::as_table);
    let tables = targets.into_iter().flat_map(Table::values).filter_map(Value::as_table).chain([&manifest]);
    let sections = tables.flat_map(|table| SECTIONS.iter().filter_map(|section| table.get(*section)?.as_table()));
    sections.flatten().filter(|(_, wanted)| !inherits(wanted)).map(|(name, _)| own_version(name)).collect()
}

fn inherits(wanted: &Value) -> bool {
    let from_root = wanted.get("workspace").and_then(Value::as_bool) == Some(true);
    from_root && wanted.get("version").is_none()
}

fn own_version(name: &str) -> String {
    format!("`{name}` has a version of its own: put it into the root `Cargo.toml` and write `{name}.workspace = true`")
}

/// Lines of `cargo tree` that name a crate the decision must not reach.
fn impure(tree: &File) -> Vec<String> {
    let named = tree.text.lines().filter(|line| IMPURE.contains(&line.split(' ').next().unwrap_or(line)));
    named.map(|line| format!("depends on `{line}`: what it brings must be an argument")).collect()
}

#[test]
fn every_rule_bites() {
    bites(versions, "a", "[dependencies]\nbytes.workspace = true\nhyper = { workspace = true, features = [] }", 0);
    bites(versions, "a", "[dependencies]\nbytes = \"1\"\n[dev-dependencies]\nhyper = { version = \"1\" }", 2);
    bites(versions, "a", "[target.'cfg(unix)'.dependencies]\nlibc = \"1\"", 1);
    bites(versions, "a", "not toml", 1);
    bites(impure, "a", "serde v1.0.229\nrandom v1.0.0", 0);
    bites(impure, "a", "serde v1.0.229\ntokio v1.54.1\nrand v0.10.4 (*)", 2);
}

#[test]
fn versions_stand_in_the_root_manifest_only() {
    let manifests = files(|path| MEMBERS.contains(&path));
    assert_eq!(manifests.len(), MEMBERS.len());
    keep(&manifests, versions);
}

#[test]
fn the_decision_depends_on_nothing_that_reaches_the_world() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["tree", "-p", "pointsman-policies", "-e", "normal", "--locked", "--prefix", "none"]);
    let output = command.current_dir(root()).output().unwrap();
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(tree.starts_with("pointsman-policies "), "cargo tree says: {tree}");
    keep(&[File { path: "policies/Cargo.toml".to_owned(), text: tree }], impure);
}
