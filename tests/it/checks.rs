//! What `check` tells of files: to people, to programs, to code hosts.

use pointsman_tests::files::Files;
use pointsman_tests::process;
use pointsman_tests::run::beside_others;
use serde_json::Value;

const POLICY: &str = r#"name = "two"
[class.interactive]
ttft_ms = 1000
[class.batch]
deadline_s = 600
[[classify]]
when = 'request.stream'
class = "interactive"
[[classify]]
when = 'request.stream && request.tenant == "é"'
class = "batch"
[[route]]
retry = { attempts = 3, budget = 0.2 }
"#;

/// Exit status, stdout, stderr.
fn check(files: &Files, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = process::output(files.folder(), &[&["check"], arguments].concat());
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("stdout is JSON and nothing else")
}

#[test]
fn programs_get_one_object() {
    beside_others(async {
        let files = Files::none();
        files.write("policy.toml", POLICY);
        let (status, stdout, stderr) = check(&files, &["policy.toml", "./policy.toml", "--format", "json"]);
        assert_eq!((status, stderr.as_str()), (Some(0), ""), "warnings are no failure");
        insta::assert_snapshot!("programs_get_one_object", stdout);
        let (status, stdout, stderr) = check(&files, &["absent.policy.toml", "--format", "json"]);
        assert_eq!((status, stderr.as_str()), (Some(1), ""));
        let told = json(&stdout);
        assert_eq!(told["errors"], told["diagnostics"].as_array().expect("a list").len());
        assert!(told["diagnostics"][0].get("line").is_none(), "no place is to blame: {told}");
    });
}

#[test]
fn code_hosts_get_sarif() {
    beside_others(async {
        let files = Files::none();
        files.write("my policy.toml", POLICY);
        let (status, stdout, stderr) = check(&files, &["my policy.toml", "--format", "sarif"]);
        assert_eq!((status, stderr.as_str()), (Some(0), ""));
        let mut log = json(&stdout);
        assert_eq!(log["version"], "2.1.0");
        let run = &mut log["runs"][0];
        assert_eq!(run["columnKind"], "unicodeCodePoints");
        let rules = run["tool"]["driver"]["rules"].clone();
        for result in run["results"].as_array_mut().expect("the results") {
            let rule = result.as_object_mut().and_then(|result| result.remove("ruleIndex"));
            assert_eq!(rules[rule.and_then(|rule| rule.as_u64()).expect("a number") as usize]["id"], result["ruleId"]);
        }
        let results = serde_json::to_string_pretty(&run["results"]).expect("JSON");
        insta::assert_snapshot!("code_hosts_get_sarif", results);
    });
}

#[test]
fn the_exit_status_is_the_same_in_every_format() {
    beside_others(async {
        let files = Files::none();
        files.write("warned.policy.toml", POLICY);
        files.write("wrong.policy.toml", "nam = 1\n");
        for format in ["text", "json", "sarif"] {
            let status = |arguments: &[&str]| check(&files, &[arguments, &["--format", format]].concat()).0;
            assert_eq!(status(&["warned.policy.toml"]), Some(0));
            assert_eq!(status(&["warned.policy.toml", "--deny", "warnings"]), Some(1));
            assert_eq!(status(&["wrong.policy.toml"]), Some(1));
            assert_eq!(status(&["absent.policy.toml"]), Some(1));
        }
        files.write("good.policy.toml", &POLICY.replace("request.stream &&", "!request.stream &&"));
        let (status, _, stderr) = check(&files, &["good.policy.toml", "--deny", "warnings"]);
        assert_eq!(status, Some(0), "{stderr}");
    });
}

#[test]
fn files_that_cannot_be_read_are_told_where_they_are_named() {
    beside_others(async {
        let files = Files::none();
        files.write("policy.toml", POLICY);
        files.write("portfolio.toml", "[pools.gpu]\n");
        files.write("pointsman.toml", "policy = \"polcy.toml\"\nlisten = \"127.0.0.1:x\"\n");
        let mut told = check(&files, &[]).2;
        told += &check(&files, &["policies.toml"]).2;
        told += &check(&files, &["."]).2;
        files.write("pointsman.toml", "listen = \n");
        told += &check(&files, &[]).2;
        std::fs::write(files.folder().join("policy.toml"), b"\xef\xbb\xbfname = \"a\"\n").expect("written");
        told += &check(&files, &["policy.toml"]).2;
        std::fs::write(files.folder().join("policy.toml"), b"name = \"a\" # \xfcber\n").expect("written");
        told += &check(&files, &["policy.toml"]).2;
        insta::assert_snapshot!("files_that_cannot_be_read", told);
    });
}

#[test]
fn a_candidate_that_is_not_there_is_told_where_it_is_named_whatever_else_is_wrong() {
    beside_others(async {
        let files = Files::none();
        files.write(
            "policy.toml",
            "[canary]\npolicy = \"gone.toml\"\nshare = 0.1\n\n[class.realtime]\nttft_ms = true\n",
        );
        let told = check(&files, &["policy.toml"]).2;
        assert!(told.contains("there is no file `gone.toml`\n --> policy.toml:2:10"), "{told}");
        assert!(told.contains("policy.toml:6:11"), "{told}");
    });
}
