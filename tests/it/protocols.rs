//! HTTP/1.1 and HTTP/2, with and without TLS, on both sides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pointsman_backends::connect::Version as Speaks;
use pointsman_tests::certificates::Certificates;
use pointsman_tests::client::{Ask, Connection, Next};
use pointsman_tests::double::{Act, Double, WHOLE};
use pointsman_tests::files::{CHEAPEST, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::{self, chat, url};
use pointsman_tests::run::beside_others;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

async fn whole_and_streamed(connection: &Connection) {
    let reply = connection.send(Ask::chat(&chat(5, false))).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["usage"]["completion_tokens"]), (200, &5.into()));
    let (events, end) = connection.open(Ask::chat(&chat(5, true))).await.rest().await;
    assert_eq!((events.last().map(String::as_str), end), (Some("[DONE]"), Next::End));
}

#[test]
fn clients_speak_either_version_without_tls() {
    beside_others(async {
        let machine = machines::start("cs3").await;
        let pools = portfolio(&[PoolText::new("gpu", [url(&machine)])]);
        let gateway = Gateway::start(PROCESS, &pools, CHEAPEST).await;
        let http2 = Connection::http2(gateway.address()).await;
        whole_and_streamed(&http2).await;
        let http1 = Connection::http1(gateway.address()).await;
        whole_and_streamed(&http1).await;
        whole_and_streamed(&http1).await; // kept alive
    });
}

#[test]
fn clients_agree_on_a_version_under_tls() {
    beside_others(async {
        let machine = machines::start("cs3").await;
        let made = Certificates::new();
        let tls = format!("[tls]\ncert_file = {:?}\nkey_file = {:?}\n", made.certificate(), made.key());
        let pools = portfolio(&[PoolText::new("gpu", [url(&machine)])]);
        let gateway = Gateway::start(&(PROCESS.to_owned() + &tls), &pools, CHEAPEST).await;
        for (offered, http2) in [(Speaks::Http1, false), (Speaks::Http2, true), (Speaks::Negotiated, true)] {
            let connection = Connection::tls(gateway.address(), made.client(offered)).await;
            assert_eq!(connection.is_http2(), http2, "{offered:?}");
            whole_and_streamed(&connection).await;
        }
    });
}

#[test]
fn machines_are_spoken_to_in_the_version_of_their_pool() {
    beside_others(async {
        for (http, expected) in [("auto", Version::HTTP_11), ("h1", Version::HTTP_11), ("h2", Version::HTTP_2)] {
            let machine = Double::always(Act::json(200, WHOLE)).await;
            let pool = PoolText::new("gpu", [machine.url()]).key(&format!("http = \"{http}\""));
            let gateway = Gateway::start(PROCESS, &portfolio(&[pool]), CHEAPEST).await;
            for _ in 0..2 {
                assert_eq!(gateway.send(Ask::chat(&chat(1, false))).await.status, 200);
            }
            assert_eq!(machine.last().version, expected, "{http}");
        }
    });
}

#[test]
fn machines_under_tls_are_trusted_by_their_authority_only() {
    beside_others(async {
        let (ours, foreign) = (Certificates::new(), Certificates::new());
        let machine = machines::tls("cs3", ours.server()).await;
        let endpoint = format!("https://localhost:{}", machine.address().port());
        for http in ["auto", "h1", "h2"] {
            let trusting = |authority| {
                let pool = PoolText::new("gpu", [&endpoint]).key(&format!("ca_file = {authority:?}"));
                portfolio(&[pool.key(&format!("http = \"{http}\""))])
            };
            let gateway = Gateway::start(PROCESS, &trusting(ours.authority()), CHEAPEST).await;
            whole_and_streamed(&Connection::http1(gateway.address()).await).await;

            let gateway = Gateway::start(PROCESS, &trusting(foreign.authority()), CHEAPEST).await;
            let reply = gateway.send(Ask::chat(&chat(5, false))).await;
            assert_eq!(reply.status, 503);
            let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.contains("TLS with localhost"), "{message}");
        }
    });
}

#[test]
fn many_streams_share_one_connection_of_a_client() {
    beside_others(async {
        let machines = [machines::start("h100").await, machines::start("h100").await];
        for http in ["h1", "h2"] {
            let pool = PoolText::new("gpu", machines.iter().map(url)).key(&format!("http = \"{http}\""));
            let gateway = Gateway::start(PROCESS, &portfolio(&[pool]), CHEAPEST).await;
            let connection = Connection::http2(gateway.address()).await;
            let mut streams = tokio::task::JoinSet::new();
            for _ in 0..100 {
                let connection = connection.clone();
                streams.spawn(async move { connection.open(Ask::chat(&chat(10, true))).await.rest().await });
            }
            for (events, end) in streams.join_all().await {
                assert_eq!((events.last().map(String::as_str), end), (Some("[DONE]"), Next::End));
                assert_eq!(
                    events.iter().filter(|event| event.contains("\"content\"")).count(),
                    11,
                    "role and 10 tokens"
                );
            }
        }
    });
}

#[test]
fn a_machine_that_closes_idle_connections_is_not_noticed() {
    beside_others(async {
        let machine = Double::always(Act::json(200, WHOLE).header("connection", "close")).await;
        let gateway = Gateway::start(PROCESS, &portfolio(&[PoolText::new("gpu", [machine.url()])]), CHEAPEST).await;
        let connection = Connection::http1(gateway.address()).await;
        for _ in 0..50 {
            let reply = connection.send(Ask::chat(&chat(1, false))).await;
            assert_eq!((reply.status.as_u16(), reply.header("x-pointsman-attempts")), (200, "1"));
        }
    });
}

/// Answers one request on each connection and closes it, without a word, when the next one is there.
async fn once_a_connection(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(async move {
            let (asked, enough) = (Arc::<AtomicU64>::default(), Arc::<Notify>::default());
            let told = Arc::clone(&enough);
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (asked, told) = (Arc::clone(&asked), Arc::clone(&told));
                async move {
                    let _ = request.into_body().collect().await?;
                    if asked.fetch_add(1, Ordering::Relaxed) > 0 {
                        told.notify_one();
                        std::future::pending::<()>().await;
                    }
                    let answer = Response::builder().header("content-type", "application/json");
                    Ok::<_, hyper::Error>(answer.body(Full::new(bytes::Bytes::from(WHOLE))).unwrap())
                }
            });
            let server = http2::Builder::new(TokioExecutor::new());
            tokio::select! {
                _ = server.serve_connection(TokioIo::new(stream), service) => {}
                () = enough.notified() => {}
            }
        });
    }
}

#[test]
fn a_shared_connection_that_dies_under_a_request_costs_no_attempt() {
    beside_others(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let machine = tokio::spawn(once_a_connection(listener));
        let pool = PoolText::new("gpu", [url]).key("http = \"h2\"");
        let gateway = Gateway::start(PROCESS, &portfolio(&[pool]), CHEAPEST).await;
        let connection = Connection::http1(gateway.address()).await;
        for round in 0..50 {
            let reply = connection.send(Ask::chat(&chat(1, false))).await;
            assert_eq!(
                (reply.status.as_u16(), reply.header("x-pointsman-attempts")),
                (200, "1"),
                "round {round}: {}",
                reply.text()
            );
        }
        machine.abort();
    });
}
