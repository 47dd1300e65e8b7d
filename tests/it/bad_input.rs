//! Requests that are refused: each with a status, a stable code and a message that says what to do.

use http::Method;
use pointsman_tests::client::{Ask, Reply, send_bytes};
use pointsman_tests::double::{Act, Double};
use pointsman_tests::files::{CHEAPEST, MODEL, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::chat;
use pointsman_tests::run::beside_others;
use std::time::Duration;

const CHAT: &str = "/v1/chat/completions";

async fn gateway() -> Gateway {
    let process = format!("{PROCESS}[limits]\nbody_bytes = 4096\n");
    Gateway::start(&process, &portfolio(&[PoolText::new("gpu", ["http://127.0.0.1:1"])]), CHEAPEST).await
}

/// One line that holds all a program or a person would look at.
fn told(reply: &Reply) -> String {
    let error = &reply.json()["error"];
    assert!(reply.header("x-request-id").starts_with("req_") && reply.header("content-type") == "application/json");
    let text = |key: &str| error[key].as_str().unwrap_or("-").to_owned();
    format!("{} {} {} {}: {}", reply.status.as_u16(), text("type"), text("code"), text("param"), text("message"))
}

#[test]
fn bodies_that_cannot_be_used() {
    beside_others(async {
        let gateway = gateway().await;
        let deep = format!("{{\"model\":\"m\",\"messages\":{}1{}}}", "[".repeat(200), "]".repeat(200));
        let bodies: [&[u8]; 13] = [
            b"",
            b"{\"model\": \"gpt-oss-120b\", \"messages\": [}",
            b"{\"model\": \"gpt-oss-120b\", \"messages\": [",
            b"[\"gpt-oss-120b\",false,null,null,null,null,[],null,null,null]",
            b"hello",
            b"{\"messages\": []}",
            b"{\"model\": 7, \"messages\": []}",
            b"{\"model\": \"gpt-oss-120b\"}",
            b"{\"model\": \"gpt-oss-120b\", \"messages\": [], \"model\": \"other\"}",
            b"{\"model\": \"gpt-oss-120b\", \"messages\": [], \"stream\": \"yes\"}",
            b"{\"model\": \"gpt-oss-120\", \"messages\": []}",
            b"{\"model\": \"gpt-oss-120b\xff\", \"messages\": []}",
            deep.as_bytes(),
        ];
        let mut lines = Vec::new();
        for body in bodies {
            lines.push(told(&gateway.send(Ask::raw(CHAT, body.to_vec())).await));
        }
        lines.push(told(&gateway.send(Ask::raw("/v1/completions", format!("{{\"model\":\"{MODEL}\"}}"))).await));
        lines.push(told(&gateway.send(Ask::raw("/v1/embeddings", format!("{{\"model\":\"{MODEL}\"}}"))).await));
        lines.push(told(&gateway.send(Ask::raw(CHAT, "{\"model\":\"zzz\",\"messages\":[]}")).await));
        insta::assert_snapshot!(lines.join("\n"), @r#"
        400 invalid_request_error bad_body -: the body cannot be used: it is empty
        400 invalid_request_error bad_body -: the body cannot be used: expected value at line 1 column 40
        400 invalid_request_error bad_body -: the body cannot be used: the JSON ends before it is whole
        400 invalid_request_error bad_body -: the body cannot be used: it is not a JSON object
        400 invalid_request_error bad_body -: the body cannot be used: it is not a JSON object
        400 invalid_request_error bad_body model: the body cannot be used: `model` is missing
        400 invalid_request_error bad_body model: the body cannot be used: `model` is not a string
        400 invalid_request_error bad_body messages: the body cannot be used: `messages` is missing
        400 invalid_request_error bad_body -: the body cannot be used: duplicate field `model` at line 1 column 49
        400 invalid_request_error bad_body -: the body cannot be used: invalid type: string "yes", expected a boolean at line 1 column 57
        404 invalid_request_error model_not_found model: no pool serves the model `gpt-oss-120`; did you mean `gpt-oss-120b`?
        400 invalid_request_error bad_body -: the body cannot be used: byte 23 is not UTF-8
        400 invalid_request_error bad_body -: the body cannot be used: it is nested more than 128 levels deep
        400 invalid_request_error bad_body prompt: the body cannot be used: `prompt` is missing
        400 invalid_request_error bad_body input: the body cannot be used: `input` is missing
        404 invalid_request_error model_not_found model: no pool serves the model `zzz`; GET /v1/models lists those there are
        "#);
    });
}

#[test]
fn headers_paths_and_methods_that_make_no_sense() {
    beside_others(async {
        let gateway = gateway().await;
        let ask = || Ask::chat(&chat(1, false));
        let asks = [
            ask().header("x-pointsman-class", "urgent"),
            ask().header("x-pointsman-deadline-ms", "soon"),
            ask().header("x-pointsman-deadline-ms", "-1"),
            ask().header("expect", "200-ok"),
            ask().header("content-encoding", "gzip"),
            ask().header("content-type", "application/x-www-form-urlencoded"),
            Ask::get(CHAT),
            Ask::get(CHAT).method(Method::DELETE),
            Ask::post("/v1/models", &serde_json::json!({})),
            Ask::get("/v1/answers"),
            Ask::get("/"),
            Ask::get("/v1/modelsx"),
        ];
        let mut lines = Vec::new();
        for ask in asks {
            let reply = gateway.send(ask).await;
            let allow = reply.header("allow");
            lines.push(told(&reply) + if allow.is_empty() { "" } else { "; allow: " } + allow);
        }
        insta::assert_snapshot!(lines.join("\n"), @r"
        400 invalid_request_error unknown_class x-pointsman-class: the policy has no class `urgent`; its classes are `realtime`, `interactive`, `standard`, `batch`
        400 invalid_request_error bad_header x-pointsman-deadline-ms: header `x-pointsman-deadline-ms`: `soon` is not a number of milliseconds between 0 and 86400000
        400 invalid_request_error bad_header x-pointsman-deadline-ms: header `x-pointsman-deadline-ms`: `-1` is not a number of milliseconds between 0 and 86400000
        417 invalid_request_error unknown_expectation -: `expect: 200-ok` is not known here; `100-continue` is, or leave it out
        415 invalid_request_error unsupported_body -: the body is of `content-encoding: gzip`; send uncompressed JSON with `content-type: application/json`
        415 invalid_request_error unsupported_body -: the body is of `content-type: application/x-www-form-urlencoded`; send uncompressed JSON with `content-type: application/json`
        405 invalid_request_error wrong_method -: this path takes POST; allow: POST
        405 invalid_request_error wrong_method -: this path takes POST; allow: POST
        405 invalid_request_error wrong_method -: this path takes GET; allow: GET
        404 invalid_request_error unknown_path -: there is nothing at `/v1/answers`; this gateway serves /v1/chat/completions, /v1/completions, /v1/embeddings and /v1/models
        404 invalid_request_error unknown_path -: there is nothing at `/`; this gateway serves /v1/chat/completions, /v1/completions, /v1/embeddings and /v1/models
        404 invalid_request_error unknown_path -: there is nothing at `/v1/modelsx`; this gateway serves /v1/chat/completions, /v1/completions, /v1/embeddings and /v1/models
        ");
    });
}

#[test]
fn bodies_that_are_too_large_are_refused_announced_or_not() {
    beside_others(async {
        let gateway = gateway().await;
        let body = "x".repeat(5000);
        let announced = gateway.send(Ask::raw(CHAT, body.clone())).await;
        let expected = "413 invalid_request_error body_too_large -: the body is larger than the 4096 bytes that `limits.body_bytes` allows";
        assert_eq!(told(&announced), expected);
        let chunked = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n1388\r\n{body}\r\n0\r\n\r\n"
        );
        let answer = send_bytes(gateway.address(), chunked.as_bytes(), Duration::from_secs(1)).await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body_too_large"), "{answer}");
    });
}

#[test]
fn heads_that_are_too_large_are_refused() {
    beside_others(async {
        let gateway = gateway().await;
        let head = format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\nx-large: {}\r\n\r\n", "x".repeat(70 << 10));
        let answer = send_bytes(gateway.address(), head.as_bytes(), Duration::from_secs(1)).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
        let many = "x-many: 1\r\n".repeat(200);
        let head = format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\n{many}\r\n");
        let answer = send_bytes(gateway.address(), head.as_bytes(), Duration::from_secs(1)).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
        assert_eq!(gateway.send(Ask::get("/v1/models")).await.status, 200, "others are served as before");
    });
}

#[test]
fn nobody_can_be_reached() {
    beside_others(async {
        let gateway = gateway().await;
        let reply = gateway.send(Ask::chat(&chat(1, false))).await;
        assert_eq!((reply.header("retry-after"), reply.header("retry-after-ms")), ("1", "1000"));
        assert_eq!(reply.header("x-pointsman-attempts"), "1");
        insta::assert_snapshot!(told(&reply), @"503 server_error backends_unavailable -: no machine could be reached: gpu/127.0.0.1:1: cannot connect to 127.0.0.1:1: Connection refused (os error 111)");
    });
}

#[test]
fn everybody_has_too_much_to_do() {
    beside_others(async {
        let busy = r#"{"error":{"message":"slow down","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#;
        let machine = Double::always(Act::json(429, busy).header("retry-after", "7")).await;
        let gateway = Gateway::start(PROCESS, &portfolio(&[PoolText::new("gpu", [machine.url()])]), CHEAPEST).await;
        let reply = gateway.send(Ask::chat(&chat(1, false))).await;
        assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (429, "7"));
        let again = gateway.send(Ask::chat(&chat(1, true))).await;
        let wait: u64 = again.header("retry-after").parse().unwrap();
        assert!((6..=7).contains(&wait), "{wait}");
        assert_eq!(machine.seen().len(), 1, "a machine that asked for patience is left alone");
        insta::assert_snapshot!(told(&reply), @"429 rate_limit_error saturated -: every machine that may serve this has as much as it can take");
    });
}
