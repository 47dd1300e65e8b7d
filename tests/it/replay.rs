//! Recording and replay: what was recorded comes out the same to the last bit, what a candidate would change is told in
//! numbers that can be checked by hand, and nothing private is ever in a log.

use std::path::Path;
use std::sync::Arc;

use pointsman::decision_log::reader::{Piece, Reader};
use pointsman::decision_log::writer::{LogFiles, Writer, Written};
use pointsman::decision_log::{Decision, Set};
use pointsman_backends::fleet::Fleet;
use pointsman_policies::facts::{Api, OwnedFacts};
use pointsman_policies::fleet::{Availability, EndpointState};
use pointsman_tests::client::Ask;
use pointsman_tests::files::{CHEAPEST, Files, MODEL, PROCESS, PoolText, only, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::{self, chat, url};
use pointsman_tests::process;
use pointsman_tests::run::beside_others;
use pointsman_tests::virtual_time::{self, decided, demo_portfolio, snapshot};
use pointsman_tests::wait;
use serde_json::{Value, json};

const BALANCED: &str = include_str!("../../policies/library/balanced.toml");

fn log(files: &Files) -> LogFiles {
    LogFiles { file: files.path("decisions.log"), max_bytes: 256 << 20, keep: 2 }
}

/// Replays `decisions.log` of a folder; status, stdout, stderr.
fn replay(folder: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let arguments: Vec<&str> = ["replay", "--log", "decisions.log"].into_iter().chain(more.iter().copied()).collect();
    let output = process::output(folder, &arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn read(file: &Path) -> (Vec<Set>, Vec<Decision>) {
    let mut reader = Reader::open(file).expect("a log");
    let (mut sets, mut decisions) = (Vec::new(), Vec::new());
    while let Some(piece) = reader.read().expect("it can be read") {
        match piece {
            Piece::Set(set) => sets.push(*set),
            Piece::Decisions(packed) => packed.decisions(|decision| decisions.push(decision)).expect("whole"),
            Piece::Damage(damage) => panic!("{damage}"),
        }
    }
    (sets, decisions)
}

/// An hour of the demo's traffic at its own rate, decided in virtual time, with a new policy after half of it.
#[test]
fn an_hour_comes_out_the_same_to_the_last_bit() {
    beside_others(async {
        let files = Files::new(PROCESS, &demo_portfolio(), BALANCED);
        let fleet = Fleet::default();
        let first = snapshot(&files, 1, &fleet);
        files.write("policy.toml", &BALANCED.replace("ttft_ms = 1000", "ttft_ms = 700"));
        let second = snapshot(&files, 2, &fleet);
        virtual_time::record(log(&files), [&first, &second], 1.0, 6 * 5980);
        let (status, told, _) = replay(files.folder(), &[]);
        assert_eq!(status, Some(0), "{told}");
        assert!(told.starts_with("All 35,880 decisions came out as they were made, to the last bit.\n"), "{told}");
        assert!(told.contains("under balanced@1") && told.contains("under balanced@2"), "{told}");
        let (_, again, _) = replay(files.folder(), &["--policy", "policy.toml", "--json"]);
        let (_, once_more, _) = replay(files.folder(), &["--policy", "policy.toml", "--json"]);
        let without_time = |text: &str| {
            let mut value: Value = serde_json::from_str(text).expect("JSON");
            value["seconds"].take();
            value
        };
        assert_eq!(without_time(&again), without_time(&once_more), "threads change nothing, not even a last digit");
    });
}

/// Real requests on simulated machines, through a swap; then the bytes of the file are searched.
#[test]
fn a_recorded_run_comes_out_the_same_and_holds_nothing_private() {
    beside_others(async {
        let machines = [machines::start("cs3").await, machines::start("h100").await];
        let pools = [PoolText::new("left", [url(&machines[0])]), PoolText::new("right", [url(&machines[1])])];
        let policy = "name = \"spread\"\n[[classify]]\nwhen = 'request.headers[\"authorization\"] == \"Bearer sk-nobody\"'\nclass = \"batch\"\n";
        let process = format!("{PROCESS}[record]\nfile = \"decisions.log\"\nheaders = [\"X-Team\"]\n");
        let gateway = Gateway::start(&process, &portfolio(&pools), policy).await;
        let ask = |number: usize| {
            let mut body = chat(5, number.is_multiple_of(2));
            body["messages"][0]["content"] = json!("the horse eats no cucumber salad");
            let ask = Ask::chat(&body).header("authorization", "Bearer sk-very-secret");
            ask.header("x-team", "blue").header("x-request-id", &format!("mine-{number}"))
        };
        for number in 0..20 {
            assert_eq!(gateway.send(ask(number)).await.status, 200);
        }
        gateway.files.write("policy.toml", &only("right"));
        wait::some("the new policy", async || (gateway.status().await["generation"] == 2).then_some(())).await;
        for number in 20..40 {
            assert_eq!(gateway.send(ask(number)).await.status, 200);
        }
        let recording = gateway.admin("/api/v1/record").await.json();
        assert_eq!((&recording["on"], &recording["dropped"]), (&json!(true), &json!(0)), "{recording}");
        let stopped = gateway.operate(Ask::post("/api/v1/record", &json!({ "on": false }))).await.json();
        assert_eq!((&stopped["on"], &stopped["decisions"]), (&json!(false), &json!(40)), "{stopped}");
        let bytes = std::fs::read(gateway.files.path("decisions.log")).unwrap();
        assert_eq!(stopped["bytes"].as_u64().unwrap() as usize, bytes.len(), "the first line included");
        let (sets, decisions) = read(&gateway.files.path("decisions.log"));
        assert_eq!((sets.len(), decisions.len()), (2, 40));
        let everything = format!("{decisions:?}{}", String::from_utf8_lossy(&bytes));
        for private in ["sk-very-secret", "cucumber", "Bearer sk-very"] {
            assert!(!everything.contains(private), "`{private}` is in the log");
        }
        assert!(everything.contains("(\"x-team\", \"blue\")"), "a header that `[record]` names is kept");
        assert!(everything.contains("(\"authorization\", \"[withheld]\")"), "of a credential only that it was there");
        assert!(decisions.iter().all(|decision| decision.outcome.status == 200 && decision.outcome.answered.is_some()));
        let (status, told, _) = replay(gateway.files.folder(), &[]);
        assert_eq!(status, Some(0), "{told}");
        assert!(told.starts_with("All 40 decisions came out as they were made"), "{told}");
        gateway.running.drain().await;
    });
}

#[test]
fn recording_is_turned_on_and_off_while_it_serves_and_only_in_the_state_folder() {
    beside_others(async {
        let machine = machines::start("cs3").await;
        let gateway = Gateway::start(PROCESS, &portfolio(&[PoolText::new("gpu", [url(&machine)])]), CHEAPEST).await;
        let record = async |body: Value| gateway.operate(Ask::post("/api/v1/record", &body)).await;
        for file in ["../escaped", "/tmp/escaped", "a/b", ".hidden", ""] {
            let refused = record(json!({ "on": true, "file": file })).await;
            assert_eq!(
                (refused.status.as_u16(), &refused.json()["error"]["code"]),
                (400, &json!("bad-file")),
                "{file}"
            );
        }
        assert_eq!(record(json!({ "on": true, "flie": "x" })).await.status, 400);
        let on = record(json!({ "on": true, "file": "mine.log" })).await.json();
        assert_eq!(on["on"], true, "{on}");
        assert_eq!(gateway.send(Ask::chat(&chat(3, false))).await.status, 200);
        assert_eq!(record(json!({ "on": true, "file": "mine.log" })).await.json()["on"], true, "asked twice");
        let off = record(json!({ "on": false })).await.json();
        assert_eq!((&off["on"], &off["decisions"]), (&json!(false), &json!(1)), "{off}");
        assert_eq!(read(&gateway.files.path("state/mine.log")).1.len(), 1);
        let audit = std::fs::read_to_string(gateway.files.path("state/audit.jsonl")).unwrap();
        let told: Vec<&str> = audit.lines().filter(|line| line.contains("recording of decisions")).collect();
        assert_eq!(told.len(), 2, "each change once, and nothing where nothing changed: {audit}");
        assert!(gateway.metric("pointsman_decisions_recorded_total{result=\"written\"}").await >= 1.0);
        gateway.running.drain().await;
    });
}

/// Pools `cheap` and `dear`, 1 and 5 US dollars per million tokens either way.
fn two_pools() -> String {
    let pool = |name: &str, port, usd| PoolText::new(name, [format!("http://127.0.0.1:{port}")]).price(usd);
    portfolio(&[pool("cheap", 9001, 1), pool("dear", 9002, 5)])
}

/// Four streams of 1,000 and 500 tokens. All go to `cheap`; when the last comes, `dear` has an open breaker.
fn tiny_log(files: &Files) {
    let snapshot = snapshot(files, 1, &Fleet::default());
    let mut writer = Writer::open(log(files)).unwrap();
    let mut records: Vec<_> = (0..4)
        .map(|number| {
            let facts = OwnedFacts {
                api: Api::ChatCompletions,
                path: "/v1/chat/completions".to_owned(),
                model: MODEL.to_owned(),
                stream: true,
                input_tokens: 1000,
                output_tokens: 500,
                unix_s: 1_764_000_000 + number,
                ..OwnedFacts::default()
            };
            let mut endpoints = vec![EndpointState::idle(0), EndpointState::idle(1)];
            if number == 3 {
                endpoints[1].availability = Availability::BreakerOpen { retry_in_ms: 500.0 };
            }
            let mut record = decided(&snapshot, facts, endpoints, number);
            record.request_id = format!("mine-{number}");
            Arc::new(record)
        })
        .collect();
    assert_eq!(writer.write(&mut records).decisions, 4);
}

#[test]
fn a_candidate_that_moves_traffic_gives_numbers_that_can_be_checked_by_hand() {
    beside_others(async {
        let files = Files::new(PROCESS, &two_pools(), CHEAPEST);
        tiny_log(&files);
        files.write("candidate.toml", &only("dear"));
        let (status, told, _) = replay(files.folder(), &["--policy", "candidate.toml", "--json"]);
        assert_eq!(status, Some(0), "{told}");
        let told: Value = serde_json::from_str(&told).unwrap();
        let all = &told["difference"]["all"];
        assert_eq!((&all["requests"], &all["moved"]), (&json!(4), &json!(4)), "{all}");
        let close = |value: &Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-12;
        // 4 x (1,000 + 500) tokens at $1 a million; 3 x 1,500 at $5, the fourth is refused.
        assert!(close(&all["incumbent"]["usd"], 0.006) && close(&all["candidate"]["usd"], 0.0225), "{all}");
        assert_eq!((&all["incumbent"]["refused"], &all["candidate"]["refused"]), (&json!(0), &json!(1)));
        // All idle: each is likely to keep its promise, the refused one is not.
        assert!(close(&all["incumbent"]["attainment"], 1.0) && close(&all["candidate"]["attainment"], 0.75), "{all}");
        let flows = json!([
            { "from": "cheap", "to": "dear", "requests": 3 },
            { "from": "cheap", "to": "refused", "requests": 1 },
        ]);
        assert_eq!(told["difference"]["flows"], flows);
        let most = &told["difference"]["most_moved"][0];
        assert_eq!(
            (&most["requests"], &most["example"], &most["class"]),
            (&json!(3), &json!("mine-0"), &json!("interactive"))
        );
        let explain = "pointsman explain --log decisions.log --id mine-0 --policy candidate.toml";
        assert_eq!(most["explain"], explain);
        let words: Vec<&str> = explain.split(' ').skip(1).collect();
        let explained = process::output(files.folder(), &words);
        let explained =
            String::from_utf8_lossy(&explained.stdout).into_owned() + &String::from_utf8_lossy(&explained.stderr);
        assert!(explained.contains("dear/127.0.0.1:9002") && explained.contains("here by a candidate"), "{explained}");
        assert!(explained.contains("with what had been learned then"), "{explained}");
        let (_, text, _) = replay(files.folder(), &["--policy", "candidate.toml", "--html", "page.html"]);
        let page = std::fs::read_to_string(files.path("page.html")).unwrap();
        assert!(page.contains("candidate.toml sends 4 of 4 requests elsewhere (100 %)") && page.contains("Open loop"));
        assert!(page.contains("<title>cheap → dear: 3 (75.0 %)</title>") && page.contains(explain), "{page}");
        for outside in ["http:", "https:", "src=", "href=", "url(", "@import", "<script"] {
            assert!(!page.contains(outside), "the page is complete in itself, but has `{outside}`");
        }
        let (stable, last) = text.rsplit_once("decided again in").expect("how long it took");
        assert!(last.ends_with("a second\n"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        insta::assert_snapshot!("a_candidate_that_moves_traffic", stable);
    });
}

#[test]
fn against_another_policy_and_other_machines() {
    beside_others(async {
        let files = Files::new(PROCESS, &two_pools(), CHEAPEST);
        tiny_log(&files);
        files.write("cheap.toml", &only("cheap"));
        let same = ["--policy", "cheap.toml", "--against", "policy.toml", "--json"];
        let (status, told, _) = replay(files.folder(), &same);
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!((status, &told["difference"]["all"]["moved"]), (Some(0), &json!(0)), "{told}");
        let free = PoolText::new("cheaper", ["http://127.0.0.1:9003".to_owned()]).price(0);
        files.write("more.toml", &(two_pools() + &portfolio(&[free])));
        let (status, told, _) = replay(files.folder(), &["--portfolio", "more.toml", "--json"]);
        let told: Value = serde_json::from_str(&told).unwrap();
        let flows = json!([{ "from": "cheap", "to": "cheaper", "requests": 4 }]);
        assert_eq!((status, &told["difference"]["flows"]), (Some(0), &flows), "{told}");
    });
}

#[test]
fn a_digest_that_was_tampered_with_is_named() {
    beside_others(async {
        let files = Files::new(PROCESS, &two_pools(), CHEAPEST);
        tiny_log(&files);
        let (sets, mut decisions) = read(&files.path("decisions.log"));
        decisions[2].decided.digest ^= 1;
        decisions[3].decided.first = Some(1);
        decisions[3].decided.digest ^= 1;
        let mut writer = Writer::open(log(&files)).unwrap();
        let mut written = Written::default();
        writer.push_set(sets[0].clone(), &mut written).unwrap();
        decisions.iter().for_each(|decision| writer.push(decision, &mut written));
        writer.close_frame(&mut written);
        let (status, told, _) = replay(files.folder(), &[]);
        assert_eq!(status, Some(1), "{told}");
        assert!(told.starts_with("2 of 4 decisions came out as they were made, to the last bit.\n"), "{told}");
        for expected in [
            "mine-2",
            "same choice, but other numbers: digest ",
            "mine-3",
            "its first choice was dear/127.0.0.1:9002 and comes out as cheap/",
        ] {
            assert!(told.contains(expected), "{expected}: {told}");
        }
    });
}

#[test]
fn what_cannot_be_replayed_says_why() {
    beside_others(async {
        let files = Files::new(PROCESS, &two_pools(), CHEAPEST);
        tiny_log(&files);
        files.write("candidate.toml", "name = \"typo\"\n[[route]]\nobjectiv = \"cheapest\"\n");
        let (status, told, diagnostics) = replay(files.folder(), &["--policy", "candidate.toml"]);
        assert_eq!((status, told.as_str()), (Some(1), ""), "{diagnostics}");
        assert!(diagnostics.contains("candidate.toml:3:1") && diagnostics.contains("objective"), "{diagnostics}");
        let (sets, decisions) = read(&files.path("decisions.log"));
        let old = Set { policy: "name = \"old\"\nno_longer = true\n".to_owned(), ..sets[0].clone() };
        let mut writer = Writer::open(log(&files)).unwrap();
        let mut written = Written::default();
        writer.push_set(old, &mut written).unwrap();
        decisions.iter().for_each(|decision| writer.push(decision, &mut written));
        writer.close_frame(&mut written);
        let (status, told, _) = replay(files.folder(), &[]);
        assert_eq!(status, Some(1));
        assert!(
            told.contains(
                "4 decisions could not be made again: the policy of cheapest@1 cannot be compiled by this version"
            ),
            "{told}"
        );
        assert!(told.contains("no_longer"), "{told}");
        let bytes = std::fs::read(files.path("decisions.log")).unwrap();
        std::fs::write(files.path("decisions.log"), &bytes[..bytes.len() - 7]).unwrap();
        let (status, told, _) = replay(files.folder(), &[]);
        assert!(status == Some(1) && told.contains("are torn off; 4 decisions are lost"), "{told}");
        files.write("decisions.log", "dear diary");
        let (status, _, diagnostics) = replay(files.folder(), &[]);
        assert!(status == Some(1) && diagnostics.contains("it is no decision log"), "{diagnostics}");
    });
}
