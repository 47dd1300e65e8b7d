//! `pointsman fmt`: shipped files need none of it; files are changed whole or not at all.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use pointsman_policies::language::{Source, format};
use pointsman_tests::files::Files;
use pointsman_tests::process::{self, Process};
use pointsman_tests::run::beside_others;
use pointsman_tests::wait;

/// Exit status, stdout, stderr.
fn fmt(files: &Files, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = process::output(files.folder(), &[&["fmt"], arguments].concat());
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn shipped_files_are_formatted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let mut looked = 0;
    for folder in ["deploy/config", "policies/library", "gateway/demo", "gateway/src/commands/demo"] {
        for entry in std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten() {
            let path: PathBuf = entry.path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("UTF-8");
            let formatted = format(Source::new(path.display().to_string(), text.clone()));
            let formatted = formatted.unwrap_or_else(|report| panic!("{report}"));
            assert!(formatted == text, "run `pointsman fmt {}`", path.display());
            looked += 1;
        }
    }
    assert!(looked >= 6, "{looked} files");
}

#[test]
fn files_are_changed_whole_or_not_at_all() {
    beside_others(async {
        let files = Files::none();
        files.write("pointsman.toml", "policy=\"rules.toml\"\n");
        files.write("rules.toml", "name = \"a\"\n[class.a]\nttft_ms=300 # soon\n\n\n[[route]]\nwhen = \"request.stream && request.tenant == \\\"b\\\"\"\n");
        files.write("portfolio.toml", "[pool\n");
        let rules = files.folder().join("rules.toml");
        std::fs::set_permissions(&rules, std::fs::Permissions::from_mode(0o640)).expect("permissions");
        let (status, shown, _) = fmt(&files, &["--check", "rules.toml"]);
        assert_eq!(status, Some(1));
        insta::assert_snapshot!("fmt_check", shown);
        let read = |name: &str| std::fs::read_to_string(files.folder().join(name)).expect("a file");
        assert!(read("rules.toml").contains("ttft_ms=300"), "`--check` writes nothing");

        let (status, stdout, stderr) = fmt(&files, &[]);
        assert_eq!((status, stdout.as_str()), (Some(1), ""));
        insta::assert_snapshot!("fmt", stderr);
        insta::assert_snapshot!("fmt_rules", read("rules.toml"));
        assert_eq!(read("portfolio.toml"), "[pool\n", "what is no TOML is left alone");
        assert_eq!(std::fs::metadata(&rules).expect("a file").permissions().mode() & 0o777, 0o640);
        let written = std::fs::metadata(&rules).expect("a file").modified().expect("a time");
        let (status, _, stderr) = fmt(&files, &["rules.toml", "pointsman.toml"]);
        assert_eq!((status, stderr.as_str()), (Some(0), "2 files: 0 formatted, 2 unchanged\n"));
        assert_eq!(std::fs::metadata(&rules).expect("a file").modified().expect("a time"), written, "not touched");
        let left = std::fs::read_dir(files.folder()).expect("the folder").count();
        assert_eq!(left, 3, "nothing else is left in the folder");
    });
}

#[test]
fn editors_pipe_text_through() {
    beside_others(async {
        let files = Files::none();
        let through = |text: &str| {
            let mut process = Process::start(files.folder(), &["fmt", "-"], &[]);
            process.feed(text);
            let status = process.until_exit(wait::SOON).code();
            (status, process.stdout(), process.stderr())
        };
        assert_eq!(through("a=1"), (Some(0), "a = 1\n".to_owned(), String::new()));
        let (status, stdout, stderr) = through("a=\n");
        assert_eq!((status, stdout.as_str()), (Some(1), ""));
        assert!(stderr.contains("--> stdin:1:3"), "{stderr}");
    });
}
