//! The gateway's queue, live: who is held, who goes first, where to, and what becomes of those who wait while the world
//! changes around them.

use std::sync::Arc;

use pointsman_backends::fleet::Verdict;
use pointsman_policies::units::Micros;
use pointsman_tests::client::{self, Ask, Connection, Next, Reply, Stream};
use pointsman_tests::double::{Act, Double, End, FIRST, WHOLE};
use pointsman_tests::files::{MODEL, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::run::beside_others;
use pointsman_tests::wait;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const POLICY: &str = "name = \"line\"\n[class.urgent]\npriority = 30\nttft_ms = 30000\n\
                      [class.patient]\npriority = 10\nttft_ms = 60000\n\
                      [class.hasty]\npriority = 40\nttft_ms = 2000\n\
                      [class.spare]\npriority = 0\nsheddable = true\nttft_ms = 60000\n[[route]]\nname = \"all\"\n";

/// A machine that serves everybody at once, but for those who ask it to hang.
async fn machine() -> Double {
    Double::start(|seen| if seen.header("x-request-id").starts_with("hang") { hanging() } else { whole() }).await
}

fn hanging() -> Act {
    Act::stream(&[FIRST], End::Hang)
}

fn whole() -> Act {
    Act::json(200, WHOLE)
}

/// A pool whose endpoints are sent one request at a time.
fn pool(name: &str, machine: &Double, usd: u32) -> PoolText {
    PoolText::new(name, [machine.url()]).price(usd).key("window = { requests = 1 }")
}

async fn gateway(pools: &[PoolText]) -> Gateway {
    Gateway::start(PROCESS, &portfolio(pools), POLICY).await
}

fn ask(id: &str, class: &str, stream: bool) -> Ask {
    let said = json!([{"role": "user", "content": "Which track?"}]);
    let body = json!({"model": MODEL, "messages": said, "stream": stream, "max_tokens": 10});
    Ask::chat(&body).header("x-request-id", id).header("x-pointsman-class", class)
}

/// Takes the place of one request until it is dropped.
async fn occupied(gateway: &Gateway, id: &str) -> Stream {
    let mut stream = client::open(gateway.address(), ask(id, "patient", true)).await;
    assert_eq!(stream.next().await, Next::Event(FIRST.trim().trim_start_matches("data: ").to_owned()));
    stream
}

fn held(gateway: &Gateway) -> usize {
    gateway.inner().queue().flow().held()
}

/// Sends a request that will be held, and waits until it is.
async fn waiting(gateway: &Gateway, ask: Ask) -> JoinHandle<Reply> {
    let before = held(gateway);
    let address = gateway.address();
    let waiting = tokio::spawn(async move { client::send(address, ask).await });
    wait::until("it is held", || held(gateway) == before + 1).await;
    waiting
}

fn order(machine: &Double) -> Vec<String> {
    machine.seen().iter().map(|seen| seen.header("x-request-id").to_owned()).collect()
}

async fn ended(gateway: &Gateway, id: &str) -> Value {
    wait::some("its record is closed", async || {
        let decisions = gateway.admin("/api/v1/decisions").await.json();
        decisions["decisions"].as_array()?.iter().find(|one| one["request_id"] == id).cloned()
    })
    .await
}

#[test]
fn what_can_be_sent_is_never_held() {
    beside_others(async {
        let machine = machine().await;
        let gateway = gateway(&[pool("only", &machine, 1)]).await;
        for round in 0..20 {
            let reply = gateway.send(ask(&format!("r{round}"), "patient", false)).await;
            assert_eq!(reply.status, 200);
            assert!(!reply.header("server-timing").contains("queue"), "{}", reply.header("server-timing"));
        }
        assert!(!gateway.admin("/metrics").await.text().contains("pointsman_queue_ended_total{"));
        assert_eq!(gateway.admin("/api/v1/queue").await.json()["held"], 0);
    });
}

#[test]
fn the_urgent_go_first_then_who_has_to_be_answered_soonest_and_all_of_it_can_be_seen() {
    beside_others(async {
        let machine = machine().await;
        let gateway = gateway(&[pool("only", &machine, 1)]).await;
        let occupant = occupied(&gateway, "hang").await;
        let mut all = vec![waiting(&gateway, ask("patient", "patient", false)).await];
        let due = ask("due", "patient", false).header("x-pointsman-deadline-ms", "20000");
        all.push(waiting(&gateway, due).await);
        all.push(waiting(&gateway, ask("urgent", "urgent", false)).await);

        let queue = gateway.admin("/api/v1/queue").await.json();
        assert_eq!((&queue["held"], &queue["max_requests"]), (&json!(3), &json!(20_000)), "{queue}");
        let lines: Vec<_> = queue["waiting"].as_array().unwrap().iter().collect();
        let who = |line: &Value| (line["pool"].clone(), line["class"].clone(), line["requests"].clone());
        assert_eq!(who(lines[0]), (json!("only"), json!("patient"), json!(2)), "{queue}");
        assert_eq!(who(lines[1]), (json!("only"), json!("urgent"), json!(1)), "{queue}");
        assert!(lines[0]["least_slack_ms"].as_f64().is_some_and(|ms| (1_000.0..20_000.0).contains(&ms)), "{queue}");
        assert_eq!(gateway.metric("pointsman_queue_held{class=\"patient\",pool=\"only\"}").await, 2.0);

        drop(occupant);
        for one in all {
            let reply = one.await.unwrap();
            assert_eq!(reply.status, 200, "{}", reply.text());
            assert!(reply.header("server-timing").contains(", queue;dur="), "{}", reply.header("server-timing"));
        }
        assert_eq!(order(&machine), ["hang", "urgent", "due", "patient"]);
        let told = ended(&gateway, "urgent").await;
        assert!(told["queue_ms"].as_f64().is_some_and(|ms| ms > 0.0 && ms <= told["ttft_ms"].as_f64().unwrap()));
        let ended = "pointsman_queue_ended_total{class=\"urgent\",pool=\"only\",end=\"sent\"}";
        assert_eq!(gateway.metric(ended).await, 1.0);
        assert_eq!(gateway.metric("pointsman_queue_seconds_count{class=\"urgent\",pool=\"only\"}").await, 1.0);
        assert_eq!(gateway.metric("pointsman_queue_moves_total{class=\"urgent\",pool=\"only\"}").await, 0.0);
        let explained = gateway.admin("/api/v1/decisions/urgent").await.json();
        assert_eq!(explained["outcome"]["queue_ms"], told["queue_ms"]);
    });
}

#[test]
fn a_request_that_would_be_held_is_explained() {
    beside_others(async {
        let machine = machine().await;
        let gateway = gateway(&[pool("only", &machine, 1)]).await;
        let occupant = occupied(&gateway, "hang").await;
        let urgent = waiting(&gateway, ask("urgent", "urgent", false)).await;
        let body = json!({"model": MODEL, "messages": [], "max_tokens": 10});
        let question = json!({"headers": {"x-pointsman-class": "patient"}, "body": body});
        let explained = gateway.operate(Ask::post("/api/v1/explain", &question)).await.json();
        let verdict = explained["verdict"].as_str().unwrap_or_default();
        let expected = format!("patient request waits for only/{} behind 1 request of higher class, about ", {
            machine.url().trim_start_matches("http://").to_owned()
        });
        assert!(verdict.starts_with(&expected), "{explained}");
        let hold = &explained["plan"]["hold"];
        assert_eq!((&hold["pool"], &hold["ahead"], &hold["ahead_higher"]), (&json!("only"), &json!(1), &json!(1)));
        drop(occupant);
        assert_eq!(urgent.await.unwrap().status, 200);
    });
}

#[test]
fn a_client_that_leaves_gives_its_place_up_at_once_and_is_booked() {
    beside_others(async {
        let machine = machine().await;
        let gateway = gateway(&[pool("only", &machine, 1)]).await;
        let occupant = occupied(&gateway, "hang").await;
        for http2 in [false, true] {
            let id = format!("leaves-{http2}");
            let connection = match http2 {
                true => Connection::http2(gateway.address()).await,
                false => Connection::http1(gateway.address()).await,
            };
            let request = ask(&id, "patient", false);
            let leaving = tokio::spawn(async move { connection.try_send(request).await.map(|reply| reply.status) });
            wait::until("it is held", || held(&gateway) == 1).await;
            leaving.abort();
            wait::until("its place is free", || held(&gateway) == 0).await;
            let told = ended(&gateway, &id).await;
            assert_eq!((&told["outcome"], &told["attempts"]), (&json!("client-left"), &json!(0)), "{told}");
            assert!(told["queue_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{told}");
        }
        let left = "pointsman_queue_ended_total{class=\"patient\",pool=\"only\",end=\"left\"}";
        assert_eq!(gateway.metric(left).await, 2.0);
        drop(occupant);
        assert_eq!(gateway.send(ask("next", "patient", false)).await.status, 200);
        assert_eq!(order(&machine), ["hang", "next"], "nobody was sent who had left");
    });
}

#[test]
fn a_held_request_finishes_under_the_generation_it_came_under() {
    beside_others(async {
        let (old, new) = (machine().await, machine().await);
        let gateway = gateway(&[pool("old", &old, 1)]).await;
        let occupant = occupied(&gateway, "hang").await;
        let held = waiting(&gateway, ask("held", "patient", false)).await;
        // Its pool is gone, and another has taken its place in the order.
        gateway.files.replace("portfolio.toml", &portfolio(&[pool("new", &new, 1)]));
        wait::some("it is in force", async || (gateway.status().await["generation"] == 2).then_some(())).await;
        let reply = gateway.send(ask("newcomer", "patient", false)).await;
        assert_eq!((reply.status.as_u16(), reply.header("x-pointsman-policy")), (200, "line@2"), "nobody before it");
        drop(occupant);
        let reply = held.await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.header("x-pointsman-policy")), (200, "line@1"));
        assert_eq!((order(&old), order(&new)), (vec!["hang".into(), "held".into()], vec!["newcomer".to_owned()]));
    });
}

