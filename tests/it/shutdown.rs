//! Shutdown: not ready, then no new connections, what runs finishes, and nobody can hold it up for ever.

use std::time::{Duration, Instant};

use pointsman_tests::client::{self, Ask, Connection, Next};
use pointsman_tests::files::{CHEAPEST, Files, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::{self, chat, endless, url};
use pointsman_tests::process::Served;
use pointsman_tests::run::beside_others;
use pointsman_tests::wait;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// For what happens at once, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(4);

fn files(timeouts: &str, endpoint: &str) -> Files {
    let process = format!("{PROCESS}[timeouts]\n{timeouts}\n");
    Files::new(&process, &portfolio(&[PoolText::new("gpu", [endpoint])]), CHEAPEST)
}

/// Which connection goes first is chance: the client's, or the machine's, of which the client is then told.
#[track_caller]
fn assert_was_cut((events, end): (Vec<String>, Next)) {
    let told = events.last().is_some_and(|event| event.contains("\"code\":\"stream_broken\""));
    assert!(told || matches!(end, Next::Broken(_)), "cut, and not like a good end: {:?}", events.last());
    assert!(!events.iter().any(|event| event == "[DONE]"));
}

/// The first request of a connection that was accepted when the end came may be on its way: it is not lost.
#[test]
fn a_first_request_that_is_on_its_way_is_answered() {
    beside_others(async {
        let machine = machines::start("h100").await;
        let files = files("lame_duck_s = 0.001\ndrain_s = 30", &url(&machine));
        let mut served = Served::start(files.folder(), &[]).await;
        let mut silent = TcpStream::connect(served.address).await.unwrap();
        wait::some("it is accepted", async || {
            let metrics = client::send(served.admin, Ask::get("/metrics")).await.text();
            metrics.contains("\npointsman_client_connections 1\n").then_some(())
        })
        .await;
        served.process.signal(Signal::TERM);
        wait::some("it refuses new connections", async || TcpStream::connect(served.address).await.err()).await;
        silent.write_all(b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut told = String::new();
        silent.read_to_string(&mut told).await.unwrap();
        assert!(told.starts_with("HTTP/1.1 200") && told.contains("connection: close"), "{told}");
        assert!(served.process.until_exit(AT_ONCE).success());
    });
}

#[test]
fn on_sigterm_it_turns_unready_then_refuses_then_finishes_what_runs() {
    beside_others(async {
        let machine = machines::start("h100").await;
        let files = files("lame_duck_s = 0.4\ndrain_s = 30", &url(&machine));
        let mut served = Served::start(files.folder(), &[]).await;
        let idle = Connection::http1(served.address).await;
        assert_eq!(idle.send(Ask::get("/v1/models")).await.status, 200);
        let mut stream = client::open(served.address, Ask::chat(&chat(3000, true))).await;
        let http2 = Connection::http2(served.address).await;
        let mut other = http2.open(Ask::chat(&chat(3000, true))).await;

        served.process.signal(Signal::TERM);
        wait::some("it is not ready", async || {
            let ready = client::send(served.admin, Ask::get("/readyz")).await;
            (ready.status == 503).then_some(())
        })
        .await;
        assert_eq!(client::send(served.admin, Ask::get("/livez")).await.status, 200);
        let late = client::send(served.address, Ask::chat(&chat(1, false))).await;
        assert_eq!(late.status, 200, "balancers need a moment to notice");
        wait::some("it refuses new connections", async || TcpStream::connect(served.address).await.err()).await;

        assert!(matches!(stream.next().await, Next::Event(_)), "the stream runs on");
        for (version, stream) in [("HTTP/1.1", &mut stream), ("HTTP/2", &mut other)] {
            let (events, end) = stream.rest().await;
            assert_eq!((events.last().map(String::as_str), end), (Some("[DONE]"), Next::End), "{version}");
        }
        assert!(served.process.until_exit(AT_ONCE).success());
    });
}

#[test]
fn a_last_request_on_a_kept_connection_is_answered_and_told_so() {
    beside_others(async {
        let machine = machines::start("h100").await;
        let files = files("lame_duck_s = 0\ndrain_s = 30", &url(&machine));
        let mut served = Served::start(files.folder(), &[]).await;
        let kept = Connection::http1(served.address).await;
        assert_eq!(kept.send(Ask::get("/v1/models")).await.header("connection"), "");
        let http2 = Connection::http2(served.address).await;
        assert_eq!(http2.send(Ask::get("/v1/models")).await.status, 200);
        served.process.signal(Signal::TERM);
        wait::some("it refuses new connections", async || TcpStream::connect(served.address).await.err()).await;
        let last = kept.send(Ask::chat(&chat(1, false))).await;
        assert_eq!((last.status.as_u16(), last.header("connection")), (200, "close"));
        // HTTP/2 has GOAWAY for it: what it has not taken was never sent.
        let late = http2.try_send(Ask::get("/v1/models")).await;
        assert!(late.as_ref().map_or_else(|error| error.is_closed() || error.is_canceled(), |_| true), "{late:?}");
        assert!(served.process.until_exit(AT_ONCE).success());
    });
}

#[test]
fn a_second_signal_ends_it_at_once() {
    beside_others(async {
        let machine = machines::start("h100").await;
        let files = files("drain_s = 60", &url(&machine));
        let mut served = Served::start(files.folder(), &[]).await;
        let mut stream = client::open(served.address, Ask::chat(&endless())).await;
        served.process.signal(Signal::TERM);
        served.process.until_printed("shutting down").await;
        let began = Instant::now();
        served.process.signal(Signal::TERM);
        served.process.until_exit(AT_ONCE);
        println!("ended {:?} after the second signal", began.elapsed());
        assert_was_cut(stream.rest().await);
        wait::until("the machine is let go", || machine.stats().cancelled == 1).await;
    });
}

#[test]
fn clients_that_never_read_or_never_speak_do_not_hold_it_up() {
    beside_others(async {
        let machine = machines::start("h100").await;
        let files = files("drain_s = 0.5", &url(&machine));
        let mut served = Served::start(files.folder(), &[]).await;
        let body = endless().to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut deaf = TcpStream::connect(served.address).await.unwrap();
        deaf.write_all((head + &body).as_bytes()).await.unwrap();
        wait::until("it streams", || machine.stats().running == 1).await;
        served.process.signal(Signal::INT);
        assert!(served.process.until_exit(AT_ONCE + Duration::from_secs(3)).success());
    });
}

#[test]
fn connections_on_which_nothing_runs_do_not_hold_it_up() {
    beside_others(async {
        // A head of which a part has come gets its time, like any other.
        let files = files("drain_s = 60\nhead_s = 0.5", "http://127.0.0.1:1");
        let mut served = Served::start(files.folder(), &[]).await;
        let _silent = TcpStream::connect(served.address).await.unwrap();
        let mut half = TcpStream::connect(served.address).await.unwrap();
        half.write_all(b"POST /v1/chat").await.unwrap();
        let idle = Connection::http1(served.address).await;
        assert_eq!(idle.send(Ask::get("/v1/models")).await.status, 200);
        let http2 = Connection::http2(served.address).await;
        assert_eq!(http2.send(Ask::get("/v1/models")).await.status, 200);
        served.process.signal(Signal::INT); // no pause
        assert!(served.process.until_exit(AT_ONCE).success());
    });
}

#[test]
fn what_still_runs_after_the_drain_time_is_cut() {
    beside_others(async {
        let machine = machines::start("h100").await;
        let gateway = Gateway::on(files("drain_s = 0.2", &url(&machine))).await;
        let mut stream = client::open(gateway.address(), Ask::chat(&endless())).await;
        gateway.running.drain().await;
        assert_was_cut(stream.rest().await);
        wait::until("the machine is let go", || machine.stats().cancelled == 1).await;
    });
}
