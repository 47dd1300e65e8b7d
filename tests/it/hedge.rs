//! A second attempt beside a slow first one: whoever answers first is heard, the other is let go and nothing is held
//! against it, and no more is spent than the route allows.

use std::time::Duration;

use pointsman_backends::simulators::faults::Faults;
use pointsman_backends::simulators::server::{RunningSimulator, SimulatorConfig};
use pointsman_tests::client::{self, Ask, Next, Reply};
use pointsman_tests::double::{Act, Double, WHOLE};
use pointsman_tests::files::{PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::{self, chat, url};
use pointsman_tests::run::beside_others;
use pointsman_tests::wait;
use serde_json::Value;

/// Longer than any test waits.
const NEVER: Duration = Duration::from_secs(100);

fn good() -> Act {
    Act::good_stream()
}

/// The cheap one is asked first.
async fn gateway(cheap: &Double, dear: &Double, hedge: &str) -> Gateway {
    let pools = [PoolText::new("cheap", [cheap.url()]).price(1), PoolText::new("dear", [dear.url()]).price(9)];
    let policy =
        format!("name = \"p\"\n[[route]]\nname = \"voice\"\nobjective = \"cheapest\"\nhedge = {{ {hedge} }}\n");
    Gateway::start(PROCESS, &portfolio(&pools), &policy).await
}

async fn ask(gateway: &Gateway, id: &str) -> Reply {
    gateway.send(Ask::chat(&chat(4, true)).header("x-request-id", id)).await
}

#[track_caller]
fn assert_answered(reply: &Reply, pool: &str, attempts: &str) {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let endpoint = reply.header("x-pointsman-endpoint");
    assert!(endpoint.starts_with(pool), "{endpoint}");
    assert_eq!(reply.header("x-pointsman-attempts"), attempts);
}

async fn record(gateway: &Gateway, id: &str) -> Value {
    gateway.until_in_flight(0).await;
    wait::some("its record is closed", async || {
        let reply = gateway.admin(&format!("/api/v1/decisions/{id}")).await;
        (reply.status == 200).then(|| reply.json())
    })
    .await
}

#[test]
fn a_slow_first_attempt_is_outrun_and_not_blamed() {
    beside_others(async {
        let (slow, quick) = (Double::always(good().after(NEVER)).await, Double::always(good()).await);
        let gateway = gateway(&slow, &quick, "after = \"50ms\", budget = 1.0").await;
        for round in 0..4 {
            assert_answered(&ask(&gateway, &format!("r{round}")).await, "dear/", "2");
        }
        let told = record(&gateway, "r3").await;
        let attempts = told["outcome"]["attempts"].as_array().unwrap();
        assert_eq!(attempts[0]["failure"], "another attempt answered first", "{told}");
        assert_eq!(attempts[1]["failure"], Value::Null, "{told}");
        assert_eq!(gateway.endpoint("cheap").await["availability"], "ready", "its breaker counts nothing");
        assert_eq!(
            gateway.metric("pointsman_hedges_total{class=\"interactive\",pool=\"dear\",result=\"won\"}").await,
            4.0
        );
        assert!(!gateway.admin("/metrics").await.text().contains("pointsman_attempt_failures_total{"));
    });
}

#[test]
fn a_first_attempt_in_time_stays_alone() {
    beside_others(async {
        let (first, other) = (Double::always(good()).await, Double::always(good()).await);
        let gateway = gateway(&first, &other, "after = \"5s\", budget = 1.0").await;
        for round in 0..10 {
            assert_answered(&ask(&gateway, &format!("r{round}")).await, "cheap/", "1");
        }
        assert!(other.seen().is_empty());
    });
}

#[test]
fn a_second_attempt_that_is_slower_or_fails_harms_nobody() {
    beside_others(async {
        for (act, result) in [(good().after(NEVER), "lost"), (Act::json(500, "{}"), "failed")] {
            let first = Double::always(good().after(Duration::from_millis(300))).await;
            let other = Double::always(act).await;
            let gateway = gateway(&first, &other, "after = \"20ms\", budget = 1.0").await;
            assert_answered(&ask(&gateway, "one").await, "cheap/", "2");
            assert_eq!(other.seen().len(), 1);
            let told = record(&gateway, "one").await;
            assert_eq!(told["outcome"]["attempts"][1]["failure"], Value::Null, "{told}");
            let hedges = format!("pointsman_hedges_total{{class=\"interactive\",pool=\"dear\",result=\"{result}\"}}");
            assert_eq!(gateway.metric(&hedges).await, 1.0);
        }
    });
}

#[test]
fn when_both_fail_the_rest_of_the_plan_is_tried_and_each_machine_once() {
    beside_others(async {
        let bad = Act::json(500, "{}");
        let first = Double::always(bad.clone().after(Duration::from_millis(200))).await;
        let other = Double::always(bad).await;
        let gateway = gateway(&first, &other, "after = \"20ms\", budget = 1.0").await;
        let reply = ask(&gateway, "one").await;
        assert_eq!((reply.status.as_u16(), reply.header("x-pointsman-attempts")), (503, "2"));
        assert_eq!((first.seen().len(), other.seen().len()), (1, 1));
    });
}

#[test]
fn no_more_is_spent_than_the_route_allows() {
    beside_others(async {
        let slow = Double::always(good().after(Duration::from_millis(150))).await;
        let quick = Double::always(good()).await;
        let gateway = gateway(&slow, &quick, "after = \"20ms\", budget = 0.25").await;
        for round in 0..12 {
            ask(&gateway, &format!("r{round}")).await;
        }
        assert_eq!(quick.seen().len(), 3, "a quarter of 12 like ones");
    });
}

/// Simulated machines, at the speed of real ones.
async fn machine(faults: &[&str]) -> RunningSimulator {
    let faults = Faults::parse(faults).expect("faults");
    machines::run(SimulatorConfig { speed: 1.0, faults, ..machines::config("h100") }).await
}

#[test]
fn at_p95_a_first_token_is_late_that_nineteen_in_twenty_would_not_be() {
    beside_others(async {
        let (slow, quick) = (machine(&["slow-first-byte:60s"]).await, machine(&[]).await);
        let policy = "name = \"p\"\n[[route]]\nname = \"voice\"\nobjective = \"cheapest\"\n\
                      hedge = { after = \"p95\", budget = 1.0 }\n";
        let pools = |first: &str| {
            let first = PoolText::new("cheap", [url(&slow)]).price(1).key(first);
            portfolio(&[first, PoolText::new("dear", [url(&quick)]).price(9)])
        };
        let gateway = Gateway::start(PROCESS, &pools(""), policy).await;
        assert_answered(&ask(&gateway, "one").await, "dear/", "2");
        let told = record(&gateway, "one").await;
        let candidates = told["candidates"].as_array().unwrap();
        let first = candidates.iter().find(|one| one["pool"] == "cheap").unwrap();
        let (predicted_ms, waited_ms) =
            (first["estimate"]["ttft_ms"].as_f64(), told["outcome"]["attempts"][0]["ms"].as_f64());
        assert!(predicted_ms.is_some() && waited_ms > predicted_ms, "{predicted_ms:?} {waited_ms:?}");

        // A machine of which nothing better is expected is given its time.
        slow.set_faults(Faults::default());
        let gateway = Gateway::start(PROCESS, &pools("service = { fixed_ttft_ms = 20000 }"), policy).await;
        assert_answered(&ask(&gateway, "other").await, "cheap/", "1");
    });
}

/// Of 21 places 18 are taken by others: a second attempt would make somebody else late.
#[test]
fn nobody_is_hedged_on_machines_that_have_their_hands_full() {
    beside_others(async {
        let (slow, quick) = (machine(&["slow-first-byte:400ms"]).await, machine(&[]).await);
        let policy = "name = \"p\"\n[class.voice]\nttft_ms = 60000\n\
                      [[route]]\nname = \"aside\"\nwhen = 'request.headers[\"x-aside\"] == \"yes\"'\n\
                      pools = 'pool.name == \"dear\"'\n\
                      [[route]]\nname = \"voice\"\nobjective = \"cheapest\"\nhedge = { after = \"20ms\", budget = 1.0 }\n";
        let pools = [
            PoolText::new("cheap", [url(&slow)]).price(1).key("window = { requests = 1 }"),
            PoolText::new("dear", [url(&quick)]).price(9).key("window = { requests = 20 }"),
        ];
        let gateway = Gateway::start(PROCESS, &portfolio(&pools), policy).await;
        assert_answered(&ask(&gateway, "before").await, "dear/", "2");
        let mut others = Vec::new();
        for _ in 0..18 {
            let mut other =
                client::open(gateway.address(), Ask::chat(&machines::endless()).header("x-aside", "yes")).await;
            assert!(matches!(other.next().await, Next::Event(_)));
            others.push(other);
        }
        assert_answered(&ask(&gateway, "busy").await, "cheap/", "1");
        drop(others);
        gateway.until_in_flight(0).await;
        assert_answered(&ask(&gateway, "after").await, "dear/", "2");
    });
}

/// What is not hedged earns as well: the budget is a share of all that the route sends.
#[test]
fn every_request_of_the_route_earns_for_those_that_are_hedged() {
    beside_others(async {
        let slow = Double::always(good().after(Duration::from_millis(150))).await;
        let quick = Double::always(good()).await;
        let gateway = gateway(&slow, &quick, "after = \"20ms\", class = \"interactive\", budget = 0.25").await;
        let standard =
            |id: &str| Ask::chat(&chat(4, true)).header("x-request-id", id).header("x-pointsman-class", "standard");
        for round in 0..4 {
            assert_answered(&gateway.send(standard(&format!("b{round}"))).await, "cheap/", "1");
        }
        assert_answered(&ask(&gateway, "one").await, "dear/", "2");
        assert_answered(&ask(&gateway, "two").await, "cheap/", "1");
    });
}

/// Of an answer that comes whole no first token is seen: it says nothing until it is done.
#[test]
fn answers_that_come_whole_are_not_hedged() {
    beside_others(async {
        let whole = Act::json(200, WHOLE);
        let slow = Double::always(whole.clone().after(Duration::from_millis(150))).await;
        let quick = Double::always(whole).await;
        let gateway = gateway(&slow, &quick, "after = \"20ms\", budget = 1.0").await;
        assert_answered(&gateway.send(Ask::chat(&chat(4, false))).await, "cheap/", "1");
    });
}
