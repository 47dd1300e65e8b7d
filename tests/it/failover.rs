//! Failures before the first byte: the next endpoint answers and the client notices nothing but the number of attempts.

use pointsman_tests::client::{self, Ask, Next};
use pointsman_tests::double::{Act, DONE, Double, End, FIRST, LAST, WHOLE};
use pointsman_tests::files::{CHEAPEST, MODEL, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::{self, chat, url};
use pointsman_tests::run::beside_others;
use pointsman_tests::wait;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Asks the endpoint first, a good machine second.
async fn gateway(first: &str, second: &str) -> Gateway {
    let pools = [PoolText::new("first", [first]).price(1), PoolText::new("second", [second]).price(2)];
    let process = format!("{PROCESS}[timeouts]\nfirst_byte_s = 0.3\nconnect_s = 0.3\n");
    Gateway::start(&process, &portfolio(&pools), CHEAPEST).await
}

#[track_caller]
fn assert_answered_by_the_second(attempts: &str, endpoint: &str, case: &str) {
    assert_eq!(attempts, "2", "{case}");
    assert!(endpoint.starts_with("second/"), "{case}: {endpoint}");
}

async fn answers_in_spite_of(case: &str, first: &str) {
    let second = machines::start("cs3").await;
    let gateway = gateway(first, &url(&second)).await;
    let reply = gateway.send(Ask::chat(&chat(4, false))).await;
    assert_eq!(reply.status, 200, "{case}: {}", reply.text());
    assert_answered_by_the_second(reply.header("x-pointsman-attempts"), reply.header("x-pointsman-endpoint"), case);

    let fresh = self::gateway(first, &url(&second)).await;
    let mut stream = client::open(fresh.address(), Ask::chat(&chat(4, true))).await;
    assert_eq!(stream.status, 200, "{case}");
    let (attempts, endpoint) = (stream.header("x-pointsman-attempts"), stream.header("x-pointsman-endpoint"));
    assert_answered_by_the_second(attempts, endpoint, case);
    let (events, end) = stream.rest().await;
    assert_eq!((events.last().map(String::as_str), end), (Some("[DONE]"), Next::End), "{case}");
    assert!(!events.iter().any(|event| event.contains("error")), "{case}: {events:?}");
}

#[test]
fn nobody_there() {
    beside_others(async {
        answers_in_spite_of("a port that refuses", "http://127.0.0.1:1").await;
        answers_in_spite_of("a name that does not exist", "http://does-not-exist.invalid:1").await;
        let plain = machines::start("cs3").await;
        let endpoint = format!("https://localhost:{}", plain.address().port());
        answers_in_spite_of("a machine without TLS", &endpoint).await;
    });
}

#[test]
fn machines_that_answer_badly() {
    beside_others(async {
        for fault in ["error500:1", "overloaded-429:1", "refuse:1", "slow-first-byte:30s"] {
            let machine = machines::faulty("cs3", &[fault]).await;
            answers_in_spite_of(fault, &url(&machine)).await;
        }
        for status in [500, 502, 503, 504, 529] {
            let machine = Double::always(Act::json(status, "no JSON at all")).await;
            answers_in_spite_of(&format!("status {status}"), &machine.url()).await;
        }
        for status in [401, 403, 404] {
            let machine = Double::always(Act::json(status, "{\"error\":\"who are you?\"}")).await;
            answers_in_spite_of(&format!("status {status}, the gateway's fault"), &machine.url()).await;
        }
    });
}

#[test]
fn streams_that_fail_before_their_first_event() {
    beside_others(async {
        let error = "data: {\"error\":{\"message\":\"no memory\",\"type\":\"server_error\"}}\n\n";
        let streams = [
            ("breaks at once", Act::stream(&[], End::Broken)),
            ("ends at once", Act::stream(&[], End::Clean)),
            ("breaks after a comment", Act::stream(&[": hello\n\n"], End::Broken)),
            ("breaks inside its first event", Act::stream(&["data: {\"id\":"], End::Broken)),
            ("never begins", Act::stream(&[], End::Hang)),
            ("begins with an error event", Act::stream(&[error], End::Clean)),
        ];
        for (case, act) in streams {
            let machine = Double::start(move |seen| {
                let streamed = String::from_utf8_lossy(&seen.body).contains("\"stream\":true");
                if streamed { act.clone() } else { Act::close() }
            });
            answers_in_spite_of(case, &machine.await.url()).await;
        }
    });
}

#[test]
fn what_the_caller_did_wrong_is_passed_on_and_opens_no_breaker() {
    beside_others(async {
        let said = r#"{"error":{"message":"max_tokens is too large","type":"invalid_request_error","code":"x"}}"#;
        let machine = Double::always(Act::json(422, said).header("x-machine", "it was me")).await;
        let second = machines::start("cs3").await;
        let gateway = gateway(&machine.url(), &url(&second)).await;
        for stream in [false, true, false, true, false, true] {
            let reply = gateway.send(Ask::chat(&chat(4, stream))).await;
            assert_eq!((reply.status.as_u16(), reply.text().as_str()), (422, said));
            assert_eq!((reply.header("x-machine"), reply.header("x-pointsman-attempts")), ("it was me", "1"));
        }
        assert_eq!(gateway.endpoint("first").await["availability"], "ready");
        assert_eq!(second.stats().accepted, 0, "nobody else is bothered with it");
    });
}

#[test]
fn a_breaker_opens_after_repeated_failures_and_closes_again() {
    beside_others(async {
        let machine = machines::faulty("cs3", &["error500:1"]).await;
        let second = machines::start("cs3").await;
        let gateway = gateway(&url(&machine), &url(&second)).await;
        for attempts in ["2", "2", "2", "1"] {
            let reply = gateway.send(Ask::chat(&chat(4, false))).await;
            assert_eq!((reply.status.as_u16(), reply.header("x-pointsman-attempts")), (200, attempts));
        }
        let state = gateway.endpoint("first").await;
        assert_eq!(state["availability"], "breaker-open");
        assert!(state["retry_in_ms"].as_f64().is_some_and(|ms| ms > 0.0 && ms <= 1000.0), "{state}");

        machine.set_faults(Default::default());
        wait::some("the breaker lets a trial through and closes", async || {
            let reply = gateway.send(Ask::chat(&chat(4, false))).await;
            assert_eq!(reply.status, 200);
            (reply.header("x-pointsman-endpoint").starts_with("first/")).then_some(())
        })
        .await;
        assert_eq!(gateway.endpoint("first").await["availability"], "ready");
    });
}

#[test]
fn an_overloaded_machine_is_left_alone_for_as_long_as_it_asked() {
    beside_others(async {
        let busy = Double::always(Act::json(503, "{}").header("retry-after-ms", "400")).await;
        let second = machines::start("cs3").await;
        let gateway = gateway(&busy.url(), &url(&second)).await;
        for attempts in ["2", "1", "1"] {
            assert_eq!(gateway.send(Ask::chat(&chat(4, false))).await.header("x-pointsman-attempts"), attempts);
        }
        assert_eq!(gateway.endpoint("first").await["availability"], "back-pressure");
        wait::some("it is asked again", async || {
            gateway.send(Ask::chat(&chat(4, false))).await;
            (busy.seen().len() == 2).then_some(())
        })
        .await;
    });
}

/// hyper reports such a request as one whose fate is unknown; the answer had not begun, so it may be sent again.
#[test]
fn a_connection_that_was_closed_while_it_lay_idle_costs_no_attempt() {
    beside_others(async {
        let machine = closing::after_each_answer(Duration::from_millis(20)).await;
        let gateway = Gateway::start(PROCESS, &portfolio(&[PoolText::new("gpu", [machine])]), CHEAPEST).await;
        let connection = client::Connection::http1(gateway.address()).await;
        for round in 0..60 {
            let reply = connection.send(Ask::chat(&chat(1, false))).await;
            assert_eq!(reply.status, 200, "round {round}: {}", reply.text());
            assert_eq!(reply.header("x-pointsman-attempts"), "1", "round {round}");
            tokio::time::sleep(Duration::from_micros(18_000 + round * 70)).await; // about when it closes
        }
    });
}

#[test]
fn the_first_event_is_not_lost_when_it_comes_in_pieces() {
    beside_others(async {
        let (half, rest) = FIRST.split_at(20);
        let machine = Double::always(Act::stream(&[": ping\n\n", half, rest, LAST, DONE], End::Clean)).await;
        let gateway = gateway(&machine.url(), "http://127.0.0.1:1").await;
        let body = gateway.send(Ask::chat(&chat(1, true))).await.text();
        assert_eq!(body, format!(": ping\n\n{FIRST}{LAST}{DONE}"));
        let whole: Value = serde_json::from_str(WHOLE).unwrap();
        assert_eq!(whole["choices"][0]["message"]["content"], "Hello");
    });
}

mod closing {
    use super::{Duration, WHOLE};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    /// A machine that closes a connection, without a word, when it has been idle for this long.
    pub(super) async fn after_each_answer(idle: Duration) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, idle));
            }
        });
        url
    }

    async fn serve(mut stream: TcpStream, idle: Duration) {
        let mut buffer = [0_u8; 8192];
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{WHOLE}",
            WHOLE.len()
        );
        // A request of these tests fits one read.
        while let Ok(Ok(1..)) = tokio::time::timeout(idle, stream.read(&mut buffer)).await {
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// A machine that closed a kept connection says so at once, and the request is sent again without anybody knowing; one that
/// dies while it works has taken the work with it, and to try again is the route's to allow.
#[test]
fn a_kept_connection_that_dies_late_is_a_failure_and_one_that_dies_at_once_is_not() {
    beside_others(async {
        for (http, delay, expected) in [
            ("h1", Duration::ZERO, (200, 3)),
            ("h1", Duration::from_millis(400), (503, 2)),
            ("h2", Duration::from_millis(400), (503, 2)),
        ] {
            let count = AtomicUsize::new(0);
            let machine = Double::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
                1 => Act::close().after(delay),
                _ => Act::json(200, WHOLE),
            })
            .await;
            let pool = PoolText::new("gpu", [machine.url()]).key(&format!("http = \"{http}\""));
            let once = format!("{CHEAPEST}retry = {{ attempts = 1 }}\n");
            let gateway = Gateway::start(PROCESS, &portfolio(&[pool]), &once).await;
            assert_eq!(gateway.send(Ask::chat(&chat(9, false))).await.status, 200);
            let reply = gateway.send(Ask::chat(&chat(9, false))).await;
            assert_eq!((reply.status.as_u16(), machine.seen().len()), expected, "{http} after {delay:?}");
        }
    });
}