#[test]
fn who_is_held_at_shutdown_is_served() {
    beside_others(async {
        let machine = machine().await;
        let gateway = gateway(&[pool("only", &machine, 1)]).await;
        let occupant = occupied(&gateway, "hang").await;
        let held = waiting(&gateway, ask("held", "patient", false)).await;
        let inner = Arc::clone(gateway.inner());
        let draining = tokio::spawn(gateway.running.drain());
        wait::until("it drains", || !inner.is_ready()).await;
        assert_eq!(inner.queue().flow().held(), 1);
        drop(occupant);
        assert_eq!(held.await.unwrap().status, 200);
        draining.await.unwrap();
    });
}

#[test]
fn who_is_held_at_shutdown_longer_than_it_may_take_is_cut_and_booked() {
    beside_others(async {
        let machine = machine().await;
        let process = format!("{PROCESS}[timeouts]\ndrain_s = 0.2\n");
        let gateway = Gateway::start(&process, &portfolio(&[pool("only", &machine, 1)]), POLICY).await;
        let _occupant = occupied(&gateway, "hang").await;
        let connection = Connection::http1(gateway.address()).await;
        let held = tokio::spawn(async move { connection.try_send(ask("held", "patient", false)).await });
        wait::until("it is held", || self::held(&gateway) == 1).await;
        let inner = Arc::clone(gateway.inner());
        gateway.running.drain().await;
        assert!(held.await.unwrap().is_err(), "its connection is closed");
        assert_eq!(inner.queue().flow().held(), 0);
    });
}

