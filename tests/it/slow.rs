//! Clients and machines that are too slow: every phase has its limit.

use std::time::{Duration, Instant};

use pointsman_tests::certificates::Certificates;
use pointsman_tests::client::{self, Ask, Next, send_bytes};
use pointsman_tests::double::{Act, Double, End, FIRST, WHOLE};
use pointsman_tests::files::{CHEAPEST, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::chat;
use pointsman_tests::run::beside_others;
use pointsman_tests::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const QUIET: Duration = Duration::from_secs(5);

async fn gateway(timeouts: &str, endpoint: &str) -> Gateway {
    let process = format!("{PROCESS}[timeouts]\n{timeouts}\n");
    Gateway::start(&process, &portfolio(&[PoolText::new("gpu", [endpoint])]), CHEAPEST).await
}

#[test]
fn a_head_that_never_ends_is_given_up() {
    beside_others(async {
        let gateway = gateway("head_s = 0.2", "http://127.0.0.1:1").await;
        let began = Instant::now();
        let head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nx-slow: ";
        send_bytes(gateway.address(), head, QUIET).await;
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(150) && took < Duration::from_secs(3), "closed after {took:?}");
    });
}

#[test]
fn a_body_that_stops_coming_is_given_up() {
    beside_others(async {
        let gateway = gateway("body_idle_s = 0.2", "http://127.0.0.1:1").await;
        let began = Instant::now();
        let part = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"model\":";
        let answer = send_bytes(gateway.address(), part, QUIET).await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body_timeout"), "{answer}");
        assert!(began.elapsed() < Duration::from_secs(3), "after {:?}", began.elapsed());
    });
}

#[test]
fn a_body_that_drips_for_ever_is_given_up() {
    beside_others(async {
        let gateway = gateway("body_idle_s = 5\nbody_s = 0.4", "http://127.0.0.1:1").await;
        let began = Instant::now();
        let head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n";
        let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
        stream.write_all(head).await.unwrap();
        let (mut from, mut to) = stream.into_split();
        let drip = tokio::spawn(async move {
            while to.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let mut answer = vec![0_u8; 4096];
        let count = from.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..count]);
        drip.abort();
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body_too_slow"), "{answer}");
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(350) && took < Duration::from_secs(3), "after {took:?}");
    });
}

/// Every phase that a client can drag out, by the reason under which its end is counted.
#[test]
fn a_client_that_drags_out_a_phase_is_cut_and_counted() {
    beside_others(async {
        let gateway = gateway("head_s = 0.3", "http://127.0.0.1:1").await;
        let second = b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\nGET /v1/mod";
        let cases =
            [(&b"GET / HT"[..], "head-timeout", 1.0), (second, "head-timeout", 2.0), (&second[..36], "idle", 1.0)];
        for (bytes, reason, count) in cases {
            let began = Instant::now();
            send_bytes(gateway.address(), bytes, QUIET).await;
            assert!(began.elapsed() < Duration::from_secs(3), "{reason}: after {:?}", began.elapsed());
            let name = format!("pointsman_client_connections_cut_total{{reason=\"{reason}\"}}");
            wait::some(reason, async || (gateway.metric(&name).await == count).then_some(())).await;
        }
    });
}

#[test]
fn a_connection_that_says_nothing_is_cut_with_tls_and_without() {
    beside_others(async {
        let made = Certificates::new();
        let tls = format!("[tls]\ncert_file = {:?}\nkey_file = {:?}\n", made.certificate(), made.key());
        for (tls, reason) in [("", "first-byte-timeout"), (tls.as_str(), "tls-timeout")] {
            let process = format!("{PROCESS}{tls}[timeouts]\nopening_s = 0.2\n");
            let pools = portfolio(&[PoolText::new("gpu", ["http://127.0.0.1:1"])]);
            let gateway = Gateway::start(&process, &pools, CHEAPEST).await;
            let began = Instant::now();
            assert_eq!(send_bytes(gateway.address(), b"", QUIET).await, "");
            assert!(began.elapsed() < Duration::from_secs(3), "{reason}: after {:?}", began.elapsed());
            let cut = format!("pointsman_client_connections_cut_total{{reason=\"{reason}\"}}");
            wait::some(reason, async || (gateway.metric(&cut).await == 1.0).then_some(())).await;
        }
    });
}

