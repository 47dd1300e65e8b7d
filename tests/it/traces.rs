//! Traces: one tree a request, with the reasons of the decision and every attempt; a receiver that is away changes
//! nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use pointsman_tests::client::Ask;
use pointsman_tests::double::{Act, Double};
use pointsman_tests::files::{CHEAPEST, MODEL, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::{self, chat, url};
use pointsman_tests::receiver::{self, attributes};
use pointsman_tests::run::beside_others;
use pointsman_tests::wait;

fn process(receiver: &str) -> String {
    format!("{PROCESS}[telemetry]\notlp_endpoint = \"{receiver}\"\n")
}

fn failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

fn of(span: &Span) -> HashMap<String, String> {
    attributes(&span.attributes)
}

fn children<'s>(spans: &'s [Span], parent: &Span) -> Vec<&'s Span> {
    let mut found: Vec<&Span> = spans.iter().filter(|span| span.parent_span_id == parent.span_id).collect();
    found.sort_by_key(|span| span.start_time_unix_nano);
    found
}

#[test]
fn a_request_is_one_tree_of_spans() {
    beside_others(async {
        let receiver = receiver::start().await;
        let bad = machines::faulty("cs3", &["error500:1"]).await;
        let good = machines::start("h100").await;
        let pools = [PoolText::new("bad", [url(&bad)]).price(1), PoolText::new("good", [url(&good)]).price(2)];
        let gateway = Gateway::start(&process(&receiver.url()), &portfolio(&pools), CHEAPEST).await;
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let parent = format!("00-{trace}-b7ad6b7169203331-01");
        let reply = gateway.send(Ask::chat(&chat(8, true)).header("traceparent", &parent)).await;
        assert_eq!((reply.status.as_u16(), reply.header("x-pointsman-attempts")), (200, "2"));
        wait::until("spans arrive", || !receiver::spans(&receiver).is_empty()).await;
        assert_eq!(receiver.last().path, "/v1/traces");
        let spans = receiver::spans(&receiver);
        assert_eq!(spans.len(), 6, "{spans:#?}");
        let trace_id: Vec<u8> = (0..16).map(|byte| u8::from_str_radix(&trace[2 * byte..][..2], 16).unwrap()).collect();
        assert!(spans.iter().all(|span| span.trace_id == trace_id), "the caller's trace");

        let root = spans.iter().find(|span| span.kind() == SpanKind::Server).expect("a root");
        assert_eq!(root.name, "POST /v1/chat/completions");
        assert_eq!(root.parent_span_id, [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31], "the caller's span");
        assert!(!failed(root), "the failure was mended");
        let attributes = of(root);
        assert_eq!(attributes["pointsman.request_id"], reply.header("x-request-id"));
        assert_eq!(
            (attributes["pointsman.attempts"].as_str(), attributes["pointsman.class"].as_str()),
            ("2", "interactive")
        );

        let below = children(&spans, root);
        let names: Vec<&str> = below.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["classify", "route cheapest@1", &format!("chat {MODEL}")]);
        let candidates: Vec<_> =
            below[1].events.iter().map(|event| super::traces::attributes(&event.attributes)).collect();
        assert_eq!(candidates.len(), 2);
        assert!(candidates.iter().all(|one| !one["pointsman.reason"].is_empty()), "{candidates:?}");
        assert_eq!(of(below[1])["pointsman.route"], "all");

        operation(&spans, below[2]);
    });
}

#[track_caller]
fn operation(spans: &[Span], operation: &Span) {
    assert_eq!(operation.kind(), SpanKind::Client);
    assert!(!failed(operation));
    let attributes = of(operation);
    assert_eq!(attributes["gen_ai.request.model"], MODEL);
    assert_eq!(attributes["pointsman.pool"], "good");
    assert!(attributes["pointsman.ttft_ms"].parse::<f64>().unwrap() > 0.0);
    assert!(operation.events.iter().any(|event| event.name == "first_token"));
    let attempts = children(spans, operation);
    let kinds: Vec<_> = attempts.iter().map(|span| (span.name.as_str(), span.kind(), failed(span))).collect();
    assert_eq!(kinds, [("POST", SpanKind::Client, true), ("POST", SpanKind::Client, false)]);
    let (first, second) = (of(attempts[0]), of(attempts[1]));
    assert_eq!((first["error.type"].as_str(), first["http.response.status_code"].as_str()), ("server-error", "500"));
    assert!(!first.contains_key("http.request.resend_count"));
    assert_eq!((second["http.request.resend_count"].as_str(), second["pointsman.pool"].as_str()), ("1", "good"));
    let models = spans.iter().filter(|span| of(span).contains_key("gen_ai.request.model"));
    assert_eq!(models.count(), 1, "viewers count one call");
}