#[test]
fn when_the_machine_it_waits_for_breaks_it_goes_elsewhere_or_is_told() {
    beside_others(async {
        let (cheap, dear) = (machine().await, machine().await);
        let gateway = gateway(&[pool("cheap", &cheap, 1), pool("dear", &dear, 9)]).await;
        let _occupant = occupied(&gateway, "hang-1").await;
        let held = waiting(&gateway, ask("held", "patient", false)).await;
        let snapshot = gateway.inner().snapshot();
        let breaks = |index: usize| {
            let live = Arc::clone(snapshot.target(index).expect("an endpoint").live);
            (0..5).for_each(|_| live.report(Verdict::Failed, gateway.inner().fleet().now()));
        };
        breaks(0);
        let reply = held.await.unwrap();
        assert_eq!(reply.status, 200);
        assert!(reply.header("x-pointsman-endpoint").starts_with("dear/"));

        let _other = occupied(&gateway, "hang-2").await;
        let held = waiting(&gateway, ask("told", "patient", false)).await;
        breaks(1);
        let reply = held.await.unwrap();
        assert_eq!(reply.status, 503, "{}", reply.text());
        assert_eq!(reply.json()["error"]["code"], "backends_unavailable");
        assert!(reply.header("retry-after-ms").parse::<u64>().is_ok_and(|ms| (1..=1_000).contains(&ms)));
    });
}

