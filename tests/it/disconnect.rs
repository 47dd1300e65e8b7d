//! Clients that leave: the machine's work is cancelled within a tenth of a second, in every phase, over HTTP/1.1 and
//! HTTP/2 on both sides.

use std::time::{Duration, Instant};

use pointsman_backends::simulators::server::{RunningSimulator, SimulatorConfig};
use pointsman_tests::client::{Ask, Connection, Next, send_bytes};
use pointsman_tests::files::{CHEAPEST, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::{self, chat, endless, url};
use pointsman_tests::run::alone;
use pointsman_tests::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What the issue allows.
const LIMIT: Duration = Duration::from_millis(100);
const ROUNDS: u64 = 10;

async fn gateway_to(machine: &RunningSimulator, http: &str) -> Gateway {
    let pool = PoolText::new("gpu", [url(machine)]).key(&format!("http = \"{http}\""));
    Gateway::start(PROCESS, &portfolio(&[pool]), CHEAPEST).await
}

async fn connect(gateway: &Gateway, http2: bool) -> Connection {
    match http2 {
        true => Connection::http2(gateway.address()).await,
        false => Connection::http1(gateway.address()).await,
    }
}

/// Waits for the next cancel and says how long after `left` the machine knew.
async fn cancelled(machine: &RunningSimulator, count: u64, left: Instant, case: &str) -> Duration {
    wait::until(case, || machine.stats().cancelled >= count).await;
    let took = left.elapsed();
    assert!(took <= LIMIT, "{case}: the machine worked on for {took:?}");
    took
}

#[test]
fn leaving_mid_stream_cancels_the_work() {
    alone(async {
        for (client_http2, machine_http) in [(false, "h1"), (true, "h1"), (false, "h2"), (true, "h2")] {
            let case = format!("client HTTP/2 {client_http2}, machine {machine_http}");
            let machine = machines::start("h100").await;
            let gateway = gateway_to(&machine, machine_http).await;
            let mut slowest = Duration::ZERO;
            for round in 1..=ROUNDS {
                let connection = connect(&gateway, client_http2).await;
                let mut stream = connection.open(Ask::chat(&endless())).await;
                for _ in 0..3 {
                    assert!(matches!(stream.next().await, Next::Event(_)), "{case}");
                }
                // Over HTTP/2 the connection stays: only the stream is reset.
                let kept = client_http2.then(|| connection.clone());
                drop(connection);
                let left = Instant::now();
                drop(stream);
                slowest = slowest.max(cancelled(&machine, round, left, &case).await);
                assert!(machine.stats().last_cancel.is_some_and(|cancel| cancel.started), "{case}");
                drop(kept);
            }
            println!("{case}: mid-stream, slowest of {ROUNDS} cancels {slowest:?}");
            gateway.until_in_flight(0).await;
            assert_eq!(machine.stats().completed, 0);
        }
    });
}

#[test]
fn leaving_before_the_first_token_cancels_the_work() {
    alone(async {
        for (client_http2, machine_http) in [(false, "h1"), (true, "h1"), (false, "h2"), (true, "h2")] {
            let case = format!("client HTTP/2 {client_http2}, machine {machine_http}");
            // One slot, taken: whoever comes second waits for its first token.
            let mut config = machines::config("h100");
            config.profile.service.slots = 1;
            let machine = machines::run(SimulatorConfig { speed: 0.01, ..config }).await;
            let gateway = gateway_to(&machine, machine_http).await;
            for (round, body) in (1..=ROUNDS).zip([endless(), chat(100_000, false)].iter().cycle()) {
                let connection = connect(&gateway, client_http2).await;
                let kept = client_http2.then(|| connection.clone());
                let body = body.clone();
                let asking = tokio::spawn(async move { connection.try_open(Ask::chat(&body)).await });
                wait::until("the machine has the job", || machine.stats().accepted == round).await;
                let left = Instant::now();
                asking.abort();
                cancelled(&machine, round, left, &case).await;
                assert!(machine.stats().last_cancel.is_some_and(|cancel| !cancel.started), "{case}");
                drop(kept);
            }
            gateway.until_in_flight(0).await;
        }
    });
}

/// hyper stops reading a connection that has a byte too many in its buffer, and so would not see it close.
#[test]
fn leaving_after_sending_a_byte_too_many_cancels_the_work() {
    alone(async {
        let machine = machines::start("h100").await;
        let gateway = gateway_to(&machine, "h1").await;
        let body = endless().to_string();
        for (round, extra) in (1..).zip(["", "\r\n", "GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n"]) {
            let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
            let head = format!(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(format!("{head}{body}{extra}").as_bytes()).await.unwrap();
            wait::until("the machine has the job", || machine.stats().accepted == round).await;
            let left = Instant::now();
            drop(stream);
            cancelled(&machine, round, left, &format!("{extra:?} behind the body")).await;
        }
    });
}

/// The same where the client only says that it will send no more: nobody waits for answers on a connection of which half is
/// closed. Its end is seen although more than the request was sent before, and at every stage.
#[test]
fn half_closing_cancels_the_work_whatever_was_sent_before() {
    alone(async {
        let body = endless().to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let request = format!("{head}{body}");
        for started in [true, false] {
            let mut config = machines::config("h100");
            if !started {
                config.profile.service.slots = 1;
                config.speed = 0.01;
            }
            let machine = machines::run(config).await;
            let gateway = gateway_to(&machine, "h1").await;
            for (round, extra) in (1..).zip(["", "\r\n", "G", "GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n"]) {
                let case = format!("answer begun: {started}, {extra:?} behind the body");
                let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
                stream.write_all(format!("{request}{extra}").as_bytes()).await.unwrap();
                wait::until("the machine has the job", || machine.stats().accepted == round).await;
                if started {
                    let mut some = [0_u8; 64];
                    assert!(stream.read(&mut some).await.unwrap() > 0);
                }
                // Later than the request, as a client that changes its mind.
                stream.write_all(extra.as_bytes()).await.unwrap();
                let left = Instant::now();
                stream.shutdown().await.unwrap();
                cancelled(&machine, round, left, &case).await;
                drop(stream);
            }
            gateway.until_in_flight(0).await;
        }
    });
}

/// Requests sent one behind the other without waiting are all answered, in order.
#[test]
fn what_is_sent_ahead_is_answered_in_turn() {
    alone(async {
        let machine = machines::start("h100").await;
        let gateway = gateway_to(&machine, "h1").await;
        let body = chat(3, true).to_string();
        let one = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let list = "GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n";
        let last = "GET /v1/models HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let all = format!("{one}{list}{one}\r\n{list}{one}{last}");
        let answer = send_bytes(gateway.address(), all.as_bytes(), Duration::from_secs(5)).await;
        let kinds: Vec<&str> = answer
            .split("HTTP/1.1 200 OK")
            .skip(1)
            .map(|answer| if answer.contains("[DONE]") { "stream" } else { "list" })
            .collect();
        assert_eq!(kinds, ["stream", "list", "stream", "list", "stream", "list"], "{answer}");
    });
}

/// A client that leaves while its body is read, while its machine is connected to, and while it stands in line.
#[test]
fn leaving_before_a_machine_has_the_work_leaves_nothing_behind() {
    alone(async {
        let body = endless().to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        // Nobody accepts there, and its line is full: to connect takes for ever.
        let full = Full::new().await;
        let gateway = Gateway::start(PROCESS, &portfolio(&[PoolText::new("gpu", [full.url()])]), CHEAPEST).await;
        let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        gateway.until_in_flight(1).await;
        let left = Instant::now();
        drop(stream);
        gateway.until_in_flight(0).await;
        assert!(left.elapsed() <= LIMIT, "while connecting: {:?}", left.elapsed());

        let machine = machines::start("h100").await;
        let gateway = gateway_to(&machine, "h1").await;
        let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
        stream.write_all(format!("{head}{}", &body[..20]).as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        drop(stream);
        let incomplete = "pointsman_requests_total{class=\"none\",pool=\"none\"";
        assert_eq!(gateway.metric(incomplete).await, 1.0);
        assert_eq!(machine.stats().accepted, 0, "half a request reaches nobody");
    });
}

/// A listener that lets nobody in.
struct Full {
    listener: tokio::net::TcpListener,
    _inside: Vec<TcpStream>,
}

impl Full {
    async fn new() -> Full {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut inside = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            inside.push(stream);
        }
        Full { listener, _inside: inside }
    }

    fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }
}

#[test]
fn leaving_counts_as_the_clients_choice_not_as_a_failure() {
    alone(async {
        let machine = machines::start("h100").await;
        let gateway = gateway_to(&machine, "h1").await;
        for _ in 0..5 {
            let mut stream = connect(&gateway, false).await.open(Ask::chat(&endless())).await;
            stream.next().await;
        }
        let left =
            "pointsman_requests_total{class=\"interactive\",pool=\"gpu\",hardware=\"gpu\",outcome=\"client-left\"}";
        wait::some("all have left", async || (gateway.metric(left).await == 5.0).then_some(())).await;
        assert_eq!(gateway.endpoint("gpu").await["availability"], "ready");
    });
}