#[test]
fn the_machines_parent_is_the_attempt() {
    beside_others(async {
        let receiver = receiver::start().await;
        let machine = Double::always(Act::good_stream()).await;
        let pools = portfolio(&[PoolText::new("gpu", [machine.url()])]);
        let gateway = Gateway::start(&process(&receiver.url()), &pools, CHEAPEST).await;
        gateway.send(Ask::chat(&chat(8, true))).await;
        wait::until("spans arrive", || !receiver::spans(&receiver).is_empty()).await;
        let spans = receiver::spans(&receiver);
        let attempt = spans.iter().find(|span| span.name == "POST").expect("an attempt");
        let hex: String = attempt.span_id.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(machine.last().header("traceparent").split('-').nth(2), Some(hex.as_str()));
    });
}

#[test]
fn a_trace_that_is_not_sampled_is_not_sent() {
    beside_others(async {
        let receiver = receiver::start().await;
        let pools = portfolio(&[PoolText::new("gpu", ["http://127.0.0.1:1"])]);
        let gateway = Gateway::start(&process(&receiver.url()), &pools, CHEAPEST).await;
        let ask = |flag| {
            let parent = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033{flag}1-0{flag}");
            Ask::get("/v1/models").header("traceparent", &parent)
        };
        for flag in [0, 1] {
            assert_eq!(gateway.send(ask(flag)).await.status, 200);
        }
        wait::until("spans arrive", || !receiver::spans(&receiver).is_empty()).await;
        let spans = receiver::spans(&receiver);
        assert_eq!(spans.len(), 1);
        assert_eq!(spans[0].parent_span_id.last(), Some(&0x11), "the sampled one");
    });
}

#[test]
fn a_receiver_that_is_away_or_hangs_changes_nothing() {
    beside_others(async {
        let hanging = Double::always(Act::json(200, "").after(Duration::from_secs(60))).await;
        let complaining = Double::always(Act::json(500, "no")).await;
        let machine = machines::start("cs3").await;
        for receiver in ["http://127.0.0.1:1".to_owned(), hanging.url(), complaining.url()] {
            let pools = portfolio(&[PoolText::new("gpu", [url(&machine)])]);
            let gateway = Gateway::start(&process(&receiver), &pools, CHEAPEST).await;
            let began = Instant::now();
            for _ in 0..50 {
                assert_eq!(gateway.send(Ask::chat(&chat(1, false))).await.status, 200);
            }
            assert!(began.elapsed() < Duration::from_secs(5), "{receiver}: {:?}", began.elapsed());
            if receiver != hanging.url() {
                let failed = async || gateway.metric("pointsman_spans_total{result=\"failed\"}").await > 0.0;
                wait::some("it is counted", async || failed().await.then_some(())).await;
            }
        }
    });
}

#[test]
fn what_is_kept_for_a_reason_is_sent_beyond_the_share() {
    beside_others(async {
        let (receiver, machine) = (receiver::start().await, machines::start("h100").await);
        let process = format!("{}traces_per_s = 1\n", process(&receiver.url()));
        let strict = format!("{CHEAPEST}[class.standard]\nttft_ms = 0.001\n");
        let gateway = Gateway::start(&process, &portfolio(&[PoolText::new("gpu", [url(&machine)])]), &strict).await;
        for _ in 0..2 {
            gateway.send(Ask::chat(&chat(2, false)).header("x-pointsman-class", "standard")).await;
        }
        let roots = || receiver::spans(&receiver).iter().filter(|span| span.kind() == SpanKind::Server).count();
        wait::until("both are sent: one in its share, one because it missed its promise", || roots() == 2).await;
    });
}

