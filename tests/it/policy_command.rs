//! `pointsman policy` as an operator types it, and every word that is answered.

use std::fmt::Write as _;

use pointsman_tests::files::{Files, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::process::Process;
use pointsman_tests::run::beside_others;
use pointsman_tests::wait::SOON;
use serde_json::Value;

const POLICY: &str = r#"name = "session"
[class.realtime]
ttft_ms = 300
[[route]]
name = "long"
when = 'request.input_tokens > 60000'
objective = "fastest"
[[route]]
name = "default"
"#;

const EDITED: &str = r#"# The promise is tighter.
name = "session"
[class.realtime]
ttft_ms = "0.25s"
[[route]]
name = "streams"
when = 'request.stream'
objective = "fastest"
[[route]]
name = "long"
when = 'request.input_tokens > 30000 && request.stream == false && request.tenant != "batch"'
objective = "fastest"
[[route]]
name = "default"
"#;

/// Whether a character belongs to what differs from run to run.
type Differs = fn(char) -> bool;

/// A gateway, and a terminal beside its policy file.
struct Session {
    gateway: Gateway,
    token: &'static str,
    seen: String,
}

impl Session {
    async fn start(process: &str) -> Session {
        let pools = portfolio(&[PoolText::new("gpu", ["http://127.0.0.1:1"])]);
        let gateway = Gateway::start(&format!("{PROCESS}{process}"), &pools, POLICY).await;
        gateway.files.write("edited.toml", EDITED);
        gateway.files.write("broken.toml", &POLICY.replace("fastest", "fastets"));
        Session { gateway, token: "", seen: String::new() }
    }

    /// Runs a command, and keeps what it prints without what differs from run to run.
    async fn types(&mut self, command: &str) -> (i32, String) {
        let admin = format!("http://{}", self.gateway.running.admin_address);
        let (folder, arguments, token) = (self.gateway.files.folder().to_owned(), command.to_owned(), self.token);
        let run = tokio::task::spawn_blocking(move || {
            let environment =
                [("POINTSMAN_ADMIN", admin.as_str()), ("POINTSMAN_WHO", "ada"), ("POINTSMAN_ADMIN_TOKEN", token)];
            let environment = if token.is_empty() { &environment[..2] } else { &environment[..] };
            let mut process = Process::start(&folder, &arguments.split(' ').collect::<Vec<_>>(), environment);
            let code = process.until_exit(SOON).code().expect("a status");
            (code, process.stdout(), process.stderr())
        });
        let (code, stdout, stderr) = run.await.expect("it runs");
        let printed = format!("{stdout}{stderr}");
        let _ = writeln!(self.seen, "$ pointsman {command}\n{}[{code}]\n", self.steady(&printed));
        (code, stdout)
    }

    fn steady(&self, printed: &str) -> String {
        let mut steady = printed.replace(&self.gateway.files.folder().display().to_string(), "FOLDER");
        let differs: [(&str, Differs); 3] =
            [("127.0.0.1:", |c| c.is_ascii_digit()), ("just now (", |c| c != ')'), ("hash     ", |c| c != '\n')];
        for (start, differs) in differs {
            let pieces: Vec<&str> = steady.split(start).collect();
            let kept = pieces.iter().skip(1).map(|piece| format!("{start}…{}", piece.trim_start_matches(differs)));
            steady = format!("{}{}", pieces[0], kept.collect::<String>());
        }
        steady
    }
}

#[test]
fn an_edit_is_tried_refused_applied_compared_and_taken_back() {
    beside_others(async {
        let mut session = Session::start("").await;
        for command in [
            "policy list",
            "policy apply broken.toml",
            "policy apply edited.toml --dry-run",
            "policy apply edited.toml",
            "policy apply edited.toml",
            "policy list",
            "policy show",
            "policy show r1",
            "policy diff 2 1",
            "policy diff 1 1",
            "policy rollback --dry-run",
            "policy rollback",
            "policy rollback --to 77",
            "policy apply edited.toml --if-match 0123456789abcdef",
            "policy apply missing.toml",
        ] {
            session.types(command).await;
        }
        insta::assert_snapshot!("policy_session", session.seen);
    });
}

#[test]
fn programs_get_json_and_texts() {
    beside_others(async {
        let mut session = Session::start("").await;
        let (code, printed) = session.types("policy apply edited.toml --json").await;
        let answer: Value = serde_json::from_str(&printed).expect("JSON");
        assert_eq!((code, &answer["result"], &answer["generation"]), (0, &"in-force".into(), &2.into()));
        let (code, printed) = session.types("policy apply broken.toml --json").await;
        let answer: Value = serde_json::from_str(&printed).expect("JSON");
        assert_eq!((code, &answer["error"]["code"]), (1, &"refused".into()));
        assert_eq!(session.types("policy show 1 --text").await, (0, POLICY.to_owned()));
        let (_, printed) = session.types("policy list --json --limit 1").await;
        let answer: Value = serde_json::from_str(&printed).expect("JSON");
        assert_eq!(answer["generations"].as_array().map(Vec::len), Some(1));
    });
}

#[test]
fn a_gateway_that_is_locked_or_wants_a_token_says_what_to_do() {
    beside_others(async {
        let mut locked = Session::start("[generations]\nlocked = true\n").await;
        locked.types("policy apply edited.toml").await;
        assert!(locked.seen.contains("the gateway is locked") && locked.seen.contains("[1]"), "{}", locked.seen);
        assert_eq!(locked.types("policy apply edited.toml --dry-run").await.0, 0, "{}", locked.seen);
        assert!(locked.seen.contains("not by command, though: the gateway is locked"), "{}", locked.seen);

        let files = Files::none();
        files.write("token", "a-token-of-some-length");
        let token = format!("[admin]\ntoken = {{ file = {:?} }}\n", files.path("token"));
        let mut closed = Session::start(&token).await;
        closed.types("policy list").await;
        assert!(closed.seen.contains("put the gateway's admin token into POINTSMAN_ADMIN_TOKEN"), "{}", closed.seen);
        closed.token = "a-token-of-some-length";
        assert_eq!(closed.types("policy apply edited.toml").await.0, 0, "{}", closed.seen);

        let nobody = "policy list --admin http://127.0.0.1:1";
        closed.types(nobody).await;
        assert!(closed.seen.contains("is one running there? start `pointsman demo`"), "{}", closed.seen);
        let clients = format!("policy list --admin http://{}", closed.gateway.address());
        closed.types(&clients).await;
        assert!(closed.seen.contains("`admin_listen`"), "{}", closed.seen);
    });
}

#[test]
fn a_candidate_is_tried_promoted_and_stopped_by_command() {
    beside_others(async {
        let mut session = Session::start("").await;
        for command in [
            "policy trial",
            "policy stop",
            "policy shadow broken.toml",
            "policy shadow edited.toml",
            "policy canary --share 5 --by session",
            "policy canary --share 5% --by tenant --margin 1%",
            "policy resume",
            "policy promote",
            "policy canary policy.toml",
        ] {
            session.types(command).await;
        }
        insta::assert_snapshot!("trial_session", session.seen);
    });
}
