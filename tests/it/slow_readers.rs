//! Clients that read more slowly than their machine writes: kept for up to a bound, cut beyond it, and nobody else's loss.
//! h2 ends a whole connection over small frames that are left unread, so no answer may be left unread for its client's sake.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pointsman_tests::client::{Ask, Connection};
use pointsman_tests::double::{Act, DONE, Double, End};
use pointsman_tests::files::{CHEAPEST, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::chat;
use pointsman_tests::run::beside_others;
use pointsman_tests::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A stream's window of a client that does not read, bytes.
const WINDOW: u32 = 2 << 10;
/// Clients that do not read.
const DEAF: usize = 30;

async fn gateway(keys: &str, machine: &Double, http: &str) -> Gateway {
    let pool = PoolText::new("gpu", [machine.url()]).key(&format!("http = \"{http}\""));
    Gateway::start(&format!("{PROCESS}{keys}\n"), &portfolio(&[pool]), CHEAPEST).await
}

/// Numbered events of a size, and the end of a stream.
fn events(size: usize, count: usize) -> Vec<String> {
    let mut events: Vec<String> = (0..count)
        .map(|number| {
            let mut event = format!("data: {{\"n\":{number},\"x\":\"");
            let rest = size.saturating_sub(event.len() + 4);
            let _ = write!(event, "{}\"}}\n\n", "x".repeat(rest));
            event
        })
        .collect();
    events.push(DONE.to_owned());
    events
}

fn machine_of(events: &[String]) -> impl Future<Output = Double> {
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    Double::always(Act::stream(&events, End::Clean))
}

/// A connection of a client that takes little at a time.
async fn narrow(gateway: &Gateway) -> http2::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(gateway.address()).await.unwrap();
    let mut client = http2::Builder::new(TokioExecutor::new());
    client.initial_stream_window_size(WINDOW);
    let (sender, connection) = client.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    sender
}

async fn ask(sender: &mut http2::SendRequest<Full<Bytes>>) -> Incoming {
    let body = Full::new(Bytes::from(chat(9, true).to_string()));
    let request = Request::post("http://a/v1/chat/completions").header("content-type", "application/json");
    sender.ready().await.unwrap();
    sender.send_request(request.body(body).unwrap()).await.unwrap().into_body()
}

#[test]
fn small_frames_that_clients_leave_unread_end_no_connection_and_hold_no_machine() {
    beside_others(async {
        for (http, size) in [("h2", 40), ("h2", 120), ("h2", 300), ("h1", 40)] {
            let case = format!("machine {http}, frames of {size} bytes");
            let events = events(size, (200 << 10) / size);
            let machine = machine_of(&events).await;
            let gateway = gateway("", &machine, http).await;
            let mut sender = narrow(&gateway).await;
            let mut deaf = Vec::new();
            for _ in 0..DEAF {
                deaf.push(ask(&mut sender).await);
            }
            // The machine has ended them all, and is free, while their clients have taken next to nothing.
            gateway.until_in_flight(0).await;
            let kept = gateway.inner().kept_for_clients().load(Ordering::Relaxed);
            assert!(kept > DEAF * (150 << 10) && kept < DEAF * (256 << 10), "{case}: {kept} bytes kept");
            let neighbour = Connection::http1(gateway.address()).await.send(Ask::chat(&chat(9, true))).await;
            assert_eq!((neighbour.status.as_u16(), neighbour.text()), (200, events.concat()), "{case}");
            for body in deaf {
                let all = body.collect().await.unwrap().to_bytes();
                assert!(all == events.concat(), "{case}: {} bytes of {}", all.len(), events.concat().len());
            }
            let nothing = || gateway.inner().kept_for_clients().load(Ordering::Relaxed) == 0;
            wait::until("nothing is kept any more", nothing).await;
            let answered =
                "pointsman_requests_total{class=\"interactive\",pool=\"gpu\",hardware=\"gpu\",outcome=\"answered\"}";
            assert_eq!(gateway.metric(answered).await, DEAF as f64 + 1.0, "{case}: told when they had it all");
        }
    });
}

/// More than is kept and all sockets hold: 64 MiB.
fn too_much() -> Vec<String> {
    events(64 << 10, 1024)
}

