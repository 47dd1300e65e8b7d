//! One connection, two readers: what one of them takes for a body the other must not take for a request.

use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pointsman_tests::client::{Ask, send_bytes};
use pointsman_tests::double::{Act, Double, WHOLE};
use pointsman_tests::files::{CHEAPEST, MODEL, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::chat;
use pointsman_tests::run::beside_others;
use pointsman_tests::wait;

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

#[test]
fn heads_of_http2_are_held_to_the_same() {
    beside_others(async {
        let machine = Double::always(Act::json(200, WHOLE)).await;
        let gateway = Gateway::start(PROCESS, &portfolio(&[PoolText::new("gpu", [machine.url()])]), CHEAPEST).await;
        let stream = tokio::net::TcpStream::connect(gateway.address()).await.unwrap();
        let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let (mut sender, connection) = shaken;
        let driving = tokio::spawn(connection);
        for (uri, host, expected) in [
            ("http://a/v1/models", None, 200),
            ("http://a/v1/models", Some("a"), 200),
            ("http://a/v1/models", Some("b"), 400),
            ("http://user@a/v1/models", None, 400),
            ("http://a/v1/models/gpt%00", None, 400),
            ("http://a/v1/models/..%5Cgpt", None, 400),
            ("http://a/v1/models/org%2Fgpt", None, 404),
        ] {
            let mut request = http::Request::get(uri).version(http::Version::HTTP_2);
            if let Some(host) = host {
                request = request.header("host", host);
            }
            let response = sender.send_request(request.body(String::new()).unwrap()).await.unwrap();
            assert_eq!(response.status().as_u16(), expected, "{uri} {host:?}");
        }
        driving.abort();
    });
}

#[test]
fn a_gateway_that_is_its_own_machine_is_told_so_instead_of_going_round_for_ever() {
    beside_others(async {
        // Two listeners that are each other's machine.
        let first =
            Gateway::start(PROCESS, &portfolio(&[PoolText::new("gpu", ["http://127.0.0.1:1"])]), CHEAPEST).await;
        let back = portfolio(&[PoolText::new("gpu", [format!("http://{}", first.address())])]);
        let second = Gateway::start(PROCESS, &back, CHEAPEST).await;
        let there = portfolio(&[PoolText::new("gpu", [format!("http://{}", second.address())])]);
        first.files.write("portfolio.toml", &there);
        wait::some("it leads there", async || (first.status().await["generation"] == 2).then_some(())).await;
        let reply = first.send(Ask::chat(&chat(1, false))).await;
        assert_eq!(reply.status, 508);
        let refused = "pointsman_requests_total{class=\"none\",pool=\"none\",hardware=\"none\",outcome=\"refused\"}";
        assert_eq!(second.metric(refused).await, 1.0, "the second has noticed, the second time it came by");

        let machine = Double::always(Act::json(200, WHOLE)).await;
        let gateway = Gateway::start(PROCESS, &portfolio(&[PoolText::new("gpu", [machine.url()])]), CHEAPEST).await;
        let ask = || Ask::chat(&chat(1, false));
        assert_eq!(gateway.send(ask().header("via", "1.1 pointsman, 1.1 other")).await.status, 200);
        let via: Vec<_> =
            machine.last().headers.get_all("via").iter().map(|value| value.to_str().unwrap().to_owned()).collect();
        assert_eq!(via, ["1.1 pointsman, 1.1 other", "1.1 pointsman"]);
        let reply = gateway.send(ask().header("via", "1.1 pointsman, 1.1 pointsman,1.1 pointsman")).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["error"]["code"]), (508, &"request_loop".into()));
    });
}
