//! A canary for every secret: none is ever printed, counted, traced, answered or logged, however much is logged.

use pointsman::decision_log::reader::{Piece, Reader};
use pointsman_tests::client::{self, Ask, Connection};
use pointsman_tests::double::{Act, Double, WHOLE};
use pointsman_tests::files::{CHEAPEST, Files, PROCESS, PoolText, portfolio};
use pointsman_tests::machines::chat;
use pointsman_tests::process::{self, Process, Served};
use pointsman_tests::run::beside_others;
use pointsman_tests::tokens::Signer;
use pointsman_tests::{receiver, wait};

const FROM_ENV: &str = "sk-canary-of-the-environment-7d1f";
const FROM_FILE: &str = "sk-canary-of-the-file-93ab";
const CALLERS: &str = "sk-canary-of-the-caller-c04e";

#[track_caller]
fn assert_clean(place: &str, text: &str) {
    for canary in [FROM_ENV, FROM_FILE, CALLERS] {
        assert!(!text.contains(canary), "{canary} is in {place}:\n{text}");
    }
}

/// Machines that repeat the key they were given, as some providers do: one in an error, one in an error event.
async fn parrots() -> [Double; 3] {
    let error = |seen: &pointsman_tests::double::Seen| {
        format!("{{\"error\":{{\"message\":\"bad key: {}\",\"type\":\"x\"}}}}", seen.header("authorization"))
    };
    let refuses = Double::start(move |seen| Act::json(401, &error(seen))).await;
    let breaks = Double::start(move |seen| {
        Act::stream(&[&format!("data: {}\n\n", error(seen))], pointsman_tests::double::End::Clean)
    })
    .await;
    [refuses, breaks, Double::always(Act::json(200, WHOLE)).await]
}

#[test]
fn keys_stay_secret() {
    beside_others(async {
        let (receiver, [refuses, breaks, good]) = (receiver::start().await, parrots().await);
        let pools = [
            PoolText::new("refuses", [refuses.url()])
                .price(1)
                .key("api_key = { env = \"CANARY\" }")
                .key("http = \"h2\""),
            PoolText::new("breaks", [breaks.url()]).price(2).key("api_key = { file = \"key\" }"),
            PoolText::new("good", [good.url()]).price(3).key("api_key = { env = \"CANARY\" }"),
        ];
        let process = format!("{PROCESS}[telemetry]\nlog = \"trace\"\notlp_endpoint = \"{}\"\n", receiver.url());
        let files = Files::new(&process, &portfolio(&pools), CHEAPEST);
        files.write("key", FROM_FILE);
        let served = Served::start(files.folder(), &[("CANARY", FROM_ENV)]).await;
        let ask = |stream| {
            let bearer = format!("Bearer {CALLERS}");
            Ask::chat(&chat(1, stream)).header("authorization", &bearer).header("x-api-key", CALLERS)
        };
        let reply = client::send(served.address, ask(true)).await;
        assert_eq!((reply.status.as_u16(), reply.header("x-pointsman-attempts")), (200, "3"));
        let http2 = Connection::http2(served.address).await;
        assert_eq!(http2.send(ask(false)).await.status, 200);

        // Without the good machine the refusal says what the others said.
        files.write("portfolio.toml", &portfolio(&pools[..2]));
        let refusal = wait::some("the good machine is gone", async || {
            let reply = client::send(served.address, ask(true)).await;
            (reply.status != 200).then_some(reply)
        })
        .await;
        assert!(refusal.text().contains("status 401"), "{}", refusal.text());
        assert_clean("an error", &format!("{:?} {}", refusal.headers, refusal.text()));
        for path in ["/metrics", "/api/v1/status", "/readyz"] {
            assert_clean(path, &client::send(served.admin, Ask::get(path)).await.text());
        }
        wait::until("traces arrive", || receiver::spans(&receiver).len() >= 15).await;
        assert_clean("the traces", &format!("{:?}", receiver::spans(&receiver)));
        assert!(served.process.stderr().len() > 1_000, "much is logged");
        assert_clean("the logs", &(served.process.stderr() + &served.process.stdout()));
        let spoken = refuses.last().header("authorization").to_owned() + breaks.last().header("authorization");
        assert_eq!(spoken, format!("Bearer {FROM_ENV}Bearer {FROM_FILE}"), "the machines did get their keys");
    });
}

