//! Explanations of a running gateway: what it decided, what it would decide, and the command that shows them.

use pointsman_tests::client::{Ask, Reply};
use pointsman_tests::double::{Act, Double};
use pointsman_tests::files::{CHEAPEST, Files, MODEL, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::{self, chat, url};
use pointsman_tests::process;
use pointsman_tests::run::beside_others;
use serde_json::{Value, json};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const POLICY: &str = "name = \"mine\"\n[[classify]]\nname = \"voice\"\nwhen = 'request.headers[\"x-agent\"] == \"voice\"'\n\
                      class = \"realtime\"\n[[route]]\nname = \"all\"\nobjective = \"cheapest\"\n";

/// A gateway with a cheap pool of GPUs and a dear wafer, which live as long as what comes with it.
async fn two_pools() -> (Gateway, impl Sized) {
    let (gpu, wafer) = (machines::start("h100").await, machines::start("cs3").await);
    let dear = PoolText::new("wafer", [url(&wafer)]).hardware("cs3").price(9);
    let gateway =
        Gateway::start(PROCESS, &portfolio(&[PoolText::new("gpu", [url(&gpu)]).price(1), dear]), POLICY).await;
    (gateway, (gpu, wafer))
}

async fn explained(gateway: &Gateway, id: &str) -> Value {
    let reply = gateway.admin(&format!("/api/v1/decisions/{id}")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// Runs the command beside the gateway.
async fn command(gateway: &Gateway, arguments: &[&str]) -> (bool, String, String) {
    let admin = format!("http://{}", gateway.running.admin_address);
    offline(gateway, &[arguments, &["--admin", &admin]].concat()).await
}

#[track_caller]
fn assert_told(reply: &Reply, status: u16, code: &str) -> String {
    let told = reply.json();
    assert_eq!((reply.status.as_u16(), &told["error"]["code"]), (status, &code.into()), "{told}");
    told["error"]["help"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_decision_is_explained_by_request_id_and_by_trace_id() {
    beside_others(async {
        let (gateway, _machines) = two_pools().await;
        let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
        let ask = Ask::chat(&chat(8, true)).header("traceparent", &parent).header("x-agent", "voice");
        let reply = gateway.send(ask).await;
        let id = reply.header("x-request-id").to_owned();
        let by_id = explained(&gateway, &id).await;
        assert_eq!(by_id, explained(&gateway, TRACE).await);
        assert_eq!(by_id["plan"]["attempts"][0]["endpoint"], reply.header("x-pointsman-endpoint"));
        assert_eq!(by_id["class"]["name"], reply.header("x-pointsman-class"));
        assert_eq!(by_id["policy"], reply.header("x-pointsman-policy"));
        assert_eq!((&by_id["class"]["rule"]["name"], &by_id["route"]["name"]), (&json!("voice"), &json!("all")));
        assert_eq!(by_id["origin"]["request_id"], id);
        let outcome = &by_id["outcome"];
        assert_eq!((&outcome["outcome"], &outcome["status"]), (&json!("answered"), &json!(200)), "{outcome}");
        assert!(outcome["ttft_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{outcome}");
        let candidates = by_id["candidates"].as_array().expect("candidates");
        assert!(candidates.len() == 2 && candidates.iter().all(|one| one["score"].is_number()), "{candidates:?}");

        let (done, text, told) = command(&gateway, &["explain", "--id", &id]).await;
        assert!(done, "{told}");
        assert!(text.starts_with("realtime request goes to gpu/"), "{text}");
        for part in ["rule `voice`", "outcome   answered 200", "policy    mine@1", &id, TRACE, "as it was then"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains('\u{1b}'), "colour where no terminal shows it");
    });
}

#[test]
fn the_last_decisions_are_listed_and_filtered() {
    beside_others(async {
        let (gateway, _machines) = two_pools().await;
        let mut ids = Vec::new();
        for (class, model) in [("batch", MODEL), ("standard", MODEL), ("standard", "nobody's")] {
            let body = json!({ "model": model, "messages": [], "max_tokens": 3 });
            let reply = gateway.send(Ask::chat(&body).header("x-pointsman-class", class)).await;
            ids.push(reply.header("x-request-id").to_owned());
        }
        let list = async |query: &str| {
            let reply = gateway.admin(&format!("/api/v1/decisions{query}")).await;
            let listed = reply.json()["decisions"].as_array().expect("a list").clone();
            listed.iter().map(|one| one["request_id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
        };
        let newest_first: Vec<String> = ids.iter().rev().cloned().collect();
        assert_eq!(list("").await, newest_first);
        assert_eq!(list("?limit=2").await, newest_first[..2]);
        assert_eq!(list("?class=batch").await, ids[..1]);
        assert_eq!(list("?outcome=refused").await, ids[2..]);
        assert_eq!(list("?pool=gpu&class=standard").await, ids[1..2]);
        assert_eq!(list("?pool=wafer").await, ids[..1], "a pool that nobody has used yet: batch goes and sees");
        assert_told(&gateway.admin("/api/v1/decisions?klass=x").await, 400, "bad-parameter");
        assert_told(&gateway.admin(&format!("/api/v1/decisions/{}", ids[2])).await, 404, "not-decided");
        let help = assert_told(&gateway.admin("/api/v1/decisions/req_other").await, 404, "unknown-id");
        assert!(help.contains(&ids[1]), "the last ones are named: {help}");
        let (done, _, told) = command(&gateway, &["explain", "--id", "req_other"]).await;
        assert!(!done && told.contains("no request `req_other` is remembered") && told.contains(&ids[1]), "{told}");
    });
}

#[test]
fn a_decision_is_explained_by_the_policy_that_made_it_and_with_what_failed() {
    beside_others(async {
        let bad = Double::always(Act::json(500, "{}")).await;
        let good = machines::start("h100").await;
        let pools = [PoolText::new("bad", [bad.url()]).price(1), PoolText::new("good", [url(&good)]).price(2)];
        let gateway = Gateway::start(PROCESS, &portfolio(&pools), CHEAPEST).await;
        let reply = gateway.send(Ask::chat(&chat(3, false))).await;
        gateway.files.replace("policy.toml", POLICY);
        pointsman_tests::wait::until("the next generation", || gateway.inner().snapshot().generation == 2).await;
        let explanation = explained(&gateway, reply.header("x-request-id")).await;
        assert_eq!(explanation["policy"], "cheapest@1");
        let attempts = &explanation["outcome"]["attempts"];
        assert_eq!(attempts[0]["status"], 500, "{attempts}");
        assert!(attempts[0]["failure"].is_string() && attempts[1]["failure"].is_null(), "{attempts}");
        assert_eq!(attempts[1]["endpoint"], reply.header("x-pointsman-endpoint"));
    });
}

#[test]
fn what_would_be_decided_is_explained_on_the_live_fleet() {
    beside_others(async {
        let (gateway, _machines) = two_pools().await;
        let explain = |question: Value| gateway.operate(Ask::post("/api/v1/explain", &question));
        let question = json!({ "headers": { "X-Agent": "voice" }, "body": chat(8, true), "draw": "7" });
        let one = explain(question.clone()).await.json();
        assert_eq!((&one["class"]["name"], &one["draw"]), (&json!("realtime"), &json!("7")), "{one}");
        let mut again = explain(question).await.json();
        again["request"]["unix_s"] = one["request"]["unix_s"].clone();
        assert_eq!(one, again);
        assert_eq!(explain(json!({ "facts": one["request"], "draw": "7" })).await.json(), one, "the same by its facts");

        let wafer = "name = \"fast\"\n[[route]]\npools = 'pool.name == \"wafer\"'\n";
        let tried = explain(json!({ "body": chat(8, true), "policy": wafer })).await.json();
        assert_eq!(
            (&tried["policy"], &tried["plan"]["attempts"][0]["pool"]),
            (&json!("fast (given)"), &json!("wafer"))
        );
        assert_eq!(gateway.inner().snapshot().policy.name, "mine", "nothing came of it");
        assert_eq!(gateway.admin("/api/v1/decisions").await.json()["decisions"], json!([]));

        let broken = explain(json!({ "body": chat(8, true), "policy": "nam = 1" })).await;
        assert_eq!(broken.json()["error"]["diagnostics"][0]["code"], "unknown-key", "{}", broken.text());
        assert_told(&explain(json!({ "body": {} })).await, 422, "bad_body");
        assert_told(&explain(json!({ "bodi": {} })).await, 400, "bad-body");
        assert_told(&explain(json!({})).await, 400, "bad-body");
        let live = ["explain", "--live", "--model", MODEL, "--stream", "-H", "x-agent: voice", "--json"];
        let (done, text, told) = command(&gateway, &live).await;
        let told_by_command: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {told}"));
        assert!(
            done && told_by_command["fleet"] == "live, with what the gateway has learned"
                && told_by_command["class"]["name"] == "realtime",
            "{text}"
        );
    });
}

#[test]
fn what_is_supposed_of_a_running_gateway_reads_what_it_has_learned() {
    beside_others(async {
        let (gateway, _machines) = two_pools().await;
        let body = json!({ "model": MODEL, "messages": [] });
        let expected = async || {
            let explained = gateway.operate(Ask::post("/api/v1/explain", &json!({ "body": body }))).await.json();
            explained["request"]["output_tokens"].as_u64().unwrap_or_else(|| panic!("{explained}"))
        };
        let prior = expected().await;
        for _ in 0..30 {
            assert_eq!(gateway.send(Ask::chat(&chat(12, false))).await.status, 200);
        }
        let learned = expected().await;
        assert!(learned * 5 < prior * 3, "{learned} after thirty answers of 12 tokens, {prior} before");
        let given = json!({ "facts": { "model": MODEL, "api": "chat", "output_tokens": 77 } });
        let told = gateway.operate(Ask::post("/api/v1/explain", &given)).await.json();
        assert_eq!(told["request"]["output_tokens"], 77, "what is given counts: {told}");
    });
}

#[test]
fn the_command_explains_by_files_alone() {
    beside_others(async {
        let pools = portfolio(&[
            PoolText::new("gpu", ["http://10.0.0.1:8000", "http://10.0.0.2:8000"]).price(1),
            PoolText::new("wafer", ["http://10.0.1.1:8443"]).hardware("cs3").price(9),
        ]);
        let files = Files::new(PROCESS, &pools, POLICY);
        files.write("body.json", &chat(8, true).to_string());
        files.write("policy.scenarios.toml", SCENARIOS);
        let run = |arguments: &[&str]| {
            let output = process::output(files.folder(), arguments);
            let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
            (output.status.success(), text(output.stdout), text(output.stderr))
        };
        let (done, text, told) = run(&["explain", "--body", "body.json", "-H", "X-Agent: voice", "--tenant", "acme"]);
        assert!(done, "{told}");
        insta::assert_snapshot!("explain_by_files", text);
        let (done, text, told) = run(&["explain", "--scenarios", "policy.scenarios.toml", "--name", "gpus gone"]);
        assert!(done && text.starts_with("standard request goes to wafer/10.0.1.1:8443"), "{text}{told}");
        let (done, text, _) = run(&["explain", "--model", MODEL, "--fleet", "policy.scenarios.toml:gone", "--json"]);
        let json: Value = serde_json::from_str(&text).expect("JSON");
        assert!(done && json["plan"]["attempts"][0]["pool"] == "wafer" && json["version"] == 1, "{text}");

        for (arguments, expected) in [
            (vec!["explain"], "pointsman explain --model"),
            (
                vec!["explain", "--scenarios", "policy.scenarios.toml", "--name", "gpu gone"],
                "did you mean `gpus gone`?",
            ),
            (vec!["explain", "--model", MODEL, "--fleet", "policy.scenarios.toml:gonne"], "did you mean `gone`?"),
            (vec!["explain", "--model", MODEL, "--at", "noon"], "write `09:30`"),
            (vec!["explain", "--model", MODEL, "-H", "x-agent"], "is not `NAME: VALUE`"),
            (vec!["explain", "--model", MODEL, "-H", "x-slo-ttft-ms: soon"], "bad_header"),
            (vec!["explain", "--body", "policy.toml"], "bad_body"),
            (vec!["explain", "--body", "none.json"], "cannot read the body `none.json`"),
            (vec!["explain", "--policy", "none.toml", "--model", MODEL], "none.toml"),
        ] {
            let (done, _, told) = run(&arguments);
            assert!(!done && told.contains(expected), "{arguments:?}: {told}");
        }
    });
}

const SCENARIOS: &str = r#"[fleet.gone]
gpu = { availability = "breaker-open" }
[[scenario]]
name = "gpus gone"
fleet = "gone"
expect = { pool = "wafer" }
"#;

#[test]
fn check_runs_the_scenarios_beside_a_policy() {
    beside_others(async {
        let files = Files::new(
            PROCESS,
            &portfolio(&[
                PoolText::new("wafer", ["http://10.0.1.1:8443"]),
                PoolText::new("gpu", ["http://10.0.0.1:8000"]),
            ]),
            POLICY,
        );
        let check = |arguments: &[&str]| {
            let output = process::output(files.folder(), arguments);
            (output.status.success(), String::from_utf8(output.stderr).expect("UTF-8"))
        };
        files.write("policy.scenarios.toml", SCENARIOS);
        for arguments in [vec!["check"], vec!["check", "policy.toml"], vec!["check", "policy.scenarios.toml"]] {
            let (sound, told) = check(&arguments);
            assert!(sound && told.contains("policy.scenarios.toml: 1 scenario holds"), "{arguments:?}: {told}");
        }
        files.write("policy.toml", &POLICY.replace("objective", "pools = 'pool.name == \"gpu\"'\nobjective"));
        let (sound, told) = check(&["check"]);
        assert!(!sound && told.contains("scenario-fails") && told.contains("0 of 1 scenarios hold"), "{told}");
        let served = process::output(files.folder(), &["check", "policy.toml", "portfolio.toml"]);
        assert!(!served.status.success());
    });
}

#[test]
fn a_body_is_counted_by_what_was_learned_of_its_like_live_and_by_files() {
    beside_others(async {
        let (gateway, _machines) = two_pools().await;
        // Of a text that is one character in a token to the machine, what the prior has as a quarter.
        let text = "é ".repeat(1_000);
        let ask = json!({
            "model": MODEL, "messages": [{ "role": "user", "content": text }], "max_tokens": 3, "ignore_eos": true,
            "simulated_prompt_tokens": 2_000,
        });
        let told = |text: &str| text.lines().find(|line| line.starts_with("request")).unwrap_or_default().to_owned();
        std::fs::write(gateway.files.path("body.json"), ask.to_string()).expect("written");
        let by_files = ["explain", "--body", "body.json"];
        let live = ["explain", "--live", "--body", "body.json"];
        let (_, before, wrong) = offline(&gateway, &by_files).await;
        assert!(told(&before).contains("about 750 tokens in"), "{before}{wrong}");
        assert!(before.contains("idle, nothing learned"), "{before}");
        for _ in 0..40 {
            assert_eq!(gateway.send(Ask::chat(&ask)).await.status, 200);
        }
        let (_, text, wrong) = command(&gateway, &live).await;
        assert!(told(&text).contains("about 2,000 tokens in"), "{text}{wrong}");
        assert!(text.contains("of the prompt's 2,000 tokens are in its cache"), "{text}");

        let folder = gateway.inner().snapshot().process.state.clone();
        pointsman::learning::file::save(gateway.inner().learning(), &folder).expect("it can be written");
        let (_, text, wrong) = offline(&gateway, &by_files).await;
        assert!(told(&text).contains("about 2,000 tokens in"), "{text}{wrong}");
        assert!(text.contains("learned.json` says was learned of them"), "{text}");
        std::fs::write(folder.join("learned.json"), "{").expect("written");
        let (_, text, _) = offline(&gateway, &by_files).await;
        assert!(text.contains("nothing learned: `") && text.contains("cannot be read"), "{text}");
    });
}

/// Runs the command in the gateway's folder, and does not ask it.
async fn offline(gateway: &Gateway, arguments: &[&str]) -> (bool, String, String) {
    let all: Vec<String> = arguments.iter().map(|one| (*one).to_owned()).collect();
    let folder = gateway.files.folder().to_owned();
    let output = tokio::task::spawn_blocking(move || {
        process::output(&folder, &all.iter().map(String::as_str).collect::<Vec<_>>())
    });
    let output = output.await.expect("the command runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.success(), text(output.stdout), text(output.stderr))
}
