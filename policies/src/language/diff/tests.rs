//! Changes as an operator makes them, and what is said of them.

use super::*;

const BASE: &str = r#"
name = "base"
[class.realtime]
ttft_ms = 300
[class.batch]
deadline_s = 600
[[classify]]
when = 'request.stream'
class = "realtime"
[[classify]]
class = "batch"
[[route]]
name = "long"
when = 'request.input_tokens > 60000'
objective = "fastest"
[[route]]
name = "default"
objective = "cheapest"
"#;

#[track_caller]
fn check(from: &str, to: &str, expected: &[&str]) {
    let found = differences(from, to).unwrap();
    let told: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(told, expected);
    let json = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Difference>>(&json).unwrap(), found, "there and back: {json}");
}

#[track_caller]
fn edit(what: &str, by: &str, expected: &[&str]) {
    assert!(BASE.contains(what), "{what}");
    check(BASE, &BASE.replace(what, by), expected);
}

#[test]
fn a_value_is_told_with_its_path() {
    edit("ttft_ms = 300", "ttft_ms = 250", &["class.realtime.ttft_ms 300 → 250"]);
    edit("objective = \"cheapest\"", "objective = \"fastest\"", &["route[\"default\"].objective cheapest → fastest"]);
    edit("ttft_ms = 300", "ttft_ms = 300\nitl_ms = 10", &["class.realtime.itl_ms added: 10"]);
    edit("deadline_s = 600\n", "", &["class.batch.deadline_s removed: 600"]);
    edit(
        "'request.stream'",
        "'request.stream && request.tools'",
        &["classify[\"rule-1\"].when request.stream → \"request.stream && request.tools\""],
    );
}

#[test]
fn spelling_means_nothing() {
    edit("ttft_ms = 300", "ttft_ms = \"300ms\" # as before", &[]);
    edit("ttft_ms = 300", "ttft_ms = \"0.3s\"", &[]);
    edit("ttft_ms = 300", "ttft_ms = 300.0", &[]);
    edit("deadline_s = 600", "deadline_s = \"10min\"", &[]);
    edit("'request.input_tokens > 60000'", "\"request.input_tokens>60000\"", &[]);
    edit("\n[class.realtime]\nttft_ms = 300", "\nclass.realtime = { ttft_ms = 300 }", &[]);
    check("a = 1\n[b]\n[c]\n", "c = {}\nb = {}\na = 0x1\n", &[]);
    check(
        "[[route]]\nwhen = 'request.headers[\"a b\"] == \"\"'",
        "[[route]]\nwhen = 'request.headers[\"ab\"] == \"\"'",
        &["route[\"route-1\"].when 'request.headers[\"a b\"] == \"\"' → 'request.headers[\"ab\"] == \"\"'"],
    );
}

#[test]
fn rules_are_added_removed_renamed_and_moved() {
    let voice = "[[route]]\nname = \"voice\"\nobjective = \"fastest\"\n[[route]]\nname = \"long\"";
    edit("[[route]]\nname = \"long\"", voice, &["route[\"voice\"] (1st of 3) added: objective fastest"]);
    edit("[[classify]]\nclass = \"batch\"\n", "", &["classify[\"rule-2\"] (2nd of 2) removed: class batch"]);
    edit("name = \"long\"", "name = \"lengthy\"", &["route[\"lengthy\"].name long → lengthy"]);
    let three = "[[route]]\nname = \"a\"\n[[route]]\nname = \"b\"\n[[route]]\nname = \"c\"\n";
    let moved = "[[route]]\nname = \"c\"\n[[route]]\nname = \"a\"\n[[route]]\nname = \"b\"\n";
    check(three, moved, &["route[\"c\"] moved from 3rd to 1st"]);
    check(moved, three, &["route[\"c\"] moved from 1st to 3rd"]);
    let unnamed = "[[classify]]\nclass = \"a\"\n[[classify]]\nclass = \"b\"\n";
    let swapped = "[[classify]]\nclass = \"b\"\n[[classify]]\nclass = \"a\"\n";
    check(unnamed, swapped, &["classify[\"rule-2\"] moved from 1st to 2nd"]);
}

#[test]
fn the_order_of_classes_matters_and_that_of_pools_does_not() {
    let classes = "[class.a]\n[class.b]\n[class.c]\n";
    check(classes, "[class.b]\n[class.c]\n[class.a]\n", &["class.a moved from 1st to 3rd"]);
    check("[pool.a]\n[pool.b]\n", "[pool.b]\n[pool.a]\n", &[]);
}

#[test]
fn it_serves_the_other_files_too() {
    let from = "[pool.gpu]\nendpoints = [\"http://a\", \"http://b\"]\n[pool.gpu.model.\"v1.5\"]\ncontext = 131_072\n";
    let to = "[pool.gpu]\nendpoints = [\"http://b\", \"http://c\"]\n[pool.gpu.model.\"v1.5\"]\ncontext = 65_536\n[pool.new]\nhardware = \"h100\"\n";
    check(
        from,
        to,
        &[
            "pool.gpu.endpoints removed: http://a",
            "pool.gpu.endpoints added: http://c",
            "pool.gpu.model[\"v1.5\"].context 131072 → 65536",
            "pool.new added: hardware h100",
        ],
    );
    check(
        "",
        to,
        &[
            "pool.gpu added: endpoints [http://b, http://c], model {v1.5 {context 65536}}",
            "pool.new added: hardware h100",
        ],
    );
    check("a = [1, 2]", "a = [2, 1]", &["a [1, 2] → [2, 1]"]);
    check("a = [\"x\", \"y\"]", "a = [\"y\", \"x\"]", &["a [x, y] → [y, x]"]);
    check("a = 1", "a = { b = 1 }", &["a 1 → b 1"]);
}

#[test]
fn what_is_no_toml_is_told() {
    assert_eq!(differences("a = ", "a = 1"), Err(Unreadable::From));
    assert_eq!(differences("a = 1", "a = "), Err(Unreadable::To));
}

#[test]
fn a_summary_is_one_line() {
    let found = differences(BASE, "name = \"other\"").unwrap();
    assert!(summary(&found).starts_with("name base → other, and "), "{}", summary(&found));
    assert_eq!(summary(&[]), "no change in meaning");
    let long = differences("a = 1", &format!("a = \"{}\"", "x ".repeat(10_000))).unwrap();
    assert!(summary(&long).chars().count() < 200);
}

/// Whatever is done to a list of rules, as few as possible are said to have moved.
#[test]
fn as_few_as_possible_move() {
    let list =
        |names: &[usize]| names.iter().map(|name| format!("[[route]]\nname = \"r{name}\"\n")).collect::<String>();
    let before: Vec<usize> = (0..200).collect();
    let mut after = before.clone();
    after.rotate_left(1);
    assert_eq!(differences(&list(&before), &list(&after)).unwrap().len(), 1);
    after.reverse();
    assert_eq!(differences(&list(&before), &list(&after)).unwrap().len(), 198);
}