#[test]
fn a_key_in_the_midst_of_a_stream_stays_secret() {
    beside_others(async {
        let receiver = receiver::start().await;
        let breaks = Double::start(|seen| {
            let content = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"The\"}}]}\n\n";
            let error = format!(
                "data: {{\"error\":{{\"message\":\"bad key: {}\",\"type\":\"x\"}}}}\n\n",
                seen.header("authorization")
            );
            Act::stream(&[content, &error], pointsman_tests::double::End::Clean)
        })
        .await;
        let pools = [PoolText::new("breaks", [breaks.url()]).key("api_key = { file = \"key\" }")];
        let process = format!("{PROCESS}[telemetry]\nlog = \"trace\"\notlp_endpoint = \"{}\"\n", receiver.url());
        let files = Files::new(&process, &portfolio(&pools), CHEAPEST);
        files.write("key", FROM_FILE);
        let served = Served::start(files.folder(), &[]).await;
        let told = client::send(served.address, Ask::chat(&chat(1, true))).await.text();
        assert!(told.contains("The") && told.contains("bad key: Bearer [key]"), "{told}");
        assert_clean("the stream", &told);
        wait::until("traces arrive", || !receiver::spans(&receiver).is_empty()).await;
        assert_clean("the traces", &format!("{:?}", receiver::spans(&receiver)));
        let listed = client::send(served.admin, Ask::get("/api/v1/requests")).await.json();
        let id = listed["requests"][0]["trace_id"].as_str().expect("the request").to_owned();
        let trace = client::send(served.admin, Ask::get(&format!("/api/v1/traces/{id}"))).await.text();
        assert!(trace.contains("[key]"), "{trace}");
        assert_clean("the trace", &trace);
        assert_clean("the logs", &(served.process.stderr() + &served.process.stdout()));
        assert_eq!(breaks.last().header("authorization"), format!("Bearer {FROM_FILE}"));
    });
}

/// What callers show, put everywhere a caller can put it.
const PLACES: [&str; 6] = [
    "pm-canary-of-a-wrong-key-51c2",
    "canary-of-the-query-8e07",
    "canary-of-the-cookie-2f6d",
    "canary-of-the-prompt-b3a9",
    "canary-of-the-metadata-77d0",
    "canary-of-another-header-e614",
];

/// Everything below a folder, as text.
fn all_of(folder: &std::path::Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| match path.is_dir() {
        true => all_of(&path),
        false => String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned(),
    };
    entries.map(read).collect()
}

/// A decision log, unpacked.
fn decisions(path: &std::path::Path) -> String {
    let mut reader = Reader::open(path).unwrap();
    let mut text = String::new();
    while let Some(piece) = reader.read().unwrap() {
        match piece {
            Piece::Decisions(packed) => {
                packed.decisions(|decision| text += &format!("{decision:?}\n")).unwrap();
            }
            other => text += &format!("{other:?}\n"),
        }
    }
    text
}

