//! The files of the repository, and how a rule is run over them.

use std::path::{Path, PathBuf};

/// Folders that hold what was built or fetched, wherever they lie.
const NOT_OURS: [&str; 3] = ["target", "node_modules", "dist"];

/// One file that can be read as text.
pub(crate) struct File {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every text file whose path the test likes, but for dot-files and what was built or fetched.
#[track_caller]
pub(crate) fn files(wanted: impl Fn(&str) -> bool) -> Vec<File> {
    let mut paths = Vec::new();
    walk(&root(), "", &mut paths);
    paths.retain(|path| wanted(path));
    paths.sort();
    let read = |path: String| Some(File { text: std::fs::read_to_string(root().join(&path)).ok()?, path });
    let files: Vec<File> = paths.into_iter().filter_map(read).collect();
    assert!(!files.is_empty(), "no file was looked at; mend the test");
    files
}

fn walk(folder: &Path, prefix: &str, paths: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if name.starts_with('.') || (is_folder && NOT_OURS.contains(&name.as_str())) {
            continue;
        }
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        if is_folder { walk(&entry.path(), &path, paths) } else { paths.push(path) }
    }
}

pub(crate) fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

/// Sources of the three crates, without folders that hold only tests.
pub(crate) fn is_shipped(path: &str) -> bool {
    is_rust(path) && ["policies/src/", "backends/src/", "gateway/src/"].iter().any(|crate_| path.starts_with(crate_))
}

/// Runs a rule over files and fails with everything it has to say.
#[track_caller]
pub(crate) fn keep(files: &[File], rule: impl Fn(&File) -> Vec<String>) {
    let complaints: Vec<String> = files
        .iter()
        .flat_map(|file| rule(file).into_iter().map(|complaint| format!("{}: {complaint}", file.path)))
        .collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Shows that a rule bites: how many complaints it has about a made-up file.
#[track_caller]
pub(crate) fn bites(rule: impl Fn(&File) -> Vec<String>, path: &str, text: &str, expected: usize) {
    let complaints = rule(&File { path: path.to_owned(), text: text.to_owned() });
    assert_eq!(complaints.len(), expected, "{path}: {text:?}: {complaints:#?}");
}

/// A complaint for each line that contains the needle, with its number.
pub(crate) fn lines_with(text: &str, needle: &str, advice: &str) -> Vec<String> {
    let found = text.lines().enumerate().filter(|(_, line)| line.contains(needle));
    found.map(|(index, _)| format!("line {}: `{needle}`: {advice}", index + 1)).collect()
}
