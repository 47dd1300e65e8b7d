//! Who may depend on what: versions in one place, and a decision that nothing of the world can reach.

use std::process::Command;

use toml::{Table, Value};

use crate::tree::{File, bites, files, keep, root};

/// The members, and what their manifests may call dependencies.
const MEMBERS: [&str; 4] = ["policies/Cargo.toml", "backends/Cargo.toml", "gateway/Cargo.toml", "tests/Cargo.toml"];
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

/// What would let the decision see or change the world; refused by clippy in `policies`.
const WORLD: [&str; 17] = [
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::thread::spawn",
    "std::thread::sleep",
    "std::fs::read",
    "std::fs::read_to_string",
    "std::fs::write",
    "std::fs::File::open",
    "std::fs::File::create",
    "std::env::var",
    "std::env::var_os",
    "std::env::args",
    "std::net::TcpStream::connect",
    "std::net::TcpListener::bind",
    "std::net::UdpSocket::bind",
    "std::process::Command::new",
    "std::hash::RandomState::new",
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

/// Standard library functions that the list of `.clippy.toml` lets through.
fn allowed_world(config: &File) -> Vec<String> {
    let config = config.text.parse::<Table>().unwrap_or_default();
    let listed = config.get("disallowed-methods").and_then(Value::as_array).cloned().unwrap_or_default();
    let refused: Vec<&str> = listed.iter().filter_map(|entry| entry.get("path")?.as_str()).collect();
    let missing = WORLD.iter().filter(|path| !refused.contains(path));
    missing.map(|path| format!("add `{path}` to `disallowed-methods`")).collect()
}

fn read(path: &str) -> File {
    let text = std::fs::read_to_string(root().join(path)).unwrap_or_default();
    File { path: path.to_owned(), text }
}

#[test]
fn every_rule_bites() {
    bites(versions, "a", "[dependencies]\nbytes.workspace = true\nhyper = { workspace = true, features = [] }", 0);
    bites(versions, "a", "[dependencies]\nbytes = \"1\"\n[dev-dependencies]\nhyper = { version = \"1\" }", 2);
    bites(versions, "a", "[target.'cfg(unix)'.dependencies]\nlibc = \"1\"", 1);
    bites(versions, "a", "not toml", 1);
    bites(impure, "a", "serde v1.0.229\nrandom v1.0.0", 0);
    bites(impure, "a", "serde v1.0.229\ntokio v1.54.1\nrand v0.10.4 (*)", 2);
    bites(allowed_world, "a", "disallowed-methods = [{ path = \"std::fs::read\" }]", WORLD.len() - 1);
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

#[test]
fn the_list_of_what_the_decision_may_not_call_is_whole() {
    keep(&[read(".clippy.toml")], allowed_world);
    let lib = read("policies/src/lib.rs");
    let denied = lib.text.contains("#![deny(clippy::disallowed_methods)]");
    assert!(denied, "policies/src/lib.rs: write `#![deny(clippy::disallowed_methods)]`, or purity is a habit only");
}

/// The list is only as good as the lint: a crate that calls everything on it must not pass.
#[test]
fn the_lint_refuses_each_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("lib.rs");
    let calls: String = WORLD.iter().map(|path| call(path)).collect();
    std::fs::write(&source, format!("#![deny(clippy::disallowed_methods)]\n{calls}")).unwrap();
    let mut clippy = Command::new("clippy-driver");
    clippy.args(["--crate-type", "lib", "--edition", "2024", "--emit", "metadata", "--out-dir"]);
    clippy.arg(folder.path()).arg(&source).env("CLIPPY_CONF_DIR", root());
    let output = clippy.output().expect("clippy is missing: rustup component add clippy");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "clippy lets all of it through: {told}");
    for path in WORLD {
        assert!(told.contains(&format!("use of a disallowed method `{path}`")), "clippy lets `{path}` through: {told}");
    }
}

/// A function that names a path of the standard library as a value.
fn call(path: &str) -> String {
    let generics = match path {
        "std::thread::spawn" => "::<fn(), ()>",
        "std::fs::read" | "std::fs::read_to_string" | "std::fs::File::open" | "std::fs::File::create" => "::<&str>",
        "std::fs::write" => "::<&str, &str>",
        "std::env::var" | "std::env::var_os" | "std::process::Command::new" => "::<&str>",
        "std::net::TcpStream::connect" | "std::net::TcpListener::bind" | "std::net::UdpSocket::bind" => "::<&str>",
        _ => "",
    };
    format!("pub fn {}() {{ let _ = {path}{generics}; }}\n", path.replace("::", "_").to_lowercase())
}
