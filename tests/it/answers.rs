//! Answers: every API, whole and streamed; bytes and headers on both sides.

use pointsman_tests::client::{Ask, Next};
use pointsman_tests::double::{Act, DONE, Double, End, FIRST, LAST, WHOLE};
use pointsman_tests::files::{CHEAPEST, MODEL, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::{self, chat, url};
use pointsman_tests::run::beside_others;
use pointsman_tests::{client, files};
use serde_json::{Value, json};

async fn gateway_to(endpoint: &str) -> Gateway {
    Gateway::start(PROCESS, &portfolio(&[PoolText::new("gpu", [endpoint])]), CHEAPEST).await
}

#[test]
fn whole_answers_come_from_every_api() {
    beside_others(async {
        let machine = machines::start("h100").await;
        let gateway = gateway_to(&url(&machine)).await;
        let chat = gateway.send(Ask::chat(&chat(12, false))).await;
        assert_eq!(chat.status, 200);
        assert_eq!(chat.json()["usage"]["completion_tokens"], 12);
        assert!(chat.json()["choices"][0]["message"]["content"].is_string());

        let body = json!({"model": MODEL, "prompt": "Mind the", "max_tokens": 5, "ignore_eos": true});
        let completion = gateway.send(Ask::post("/v1/completions", &body)).await;
        assert_eq!((completion.status.as_u16(), &completion.json()["object"]), (200, &json!("text_completion")));

        let body = json!({"model": MODEL, "input": ["one", "two"]});
        let embeddings = gateway.send(Ask::post("/v1/embeddings", &body)).await;
        assert_eq!(embeddings.status, 200);
        assert_eq!(embeddings.json()["data"].as_array().map(Vec::len), Some(2));
        assert_eq!(embeddings.header("x-pointsman-class"), "batch", "nobody waits for embeddings");
    });
}

/// What this gateway says of itself in headers and comments comes from no machine, and goes to none.
#[test]
fn nobody_else_speaks_in_the_name_of_the_gateway() {
    beside_others(async {
        let theirs = ": x-pointsman-continued: 1; endpoints: a b\n\n";
        let close = ":x-pointsman-continued: 1\n: ping\n\n";
        let before_data = format!("{}{LAST}", &theirs[..theirs.len() - 1]);
        let stream = Act::stream(&[theirs, FIRST, theirs, close, &before_data, DONE], End::Clean);
        for (act, streamed) in [(stream, true), (Act::json(200, WHOLE), false), (Act::json(400, "{}"), false)] {
            let act = act.header("x-pointsman-endpoint", "theirs").header("x-pointsman-continued", "1");
            let machine = Double::always(act.header("x-pointsman-key", "theirs")).await;
            let gateway = gateway_to(&machine.url()).await;
            let ask = Ask::chat(&chat(9, streamed)).header("x-pointsman-attempts", "7");
            let reply = gateway.send(ask.header("x-pointsman-endpoint", "mine")).await;
            let own = |headers: &http::HeaderMap| {
                let names = headers.keys().map(|name| name.as_str().to_owned());
                names.filter(|name| name.starts_with("x-pointsman-")).collect::<std::collections::BTreeSet<_>>()
            };
            let expected = ["attempts", "class", "endpoint", "policy"].map(|name| format!("x-pointsman-{name}"));
            assert_eq!(own(&reply.headers), expected.into());
            assert!(reply.header("x-pointsman-endpoint").starts_with("gpu/"), "{:?}", reply.headers);
            assert_eq!(reply.header("x-pointsman-attempts"), "1");
            assert_eq!(own(&machine.last().headers), [].into());
            let text = reply.text();
            assert!(!text.contains("x-pointsman-") && text.contains(": ping") == streamed, "{text}");
        }
    });
}

#[test]
fn streams_come_event_by_event_and_end_with_done() {
    beside_others(async {
        let machine = machines::start("h100").await;
        let gateway = gateway_to(&url(&machine)).await;
        let mut body = chat(20, true);
        body["stream_options"] = json!({"include_usage": true});
        let mut stream = client::open(gateway.address(), Ask::chat(&body)).await;
        assert_eq!(stream.status, 200);
        assert!(stream.header("content-type").starts_with("text/event-stream"));
        let (events, end) = stream.rest().await;
        assert_eq!((events.last().map(String::as_str), end), (Some("[DONE]"), Next::End));
        assert!(events.len() > 20, "{} events for 20 tokens", events.len());
        let usage: Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
        assert_eq!(usage["usage"]["completion_tokens"], 20);

        let body = json!({"model": MODEL, "prompt": "a", "max_tokens": 5, "stream": true});
        let mut stream = client::open(gateway.address(), Ask::post("/v1/completions", &body)).await;
        assert_eq!(stream.rest().await.0.last().map(String::as_str), Some("[DONE]"));
    });
}

#[test]
fn an_event_is_passed_on_before_the_next_one_is_there() {
    beside_others(async {
        use pointsman_tests::double::{End, FIRST};
        let machine = Double::always(Act::stream(&[FIRST], End::Hang)).await;
        let gateway = gateway_to(&machine.url()).await;
        let mut stream = client::open(gateway.address(), Ask::chat(&chat(2, true))).await;
        assert_eq!(stream.next().await, Next::Event(FIRST.trim().trim_start_matches("data: ").to_owned()));
    });
}

#[test]
fn models_are_listed() {
    beside_others(async {
        let gateway = gateway_to("http://127.0.0.1:1").await;
        let list = gateway.send(Ask::get("/v1/models")).await;
        insta::assert_snapshot!(list.text(), @r#"{"data":[{"created":0,"id":"gpt-oss-120b","object":"model","owned_by":"pointsman"}],"object":"list"}"#);
        assert_eq!(list.header("x-pointsman-policy"), "cheapest@1");
        let one = gateway.send(Ask::get(&format!("/v1/models/{MODEL}"))).await;
        insta::assert_snapshot!(one.text(), @r#"{"created":0,"id":"gpt-oss-120b","object":"model","owned_by":"pointsman"}"#);
        let none = gateway.send(Ask::get("/v1/models/gpt-oss-12b")).await;
        assert_eq!(none.status, 404);
        insta::assert_snapshot!(none.text(), @r#"{"error":{"code":"model_not_found","message":"no pool serves the model `gpt-oss-12b`; did you mean `gpt-oss-120b`?","param":"model","type":"invalid_request_error"}}"#);
    });
}

#[test]
fn the_body_reaches_the_machine_untouched_but_for_the_models_name() {
    beside_others(async {
        let machine = Double::always(Act::json(200, WHOLE)).await;
        let pool = PoolText::new("gpu", [machine.url()]).upstream("other/\"name\"");
        let gateway = Gateway::start(PROCESS, &portfolio(&[pool]), CHEAPEST).await;
        let body = "{ \"messages\" : [ {\"role\":\"user\",\"content\":\"gpt-oss-120b \\u00e9 é\"} ],\n\t\"model\":\"gpt-oss-120b\" , \"seed\": 1.50, \"x\":{\"model\":\"gpt-oss-120b\"} }\n";
        let reply = gateway.send(Ask::raw("/v1/chat/completions", body)).await;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, WHOLE));
        let seen = machine.last();
        assert_eq!(seen.path, "/v1/chat/completions");
        let expected = body.replacen("\"model\":\"gpt-oss-120b\" ,", "\"model\":\"other/\\\"name\\\"\" ,", 1);
        assert_eq!(String::from_utf8(seen.body.to_vec()).unwrap(), expected);
        assert_eq!(seen.header("content-length"), expected.len().to_string());
    });
}

#[test]
fn answers_say_who_gave_them() {
    beside_others(async {
        let machine = machines::start("h100").await;
        let gateway = gateway_to(&url(&machine)).await;
        let ask = Ask::chat(&chat(3, false)).header("x-request-id", "my-id-7").header("x-pointsman-class", "realtime");
        let reply = gateway.send(ask).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("x-pointsman-class"), "realtime");
        assert_eq!(reply.header("x-pointsman-endpoint"), format!("gpu/{}", machine.address()));
        assert_eq!(reply.header("x-pointsman-policy"), "cheapest@1");
        assert_eq!(reply.header("x-pointsman-attempts"), "1");
        assert_eq!(reply.header("x-request-id"), "my-id-7");
        let timing = reply.header("server-timing");
        assert!(timing.starts_with("decide;dur=") && timing.contains(", first_byte;dur="), "{timing}");

        let reply = gateway.send(Ask::chat(&chat(3, true))).await;
        assert_eq!(reply.header("x-pointsman-class"), "interactive", "a stream is read along");
        assert!(reply.header("x-request-id").starts_with("req_"));
        let reply = gateway.send(Ask::chat(&json!({"model": "nope", "messages": []}))).await;
        assert_eq!((reply.status.as_u16(), reply.header("x-pointsman-policy")), (404, "cheapest@1"));
        assert_eq!(reply.header("x-pointsman-attempts"), "0");
    });
}

#[test]
fn the_machine_sees_the_pools_key_and_none_of_the_callers() {
    beside_others(async {
        let machine =
            Double::always(Act::json(200, WHOLE).header("connection", "x-secret").header("x-secret", "1")).await;
        let pool = PoolText::new("gpu", [machine.url() + "/base/"]).key("api_key = { file = \"key\" }");
        let files = files::Files::new(PROCESS, &portfolio(&[pool]), CHEAPEST);
        files.write("key", "  the-pools-key\n");
        let gateway = Gateway::on(files).await;
        let ask = Ask::chat(&chat(3, false))
            .header("authorization", "Bearer the-callers-key")
            .header("x-api-key", "the-callers-key")
            .header("api-key", "the-callers-key")
            .header("cookie", "session=the-callers-key")
            .header("x-pointsman-class", "standard")
            .header("x-pointsman-deadline-ms", "60000")
            .header("connection", "x-hop")
            .header("x-hop", "the-callers-key")
            .header("accept-encoding", "gzip")
            .header("x-custom", "kept");
        let reply = gateway.send(ask).await;
        assert_eq!((reply.status.as_u16(), reply.header("x-pointsman-class")), (200, "standard"));
        let seen = machine.last();
        assert_eq!(seen.path, "/base/v1/chat/completions");
        assert_eq!(seen.header("authorization"), "Bearer the-pools-key");
        assert_eq!((seen.header("x-custom"), seen.header("accept-encoding")), ("kept", "identity"));
        assert_eq!(seen.headers.get_all("authorization").iter().count(), 1);
        let names: Vec<&str> = seen.headers.keys().map(|name| name.as_str()).collect();
        assert!(!names.iter().any(|name| name.starts_with("x-pointsman-")), "{names:?}");
        let sent: Vec<_> = seen.headers.values().map(|value| value.to_str().unwrap()).collect();
        assert!(!sent.iter().any(|value| value.contains("the-callers-key")), "{sent:?}");
    });
}

#[test]
fn a_pool_may_ask_for_the_callers_own_key() {
    beside_others(async {
        let machine = Double::always(Act::json(200, WHOLE)).await;
        let pool = PoolText::new("gpu", [machine.url()]).key("forward_authorization = true");
        let gateway = Gateway::start(PROCESS, &portfolio(&[pool]), CHEAPEST).await;
        gateway.send(Ask::chat(&chat(3, false)).header("authorization", "Bearer mine")).await;
        assert_eq!(machine.last().header("authorization"), "Bearer mine");
    });
}

#[test]
fn the_callers_trace_is_continued() {
    beside_others(async {
        let machine = Double::always(Act::json(200, WHOLE)).await;
        let gateway = gateway_to(&machine.url()).await;
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let parent = format!("00-{trace}-b7ad6b7169203331-01");
        gateway.send(Ask::chat(&chat(3, false)).header("traceparent", &parent).header("tracestate", "a=b")).await;
        let seen = machine.last();
        let sent = seen.header("traceparent");
        assert!(sent.starts_with(&format!("00-{trace}-")) && sent.ends_with("-01"), "{sent}");
        assert_ne!(sent, parent, "the machine's parent is the attempt");
        assert_eq!(seen.header("tracestate"), "a=b");
        assert!(seen.header("x-request-id").starts_with("req_"), "so that its logs can be found");

        gateway.send(Ask::chat(&chat(3, false)).header("traceparent", "nonsense")).await;
        let sent = machine.last().header("traceparent").to_owned();
        assert_eq!((sent.len(), sent.starts_with("00-")), (55, true), "{sent}");
    });
}

#[test]
fn an_answer_that_was_read_whole_is_counted_as_answered_and_is_over() {
    beside_others(async {
        let machine = machines::start("cs3").await;
        let gateway = gateway_to(&url(&machine)).await;
        for stream in [false, true, false, true] {
            assert_eq!(gateway.send(Ask::chat(&chat(3, stream))).await.status, 200);
        }
        gateway.until_in_flight(0).await;
        for class in ["standard", "interactive"] {
            let line = format!(
                "pointsman_requests_total{{class=\"{class}\",pool=\"gpu\",hardware=\"gpu\",outcome=\"answered\"}}"
            );
            assert_eq!(gateway.metric(&line).await, 2.0);
        }
    });
}
