//! A canary for every secret: none is ever printed, counted, traced, answered or logged, however much is logged.

use pointsman_tests::client::{self, Ask, Connection};
use pointsman_tests::double::{Act, Double, WHOLE};
use pointsman_tests::files::{CHEAPEST, Files, PROCESS, PoolText, portfolio};
use pointsman_tests::machines::chat;
use pointsman_tests::process::{self, Process, Served};
use pointsman_tests::run::beside_others;
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

        // Without the good machine the refusal says which were tried.
        files.write("portfolio.toml", &portfolio(&pools[..2]));
        let refusal = wait::some("the good machine is gone", async || {
            let reply = client::send(served.address, ask(true)).await;
            (reply.status != 200).then_some(reply)
        })
        .await;
        assert!(refusal.text().contains("refuses/"), "{}", refusal.text());
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