#[test]
fn what_callers_show_goes_nowhere() {
    beside_others(async {
        let (receiver, machine) = (receiver::start().await, Double::always(Act::json(200, WHOLE)).await);
        let pool = PoolText::new("good", [machine.url()]).key("api_key = { env = \"CANARY\" }");
        let process = format!(
            "{PROCESS}[telemetry]\nlog = \"trace\"\notlp_endpoint = \"{}\"\n[record]\nfile = \"decisions.log\"\n\
             [auth]\nkeys_file = \"keys.toml\"\n[auth.jwt]\nissuer = \"i\"\naudience = \"a\"\njwks_file = \"jwks.json\"\n",
            receiver.url()
        );
        let files = Files::new(&process, &portfolio(&[pool]), CHEAPEST);
        let signer = Signer::new("signer");
        files.write("jwks.json", &serde_json::json!({ "keys": [signer.listed()] }).to_string());
        let made = process::output(files.folder(), &["keys", "new", "app"]);
        let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        let token = signer.token("ada", "i", "a", 600);
        let mut served = Served::start(files.folder(), &[("CANARY", FROM_ENV)]).await;
        let [wrong, query, cookie, prompt, metadata, header] = PLACES;
        let mut body = chat(1, false);
        body["messages"][0]["content"] = prompt.into();
        body["metadata"] = serde_json::json!({ "secret": metadata });
        let ask = |proof: &str| {
            let path = format!("/v1/chat/completions?api_key={query}&key={query}");
            let ask = Ask::post(&path, &body).header("authorization", &format!("Bearer {proof}"));
            ask.header("cookie", &format!("session={cookie}")).header("x-goog-api-key", header).header("x-else", header)
        };
        let mut answers = String::new();
        for connection in [Connection::http1(served.address).await, Connection::http2(served.address).await] {
            for (proof, status) in [(key.as_str(), 200), (&token, 200), (wrong, 401), (&format!("{token}x"), 401)] {
                let reply = connection.send(ask(proof)).await;
                assert_eq!(reply.status, status, "{}", reply.text());
                answers += &format!("{:?} {}\n", reply.headers, reply.text());
            }
            let elsewhere =
                connection.send(Ask::get(&format!("/v1/nowhere?token={query}")).header("x-api-key", &key)).await;
            answers += &format!("{:?} {}\n", elsewhere.headers, elsewhere.text());
            let bad = ask(&key).header("x-pointsman-deadline-ms", "soon");
            answers += &connection.send(bad).await.text();
        }
        let mut told = String::new();
        for path in ["metrics", "readyz", "api/v1/status", "api/v1/decisions", "api/v1/generations", "api/v1/queue"] {
            told += &client::send(served.admin, Ask::get(&format!("/{path}"))).await.text();
        }
        assert!(told.contains("app"), "the caller is named");
        wait::until("traces arrive", || receiver::spans(&receiver).len() >= 12).await;
        let traces = format!("{:?}", receiver::spans(&receiver));
        assert!(traces.contains("ada"), "the caller is named");
        served.process.signal(rustix::process::Signal::INT);
        served.process.until_exit(wait::SOON);
        let recorded = decisions(&files.path("decisions.log"));
        assert!(recorded.contains("ada"), "the caller is named: {recorded}");
        let logs = served.process.stderr() + &served.process.stdout();
        let kept = all_of(&files.path("state"));
        let secrets = PLACES.iter().copied().chain([FROM_ENV, key.as_str(), token.as_str()]);
        let sinks = [("an answer", answers), ("what operators are told", told), ("the traces", traces)];
        let sinks = sinks.into_iter().chain([("the logs", logs), ("the decision log", recorded), ("the state", kept)]);
        let sinks: Vec<(&str, String)> = sinks.collect();
        for secret in secrets {
            for (place, text) in &sinks {
                let at = text.find(secret).map(|at| text.get(at.saturating_sub(200)..at).unwrap_or_default());
                assert!(at.is_none(), "{secret} is in {place} after: {at:?}");
            }
        }
        assert!(String::from_utf8_lossy(&machine.last().body).contains(prompt), "the machine did get its prompt");
    });
}

#[test]
fn check_prints_no_key() {
    beside_others(async {
        let pools = [PoolText::new("a", ["http://127.0.0.1:1"]).key("api_key = { env = \"CANARY\" }").key("typo = 1")];
        let file = PoolText::new("b", ["http://127.0.0.1:1"]).key("api_key = { file = \"key\" }").hardware("h1000");
        let files = Files::new(PROCESS, &(portfolio(&pools) + &portfolio(&[file])), "clas = 1\n");
        files.write("key", FROM_FILE);
        let mut check = Process::start(files.folder(), &["check"], &[("CANARY", FROM_ENV)]);
        assert_eq!(check.until_exit(wait::SOON).code(), Some(1));
        assert_clean("what `check` prints", &(check.stderr() + &check.stdout()));
        let missing = process::output(files.folder(), &["check", "portfolio.toml"]);
        assert_clean("what `check` prints", &String::from_utf8_lossy(&missing.stderr));
    });
}
