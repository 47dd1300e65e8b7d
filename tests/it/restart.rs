//! One process after the other: listening sockets are handed on, and no request is lost.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pointsman_tests::client::{Ask, Connection, Next, send};
use pointsman_tests::files::{CHEAPEST, Files, PROCESS, PoolText, portfolio};
use pointsman_tests::machines::{self, chat, url};
use pointsman_tests::process::{Process, Served};
use pointsman_tests::run::beside_others;
use pointsman_tests::wait;
use rustix::process::Signal;
use tokio::task::JoinSet;

/// Restarts under load.
const RESTARTS: usize = 3;
/// Streams of 3,000 tokens take a few seconds to end.
const LAST_STREAMS: Duration = Duration::from_secs(40);

/// What was sent, and what became of it.
#[derive(Debug, Default)]
struct Ledger {
    sent: AtomicUsize,
    ok: AtomicUsize,
    failed: AtomicUsize,
}

impl Ledger {
    fn note(&self, ok: bool) {
        (if ok { &self.ok } else { &self.failed }).fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether a connection ended well, with a last stream before this one. One that was taken would end otherwise: it goes on
/// behind GOAWAY, and breaks with the connection where it breaks.
fn was_not_taken(error: &hyper::Error) -> bool {
    format!("{error:?}").contains(r#"GoAway(b"", NO_ERROR, Remote)"#)
}

/// Sends one request after the other, on one connection as long as it is not said to be the last.
async fn keep_asking(address: SocketAddr, http2: bool, ledger: Arc<Ledger>, over: Arc<AtomicBool>) {
    let connect = async || match http2 {
        true => Connection::http2(address).await,
        false => Connection::http1(address).await,
    };
    let mut connection = connect().await;
    while !over.load(Ordering::Relaxed) {
        match connection.try_send(Ask::chat(&chat(1, false))).await {
            Ok(reply) => {
                ledger.sent.fetch_add(1, Ordering::Relaxed);
                ledger.note(reply.status == 200);
                if reply.status != 200 {
                    println!("http2 {http2}: {} {}", reply.status, reply.text());
                }
                if reply.header("connection") == "close" {
                    connection = connect().await;
                }
            }
            // HTTP/2 says which requests were not taken: GOAWAY came before them, and they were never sent, or it names an
            // earlier stream as the last, and they may be sent again (RFC 9113, 6.8), as clients do.
            Err(error) if http2 && (error.is_canceled() || error.is_closed() || was_not_taken(&error)) => {
                connection = connect().await;
            }
            Err(error) => {
                ledger.sent.fetch_add(1, Ordering::Relaxed);
                ledger.note(false);
                println!("http2 {http2}: {error:?}");
                connection = connect().await;
            }
        }
    }
}

/// Sends each request on a connection of its own: it waits in the socket while nobody accepts.
async fn keep_connecting(address: SocketAddr, ledger: Arc<Ledger>, over: Arc<AtomicBool>) {
    while !over.load(Ordering::Relaxed) {
        ledger.sent.fetch_add(1, Ordering::Relaxed);
        let reply = Connection::http1(address).await.try_send(Ask::chat(&chat(1, false))).await;
        ledger.note(reply.as_ref().is_ok_and(|reply| reply.status == 200));
        if !reply.as_ref().is_ok_and(|reply| reply.status == 200) {
            println!("anew: {reply:?}");
        }
    }
}

#[test]
fn successors_take_over_under_load_and_nothing_is_lost() {
    beside_others(async {
        let machine = machines::start("h100").await;
        let files = Files::new(PROCESS, &portfolio(&[PoolText::new("gpu", [url(&machine)])]), CHEAPEST);
        let mut serving = Served::start(files.folder(), &[]).await;
        let (address, admin) = (serving.address, serving.admin);
        let (ledger, over) = (Arc::new(Ledger::default()), Arc::new(AtomicBool::new(false)));
        let mut load = JoinSet::new();
        for number in 0..6 {
            let (ledger, over) = (Arc::clone(&ledger), Arc::clone(&over));
            match number % 3 {
                0 => load.spawn(keep_asking(address, false, ledger, over)),
                1 => load.spawn(keep_asking(address, true, ledger, over)),
                _ => load.spawn(keep_connecting(address, ledger, over)),
            };
        }
        let mut streams = JoinSet::new();
        for _ in 0..RESTARTS {
            for http2 in [false, true] {
                let connection =
                    if http2 { Connection::http2(address).await } else { Connection::http1(address).await };
                let mut stream = connection.open(Ask::chat(&chat(1500, true))).await;
                assert!(matches!(stream.next().await, Next::Event(_)));
                streams.spawn(async move { stream.rest().await });
            }
            let successor = Served::inheriting(files.folder()).await;
            assert_eq!((successor.address, successor.admin), (address, admin), "the same sockets");
            assert!(!successor.process.stderr().contains("not kept"), "what is remembered is handed on as well");
            let mut before = std::mem::replace(&mut serving, successor);
            assert!(before.process.until_exit(LAST_STREAMS).success(), "it finishes what it has");
        }
        while let Some(ended) = streams.join_next().await {
            let (events, end) = ended.unwrap();
            assert_eq!((events.last().map(String::as_str), end), (Some("[DONE]"), Next::End), "streams end whole");
        }
        over.store(true, Ordering::Relaxed);
        while load.join_next().await.is_some() {}
        let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let (sent, ok, failed) = (count(&ledger.sent), count(&ledger.ok), count(&ledger.failed));
        println!("sent {sent} = ok {ok} + failed {failed}, {RESTARTS} restarts");
        assert_eq!((sent, failed), (ok, 0));
        assert!(ok > 100, "there was load");
    });
}

/// A request that ends while its process drains is spent as well: the successor hears of it.
#[test]
fn what_is_spent_while_a_process_drains_is_counted_by_the_next() {
    beside_others(async {
        let machine = machines::start("h100").await;
        let pools = portfolio(&[PoolText::new("gpu", [url(&machine)]).price(2)]);
        let files = Files::new(PROCESS, &pools, CHEAPEST);
        let mut before = Served::start(files.folder(), &[]).await;
        let spent = async |served: &Served| {
            let reply = send(served.admin, Ask::get("/api/v1/prices")).await.json();
            reply["prices"]["pools"][0]["tokens_this_month"].as_f64().unwrap()
        };
        let mut stream = Connection::http1(before.address).await.open(Ask::chat(&chat(3000, true))).await;
        assert!(matches!(stream.next().await, Next::Event(_)));
        let successor = Served::inheriting(files.folder()).await;
        let (_, end) = stream.rest().await;
        assert_eq!(end, Next::End);
        assert!(before.process.until_exit(LAST_STREAMS).success());
        let counted =
            wait::some("it is counted", async || Some(spent(&successor).await).filter(|tokens| *tokens > 0.0));
        let counted = counted.await;
        assert!(counted > 3000.0, "prompt and answer, not {counted} tokens");
    });
}

#[test]
fn a_successor_that_cannot_start_changes_nothing() {
    beside_others(async {
        let machine = machines::start("h100").await;
        let files = Files::new(PROCESS, &portfolio(&[PoolText::new("gpu", [url(&machine)])]), CHEAPEST);
        let mut serving = Served::start(files.folder(), &[]).await;
        let good = std::fs::read_to_string(files.path("pointsman.toml")).unwrap();
        // The decisions cannot be written: it fails after it was given the sockets.
        files.write("pointsman.toml", &format!("{good}[record]\nfile = \"policy.toml/impossible\"\n"));
        let mut failing = Process::start(files.folder(), &["serve", "--inherit"], &[]);
        assert!(!failing.until_exit(Duration::from_secs(20)).success());
        serving.process.until_printed("did not take over").await;
        for _ in 0..20 {
            let reply = Connection::http1(serving.address).await.send(Ask::chat(&chat(1, false))).await;
            assert_eq!(reply.status, 200);
        }
        files.write("pointsman.toml", &good);
        let successor = Served::inheriting(files.folder()).await;
        assert!(serving.process.until_exit(Duration::from_secs(20)).success());
        assert_eq!(Connection::http1(successor.address).await.send(Ask::get("/v1/models")).await.status, 200);
    });
}

#[test]
fn sockets_of_systemd_are_served_and_it_is_told() {
    beside_others(async {
        let machine = machines::start("h100").await;
        let process = format!("{PROCESS}[timeouts]\nlame_duck_s = 0\n");
        let files = Files::new(&process, &portfolio(&[PoolText::new("gpu", [url(&machine)])]), CHEAPEST);
        let told = UnixDatagram::bind(files.path("notify.sock")).unwrap();
        told.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut heard = [0_u8; 256];
        let mut hear = || {
            let count = told.recv(&mut heard).unwrap();
            String::from_utf8_lossy(&heard[..count]).trim().to_owned()
        };
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        // Before anybody serves, a connection waits in the socket.
        let waiting = Connection::http1(address).await;
        let early = tokio::spawn(async move { waiting.send(Ask::chat(&chat(1, false))).await });
        let notify = files.path("notify.sock");
        let environment = [("NOTIFY_SOCKET", notify.to_str().unwrap())];
        let mut served = Served::by(Process::activated(files.folder(), socket, &environment)).await;
        assert_eq!(served.address, address);
        assert_eq!(early.await.unwrap().status, 200);
        assert_eq!(hear(), "READY=1");
        served.process.signal(Signal::TERM);
        assert_eq!(hear(), "STOPPING=1");
        assert!(served.process.until_exit(Duration::from_secs(10)).success());
    });
}

#[test]
fn a_socket_that_others_reach_is_not_served_to_everybody() {
    beside_others(async {
        // The process file says this machine only; the socket says otherwise.
        let files = Files::new(PROCESS, &portfolio(&[PoolText::new("gpu", ["http://127.0.0.1:1"])]), CHEAPEST);
        let socket = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let mut refused = Process::activated(files.folder(), socket, &[]);
        assert!(!refused.until_exit(Duration::from_secs(10)).success());
        assert!(refused.stderr().contains("nobody is asked who they are"), "{}", refused.stderr());
    });
}
