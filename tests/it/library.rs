//! The policies that come with the program, and what is generated for their writers: they open by saying when to use
//! them, no portfolio makes them doubtful, every key has a description and an example that is right, the reference is
//! that of the program.

use std::path::{Path, PathBuf};

use pointsman::commands::library::{self, LIBRARY};
use pointsman::commands::reference;
use pointsman::commands::schema::{File, text};
use pointsman_backends::portfolio::{self, PortfolioShape, Secrets};
use pointsman_policies::fleet::PoolFacts;
use pointsman_policies::language::{PolicyFile, Report, Source, compile, read};
use pointsman_policies::scenario::ScenarioFile;
use pointsman_tests::files::Files;
use pointsman_tests::process;
use pointsman_tests::run::beside_others;
use serde_json::{Map, Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
}

/// The pools of a portfolio file; marks of addresses become addresses.
fn pools(file: &str) -> Vec<PoolFacts> {
    let text = std::fs::read_to_string(root().join(file)).expect("a portfolio");
    let filled = text.replace("\"{", "\"http://127.0.0.1:9").replace("}\"", "\"").replace("-a\"", "1\"");
    let filled = filled.replace(":9gpu1", ":9001").replace(":9gpu-b", ":9002").replace(":9wafer", ":9003");
    let (loaded, report) =
        portfolio::load(Source::new(file, filled.replace(":9cpu", ":9004")), &root(), Secrets::Optional);
    loaded.unwrap_or_else(|| panic!("{report}")).facts
}

#[test]
fn each_policy_opens_with_three_lines_that_say_when_to_use_it() {
    for (name, text) in LIBRARY {
        let lines: Vec<&str> = text.lines().take(5).collect();
        assert!(lines[..3].iter().all(|line| line.starts_with("# ")), "{name}: {lines:#?}");
        assert!(lines[0].contains("Use it when") && lines[2].starts_with("# Not for: "), "{name}: {lines:#?}");
        assert_eq!(lines[3], "#:schema ../../deploy/schema/policy.schema.json", "{name}");
        assert_eq!(lines[4], format!("name = \"{name}\""));
    }
    let shipped = std::fs::read_dir(root().join("policies/library")).expect("the library");
    let files = shipped.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    let policies = files.filter(|name| name.matches('.').count() == 1 && name != "portfolio.toml");
    assert_eq!(policies.count(), LIBRARY.len(), "a policy of the folder is not in the program's library");
}

#[test]
fn no_portfolio_makes_them_doubtful() {
    let demo = pools("gateway/demo/portfolio.toml");
    let example = pools("deploy/config/portfolio.toml");
    let library = pools("policies/library/portfolio.toml");
    let one = example.iter().filter(|pool| pool.name == "gpu").cloned().collect::<Vec<_>>();
    assert_eq!((demo.len(), example.len(), library.len(), one.len()), (4, 2, 5, 1));
    for (name, text) in LIBRARY {
        for pools in [&demo, &example, &one, &library, &Vec::new()] {
            let (policy, report) = compile(Source::new(name, text), pools);
            assert!(policy.is_some() && report.is_empty(), "{report}");
        }
    }
    let example_policy = std::fs::read_to_string(root().join("deploy/config/policy.toml")).expect("the example");
    let (_, report) = compile(Source::new("policy.toml", example_policy), &example);
    assert!(report.is_empty(), "{report}");
}

/// What a policy must not become: a change of its text that its scenarios have to see.
const BROKEN: [(&str, &str, &str); 13] = [
    ("balanced", "request.headers[\"x-agent\"] == \"voice\"", "request.headers[\"x-agent\"] == \"video\""),
    ("balanced", "pools = 'pool.hardware.kind != \"wafer\"'", "pools = 'pool.ready > 0'"),
    ("latency-first", "max_usd = 0.02", "max_usd = 0.2"),
    ("latency-first", "request.max_output_tokens <= 64", "request.max_output_tokens <= 65"),
    ("latency-first", "name = \"default\"\nobjective = \"fastest\"", "name = \"default\"\nobjective = \"cheapest\""),
    ("latency-first", "[\"wafer\", \"cloud\"]) && pool.busy < 0.5", "[\"wafer\"]) && pool.busy < 0.5"),
    ("cost-first", "request.hour < 19", "request.hour < 20"),
    ("cost-first", "request.weekday <= 5", "request.weekday <= 6"),
    ("cost-first", "spill = \"slo-at-risk\"\n", ""),
    ("cost-first", "max_usd = 0.10", "max_usd = 1.00"),
    ("energy-capped", "request.hour < 21", "request.hour < 22"),
    ("energy-capped", "pool.busy < 0.25", "pool.busy < 0.5"),
    ("energy-capped", "objective = \"greenest\"\naffinity", "objective = \"fastest\"\naffinity"),
];

