//! Changes by command: what is put in force, what is refused and why, what is remembered of it, and the way back.

use std::time::Duration;

use http::Method;
use pointsman_tests::client::{Ask, Reply};
use pointsman_tests::files::{Files, PROCESS, PoolText, only, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::chat;
use pointsman_tests::run::beside_others;
use pointsman_tests::wait;
use serde_json::{Value, json};

const BROKEN: &str = "name = \"broken\"\n[[route]]\nobjective = \"cheepest\"\n";

/// The watcher has looked at a change after this long.
const LONGER_THAN_QUIET: Duration = Duration::from_millis(500);

fn pools() -> String {
    portfolio(&[PoolText::new("left", ["http://127.0.0.1:1"]), PoolText::new("right", ["http://127.0.0.1:2"])])
}

async fn start(process: &str) -> Gateway {
    Gateway::start(&format!("{PROCESS}{process}"), &pools(), &class(300)).await
}

/// A policy with one promise.
fn class(ttft_ms: u32) -> String {
    format!("name = \"promise\"\n[class.realtime]\nttft_ms = {ttft_ms}\n")
}

fn put(text: &str) -> Ask {
    Ask::raw("/api/v1/policy", text.to_owned()).method(Method::PUT).header("x-pointsman-who", "ada")
}

async fn etag(gateway: &Gateway) -> String {
    gateway.admin("/api/v1/policy").await.header("etag").to_owned()
}

/// Replaces the policy that is in force.
async fn replace(gateway: &Gateway, text: &str) -> Reply {
    let etag = etag(gateway).await;
    gateway.operate(put(text).header("if-match", &etag)).await
}

async fn rollback(gateway: &Gateway, body: &Value) -> Reply {
    gateway.operate(Ask::post("/api/v1/rollback", body).header("x-pointsman-who", "ada")).await
}

async fn config(gateway: &Gateway) -> Value {
    gateway.admin("/api/v1/config").await.json()
}

/// Name, state, source and who of what is remembered, the newest first.
async fn listed(gateway: &Gateway) -> Vec<String> {
    let list = gateway.admin("/api/v1/generations").await.json();
    let text = |entry: &Value, key: &str| entry[key].as_str().expect("text").to_owned();
    let entries = list["generations"].as_array().expect("a list");
    entries.iter().map(|entry| ["id", "state", "source", "who"].map(|key| text(entry, key)).join(" ")).collect()
}

fn file(gateway: &Gateway) -> String {
    std::fs::read_to_string(gateway.files.path("policy.toml")).expect("the policy file")
}

#[track_caller]
fn assert_refused(reply: &Reply, status: u16, code: &str) {
    let told = reply.json();
    assert_eq!((reply.status.as_u16(), &told["error"]["code"]), (status, &code.into()), "{told}");
    assert!(told["error"]["help"].as_str().is_some_and(|help| !help.is_empty()), "{told}");
}

/// A change of the portfolio is seen after the files have been read.
async fn until_generation(gateway: &Gateway, generation: u64) {
    wait::some("the edit is in force", async || (gateway.status().await["generation"] == generation).then_some(()))
        .await;
}

#[test]
fn a_text_is_put_in_force_and_into_the_file() {
    beside_others(async {
        let gateway = start("").await;
        let read = gateway.admin("/api/v1/policy").await;
        assert_eq!(read.text(), class(300));
        let reply = gateway.operate(put(&class(250)).header("if-match", read.header("etag"))).await;
        let told = reply.json();
        assert_eq!((reply.status.as_u16(), &told["result"], &told["generation"]), (200, &"in-force".into(), &2.into()));
        assert_eq!(told["summary"], "class.realtime.ttft_ms 300 → 250");
        let difference = json!({ "path": "class.realtime.ttft_ms", "change": "changed", "from": 300, "to": 250 });
        assert_eq!(told["comparison"]["differences"], json!([difference]));
        assert_eq!(file(&gateway), class(250));
        let answered = gateway.send(Ask::chat(&chat(1, false))).await;
        assert_eq!(answered.header("x-pointsman-policy"), "promise@2");
        assert_eq!(reply.header("etag"), etag(&gateway).await);
        assert_eq!(listed(&gateway).await, ["2 in-force api ada", "1 replaced start -"]);

        let again = replace(&gateway, &class(250)).await.json();
        assert_eq!((&again["result"], &again["generation"]), (&"unchanged".into(), &2.into()), "{again}");
        let attempt = gateway.running.gateway.reload_status().attempt;
        tokio::time::sleep(LONGER_THAN_QUIET).await;
        assert_eq!(gateway.running.gateway.reload_status().attempt, attempt, "the change is not read a second time");
        assert_eq!(listed(&gateway).await.len(), 2);
    });
}

#[test]
fn nobody_is_overwritten() {
    beside_others(async {
        let gateway = start("").await;
        let first = etag(&gateway).await;
        assert_refused(&gateway.operate(put(&class(200))).await, 428, "if-match-required");
        assert_eq!(replace(&gateway, &class(250)).await.status, 200);
        assert_refused(&gateway.operate(put(&class(200)).header("if-match", &first)).await, 412, "stale");
        assert_eq!(file(&gateway), class(250));
        let either = format!("{first}, {}", etag(&gateway).await);
        assert_eq!(gateway.operate(put(&class(200)).header("if-match", &either)).await.status, 200);
        assert_eq!(gateway.operate(put(&class(100)).header("if-match", "*")).await.status, 200);
        assert_refused(&gateway.operate(put("x").header("if-match", "*")).await, 422, "refused");
        let stale = Ask::post("/api/v1/rollback", &json!({})).header("if-match", &first);
        assert_refused(&gateway.operate(stale).await, 412, "stale");
        assert_eq!(file(&gateway), class(100));
    });
}

#[test]
fn a_dry_run_tells_and_does_nothing() {
    beside_others(async {
        let gateway = start("").await;
        let dry = |text: &str| Ask::raw("/api/v1/policy?dry_run=true", text.to_owned()).method(Method::PUT);
        let would = gateway.operate(dry(&class(250))).await.json();
        assert_eq!((&would["result"], &would["generation"]), (&"would-apply".into(), &1.into()));
        assert_eq!(would["summary"], "class.realtime.ttft_ms 300 → 250");
        let would = gateway.operate(dry(BROKEN)).await.json();
        assert_eq!(would["result"], "would-be-refused");
        assert_eq!(would["diagnostics"][0]["line"], 3, "{would}");
        let would = gateway.operate(dry(&format!("# why\n{}", class(300)))).await.json();
        assert_eq!((&would["result"], &would["summary"]), (&"would-apply".into(), &"no change in meaning".into()));
        assert_eq!((file(&gateway), listed(&gateway).await.len()), (class(300), 1));
        let typo = Ask::raw("/api/v1/policy?dryrun", "").method(Method::PUT);
        assert_refused(&gateway.operate(typo).await, 400, "bad-parameter");
    });
}

#[test]
fn a_refused_text_leaves_everything_as_it_is_and_is_kept() {
    beside_others(async {
        let gateway = start("").await;
        let reply = replace(&gateway, BROKEN).await;
        assert_refused(&reply, 422, "refused");
        assert_eq!(reply.json()["error"]["diagnostics"][0]["line"], 3);
        assert_eq!(file(&gateway), class(300));
        assert_eq!(gateway.status().await["reload"]["ok"], true, "the files are good");
        gateway.files.write("policy.toml", BROKEN);
        wait::some("the edit is refused", async || (gateway.status().await["reload"]["ok"] == false).then_some(()))
            .await;
        let refused = ["r2 refused file -", "r1 refused api ada", "1 in-force start -"];
        assert_eq!(listed(&gateway).await, refused);
        let kept = gateway.admin("/api/v1/generations/r1").await.json();
        let of =
            async |id: &str| gateway.admin(&format!("/api/v1/generations/{id}")).await.json()["generation"].clone();
        assert_eq!(of("r1").await["hash"], of("r2").await["hash"], "the same texts have the same hash");
        assert_eq!((&kept["generation"]["stayed"], &kept["files"]["policy"]["text"]), (&1.into(), &BROKEN.into()));
        let summary = kept["generation"]["summary"].as_str().unwrap();
        assert!(summary.starts_with("policy.toml:3: "), "{summary}");

        let told = config(&gateway).await;
        assert_eq!((&told["generation"], &told["on_disk"]["state"]), (&1.into(), &"refused".into()), "{told}");
        assert_eq!(told["on_disk"]["diagnostics"][0]["line"], 3);
        // The broken text is remembered, so it may be written over.
        let back = replace(&gateway, &class(300)).await.json();
        assert_eq!((&back["result"], file(&gateway)), (&"unchanged".into(), class(300)), "{back}");
        assert_eq!(config(&gateway).await["on_disk"]["state"], "same");
    });
}

#[test]
fn what_is_in_force_is_told_exactly() {
    beside_others(async {
        let gateway = start("").await;
        let told = config(&gateway).await;
        assert_eq!(told["files"]["policy"]["text"], class(300));
        assert_eq!(told["files"]["portfolio"]["text"], pools());
        assert_eq!((&told["on_disk"], &told["locked"]), (&json!({ "state": "same" }), &false.into()));
        assert_eq!((&told["policy"], &told["source"]), (&"promise@1".into(), &"start".into()));
        assert!(told["state"]["kept"] == true && told["state"]["folder"].as_str().unwrap().ends_with("state"));
        let since = told["since"].as_str().unwrap();
        assert!(since.ends_with('Z') && since.contains('T'), "{since}");
    });
}

#[test]
fn the_way_back_leads_to_the_last_other_policy() {
    beside_others(async {
        let gateway = start("").await;
        assert_refused(&rollback(&gateway, &json!({})).await, 409, "nothing-earlier");
        replace(&gateway, &class(250)).await;
        gateway.files.write("portfolio.toml", &(pools() + "# another portfolio\n"));
        until_generation(&gateway, 3).await;
        let back = rollback(&gateway, &json!({})).await.json();
        assert_eq!((&back["to"], &back["portfolio_differs"]), (&1.into(), &true.into()), "{back}");
        assert_eq!((&back["change"]["generation"], &back["change"]["result"]), (&4.into(), &"in-force".into()));
        assert_eq!(back["change"]["summary"], "class.realtime.ttft_ms 250 → 300");
        assert_eq!(file(&gateway), class(300));
        assert_eq!(listed(&gateway).await[0], "4 in-force rollback ada");
        let forth = rollback(&gateway, &json!({ "to": 3 })).await.json();
        assert_eq!((&forth["change"]["generation"], file(&gateway)), (&5.into(), class(250)));
        let same = rollback(&gateway, &json!({ "to": 2 })).await.json();
        assert_eq!((&same["change"]["generation"], &same["change"]["result"]), (&5.into(), &"unchanged".into()));
        assert_refused(&rollback(&gateway, &json!({ "to": 77 })).await, 404, "unknown-generation");
        assert_refused(&rollback(&gateway, &json!({ "two": 2 })).await, 400, "bad-body");

        let diff = gateway.admin("/api/v1/generations/diff?from=1&to=3").await.json();
        assert_eq!(diff["summary"], "class.realtime.ttft_ms 300 → 250");
        assert_eq!(diff["files"]["portfolio"], json!({ "same_text": false, "differences": [] }));
        let diff = gateway.admin("/api/v1/generations/diff?from=3&to=file").await.json();
        assert_eq!(diff["files"]["policy"]["same_text"], true);
        assert_refused(&gateway.admin("/api/v1/generations/diff?from=x").await, 400, "bad-generation");
        assert_refused(&gateway.admin("/api/v1/generations/diff").await, 400, "bad-parameter");
        assert_refused(&gateway.admin("/api/v1/generations/r9").await, 404, "unknown-generation");
    });
}

#[test]
fn a_locked_gateway_follows_its_files_only() {
    beside_others(async {
        let gateway = start("[generations]\nlocked = true\n").await;
        assert_refused(&replace(&gateway, &class(250)).await, 423, "locked");
        assert_refused(&rollback(&gateway, &json!({ "to": 1 })).await, 423, "locked");
        let check = async |text: String| gateway.operate(Ask::raw("/api/v1/policy/check", text)).await.json();
        let would = check(class(250)).await;
        assert_eq!((&would["result"], &would["hindrance"]["code"]), (&"would-apply".into(), &"locked".into()));
        assert_eq!(check(BROKEN.to_owned()).await["result"], "would-be-refused", "checking changes nothing");
        gateway.files.write("policy.toml", &class(250));
        until_generation(&gateway, 2).await;
        assert_eq!(config(&gateway).await["locked"], true);
        gateway.files.write("pointsman.toml", PROCESS);
        until_generation(&gateway, 3).await;
        assert_eq!(replace(&gateway, &class(200)).await.status, 200, "the lock is off");
    });
}

#[test]
fn a_mounted_config_map_is_not_written_through() {
    beside_others(async {
        let files = Files::none();
        files.mount("one", [PROCESS, &pools(), &class(300)]);
        let gateway = Gateway::on(files).await;
        assert_refused(&replace(&gateway, &class(250)).await, 409, "file-is-a-link");
        assert_eq!((file(&gateway), listed(&gateway).await.len()), (class(300), 1));
        let would = gateway.operate(Ask::raw("/api/v1/policy/check", class(250))).await.json();
        assert_eq!((&would["result"], &would["hindrance"]["code"]), (&"would-apply".into(), &"file-is-a-link".into()));
        assert_eq!(replace(&gateway, &class(300)).await.status, 200, "what is so already is no change");
    });
}

#[test]
fn a_read_only_file_is_left_alone() {
    use std::os::unix::fs::PermissionsExt;
    beside_others(async {
        let gateway = start("").await;
        let path = gateway.files.path("policy.toml");
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        mode(0o444);
        assert_refused(&replace(&gateway, &class(250)).await, 409, "file-not-writable");
        mode(0o604);
        assert_eq!(replace(&gateway, &class(250)).await.status, 200);
        let kept = std::fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(kept & 0o777, 0o604, "the mode is kept");
    });
}

#[test]
fn numbers_and_the_audit_log_outlive_the_process() {
    beside_others(async {
        let gateway = start("[generations]\nkeep = 5\n").await;
        replace(&gateway, &class(250)).await;
        replace(&gateway, BROKEN).await;
        gateway.operate(put(&class(1)).header("if-match", "\"old\"")).await;
        let Gateway { files, running } = gateway;
        running.drain().await;
        let gateway = Gateway::on(files).await;
        assert_eq!(gateway.status().await["policy"], "promise@2", "the same files are the same generation");
        assert_eq!(listed(&gateway).await, ["r1 refused api ada", "2 in-force api ada", "1 replaced start -"]);
        let back = rollback(&gateway, &json!({})).await.json();
        assert_eq!(back["change"]["generation"], 3);
        let audit = std::fs::read_to_string(gateway.files.path("state/audit.jsonl")).expect("the audit log");
        let told: Vec<String> = audit
            .lines()
            .map(|line| {
                let line: Value = serde_json::from_str(line).expect("JSON");
                let [source, result] = ["source", "result"].map(|key| line[key].as_str().expect("text"));
                let from = line["from"].as_str().unwrap_or("-").split(':').next().unwrap_or_default().to_owned();
                let code = line["code"].as_str().unwrap_or("-");
                format!("{source} {from} {} {result} {code}", line["generation_after"])
            })
            .collect();
        let expected = [
            "start - 1 in-force -",
            "api 127.0.0.1 2 in-force -",
            "api 127.0.0.1 2 refused -",
            "api 127.0.0.1 2 refused stale",
            "rollback 127.0.0.1 3 in-force -",
        ];
        assert_eq!(told, expected);
    });
}

#[test]
fn a_change_needs_the_token_where_there_is_one() {
    beside_others(async {
        let files = Files::new(&format!("{PROCESS}[admin]\ntoken = {{ file = \"token\" }}\n"), &pools(), &only("left"));
        files.write("token", "a-token-of-some-length");
        let gateway = Gateway::on(files).await;
        let change = || put(&only("right")).header("if-match", "*");
        assert_refused(&gateway.operate(change()).await, 401, "unauthorized");
        let foreign = change().header("origin", "http://evil.example");
        assert_refused(&gateway.operate(foreign).await, 403, "foreign-origin");
        let rebound = change().header("host", "evil.example");
        assert_refused(&gateway.operate(rebound).await, 403, "unknown-host");
        let allowed = change().header("authorization", "Bearer a-token-of-some-length");
        assert_eq!(gateway.operate(allowed).await.json()["generation"], 2);
    });
}
