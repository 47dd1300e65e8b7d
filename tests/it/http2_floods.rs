//! HTTP/2 clients that ask for everything but work, in frames written by hand: bounded, and nobody else's loss.

use std::time::Duration;

use pointsman_tests::client::{Ask, Connection};
use pointsman_tests::files::{CHEAPEST, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::run::beside_others;
use pointsman_tests::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `GET http://a/v1/models` in HPACK, with the path as a literal.
const REQUEST: &[u8] = b"\x82\x86\x41\x01a\x04\x0a/v1/models";
/// Frames after which a flood should have been noticed.
const MANY: usize = 200_000;
const BATCH: usize = 500;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![high, middle, low, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

async fn gateway(keys: &str) -> Gateway {
    let pools = portfolio(&[PoolText::new("gpu", ["http://127.0.0.1:1"])]);
    Gateway::start(&format!("{PROCESS}{keys}\n"), &pools, CHEAPEST).await
}

/// How many frames of a flood a connection takes until it is ended, and the last that was said on it.
async fn taken(gateway: &Gateway, mut flood: impl FnMut(usize) -> Vec<u8>) -> (usize, Vec<u8>) {
    let (mut from, mut to) = TcpStream::connect(gateway.address()).await.unwrap().into_split();
    to.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).await.unwrap();
    let reading = tokio::spawn(async move {
        let mut told = Vec::new();
        let mut piece = [0_u8; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            told.extend_from_slice(&piece[..count]);
            told.drain(..told.len().saturating_sub(200));
        }
        told
    });
    let mut sent = 0;
    while sent < MANY && !reading.is_finished() {
        let batch: Vec<u8> = (sent..sent + BATCH).flat_map(&mut flood).collect();
        if to.write_all(&batch).await.is_err() {
            break;
        }
        sent += BATCH;
    }
    let told = tokio::time::timeout(wait::SOON, reading).await.expect("it is ended").unwrap();
    (sent, told)
}

#[test]
fn floods_end_the_connection_they_come_on_and_no_other() {
    beside_others(async {
        let gateway = gateway("").await;
        let neighbour = Connection::http2(gateway.address()).await;
        let number = |at: usize| u32::try_from(at * 2 + 1).unwrap();
        type Flood = Box<dyn FnMut(usize) -> Vec<u8>>;
        let floods: [(&str, Flood); 4] = [
            ("PING", Box::new(|_| frame(6, 0, 0, &[7; 8]))),
            ("SETTINGS", Box::new(|_| frame(4, 0, 0, &[0, 4, 0, 1, 0, 0]))),
            ("PRIORITY", Box::new(move |at| frame(2, 0, number(at), &[0, 0, 0, 0, 16]))),
            (
                "requests that are reset",
                Box::new(move |at| [frame(1, 5, number(at), REQUEST), frame(3, 0, number(at), &[0, 0, 0, 8])].concat()),
            ),
        ];
        for (told, (name, flood)) in (1..).zip(floods) {
            let (sent, _) = taken(&gateway, flood).await;
            assert!(sent < MANY, "{name}: all {sent} were taken");
            let cut = "pointsman_client_connections_cut_total{reason=\"http2-flood\"}";
            // h2 may notice resets first, those of streams that it has not given on.
            let counted = async || gateway.metric(cut).await >= f64::from(told.min(3));
            wait::some(name, async || counted().await.then_some(())).await;
            assert_eq!(neighbour.send(Ask::get("/v1/models")).await.status, 200, "{name}");
        }
    });
}

#[test]
fn a_header_block_that_never_ends_is_bounded_in_frames_and_in_time() {
    beside_others(async {
        let gateway = gateway("[timeouts]\nhead_s = 0.3").await;
        let block = |at: usize| if at == 0 { frame(1, 1, 1, REQUEST) } else { frame(9, 0, 1, &[]) };
        let (sent, told) = taken(&gateway, block).await;
        assert!(sent < MANY, "all {sent} were taken");
        let told = String::from_utf8_lossy(&told).into_owned();
        assert!(told.contains("too_many_continuations"), "{told:?}");

        for begun in [frame(1, 1, 1, REQUEST), frame(1, 5, 1, REQUEST)[..12].to_vec(), Vec::new()] {
            let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
            let settings = if begun.is_empty() { Vec::new() } else { frame(4, 0, 0, &[]) };
            stream.write_all(&[PREFACE, &settings, &begun].concat()).await.unwrap();
            let mut rest = Vec::new();
            let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
            assert!(ended.is_ok(), "{} bytes of a block keep a connection for ever", begun.len());
        }
        let cut = "pointsman_client_connections_cut_total{reason=\"head-timeout\"}";
        wait::some("each is counted", async || (gateway.metric(cut).await == 3.0).then_some(())).await;
    });
}