#[test]
fn their_scenarios_see_what_breaks_them() {
    beside_others(async {
        let files = Files::none();
        let shipped = |name: &str| std::fs::read_to_string(root().join("policies/library").join(name)).expect("a file");
        files.write("portfolio.toml", &shipped("portfolio.toml"));
        for (name, _) in LIBRARY {
            let scenarios = shipped(&format!("{name}.scenarios.toml"));
            assert!(scenarios.matches("[[scenario]]").count() >= 6, "{name} promises little");
            files.write(&format!("{name}.scenarios.toml"), &scenarios);
        }
        for (name, from, to) in BROKEN {
            let sound = shipped(&format!("{name}.toml"));
            assert!(sound.contains(from), "{name}: {from}");
            let file = format!("{name}.toml");
            files.write(&file, &sound.replace(from, to));
            let output = process::output(files.folder(), &["check", &file]);
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            let seen = !output.status.success() && told.contains("error[scenario-fails]");
            assert!(seen, "{name}: nobody sees `{from}` become `{to}`: {told}");
            files.write(&file, &sound);
            assert!(process::output(files.folder(), &["check", &file]).status.success(), "{name} as shipped");
        }
    });
}

#[test]
fn the_program_brings_them_along() {
    beside_others(async {
        let files = Files::none();
        let list = process::output(files.folder(), &["library"]);
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        for (name, _) in LIBRARY {
            assert!(list.contains(&format!("\n{name}\n")) || list.starts_with(&format!("{name}\n")), "{list}");
            let printed = process::output(files.folder(), &["library", name]);
            assert_eq!(String::from_utf8_lossy(&printed.stdout), library::text(name).expect("it is listed"));
            files.write("policy.toml", &String::from_utf8_lossy(&printed.stdout));
            assert!(process::output(files.folder(), &["check", "policy.toml"]).status.success());
        }
        let unknown = process::output(files.folder(), &["library", "latncy-first"]);
        assert!(!unknown.status.success());
        assert!(String::from_utf8_lossy(&unknown.stderr).contains("did you mean `latency-first`?"));
    });
}

#[test]
fn the_reference_in_the_repository_is_that_of_the_program() {
    let committed = std::fs::read_to_string(root().join("policies/REFERENCE.md")).unwrap_or_default();
    let advice = "run `pointsman reference > policies/REFERENCE.md`";
    assert!(committed == reference::text(File::Policy), "policies/REFERENCE.md is not what the program says: {advice}");
    let printed = process::output(&root(), &["reference"]);
    assert!(printed.stdout == committed.into_bytes(), "the program under test is old");
}

/// A key of a file, by the tables it stands in.
struct Key {
    /// `class`, `*`, `ttft_ms`; `*` is a name of the operator's, `[]` an item of a list.
    path: Vec<String>,
    schema: Value,
    /// What has to stand beside it, each on the way to it.
    beside: Vec<Value>,
}

/// A schema with its references followed.
fn resolved(shape: &Value, schema: &Value) -> Map<String, Value> {
    let mut all = schema.as_object().cloned().unwrap_or_default();
    let parts = all.get("allOf").and_then(Value::as_array).cloned().unwrap_or_default();
    let target = all.get("$ref").and_then(Value::as_str).and_then(|path| shape.pointer(&path[1..])).cloned();
    for part in parts.iter().chain(&target) {
        for (key, value) in resolved(shape, part) {
            all.entry(key).or_insert(value);
        }
    }
    all
}