/// More than two sockets hold between them: 64 MiB in events of 256 KiB.
fn too_much() -> Vec<String> {
    vec![format!("data: {{\"choices\":[],\"x\":\"{}\"}}\n\n", "x".repeat(256 << 10)); 256]
}

#[test]
fn a_client_that_never_reads_its_answer_is_cut_and_the_machine_let_go() {
    beside_others(async {
        let events = too_much();
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        let machine = Double::always(Act::stream(&events, End::Clean)).await;
        let gateway = gateway("client_write_s = 0.3", &machine.url()).await;
        let body = chat(1, true).to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut deaf = TcpStream::connect(gateway.address()).await.unwrap();
        deaf.write_all((head + &body).as_bytes()).await.unwrap();
        wait::until("it is asked", || machine.seen().len() == 1).await;
        gateway.until_in_flight(0).await;
        let text = gateway.admin("/metrics").await.text();
        assert!(text.contains("outcome=\"client-slow\"} 1"), "{text}");
    });
}

#[test]
fn a_machine_that_never_answers_is_given_up() {
    beside_others(async {
        let machine = Double::always(Act::json(200, WHOLE).after(Duration::from_secs(60))).await;
        let gateway = gateway("first_byte_s = 0.2", &machine.url()).await;
        for stream in [false, true] {
            let reply = gateway.send(Ask::chat(&chat(1, stream))).await;
            assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (504, "1"));
            assert_eq!(reply.json()["error"]["code"], "backends_timed_out");
            let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.contains("no first byte within 0.2 s"), "{message}");
        }
    });
}

#[test]
fn a_stream_that_falls_silent_ends_in_an_error_event() {
    beside_others(async {
        let machine = Double::always(Act::stream(&[FIRST], End::Hang)).await;
        let gateway = gateway("event_idle_s = 0.2", &machine.url()).await;
        let began = Instant::now();
        let (events, end) = client::open(gateway.address(), Ask::chat(&chat(9, true))).await.rest().await;
        assert!(began.elapsed() < Duration::from_secs(3), "after {:?}", began.elapsed());
        assert_eq!((events.len(), end), (2, Next::End));
        insta::assert_snapshot!(events[1], @r#"{"error":{"code":"stream_broken","message":"the stream broke: the machine sent nothing for 200ms","param":null,"type":"server_error"}}"#);
    });
}

#[test]
fn a_stream_that_takes_too_long_altogether_ends_in_an_error_event() {
    beside_others(async {
        let machine = pointsman_tests::machines::start("h100").await;
        let gateway = gateway("total_s = 0.4", &pointsman_tests::machines::url(&machine)).await;
        let ask = Ask::chat(&pointsman_tests::machines::endless());
        let (events, end) = client::open(gateway.address(), ask).await.rest().await;
        let last = events.last().unwrap();
        assert!(end == Next::End && last.contains("timeouts.total_s") && last.contains("stream_broken"), "{last}");
    });
}

#[test]
fn a_whole_answer_that_stops_half_way_is_not_passed_off_as_whole() {
    beside_others(async {
        let half = Act::stream(&["{\"choices\":["], End::Hang).header("content-type", "application/json");
        let machine = Double::always(half).await;
        let gateway = gateway("event_idle_s = 0.2", &machine.url()).await;
        let broke = client::Connection::http1(gateway.address()).await.try_send(Ask::chat(&chat(9, false))).await;
        assert!(broke.is_err(), "{broke:?}");
    });
}
