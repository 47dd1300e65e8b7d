//! The machine behind a real port, asked over real HTTP.

use std::time::Instant;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioExecutor;
use pointsman_policies::fleet::{HardwareKind, ServiceModel};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};

use super::*;
use crate::hardware;
use crate::lease::RateLimits;

const MODEL: &str = "gpt-oss-120b";

fn config(name: &str) -> SimulatorConfig {
    let profile = Profile::of(hardware::find(name).expect("shipped"));
    SimulatorConfig { seed: 7, ..SimulatorConfig::new(profile, vec![MODEL.to_owned()]) }
}

async fn start(config: SimulatorConfig) -> RunningSimulator {
    Simulator::start(config).await.expect("a free port")
}

type Response = http::Response<Incoming>;

fn request(method: &str, path: &str, body: &Value) -> Request<Full<Bytes>> {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let builder = Request::builder().method(method).uri(path).header(header::HOST, "simulator");
    builder.body(Full::new(body)).expect("a request")
}

/// One request on one connection, which lives as long as its task.
async fn send(running: &RunningSimulator, method: &str, path: &str, body: Value) -> hyper::Result<Response> {
    let socket = TcpStream::connect(running.address()).await.expect("it listens");
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    tokio::spawn(connection);
    sender.send_request(request(method, path, &body)).await
}

async fn json_of(response: Response) -> Value {
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    serde_json::from_slice(&body).expect("JSON")
}

/// The payloads of a stream, and whether it ended as it should.
async fn events_of(response: Response) -> (Vec<Value>, bool) {
    let mut text = Vec::new();
    let mut body = response.into_body();
    let mut whole = true;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => text.extend_from_slice(frame.data_ref().expect("only data")),
            Err(_) => whole = false,
        }
    }
    let text = String::from_utf8(text).expect("UTF-8");
    let data = |event: &str| event.strip_prefix("data: ").expect("a data line").to_owned();
    let mut payloads = text.split_terminator("\n\n").map(data).collect::<Vec<_>>();
    let done = payloads.pop_if(|last| last == "[DONE]").is_some();
    (payloads.iter().map(|payload| serde_json::from_str(payload).expect("JSON")).collect(), done && whole)
}

fn chat(extra: Value) -> Value {
    let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": "twelve bytes"}]});
    body.as_object_mut().expect("an object").append(&mut extra.as_object().expect("an object").clone());
    body
}

async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(10), "{what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn an_answer_is_whole_and_its_usage_exact() {
    let running = start(config("cs3")).await;
    for path in ["/v1/chat/completions", "/v1/completions"] {
        let mut body = chat(json!({"max_tokens": 20, "ignore_eos": true}));
        body["prompt"] = json!("twelve bytes");
        let response = send(&running, "POST", path, body).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        let answer = json_of(response).await;
        let choice = &answer["choices"][0];
        let text = if path.contains("chat") { &choice["message"]["content"] } else { &choice["text"] };
        assert_eq!(text.as_str().expect("text").split(' ').count(), 20);
        assert_eq!(choice["finish_reason"], "length");
        assert_eq!((&answer["usage"]["prompt_tokens"], &answer["usage"]["completion_tokens"]), (&json!(3), &json!(20)));
        assert_eq!((&answer["usage"]["total_tokens"], &answer["model"]), (&json!(23), &json!(MODEL)));
    }
    running.stop().await;
}