#[test]
fn as_its_slack_shrinks_a_held_request_takes_the_dearer_machine() {
    beside_others(async {
        let (cheap, dear) = (machine().await, machine().await);
        let gateway = gateway(&[pool("cheap", &cheap, 1), pool("dear", &dear, 9)]).await;
        let _occupant = occupied(&gateway, "hang").await;
        let reply = waiting(&gateway, ask("hasty", "hasty", false)).await.await.unwrap();
        assert!(reply.header("x-pointsman-endpoint").starts_with("dear/"));
        let told = ended(&gateway, "hasty").await;
        assert_eq!(told["slo_met"], true, "{told}");
    });
}

#[test]
fn the_line_is_bounded_and_refusals_say_when_to_come_back() {
    beside_others(async {
        let machine = machine().await;
        let process = format!("{PROCESS}[queue]\nmax_requests = 1\n");
        let gateway = Gateway::start(&process, &portfolio(&[pool("only", &machine, 1)]), POLICY).await;
        let occupant = occupied(&gateway, "hang").await;
        let spare = waiting(&gateway, ask("spare", "spare", false)).await;
        let refused = gateway.send(ask("second", "spare", false)).await;
        assert_eq!((refused.status.as_u16(), &refused.json()["error"]["code"]), (429, &json!("saturated")));
        let ms: u64 = refused.header("retry-after-ms").parse().expect("milliseconds");
        assert_eq!(refused.header("retry-after"), ms.div_ceil(1_000).to_string());
        assert!((100..5_000).contains(&ms), "the work ahead takes about this long: {ms}");

        let address = gateway.address();
        let urgent = tokio::spawn(async move { client::send(address, ask("urgent", "urgent", false)).await });
        let shed = spare.await.unwrap();
        assert_eq!((shed.status.as_u16(), &shed.json()["error"]["code"]), (429, &json!("saturated")));
        drop(occupant);
        assert_eq!(urgent.await.unwrap().status, 200);
        let ended = "pointsman_queue_ended_total{class=\"spare\",pool=\"only\",end=\"shed\"}";
        assert_eq!(gateway.metric(ended).await, 1.0);
    });
}

#[test]
fn a_held_request_whose_first_attempt_fails_goes_on_to_the_next() {
    beside_others(async {
        let failing = |seen: &pointsman_tests::double::Seen| match seen.header("x-request-id") {
            id if id.starts_with("hang") => hanging(),
            _ => Act::json(500, "{}"),
        };
        let (cheap, dear) = (Double::start(failing).await, machine().await);
        let gateway = gateway(&[pool("cheap", &cheap, 1), pool("dear", &dear, 9)]).await;
        let occupant = occupied(&gateway, "hang").await;
        let held = waiting(&gateway, ask("held", "patient", false)).await;
        drop(occupant);
        let reply = held.await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.header("x-pointsman-attempts")), (200, "2"));
        assert_eq!(gateway.endpoint("cheap").await["in_flight"], 0);
    });
}

