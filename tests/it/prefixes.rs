//! Affinity as a saving, live: simulated machines with prefix caches, conversations that find their way back to them, and
//! what becomes of that when the way is blocked.

use pointsman_backends::simulators::server::RunningSimulator;
use pointsman_tests::client::{self, Ask, Stream};
use pointsman_tests::files::{CHEAPEST, MODEL, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::{self, endless, url};
use pointsman_tests::run::beside_others;
use serde_json::{Value, json};

/// Machines of the pool: enough that chance alone does not find the same one twice.
const MACHINES: usize = 4;
/// What somebody says in one turn.
const TURN_BYTES: usize = 24_000;

async fn fleet(key: &str) -> (Vec<RunningSimulator>, String) {
    let mut machines = Vec::new();
    for _ in 0..MACHINES {
        machines.push(machines::start("h100").await);
    }
    let pool = PoolText::new("gpu", machines.iter().map(url)).price(1).key(key);
    (machines, portfolio(&[pool]))
}

/// A conversation after so many turns.
fn turns(who: &str, count: usize) -> Value {
    let said = |turn: usize| -> String { format!("{who} {turn} ").chars().cycle().take(TURN_BYTES).collect() };
    let messages: Vec<Value> = (0..count)
        .flat_map(|turn| {
            [json!({"role": "user", "content": said(turn)}), json!({"role": "assistant", "content": "go on"})]
        })
        .take(count * 2 - 1)
        .collect();
    json!({"model": MODEL, "messages": messages, "max_tokens": 4, "ignore_eos": true})
}

/// What a request came to: where it was answered, what the machine had cached of it, and why it went there.
struct Turn {
    endpoint: String,
    cached_tokens: u64,
    explanation: Value,
}

impl Turn {
    async fn of(gateway: &Gateway, body: Value) -> Turn {
        let reply = gateway.send(Ask::chat(&body)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let id = reply.header("x-request-id");
        let explanation = gateway.admin(&format!("/api/v1/decisions/{id}")).await.json();
        let cached_tokens = reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().expect("a count");
        Turn { endpoint: reply.header("x-pointsman-endpoint").to_owned(), cached_tokens, explanation }
    }

    fn candidate(&self, endpoint: &str) -> &Value {
        let candidates = self.explanation["candidates"].as_array().expect("candidates");
        candidates.iter().find(|one| one["endpoint"] == endpoint).expect("every endpoint is told of")
    }

    fn homes(&self) -> Vec<String> {
        let candidates = self.explanation["candidates"].as_array().expect("candidates");
        let homes = candidates.iter().filter(|one| one["home"] == true);
        homes.map(|one| one["endpoint"].as_str().expect("a name").to_owned()).collect()
    }
}

#[test]
fn a_conversation_goes_back_to_who_has_read_it_and_its_first_token_is_expected_sooner() {
    beside_others(async {
        let (_machines, portfolio) = fleet("").await;
        let gateway = Gateway::start(PROCESS, &portfolio, CHEAPEST).await;
        for who in ["alice", "bob", "carol"] {
            let first = Turn::of(&gateway, turns(who, 1)).await;
            assert_eq!(first.cached_tokens, 0);
            for count in 2..5 {
                let turn = Turn::of(&gateway, turns(who, count)).await;
                assert_eq!(turn.endpoint, first.endpoint, "{who}, turn {count}");
                let before = (count - 1) as u64 * TURN_BYTES as u64 / 4;
                assert!(turn.cached_tokens >= before * 8 / 10, "{} of {before} cached", turn.cached_tokens);
                let expected = turn.candidate(&turn.endpoint);
                let believed = expected["estimate"]["cached_tokens"].as_u64().expect("a count");
                assert!(believed.abs_diff(turn.cached_tokens) < before / 5, "{believed}, {}", turn.cached_tokens);
                assert!(expected["counts_because"][0].as_str().is_some_and(|why| why.contains("are in its cache")));
                let candidates = turn.explanation["candidates"].as_array().expect("candidates");
                let ttft_ms = |one: &Value| one["estimate"]["ttft_ms"].as_f64().expect("a time");
                let others = candidates.iter().filter(|one| one["endpoint"] != turn.endpoint.as_str());
                assert!(others.clone().count() == MACHINES - 1);
                others.for_each(|other| assert!(ttft_ms(expected) < ttft_ms(other), "{expected} {other}"));
            }
        }
    });
}

#[test]
fn affinity_breaks_where_its_home_has_no_room() {
    beside_others(async {
        let (_machines, portfolio) = fleet("window = { requests = 1 }").await;
        let gateway = Gateway::start(PROCESS, &portfolio, CHEAPEST).await;
        let first = Turn::of(&gateway, turns("alice", 1)).await;
        let mut long = turns("alice", 1);
        long["stream"] = json!(true);
        long["max_tokens"] = endless()["max_tokens"].clone();
        let mut busy: Stream = client::open(gateway.address(), Ask::chat(&long)).await;
        assert_eq!(busy.header("x-pointsman-endpoint"), first.endpoint);
        busy.next().await;
        let away = Turn::of(&gateway, turns("alice", 2)).await;
        assert_ne!(away.endpoint, first.endpoint, "nobody waits for a cache longer than it saves");
        drop(busy);
    });
}

#[test]
fn every_replica_sends_what_begins_alike_to_the_same_homes() {
    beside_others(async {
        let (_machines, portfolio) = fleet("").await;
        let one = Gateway::start(PROCESS, &portfolio, CHEAPEST).await;
        let other = Gateway::start(PROCESS, &portfolio, CHEAPEST).await;
        let mut all = Vec::new();
        for who in ["alice", "bob", "carol", "dave", "erin", "frank"] {
            let (here, there) = (Turn::of(&one, turns(who, 1)).await, Turn::of(&other, turns(who, 2)).await);
            assert_eq!((here.homes().len(), here.homes()), (2, there.homes()), "{who}");
            assert!(here.homes().contains(&here.endpoint) && here.homes().contains(&there.endpoint), "{who}");
            let verdict = here.explanation["verdict"].as_str().expect("a sentence");
            assert!(verdict.contains("home of prompts that begin like it"), "{verdict}");
            all.extend(here.homes());
        }
        all.sort_unstable();
        all.dedup();
        assert!(all.len() > 2, "six conversations have the same two homes: {all:?}");
    });
}