#[tokio::test]
async fn a_stream_is_well_formed_and_says_what_the_whole_answer_says() {
    let running = start(config("cs3")).await;
    let stream = chat(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let response = send(&running, "POST", "/v1/chat/completions", stream).await.expect("an answer");
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream; charset=utf-8");
    let (mut events, done) = events_of(response).await;
    assert!(done);
    let usage = events.pop().expect("a usage chunk");
    assert_eq!(usage["choices"], json!([]));
    assert!(events.iter().all(|event| event["usage"].is_null() && event["object"] == "chat.completion.chunk"));
    assert!(events.iter().all(|event| event["id"] == usage["id"] && event["model"] == MODEL));
    let finish = events.pop().expect("a finish chunk");
    assert_eq!(finish["choices"][0], json!({"index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop"}));
    assert_eq!(events[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let text: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(usage["usage"]["completion_tokens"], text.split(' ').count());
    let whole =
        json_of(send(&running, "POST", "/v1/chat/completions", chat(json!({}))).await.expect("an answer")).await;
    assert_eq!(whole["choices"][0]["message"]["content"], text);
    running.stop().await;
}

#[tokio::test]
async fn without_asking_a_stream_has_no_usage() {
    let running = start(config("cs3")).await;
    let body = json!({"model": MODEL, "prompt": ["a", "b"], "stream": true, "max_tokens": 5});
    let (events, done) = events_of(send(&running, "POST", "/v1/completions", body).await.expect("an answer")).await;
    assert!(done && events.iter().all(|event| event.get("usage").is_none() && event["choices"][0]["index"] == 0));
    assert_eq!(events.last().expect("events")["choices"][0]["finish_reason"], "length");
    running.stop().await;
}

#[tokio::test]
async fn a_caller_who_leaves_takes_the_job_along() {
    let service = ServiceModel { slots: 2, ..hardware::find("h100").expect("shipped").service_model() };
    let running = start(SimulatorConfig { profile: Profile::new(HardwareKind::Gpu, service), ..config("h100") }).await;
    let forever = || chat(json!({"stream": true, "max_tokens": 100_000, "ignore_eos": true}));
    let mut streaming = Vec::new();
    for _ in 0..2 {
        streaming.push(send(&running, "POST", "/v1/chat/completions", forever()).await.expect("a first token"));
    }
    let queued =
        tokio::time::timeout(Duration::from_millis(50), send(&running, "POST", "/v1/chat/completions", forever()));
    assert!(queued.await.is_err(), "both slots are taken");
    let left = Instant::now();
    wait_until("the one in the queue has left", || running.stats().cancelled == 1).await;
    drop(streaming);
    wait_until("all have left", || running.stats().cancelled == 3).await;
    assert!(left.elapsed() < Duration::from_millis(100), "{:?}", left.elapsed());
    let stats = running.stats();
    assert_eq!((stats.running, stats.waiting, stats.kv_tokens, stats.completed), (0, 0, 0, 0));
    assert!(stats.last_cancel.expect("three").started);
    running.stop().await;
}

#[tokio::test]
async fn refusals_have_the_shape_of_the_dialect() {
    let wafer = Profile {
        limits: RateLimits { requests_per_minute: None, tokens_per_minute: Some(600.0), reserves_output: true },
        context_tokens: Some(500),
        ..config("cs3").profile
    };
    let running = start(SimulatorConfig { profile: wafer, ..config("cs3") }).await;
    let chats = "/v1/chat/completions";
    let first = send(&running, "POST", chats, chat(json!({"max_tokens": 497, "ignore_eos": true}))).await;
    assert_eq!(first.expect("an answer").status(), StatusCode::OK);
    let table = [
        (chats, chat(json!({"max_tokens": 200})), 429, json!("rate_limit_exceeded")),
        (chats, chat(json!({"max_tokens": 498})), 400, json!("context_length_exceeded")),
        (chats, json!({"model": "other", "messages": []}), 404, json!("model_not_found")),
        (chats, json!({"model": MODEL}), 400, json!(null)),
        (chats, json!([]), 400, json!(null)),
        ("/v1/completions", json!({"model": MODEL}), 400, json!(null)),
        ("/v1/answers", json!({}), 404, json!(null)),
    ];
    for (path, body, status, code) in table {
        let response = send(&running, "POST", path, body.clone()).await.expect("an answer");
        assert_eq!(response.status(), status, "{path} {body}");
        let headers = response.headers().clone();
        let error = json_of(response).await;
        assert_eq!(error["error"]["code"], code, "{path} {body}");
        assert!(error["error"]["message"].is_string() && error["error"]["type"].is_string(), "{error}");
        let seconds = |wait: &http::HeaderValue| wait.to_str().expect("text").parse::<u64>().expect("a number");
        let wait = headers.get(header::RETRY_AFTER).map(seconds);
        // 100 of 600 are left, ten come back in a second, 203 are wanted: less than 11 seconds, by how long it took.
        assert_eq!(wait.is_some_and(|wait| (5..=11).contains(&wait)), status == 429, "{headers:?}");
        assert_eq!(headers.contains_key("retry-after-ms"), status == 429);
    }
    running.stop().await;
}

#[tokio::test]
async fn a_full_queue_is_503() {
    let running = start(config("cpu")).await;
    let forever = || chat(json!({"stream": true, "max_tokens": 5000, "ignore_eos": true}));
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(send(&running, "POST", "/v1/chat/completions", forever()).await.expect("a first token"));
    }
    let response = send(&running, "POST", "/v1/chat/completions", forever()).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    running.stop().await;
}

#[tokio::test]
async fn faults_strike_when_asked_for() {
    let running = start(config("cs3")).await;
    let chats = "/v1/chat/completions";
    let ask = || chat(json!({"stream": true, "max_tokens": 100, "ignore_eos": true}));
    let set = |fault: &str| send(&running, "POST", "/simulator/faults", json!({"faults": [fault]}));
    let nonsense = set("explode:1").await.expect("an answer");
    assert_eq!(nonsense.status(), StatusCode::BAD_REQUEST);
    assert!(json_of(nonsense).await["error"]["message"].as_str().expect("text").starts_with("unknown fault `explode`"));

    for (fault, status) in [("error500:1", 500), ("overloaded-429:1", 429)] {
        assert_eq!(set(fault).await.expect("an answer").status(), StatusCode::OK);
        assert_eq!(send(&running, "POST", chats, ask()).await.expect("an answer").status(), status);
    }
    set("refuse:1").await.expect("an answer");
    assert_eq!(running.stats().faults, ["refuse:1"]);
    assert!(send(&running, "POST", chats, ask()).await.is_err());

    set("reset-mid-stream:1").await.expect("an answer");
    let mut seen_to_begin = false;
    for _ in 0..20 {
        // A reset throws away what the client has not read yet, so a slow client may see no beginning.
        let Ok(response) = send(&running, "POST", chats, ask()).await else { continue };
        let (events, done) = events_of(response).await;
        assert!(!done, "{events:?}");
        seen_to_begin |= events.len() >= 2;
    }
    assert!(seen_to_begin);

    set("stall:1").await.expect("an answer");
    let stalled = events_of(send(&running, "POST", chats, ask()).await.expect("a first token"));
    assert!(tokio::time::timeout(Duration::from_millis(300), stalled).await.is_err());

    set("slow-first-byte:100ms").await.expect("an answer");
    let started = Instant::now();
    assert!(events_of(send(&running, "POST", chats, ask()).await.expect("an answer")).await.1);
    assert!(started.elapsed() >= Duration::from_millis(100));
    running.stop().await;
}

#[tokio::test]
async fn embeddings_are_the_same_in_both_encodings() {
    let running = start(config("cs3")).await;
    let ask =
        |format: &str| json!({"model": MODEL, "input": ["a", "bcdef"], "encoding_format": format, "dimensions": 8});
    let mut answers = Vec::new();
    for format in ["float", "base64"] {
        answers.push(json_of(send(&running, "POST", "/v1/embeddings", ask(format)).await.expect("an answer")).await);
    }
    let floats = answers[0]["data"][1]["embedding"].as_array().expect("numbers");
    let vector: Vec<f32> = floats.iter().map(|number| number.as_f64().expect("a number") as f32).collect();
    assert_eq!(answers[1]["data"][1]["embedding"], super::super::words::base64_floats(&vector));
    assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    assert_ne!(answers[0]["data"][0]["embedding"], answers[0]["data"][1]["embedding"]);
    assert_eq!(answers[0]["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
    running.stop().await;
}

#[tokio::test]
async fn health_models_and_metrics_answer() {
    let running = start(config("h100")).await;
    let models = json_of(send(&running, "GET", "/v1/models", Value::Null).await.expect("an answer")).await;
    assert_eq!(models["data"][0]["id"], MODEL);
    assert_eq!(send(&running, "GET", "/health", Value::Null).await.expect("an answer").status(), StatusCode::OK);
    let stats = json_of(send(&running, "GET", "/simulator/stats", Value::Null).await.expect("an answer")).await;
    assert_eq!((&stats["running"], &stats["kind"]), (&json!(0), &json!("gpu")));
    let metrics = send(&running, "GET", "/metrics", Value::Null).await.expect("an answer");
    let text = metrics.into_body().collect().await.expect("a body").to_bytes();
    for name in ["vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"] {
        let line = format!("{name}{{model_name=\"{MODEL}\"}} 0\n");
        assert!(String::from_utf8_lossy(&text).contains(&line), "{name}");
    }
    running.stop().await;
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_on_one_port_and_under_tls() {
    let made = rcgen::generate_simple_self_signed(vec!["simulator".to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let tls = crate::tls::server(&cert, &key).expect("a server configuration");
    let client = crate::tls::client(Some(&cert), crate::connect::Version::Http2).expect("a client configuration");
    let body = chat(json!({"stream": true, "max_tokens": 5}));
    for tls in [None, Some(tls)] {
        let running = start(SimulatorConfig { tls: tls.clone(), ..config("cs3") }).await;
        let socket = TcpStream::connect(running.address()).await.expect("it listens");
        let ask = || {
            let mut request = request("POST", "/v1/chat/completions", &body);
            *request.uri_mut() = "https://simulator/v1/chat/completions".parse().expect("an address");
            request
        };
        let response = if tls.is_some() {
            let name = ServerName::try_from("simulator").expect("a name");
            let socket = tokio_rustls::TlsConnector::from(client.clone()).connect(name, socket).await.expect("trusted");
            let (mut sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.expect("HTTP/2");
            tokio::spawn(connection);
            sender.send_request(ask()).await
        } else {
            let (mut sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.expect("HTTP/2");
            tokio::spawn(connection);
            sender.send_request(ask()).await
        };
        assert!(events_of(response.expect("an answer")).await.1);
        running.stop().await;
    }
}

#[tokio::test]
async fn a_stopped_machine_breaks_its_connections() {
    let running = start(config("h100")).await;
    let address = running.address();
    let ask = chat(json!({"stream": true, "max_tokens": 5000, "ignore_eos": true}));
    let response = send(&running, "POST", "/v1/chat/completions", ask).await.expect("a first token");
    running.stop().await;
    assert!(!events_of(response).await.1);
    assert!(TcpStream::connect(address).await.is_err());
}