#[test]
fn a_client_that_stays_behind_is_cut_and_others_on_its_connection_are_not() {
    beside_others(async {
        for http in ["h1", "h2"] {
            let machine = machine_of(&too_much()).await;
            let gateway = gateway("[timeouts]\nclient_behind_s = 0.4", &machine, http).await;
            let mut sender = narrow(&gateway).await;
            let began = Instant::now();
            let mut slow = ask(&mut sender).await;
            let cut = loop {
                // It reads, but less than it is behind.
                match slow.frame().await {
                    Some(Ok(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                    Some(Err(error)) => break error,
                    None => panic!("machine {http}: its end looks like a good one"),
                }
            };
            let took = began.elapsed();
            assert!(
                took > Duration::from_millis(300) && took < Duration::from_secs(8),
                "machine {http}: {took:?}: {cut}"
            );
            gateway.until_in_flight(0).await;
            assert!(told_slow(&gateway).await, "machine {http}");
            let models = Request::get("http://a/v1/models").body(Full::default()).unwrap();
            assert_eq!(
                sender.send_request(models).await.unwrap().status(),
                200,
                "machine {http}: the connection lives"
            );
            assert_eq!(gateway.inner().kept_for_clients().load(Ordering::Relaxed), 0);
        }
    });
}

async fn told_slow(gateway: &Gateway) -> bool {
    let slow = "pointsman_requests_total{class=\"interactive\",pool=\"gpu\",hardware=\"gpu\",outcome=\"client-slow\"}";
    gateway.metric(slow).await == 1.0
}

#[test]
fn a_client_that_takes_nothing_is_cut_over_http2_too() {
    beside_others(async {
        // Less than is kept: nothing but the clock of what was taken tells.
        let machine = machine_of(&events(120, 1000)).await;
        let gateway = gateway("[timeouts]\nclient_write_s = 0.3", &machine, "h2").await;
        let mut sender = narrow(&gateway).await;
        let deaf = ask(&mut sender).await;
        assert!(told_slow(&gateway).await);
        let read = deaf.collect().await;
        assert!(read.is_err(), "it is reset");
    });
}

#[test]
fn a_slow_client_of_http1_is_cut_and_its_machine_let_go() {
    beside_others(async {
        let machine = machine_of(&too_much()).await;
        let gateway = gateway("[timeouts]\nclient_behind_s = 0.4", &machine, "h1").await;
        let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
        let body = chat(9, true).to_string();
        let length = body.len();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        let reading = tokio::spawn(async move {
            let mut piece = vec![0_u8; 1 << 10];
            while let Ok(1..) = stream.read(&mut piece).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(told_slow(&gateway).await);
        gateway.until_in_flight(0).await;
        let cut = "pointsman_client_connections_cut_total{reason=\"slow-reader\"}";
        wait::some("it is counted", async || (gateway.metric(cut).await == 1.0).then_some(())).await;
        reading.abort();
    });
}

/// The time that an answer may take goes by while its client leaves no room for it.
#[test]
fn an_answer_that_takes_too_long_ends_though_its_client_is_behind() {
    beside_others(async {
        for http in ["h2", "h1"] {
            let mut events = events(300, 2000);
            events.pop();
            let pieces: Vec<&str> = events.iter().map(String::as_str).collect();
            let machine = Double::always(Act::stream(&pieces, End::Hang)).await;
            let keys = "[limits]\nclient_buffer_bytes = 4096\n[timeouts]\ntotal_s = 1";
            let gateway = gateway(keys, &machine, http).await;
            let mut sender = narrow(&gateway).await;
            let body = ask(&mut sender).await;
            gateway.until_in_flight(0).await; // not when the client is cut, which is after half a minute
            let all = body.collect().await.unwrap().to_bytes();
            let told = String::from_utf8(all.to_vec()).unwrap();
            let last = told.trim_end().lines().last().unwrap();
            assert!(last.contains("stream_broken") && last.contains("timeouts.total_s"), "machine {http}: {last}");
            let sent = told.len() / 300;
            assert!(sent < 2000, "what was kept for it, not all that the machine had: {sent} events");
            assert_eq!(gateway.inner().kept_for_clients().load(Ordering::Relaxed), 0);
        }
    });
}

#[test]
fn what_is_kept_for_all_clients_is_bounded() {
    beside_others(async {
        const ALL: usize = 1 << 20;
        let machine = machine_of(&events(300, 2000)).await;
        let gateway = gateway(&format!("[limits]\nclient_buffers_bytes = {ALL}"), &machine, "h2").await;
        let mut sender = narrow(&gateway).await;
        let mut deaf = Vec::new();
        for _ in 0..DEAF {
            deaf.push(ask(&mut sender).await);
        }
        let kept = || gateway.inner().kept_for_clients().load(Ordering::Relaxed);
        wait::until("it is full", || kept() >= ALL).await;
        assert!(kept() < ALL + DEAF * 300, "{}", kept());
        for body in deaf {
            let all = body.collect().await.unwrap().to_bytes(); // who waited for room gets everything, later
            assert_eq!(all.len(), 2000 * 300 + DONE.len());
        }
        assert_eq!(kept(), 0);
    });
}