#[test]
fn a_machine_that_asks_for_patience_is_waited_for_as_long_as_the_promise_allows() {
    beside_others(async {
        let busy_once = std::sync::atomic::AtomicU32::new(0);
        let machine = Double::start(move |_| match busy_once.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => Act::json(429, "{}").header("retry-after-ms", "300"),
            1 => whole(),
            _ => Act::json(429, "{}").header("retry-after", "7"),
        })
        .await;
        let gateway = gateway(&[pool("only", &machine, 1)]).await;
        let reply = gateway.send(ask("patient", "patient", false)).await;
        assert_eq!((reply.status.as_u16(), reply.header("x-pointsman-attempts")), (200, "2"), "{}", reply.text());
        let told = ended(&gateway, "patient").await;
        assert!(told["queue_ms"].as_f64().is_some_and(|ms| (250.0..5_000.0).contains(&ms)), "{told}");

        let reply = gateway.send(ask("hasty", "hasty", false)).await;
        assert_eq!(reply.status, 429, "7 s are beyond its promise");
        assert_eq!(reply.header("retry-after"), "7");
        let reply = gateway.send(ask("next", "hasty", false)).await;
        assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (429, "7"), "without asking the machine");
        assert_eq!(machine.seen().len(), 3);
    });
}

#[test]
fn a_machine_that_complains_is_sent_less_and_more_again_as_it_answers() {
    beside_others(async {
        let machine = Double::start(|seen| match seen.header("x-request-id") {
            id if id.starts_with("hang") => hanging(),
            "too-much" => Act::json(429, "{}").header("retry-after-ms", "1"),
            _ => whole(),
        })
        .await;
        let only = PoolText::new("only", [machine.url()]).key("window = { requests = 6 }");
        let gateway = Gateway::start(PROCESS, &portfolio(&[only]), POLICY).await;
        let limit = || {
            let snapshot = gateway.inner().snapshot();
            snapshot
                .target(0)
                .and_then(|target| target.live.window(gateway.inner().fleet().now()))
                .map(|window| window.requests)
        };
        let mut hanging = Vec::new();
        for number in 0..4 {
            hanging.push(occupied(&gateway, &format!("hang-{number}")).await);
        }
        let connection = Connection::http1(gateway.address()).await;
        let complained = tokio::spawn(async move { connection.try_send(ask("too-much", "patient", false)).await });
        wait::until("it is sent less", || limit() == Some(3)).await;
        complained.abort();
        drop(hanging);
        wait::until("all have ended", || held(&gateway) == 0).await;
        for round in 0..40 {
            assert_eq!(gateway.send(ask(&format!("r{round}"), "patient", false)).await.status, 200);
        }
        assert_eq!(limit(), Some(6));
    });
}

#[test]
fn held_requests_are_booked_with_a_provider_once_each() {
    beside_others(async {
        let machine = machine().await;
        let limited =
            pool("only", &machine, 1).key("limits = { requests_per_minute = 100, tokens_per_minute = 100000 }");
        let gateway = gateway(&[limited]).await;
        let left = || {
            let snapshot = gateway.inner().snapshot();
            let lease = snapshot.target(0).and_then(|target| target.live.lease(Micros(0)));
            lease.map(|lease| lease.requests.round()).expect("a lease")
        };
        let occupant = occupied(&gateway, "hang").await;
        let mut all = Vec::new();
        for number in 0..5 {
            all.push(waiting(&gateway, ask(&format!("h{number}"), "patient", false)).await);
        }
        assert_eq!(left(), 99.0, "who waits has taken nothing");
        all.swap_remove(0).abort();
        drop(occupant);
        for one in all {
            let _ = one.await.map(|reply| assert_eq!(reply.status, 200));
        }
        wait::until("all have ended", || held(&gateway) == 0).await;
        let sent = order(&machine).len() as f64;
        assert!((100.0 - sent - left()).abs() < 1.5, "{sent} were sent, {} are left", left());
        gateway.until_in_flight(0).await;
    });
}

#[test]
fn without_flow_control_everything_is_sent_at_once() {
    beside_others(async {
        let machine = machine().await;
        let open = PoolText::new("only", [machine.url()]).key("flow_control = false").key("window = { requests = 1 }");
        let gateway = gateway(&[open]).await;
        let _occupant = occupied(&gateway, "hang").await;
        let reply = gateway.send(ask("second", "patient", false)).await;
        assert_eq!(reply.status, 200);
        assert!(!reply.header("server-timing").contains("queue"));
    });
}