fn keys(shape: &Value, schema: &Value, path: &[String], beside: &[Value], out: &mut Vec<Key>) {
    let all = resolved(shape, schema);
    let step = |name: &str| path.iter().cloned().chain([name.to_owned()]).collect::<Vec<_>>();
    let properties = all.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let required: Vec<&str> =
        all.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, member) in &properties {
        let others = required.iter().filter(|other| *other != name);
        let example = |other: &str| {
            let member = properties.get(other).map(|member| resolved(shape, member)).unwrap_or_default();
            member.get("examples").and_then(|all| all.get(0)).cloned().unwrap_or_else(|| json!({}))
        };
        let mut siblings: Map<String, Value> = others.map(|other| ((*other).to_owned(), example(other))).collect();
        match name.as_str() {
            "weights" => drop(siblings.insert("objective".to_owned(), json!("weights"))),
            "spill" => drop(siblings.insert("fallback".to_owned(), json!([{ "pools": "pool.ready > 0" }]))),
            "shed_order" => drop(siblings.insert("sheddable".to_owned(), json!(true))),
            _ => {}
        }
        let beside: Vec<Value> = beside.iter().cloned().chain([Value::Object(siblings)]).collect();
        keys(shape, member, &step(name), &beside, out);
        out.push(Key { path: step(name), schema: Value::Object(resolved(shape, member)), beside });
    }
    let open: Vec<Value> = beside.iter().cloned().chain([json!({})]).collect();
    if let Some(each @ Value::Object(_)) = all.get("additionalProperties") {
        keys(shape, each, &step("*"), &open, out);
    }
    if let Some(items @ Value::Object(_)) = all.get("items") {
        keys(shape, items, &step("[]"), &open, out);
    }
}

/// The smallest file with one value at a key.
fn file_with(key: &Key, value: &Value) -> Value {
    let steps = key.path.iter().zip(&key.beside).rev();
    steps.fold(value.clone(), |inner, (step, beside)| match step.as_str() {
        "[]" => json!([inner]),
        "*" => json!({ "some-name": inner }),
        name => {
            let mut table = beside.as_object().cloned().unwrap_or_default();
            table.insert(name.to_owned(), inner);
            Value::Object(table)
        }
    })
}

fn toml_of(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(toml_of).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let member = |(key, value): (&String, &Value)| format!("{key:?} = {}", toml_of(value));
            format!("{{ {} }}", members.iter().map(member).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn report_of(file: File, text: &str) -> Report {
    let source = Source::new("example.toml", text);
    let mut report = Report::new(source.clone());
    match file {
        File::Policy => {
            let _: Option<PolicyFile> = read(&mut report);
            return if report.has_errors() { report } else { compile(source, &[]).1 };
        }
        File::Portfolio => drop(read::<PortfolioShape>(&mut report)),
        File::Scenarios => drop(read::<ScenarioFile>(&mut report)),
        File::Keys => drop(read::<pointsman::identity::keys::KeysShape>(&mut report)),
        File::Pointsman => drop(read::<pointsman::config::process::ProcessShape>(&mut report)),
    }
    report
}

#[test]
fn every_key_has_a_description_and_an_example_that_is_right() {
    for file in [File::Policy, File::Portfolio, File::Pointsman, File::Scenarios] {
        let shape: Value = serde_json::from_str(&text(file)).expect("a schema");
        let mut all = Vec::new();
        keys(&shape, &shape, &[], &[], &mut all);
        assert!(all.len() > 20, "{file:?} has {} keys", all.len());
        for key in &all {
            let name = key.path.join(".");
            let description = key.schema.get("description").and_then(Value::as_str).unwrap_or_default();
            assert!(description.len() > 3, "{file:?}: `{name}` has no description");
            let holds_keys =
                all.iter().any(|other| other.path.len() > key.path.len() && other.path.starts_with(&key.path));
            let examples = key.schema.get("examples").and_then(Value::as_array).cloned().unwrap_or_default();
            assert!(holds_keys || !examples.is_empty(), "{file:?}: `{name}` has no example");
            for example in examples {
                let Value::Object(root) = file_with(key, &example) else { panic!("{name}") };
                let text: String = root.iter().map(|(key, value)| format!("{key} = {}\n", toml_of(value))).collect();
                let report = report_of(file, &text);
                assert!(!report.has_errors(), "{file:?}: the example of `{name}` is wrong: {text}\n{report}");
            }
        }
    }
}

/// The test above would see a wrong example.
#[test]
fn a_wrong_example_is_seen() {
    assert!(report_of(File::Policy, "name = 3\n").has_errors());
    assert!(report_of(File::Policy, "class = { a = { ttft_ms = \"300 parsecs\" } }\n").has_errors());
    assert!(report_of(File::Portfolio, "site = { a = { pue = 0.5 } }\n").has_errors());
    assert!(report_of(File::Pointsman, "limits = { connections = 0 }\n").has_errors());
}