#[test]
fn grafana_finds_traces_here_without_a_collector() {
    beside_others(async {
        let bad = machines::faulty("cs3", &["error500:1"]).await;
        let good = machines::start("h100").await;
        let pools = [PoolText::new("bad", [url(&bad)]).price(1), PoolText::new("good", [url(&good)]).price(2)];
        let gateway = Gateway::start(PROCESS, &portfolio(&pools), CHEAPEST).await;
        let reply = gateway.send(Ask::chat(&chat(8, true))).await;
        let asked = async |path: &str| {
            let reply = gateway.admin(path).await;
            assert_eq!(reply.status, 200, "{path}: {}", reply.text());
            reply.json()["data"].as_array().expect("data").clone()
        };
        assert_eq!(asked("/api/services").await, ["pointsman"]);
        let traces =
            wait::some("the trace is there", async || asked("/api/traces?service=pointsman").await.pop()).await;
        let operations = asked("/api/services/pointsman/operations").await;
        assert!(operations.iter().any(|name| name == "POST /v1/chat/completions"), "{operations:?}");
        let spans = traces["spans"].as_array().expect("spans");
        let root = &spans[0];
        assert_eq!((spans.len(), &root["operationName"]), (6, &"POST /v1/chat/completions".into()));
        let parent = |span: &serde_json::Value| span["references"][0]["spanID"].clone();
        let of_root = spans.iter().filter(|span| parent(span) == root["spanID"]).count();
        assert_eq!((of_root, root["references"].as_array().map(Vec::len)), (3, Some(0)), "classify, route, chat");
        let has = |span: &serde_json::Value, key: &str, value: &str| {
            span["tags"]
                .as_array()
                .is_some_and(|tags| tags.iter().any(|tag| tag["key"] == key && tag["value"] == value))
        };
        assert!(has(root, "pointsman.request_id", reply.header("x-request-id")) && has(root, "span.kind", "server"));
        for (query, count) in [
            ("service=pointsman&operation=classify", 1),
            ("operation=nothing", 0),
            ("service=other", 0),
            ("tags=%7B%22error%22%3A%22true%22%7D&limit=5", 1),
            ("tags=%7B%22pointsman.pool%22%3A%22good%22%7D&lookback=1h", 1),
            ("tags=%7B%22pointsman.pool%22%3A%22nobody%22%7D", 0),
            ("minDuration=10m", 0),
            ("start=1&end=2", 0),
        ] {
            assert_eq!(asked(&format!("/api/traces?{query}")).await.len(), count, "{query}");
        }
        let id = traces["traceID"].as_str().expect("an id");
        assert_eq!(asked(&format!("/api/traces/{id}")).await.len(), 1);
        assert_eq!(gateway.admin("/api/traces/1").await.status, 404);
        assert_eq!(gateway.admin("/api/traces?minDuration=soon").await.status, 400);
    });
}

#[test]
fn whoever_sees_nothing_in_a_receiver_is_told_why() {
    beside_others(async {
        let machine = machines::start("h100").await;
        let pools = portfolio(&[PoolText::new("gpu", [url(&machine)])]);
        let test = || Ask::post("/api/v1/exporters/test", &serde_json::json!({}));
        let without = Gateway::start(PROCESS, &pools, CHEAPEST).await;
        assert!(without.admin("/api/v1/exporters").await.json()["otlp"]["endpoint"].is_null());
        let refused = without.operate(test()).await;
        assert_eq!((refused.status.as_u16(), &refused.json()["error"]["code"]), (409, &"no-receiver".into()));

        let receiver = receiver::start().await;
        let gateway = Gateway::start(&process(&receiver.url()), &pools, CHEAPEST).await;
        let told = async || gateway.admin("/api/v1/exporters").await.json();
        assert_eq!(told().await["otlp"]["state"], "idle");
        let sent = gateway.operate(test()).await.json();
        assert_eq!(sent["arrived"], true, "{sent}");
        let found = receiver::spans(&receiver)
            .iter()
            .any(|span| span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect::<String>() == sent["trace_id"]);
        assert!(found, "the trace that is named is the one that came: {sent}");
        gateway.send(Ask::chat(&chat(2, false))).await;
        wait::some("spans sent", async || (told().await["otlp"]["state"] == "ok").then_some(())).await;
        gateway.admin("/metrics").await;
        assert!(told().await["prometheus"]["last_scrape_unix_ms"].is_u64());

        let wrong = Double::always(Act::json(404, "no such path")).await;
        let gateway = Gateway::start(&process(&wrong.url()), &pools, CHEAPEST).await;
        let told = async || gateway.admin("/api/v1/exporters").await.json();
        let lost = gateway.operate(test()).await.json();
        assert_eq!(lost["arrived"], false, "{lost}");
        assert!(lost["error"]["help"].as_str().unwrap().contains("/v1/traces"), "{lost}");
        gateway.send(Ask::chat(&chat(2, false))).await;
        let failing = wait::some("a failure is told", async || {
            Some(told().await["otlp"].clone()).filter(|otlp| otlp["state"] == "failing")
        });
        assert!(failing.await["last_error"]["told"].as_str().is_some_and(|told| told.contains("404")));
    });
}
