//! What one client can take from others before it is heard: connections, descriptors, places, time.

use std::time::{Duration, Instant};

use pointsman_tests::client::{Ask, Connection, Next};
use pointsman_tests::double::{Act, Double, End, FIRST, WHOLE};
use pointsman_tests::files::{CHEAPEST, Files, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::chat;
use pointsman_tests::process::Served;
use pointsman_tests::run::beside_others;
use pointsman_tests::wait;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MODELS: &[u8] = b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n";

async fn gateway(keys: &str, machine: &Double) -> Gateway {
    let process = format!("{PROCESS}{keys}\n");
    Gateway::start(&process, &portfolio(&[PoolText::new("gpu", [machine.url()])]), CHEAPEST).await
}

/// Whether a connection is answered; else it was closed.
async fn is_answered(stream: &mut TcpStream) -> bool {
    let mut answer = vec![0_u8; 4096];
    let asked = stream.write_all(MODELS).await.is_ok();
    let read = tokio::time::timeout(wait::SOON, stream.read(&mut answer)).await.expect("an answer or an end");
    asked && read.is_ok() && answer.starts_with(b"HTTP/1.1 200") // it is small and comes at once
}

#[test]
fn one_address_cannot_take_all_connections() {
    beside_others(async {
        let machine = Double::always(Act::json(200, WHOLE)).await;
        let gateway = gateway("[limits]\nconnections_per_address = 3", &machine).await;
        let mut kept = Vec::new();
        for _ in 0..3 {
            let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
            assert!(is_answered(&mut stream).await);
            kept.push(stream);
        }
        for _ in 0..5 {
            let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
            assert!(!is_answered(&mut stream).await, "a fourth is closed");
        }
        assert_eq!(gateway.metric("pointsman_client_connections_cut_total{reason=\"per-address\"}").await, 5.0);
        assert_eq!(gateway.metric("pointsman_client_connections ").await, 3.0);
        assert!(is_answered(&mut kept[0]).await, "those that are there are served as before");
        drop(kept.pop());
        wait::some("its place is free again", async || {
            let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
            is_answered(&mut stream).await.then_some(())
        })
        .await;
    });
}

#[test]
fn everybody_on_loopback_is_not_one_client_unless_that_is_said() {
    beside_others(async {
        let machine = Double::always(Act::json(200, WHOLE)).await;
        let gateway = gateway("", &machine).await;
        let mut kept = Vec::new();
        for _ in 0..250 {
            let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
            assert!(is_answered(&mut stream).await, "{} are open", kept.len());
            kept.push(stream);
        }
    });
}

#[test]
fn one_caller_cannot_have_everything_running() {
    beside_others(async {
        let machine = Double::always(Act::stream(&[FIRST], End::Hang)).await;
        let gateway = gateway("[limits]\nrequests_per_caller = 2", &machine).await;
        let ask = |key: &str| Ask::chat(&chat(9, true)).header("authorization", key);
        let mut running = Vec::new();
        for _ in 0..2 {
            let mut stream = Connection::http1(gateway.address()).await.open(ask("Bearer a")).await;
            assert!(matches!(stream.next().await, Next::Event(_)));
            running.push(stream);
        }
        let reply = gateway.send(ask("Bearer a")).await;
        assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (429, "1"));
        insta::assert_snapshot!(reply.json()["error"]["message"].as_str().unwrap(), @"this caller has 2 requests running, as many as `limits.requests_per_caller` allows; wait for one to end");
        let other = Connection::http2(gateway.address()).await.open(ask("Bearer b")).await;
        assert_eq!(other.status, 200, "another caller is served");
        drop(running.pop());
        wait::some("its place is free again", async || {
            let stream = Connection::http2(gateway.address()).await.open(ask("Bearer a")).await;
            (stream.status == 200).then_some(())
        })
        .await;
    });
}

#[test]
fn a_connection_is_not_kept_for_ever() {
    beside_others(async {
        let machine = Double::always(Act::stream(&[FIRST], End::Hang)).await;
        let gateway = gateway("[timeouts]\nconnection_age_s = 0.5\nevent_idle_s = 1.5", &machine).await;
        let began = Instant::now();
        let http2 = Connection::http2(gateway.address()).await;
        let mut stream = http2.open(Ask::chat(&chat(9, true))).await;
        let mut old = TcpStream::connect(gateway.address()).await.unwrap();
        assert!(is_answered(&mut old).await);
        let mut rest = Vec::new();
        tokio::time::timeout(wait::SOON, old.read_to_end(&mut rest)).await.expect("it is closed").unwrap();
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(400) && took < Duration::from_secs(5), "closed after {took:?}");
        let aged = "pointsman_client_connections_asked_to_end_total{reason=\"age\"}";
        wait::some("both are", async || (gateway.metric(aged).await == 2.0).then_some(())).await;
        // A stream that runs is not cut by it, and after it nothing new is begun there.
        let (events, end) = stream.rest().await;
        assert!(end == Next::End && events.last().is_some_and(|last| last.contains("nothing for 1.5s")), "{events:?}");
        assert!(http2.try_open(Ask::get("/v1/models")).await.is_err());
    });
}

/// The descriptors that a process may have, and has.
fn set_descriptors(process: u32, most: u64) {
    let pid = Pid::from_raw(process.try_into().unwrap());
    let maximum = getrlimit(Resource::Nofile).maximum;
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(most), maximum }).unwrap();
}

/// Whether a counter is there and has counted.
fn counted(metrics: &str, counter: &str) -> bool {
    let line = metrics.lines().find(|line| line.starts_with(counter)).expect("it is there from the start");
    !line.ends_with(" 0")
}

#[test]
fn running_out_of_descriptors_neither_ends_nor_deafens_the_gateway() {
    beside_others(async {
        let machine = pointsman_tests::machines::start("h100").await;
        let pools = portfolio(&[PoolText::new("gpu", [pointsman_tests::machines::url(&machine)])]);
        let files = Files::new(PROCESS, &pools, CHEAPEST);
        let served = Served::start(files.folder(), &[]).await;
        let admin = Connection::http1(served.admin).await;
        let mut stream =
            Connection::http1(served.address).await.open(Ask::chat(&pointsman_tests::machines::endless())).await;
        assert!(matches!(stream.next().await, Next::Event(_)));
        let open = std::fs::read_dir(format!("/proc/{}/fd", served.process.id())).unwrap().count() as u64;
        let metrics = async || admin.send(Ask::get("/metrics")).await.text();
        assert!(metrics().await.contains("pointsman_client_connections 1"));
        set_descriptors(served.process.id(), open + 2);

        let mut waiting = Vec::new();
        for _ in 0..8 {
            waiting.push(TcpStream::connect(served.address).await.unwrap());
        }
        let failed = "pointsman_client_connections_not_accepted_total{reason=\"file-descriptors\"}";
        wait::some("it has no descriptor for them", async || counted(&metrics().await, failed).then_some(())).await;
        for _ in 0..100 {
            assert!(matches!(stream.next().await, Next::Event(_)), "who is connected lives on");
        }
        let told = "pointsman_client_connections_cut_total{reason=\"file-descriptors\"}";
        wait::some("those who wait long are told", async || counted(&metrics().await, told).then_some(())).await;
        let lines = served.process.stderr().matches("cannot accept connections").count();
        assert_eq!(lines, 1, "the log is not flooded");

        set_descriptors(served.process.id(), open + 100);
        wait::some("it accepts again", async || {
            let mut stream = TcpStream::connect(served.address).await.unwrap();
            is_answered(&mut stream).await.then_some(())
        })
        .await;
    });
}
