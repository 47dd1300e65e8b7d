//! One connection, two readers: what one of them takes for a body the other must not take for a request.

use std::time::Duration;

use pointsman_tests::client::{Ask, send_bytes};
use pointsman_tests::double::{Act, Double, WHOLE};
use pointsman_tests::files::{CHEAPEST, MODEL, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::chat;
use pointsman_tests::run::beside_others;

const QUIET: Duration = Duration::from_millis(300);

fn body() -> String {
    format!("{{\"model\":\"{MODEL}\",\"messages\":[]}}")
}

/// A request for work with these lines in its head.
fn post(lines: &str, body: &str) -> String {
    format!("POST /v1/chat/completions HTTP/1.1\r\ncontent-type: application/json\r\n{lines}\r\n{body}")
}

#[test]
fn a_head_that_can_be_read_in_two_ways_reaches_no_machine_and_ends_its_connection() {
    beside_others(async {
        let machine = Double::always(Act::json(200, WHOLE)).await;
        let gateway = Gateway::start(PROCESS, &portfolio(&[PoolText::new("gpu", [machine.url()])]), CHEAPEST).await;
        let length = body().len();
        let chunks = format!("{length:x}\r\n{}\r\n0\r\n\r\n", body());
        let hidden = post(&format!("host: a\r\ncontent-length: {length}\r\n"), &body());
        let vectors = [
            post(&format!("host: a\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n", chunks.len()), &chunks),
            post("host: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n", &chunks),
            post("host: a\r\ntransfer-encoding: gzip, chunked\r\n", &chunks),
            post("host: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", &chunks),
            post(&format!("host: a\r\ncontent-length: {length}\r\nhost: b\r\n"), &body()),
            post(&format!("content-length: {length}\r\n"), &body()),
            post(&format!("host: a\ncontent-length: {length}\r\n"), &body()),
            post(&format!("host: a\r\ncontent-length: {length}\r\ncontent-length: 0\r\n"), &body()),
            post(&format!("host: a\r\nconnection: content-length\r\ncontent-length: {length}\r\n"), &body()),
            post("host: a\r\ntransfer-encoding: chunked\r\n", "0\nx\r\n\r\n"),
        ];
        for vector in vectors {
            let answer = send_bytes(gateway.address(), format!("{vector}{hidden}").as_bytes(), QUIET).await;
            // A flaw within a body is found when its request has been begun.
            let code = if vector.contains("0\nx") { "body_incomplete" } else { "bad_head" };
            let refused = answer.starts_with("HTTP/1.1 400 ") && answer.contains(&format!("\"code\":\"{code}\""));
            assert!(refused, "{vector:?}: {answer:?}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "nothing after it is served: {vector:?}: {answer:?}");
        }
        assert!(machine.seen().is_empty(), "{:?}", machine.seen());
        assert_eq!(gateway.send(Ask::chat(&chat(1, false))).await.status, 200, "others are served as before");
    });
}

#[test]
fn what_comes_before_a_flaw_is_served_however_it_is_cut() {
    beside_others(async {
        let machine = Double::always(Act::json(200, WHOLE)).await;
        let gateway = Gateway::start(PROCESS, &portfolio(&[PoolText::new("gpu", [machine.url()])]), CHEAPEST).await;
        let length = body().len();
        let sound = post(&format!("host: a\r\ncontent-length: {length}\r\n"), &body());
        let chunked =
            post("host: a\r\ntransfer-encoding: chunked\r\n", &format!("{length:x}\r\n{}\r\n0\r\n\r\n", body()));
        let flawed = post("host: a\r\ncontent-length: +1\r\n", "x");
        let all = format!("{sound}{chunked}{flawed}{sound}");
        let answer = send_bytes(gateway.address(), all.as_bytes(), QUIET).await;
        let told: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).filter_map(|one| one.split(' ').next()).collect();
        assert_eq!(told, ["200", "200", "400"], "{answer}");
        assert!(answer.contains("the head of the request cannot be trusted: `content-length` must be one"), "{answer}");
        assert_eq!(machine.seen().len(), 2);
        assert!(machine.seen().iter().all(|seen| seen.body == body().as_bytes()));
    });
}
