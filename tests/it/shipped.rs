//! Commands and shipped files: what `check` prints, the JSON Schemas, the example configuration and what it takes.

use std::path::{Path, PathBuf};

use pointsman::commands::schema::{File, text};
use pointsman::config::set;
use pointsman_backends::portfolio::Secrets;
use pointsman_tests::client::{self, Ask};
use pointsman_tests::files::Files;
use pointsman_tests::process::{self, Served};
use pointsman_tests::run::{alone, beside_others};
use pointsman_tests::wait;

/// What an idle gateway may keep in memory, bytes, in a release build; a debug build gets more: nine tenths of it are pages
/// of code that nobody has optimised.
const RELEASE_BYTES: u64 = 15 << 20;
const DEBUG_BYTES: u64 = 44 << 20;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
}

#[test]
fn check_points_at_every_mistake() {
    beside_others(async {
        let files = Files::none();
        files.write("policy.toml", MISTAKES);
        let output = process::output(files.folder(), &["check", "policy.toml"]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
        insta::assert_snapshot!("check_points_at_every_mistake", String::from_utf8_lossy(&output.stderr));
    });
}

const MISTAKES: &str = r#"name = "five-mistakes"

[class.interactive]
ttft_mss = 1000
target = 1.5

[[classify]]
when = 'request.strem'
class = "interactiv"

[[route]]
when = 'request.input_tokens >'
objective = "cheapest"
"#;

#[test]
fn check_is_content_with_what_is_right() {
    beside_others(async {
        let entries = std::fs::read_dir(root().join("policies/library")).expect("the library");
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
        let policies: Vec<String> =
            names.filter(|name| name.matches('.').count() == 1 && name.ends_with(".toml")).collect();
        assert!(policies.iter().any(|name| name == "balanced.toml"), "{policies:?}");
        for name in policies {
            let output = process::output(&root(), &["check", &format!("policies/library/{name}")]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    });
}

#[test]
fn the_schemas_in_the_repository_are_those_of_the_program() {
    let cases = [
        ("pointsman", File::Pointsman),
        ("portfolio", File::Portfolio),
        ("policy", File::Policy),
        ("scenarios", File::Scenarios),
        ("keys", File::Keys),
    ];
    let folder = root().join("deploy/schema");
    for (name, file) in cases {
        let path = format!("{name}.schema.json");
        let advice = format!("run `pointsman schema {name} > deploy/schema/{path}`");
        let committed = std::fs::read_to_string(folder.join(&path)).unwrap_or_default();
        assert!(committed == text(file), "deploy/schema/{path} is not what the program says: {advice}");
        let printed = process::output(&root(), &["schema", name]);
        assert!(printed.status.success() && printed.stdout == committed.into_bytes(), "the program under test is old");
    }
}

fn shipped() -> PathBuf {
    let file = root().join("deploy/config/pointsman.toml");
    assert!(file.exists(), "{} is missing", file.display());
    file
}

#[test]
fn the_shipped_configuration_is_sound() {
    let loaded = set::load(&shipped(), Secrets::Optional);
    assert!(loaded.set.is_some(), "{}", loaded.render(false));
    let errors = loaded.reports.iter().any(|report| report.has_errors());
    assert!(!errors, "{}", loaded.render(false));
}

/// The shipped set in a folder of its own, on free ports, and the secrets it asks for.
fn copied() -> (Files, Vec<(String, String)>) {
    let files = Files::none();
    let mut secrets = Vec::new();
    for name in ["pointsman.toml", "portfolio.toml", "policy.toml"] {
        let text = std::fs::read_to_string(shipped().with_file_name(name)).expect("the shipped set is whole");
        let line = |line: &str| match line.split_once('=').map(|(key, _)| key.trim()) {
            Some(key @ ("listen" | "admin_listen")) => format!("{key} = \"127.0.0.1:0\"\n"),
            Some("otlp_endpoint") => String::new(),
            _ => format!("{line}\n"),
        };
        for rest in text.split("env = \"").skip(1) {
            let variable = rest.split('"').next().unwrap_or_default();
            secrets.push((variable.to_owned(), "not-a-key".to_owned()));
        }
        let mut moved: String = text.lines().map(line).collect();
        if name == "pointsman.toml" {
            for key in ["listen", "admin_listen"] {
                if !moved.lines().any(|line| line.starts_with(&format!("{key} ="))) {
                    moved.insert_str(0, &format!("{key} = \"127.0.0.1:0\"\n"));
                }
            }
        }
        files.write(name, &moved);
    }
    (files, secrets)
}

#[test]
fn it_idles_in_little_memory() {
    alone(async {
        let (files, secrets) = copied();
        let environment: Vec<(&str, &str)> =
            secrets.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let served = Served::start(files.folder(), &environment).await;
        wait::some("it is ready", async || {
            let ready = client::send(served.admin, Ask::get("/readyz")).await;
            (ready.status == 200).then_some(())
        })
        .await;
        assert_eq!(client::send(served.admin, Ask::get("/metrics")).await.status, 200);
        let (build, limit) = if process::is_release() { ("release", RELEASE_BYTES) } else { ("debug", DEBUG_BYTES) };
        let bytes = served.process.resident_bytes();
        println!("{build} build: {:.1} MiB resident", bytes as f64 / 1048576.0);
        assert!(bytes <= limit, "a {build} build idles at {bytes} bytes, allowed are {limit}");
    });
}