/// Who says that it is not well gets no work before any request fails; who lists a model no more gets no work for it.
#[test]
fn machines_are_asked_whether_they_are_well_and_what_they_have() {
    beside_others(async {
        let list = |model: &str| Act::json(200, &format!("{{\"data\":[{{\"id\":\"{model}\"}}]}}"));
        for bad in [Act::json(503, "{}"), Act::close(), list("another")] {
            let sound = Arc::new(AtomicBool::new(true));
            let (asked, listed) = (Arc::clone(&sound), list(MODEL));
            let machine = Double::start(move |seen| match (seen.path.as_str(), asked.load(Ordering::Relaxed)) {
                ("/v1/models", true) => listed.clone(),
                ("/v1/models", false) => bad.clone(),
                _ => Act::json(200, WHOLE),
            })
            .await;
            let second = Double::always(Act::json(200, WHOLE)).await;
            let health = "health = \"/v1/models\"\nhealth_interval_ms = 50";
            let pools = [
                PoolText::new("first", [machine.url()]).price(1).key(health),
                PoolText::new("second", [second.url()]).price(9),
            ];
            let gateway = Gateway::start(PROCESS, &portfolio(&pools), CHEAPEST).await;
            let served = async |pool: &str| {
                let reply = gateway.send(Ask::chat(&chat(4, false))).await;
                assert_eq!(reply.status, 200);
                reply.header("x-pointsman-endpoint").starts_with(pool)
            };
            assert!(served("first").await);
            sound.store(false, Ordering::Relaxed);
            wait::some("it is left alone", async || served("second").await.then_some(())).await;
            assert_eq!(gateway.endpoint("first").await["availability"], "breaker-open");
            let told = gateway.admin("/api/v1/backends").await.json()["backends"].clone();
            let probed = |pool: &str| {
                let one = told.as_array().and_then(|all| all.iter().find(|one| one["pool"] == pool)).expect("the pool");
                one["probe"].clone()
            };
            assert_eq!(
                (&probed("first")["well"], probed("second").is_null()),
                (&serde_json::json!(false), true),
                "{told}"
            );
            assert!(probed("first")["age_s"].as_f64().is_some_and(|age_s| age_s < 60.0), "{told}");
            sound.store(true, Ordering::Relaxed);
            wait::some("it is asked again", async || served("first").await.then_some(())).await;
        }
    });
}
