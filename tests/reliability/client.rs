//! Clients that count: every event of a stream must be the next one, and its end must be the end it claims to be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pointsman_tests::client::{Ask, Connection, Next, Stream};
use tokio::task::JoinSet;

use crate::ledger::{Ended, Ledger};
use crate::machine::Wish;

/// Nobody waits longer for one event or one head.
const PATIENCE: Duration = Duration::from_secs(90);

/// Opens a connection, `Wrong` where that is not possible.
pub(crate) async fn connect(address: SocketAddr, http2: bool) -> Result<Connection, Ended> {
    let connecting = Connection::try_new(address, http2);
    match tokio::time::timeout(PATIENCE, connecting).await {
        Ok(Ok(connection)) => Ok(connection.patient(PATIENCE)),
        Ok(Err(error)) => Err(Ended::Wrong(format!("no connection: {error}"))),
        Err(_) => Err(Ended::Wrong("no connection in time".to_owned())),
    }
}

/// One request on a connection of its own.
pub(crate) async fn once(address: SocketAddr, wish: Wish) -> Ended {
    match connect(address, false).await {
        Ok(connection) => on(&connection, wish, Ask::chat(&wish.body())).await,
        Err(wrong) => wrong,
    }
}

/// One request on a connection that is there.
pub(crate) async fn on(connection: &Connection, wish: Wish, ask: Ask) -> Ended {
    match tokio::time::timeout(PATIENCE, connection.try_open(ask)).await {
        Ok(Ok(stream)) => ended(stream, wish).await,
        Ok(Err(error)) => Ended::Wrong(format!("no answer: {}", cause(&error))),
        Err(_) => Ended::Wrong("no answer in time".to_owned()),
    }
}

/// What becomes of an answer of which the head is there.
pub(crate) async fn ended(mut stream: Stream, wish: Wish) -> Ended {
    let status = stream.status.as_u16();
    if status != 200 || !wish.stream {
        return match (stream.whole().await, status) {
            (Err(error), _) => Ended::Wrong(format!("status {status}, broken: {}", cause(&error))),
            (Ok(reply), 200) => match reply.body.len() > wish.events as usize * wish.bytes {
                true => Ended::Ok,
                false => Ended::Wrong(format!("a whole answer of {} bytes", reply.body.len())),
            },
            (Ok(reply), _) => match serde_json::from_slice::<serde_json::Value>(&reply.body) {
                Ok(json) if json["error"]["code"].is_string() => {
                    Ended::Refused(format!("{status} {}", json["error"]["code"].as_str().unwrap_or_default()))
                }
                _ => Ended::Wrong(format!("status {status} without words")),
            },
        };
    }
    let mut seen = 0;
    let mut finished = false;
    loop {
        match stream.next().await {
            Next::Event(event) if event == "[DONE]" => break,
            Next::Event(event) if event.starts_with("{\"error\"") => {
                let after = stream.next().await;
                return match (after, seen) {
                    (Next::End, 1..) => Ended::Told,
                    (Next::End, 0) => Ended::Wrong(format!("200 and then nothing but {event}")),
                    (after, _) => Ended::Wrong(format!("an error event and then {after:?}")),
                };
            }
            Next::Event(event) => match number(&event) {
                Some(number) if number == seen + 1 && !finished => seen = number,
                Some(number) if number <= seen => return Ended::Wrong("an event came twice or late".to_owned()),
                Some(_) => return Ended::Wrong("an event was lost".to_owned()),
                None => finished = true,
            },
            Next::End => return Ended::Wrong("ended like a good one without [DONE]".to_owned()),
            Next::Broken(why) => return Ended::Wrong(format!("broke without a word: {why}")),
        }
    }
    match (seen == wish.events && finished, stream.next().await) {
        (true, Next::End) => Ended::Ok,
        (true, after) => Ended::Wrong(format!("after [DONE] {after:?}")),
        (false, _) => Ended::Wrong("[DONE] before the last event".to_owned()),
    }
}

/// The number of an event.
fn number(event: &str) -> Option<u64> {
    event.strip_prefix("{\"n\":")?.split(',').next()?.parse().ok()
}

/// An error and what caused it.
fn cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

/// Clients that send one request after the other until they are stopped.
pub(crate) struct Load {
    clients: JoinSet<Ledger>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// So many clients, each on a connection of its own that it keeps as long as it can, pausing between requests.
    pub(crate) fn start(address: SocketAddr, clients: usize, wish: Wish, pause: Duration) -> Load {
        let stop = Arc::<AtomicBool>::default();
        let mut set = JoinSet::new();
        for number in 0..clients {
            set.spawn(client(address, number % 4 == 3, wish, pause, Arc::clone(&stop)));
        }
        Load { clients: set, stop }
    }

    /// Lets every client finish its last request and returns the sum.
    pub(crate) async fn stop(self) -> Ledger {
        self.stop.store(true, Relaxed);
        sum(self.clients).await
    }
}

/// The sum of ledgers; one of a client that ended badly is one request that went wrong.
pub(crate) async fn sum(mut clients: JoinSet<Ledger>) -> Ledger {
    let mut sum = Ledger::default();
    while let Some(ledger) = clients.join_next().await {
        match ledger {
            Ok(ledger) => sum.add(ledger),
            Err(error) => sum.book(&Ended::Wrong(format!("a client: {error}"))),
        }
    }
    sum
}

async fn client(address: SocketAddr, http2: bool, wish: Wish, pause: Duration, stop: Arc<AtomicBool>) -> Ledger {
    let mut ledger = Ledger::default();
    let mut connection = None;
    while !stop.load(Relaxed) {
        let open = match connection.take() {
            Some(open) => Ok(open),
            None => connect(address, http2).await,
        };
        let began = Instant::now();
        let ended = match &open {
            Ok(open) => on(open, wish, Ask::chat(&wish.body())).await,
            Err(wrong) => wrong.clone(),
        };
        ledger.slowest = ledger.slowest.max(began.elapsed());
        if !matches!(ended, Ended::Wrong(_)) {
            connection = open.ok();
        }
        if matches!(ended, Ended::Refused(_)) || began.elapsed() < Duration::from_millis(1) {
            tokio::time::sleep(Duration::from_millis(20)).await; // who is refused comes back a little later
        }
        ledger.book(&ended);
        if pause > Duration::ZERO {
            tokio::time::sleep(pause).await;
        }
    }
    ledger
}
