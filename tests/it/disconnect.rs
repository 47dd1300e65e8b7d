//! Clients that leave: the machine's work is cancelled within a tenth of a second, in every phase, over HTTP/1.1 and
//! HTTP/2 on both sides.

use std::time::{Duration, Instant};

use pointsman_backends::simulators::server::{RunningSimulator, SimulatorConfig};
use pointsman_tests::client::{Ask, Connection, Next};
use pointsman_tests::files::{CHEAPEST, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::{self, chat, endless, url};
use pointsman_tests::run::alone;
use pointsman_tests::wait;
use tokio::io::AsyncWriteExt;
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
