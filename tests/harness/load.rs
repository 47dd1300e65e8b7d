//! Load, and the ledger that must close: sent = complete + broken + refused + failed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use tokio::task::JoinSet;

use crate::client::{Ask, Connection, Next, Stream};
use crate::machines;

/// What became of every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Requests sent.
    pub sent: u64,
    /// Answered whole: the body complete, a stream's last event seen.
    pub complete: u64,
    /// Streams that ended in an error event after their first event, without `[DONE]`.
    pub broken: u64,
    /// Everything else, in words.
    pub wrong: Vec<String>,
    /// What each answer said of itself, client by client.
    pub answers: Vec<Answered>,
}

/// What one answer said of itself, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Its `x-pointsman-policy`.
    pub policy: String,
    /// Its `x-pointsman-endpoint`.
    pub endpoint: String,
    /// When the request was sent.
    pub sent: Instant,
    /// When the head of its answer was there.
    pub headed: Instant,
}

impl Answered {
    /// What the head of an answer says, which is there now.
    pub fn of(stream: &Stream, sent: Instant) -> Answered {
        let header = |name| stream.header(name).to_owned();
        let (policy, endpoint) = (header("x-pointsman-policy"), header("x-pointsman-endpoint"));
        Answered { policy, endpoint, sent, headed: Instant::now() }
    }
}

impl Ledger {
    /// Whether every request is accounted for and none went wrong.
    #[track_caller]
    pub fn close(&self) {
        assert!(self.wrong.is_empty(), "{} of {} went wrong, first {:?}", self.wrong.len(), self.sent, self.wrong[0]);
        assert_eq!(self.sent, self.complete + self.broken, "every request is accounted for");
    }

    fn add(&mut self, other: Ledger) {
        self.sent += other.sent;
        self.complete += other.complete;
        self.broken += other.broken;
        self.wrong.extend(other.wrong);
        self.answers.extend(other.answers);
    }
}

/// Clients that send one request after the other until they are stopped.
#[derive(Debug)]
pub struct Load {
    clients: JoinSet<Ledger>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    answered: AtomicU64,
    streaming: AtomicUsize,
}

impl Load {
    /// Clients of which every other streams, each answer of this many tokens.
    pub fn start(address: SocketAddr, clients: usize, tokens: u64) -> Load {
        let shared = Arc::<Shared>::default();
        let mut set = JoinSet::new();
        for number in 0..clients {
            set.spawn(client(address, number % 2 == 0, tokens, Arc::clone(&shared)));
        }
        Load { clients: set, shared }
    }

    /// Requests that have ended so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Streams that have seen their first event and not yet their last.
    pub fn streaming(&self) -> usize {
        self.shared.streaming.load(Ordering::Relaxed)
    }

    /// Lets every client finish its last request and returns the sum.
    pub async fn stop(mut self) -> Ledger {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut sum = Ledger::default();
        while let Some(ledger) = self.clients.join_next().await {
            sum.add(ledger.expect("a client that ends well"));
        }
        sum
    }
}

async fn client(address: SocketAddr, stream: bool, tokens: u64, shared: Arc<Shared>) -> Ledger {
    let mut ledger = Ledger::default();
    let mut connection = Connection::http1(address).await;
    while !shared.stop.load(Ordering::Relaxed) {
        ledger.sent += 1;
        let ask = Ask::chat(&machines::chat(tokens, stream));
        let ended = match stream {
            true => one_stream(&connection, ask, &mut ledger, &shared.streaming).await,
            false => one_answer(&connection, ask, &mut ledger).await,
        };
        if let Err(wrong) = ended {
            ledger.wrong.push(wrong);
            connection = Connection::http1(address).await;
        }
        shared.answered.fetch_add(1, Ordering::Relaxed);
    }
    ledger
}

async fn one_answer(connection: &Connection, ask: Ask, ledger: &mut Ledger) -> Result<(), String> {
    let sent = Instant::now();
    let stream = connection.try_open(ask).await.map_err(|error| format!("no answer: {error}"))?;
    ledger.answers.push(Answered::of(&stream, sent));
    let reply = stream.whole().await.map_err(|error| format!("an answer broke: {error}"))?;
    if reply.status != 200 {
        return Err(format!("status {}: {}", reply.status, reply.text()));
    }
    if reply.json()["choices"][0]["message"]["content"].is_string() {
        ledger.complete += 1;
        Ok(())
    } else {
        Err(format!("no answer: {}", reply.text()))
    }
}

async fn one_stream(
    connection: &Connection,
    ask: Ask,
    ledger: &mut Ledger,
    streaming: &AtomicUsize,
) -> Result<(), String> {
    let sent = Instant::now();
    let mut stream = connection.try_open(ask).await.map_err(|error| format!("no answer: {error}"))?;
    ledger.answers.push(Answered::of(&stream, sent));
    let first = stream.next().await;
    streaming.fetch_add(1, Ordering::Relaxed);
    let (rest, end) = stream.rest().await;
    streaming.fetch_sub(1, Ordering::Relaxed);
    let last = rest.last().map(String::as_str).unwrap_or_default();
    let is_error = |event: &str| event.starts_with("{\"error\"");
    match (stream.status.as_u16(), &first, last, &end) {
        (200, Next::Event(first), "[DONE]", Next::End) if !is_error(first) && !rest.iter().any(|one| is_error(one)) => {
            ledger.complete += 1;
        }
        (200, Next::Event(first), last, Next::End) if !is_error(first) && is_error(last) => ledger.broken += 1,
        (status, ..) => return Err(format!("status {status}, first {first:?}, last `{last}`, {end:?}")),
    }
    Ok(())
}
