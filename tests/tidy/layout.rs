//! What goes where: the root, the pipeline, the table of telemetry names; and no path of somebody's machine.

use crate::sources::module;
use crate::tree::{File, bites, files, is_rust, is_shipped, keep, lines_with, root};

/// What the root holds besides dot-files; `target` is built there.
const ROOT: [&str; 10] = [
    "Cargo.toml",
    "Cargo.lock",
    "gateway",
    "backends",
    "policies",
    "deploy",
    "tests",
    "README.md",
    "LICENSE",
    "target",
];

/// The one file that may spell telemetry names.
const NAMES: &str = "gateway/src/telemetry/names.rs";

/// Beginnings of paths that exist on one machine only. Split, so that this file does not find itself.
const MACHINES: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];

fn stray(listing: &File) -> Vec<String> {
    let strays = listing.text.lines().filter(|name| !name.starts_with('.') && !ROOT.contains(name));
    strays.map(|name| format!("`{name}` does not belong into the root: move it into one of the folders")).collect()
}

/// The stages of a listing, one a line in the order of `ls`, against the `mod` lines of the pipeline.
fn stages(pipeline: &File, listing: &str) -> Vec<String> {
    let told: Vec<&str> = pipeline.text.lines().filter_map(module).filter(|name| *name != "tests").collect();
    let there: Vec<&str> = listing.lines().collect();
    if told == there {
        return Vec::new();
    }
    vec![format!(
        "`mod` lines say {told:?}, the files say {there:?}: stages are named so that both orders are the same"
    )]
}

fn raw_names(file: &File) -> Vec<String> {
    let prefixes = [concat!("\"points", "man."), concat!("\"gen", "_ai."), concat!("\"gen", "_ai_")];
    let text = file.text.replace(concat!("\"points", "man.toml\""), "");
    let lines = prefixes.into_iter().flat_map(|prefix| lines_with(&text, prefix, "name it in telemetry/names.rs"));
    if file.path == NAMES { Vec::new() } else { lines.collect() }
}

fn machine_paths(file: &File) -> Vec<String> {
    MACHINES.iter().flat_map(|path| lines_with(&file.text, path, "nobody else has this path")).collect()
}

/// What `ls` shows of a folder, and dot-files; nothing where it cannot be read.
fn listing(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root().join(folder)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn every_rule_bites() {
    bites(stray, "the root", "Cargo.toml\n.ci\ntarget\ngateway", 0);
    bites(stray, "the root", "Cargo.toml\nsrc\nnotes.md", 2);
    let pipeline = |text: &str, listing: &str, expected| bites(|file| stages(file, listing), "a", text, expected);
    pipeline("/// Who.\nmod accept;\nmod body;\n\nuse a::b;\n#[cfg(test)]\nmod tests {", "accept\nbody", 0);
    pipeline("mod body;\nmod accept;", "accept\nbody", 1);
    pipeline("mod accept;", "accept\nbody", 1);
    bites(raw_names, "gateway/src/a.rs", concat!("a(\"points", "man.class\")\nb(\"gen", "_ai.usage\")"), 2);
    bites(raw_names, "gateway/src/a.rs", concat!("a(\"points", "man.toml\")"), 0);
    bites(raw_names, NAMES, concat!("a(\"points", "man.class\")"), 0);
    bites(machine_paths, "README.md", concat!("cd /wo", "rk/main\nls deploy/network/work"), 1);
}

#[test]
fn the_root_holds_what_it_should() {
    let names = listing("");
    assert!(names.iter().any(|name| name == "Cargo.toml"), "not the root: {names:?}");
    keep(&[File { path: "the root".to_owned(), text: names.join("\n") }], stray);
}

#[test]
fn the_order_of_the_stages_is_the_order_of_their_names() {
    let names = listing("gateway/src/pipeline");
    let stems: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix(".rs")).collect();
    keep(&files(|path| path == "gateway/src/pipeline.rs"), |file| stages(file, &stems.join("\n")));
}

#[test]
fn telemetry_names_stand_in_one_table() {
    keep(&files(is_shipped), raw_names);
}

#[test]
fn no_path_of_one_machine_is_left() {
    let read = |path: &str| is_rust(path) || path == "README.md" || path.starts_with("deploy/");
    keep(&files(read), machine_paths);
}
