//! A route's budget for retries: a machine that keeps failing does not multiply the load of the others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use pointsman_tests::client::{Ask, Reply};
use pointsman_tests::double::{Act, Double, WHOLE};
use pointsman_tests::files::{PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::chat;
use pointsman_tests::run::beside_others;
use pointsman_tests::wait;

/// Retries are held against the requests of so many seconds.
const WINDOW_S: f64 = 10.0;
const REQUESTS: usize = 90;

/// Fails two of three, so that no breaker opens.
async fn broken() -> Double {
    let count = AtomicUsize::new(0);
    Double::start(move |_| match count.fetch_add(1, Ordering::Relaxed) % 3 {
        2 => Act::json(200, WHOLE),
        _ => Act::json(500, "{}"),
    })
    .await
}

async fn gateway(broken: &Double, good: &Double, retry: &str) -> Gateway {
    let pools = [PoolText::new("broken", [broken.url()]).price(1), PoolText::new("good", [good.url()]).price(9)];
    let policy = format!("name = \"p\"\n[[route]]\nname = \"all\"\nobjective = \"cheapest\"\nretry = {{ {retry} }}\n");
    Gateway::start(PROCESS, &portfolio(&pools), &policy).await
}

async fn asked(gateway: &Gateway) -> Vec<Reply> {
    let mut replies = Vec::new();
    for round in 0..REQUESTS {
        replies.push(gateway.send(Ask::chat(&chat(4, false)).header("x-request-id", &format!("r{round}"))).await);
    }
    replies
}

#[test]
fn retries_stay_within_it_and_whoever_is_not_tried_again_is_told_why() {
    beside_others(async {
        let (broken, good) = (broken().await, Double::always(Act::json(200, WHOLE)).await);
        let gateway = gateway(&broken, &good, "budget = 0.1").await;
        let began = Instant::now();
        let replies = asked(&gateway).await;
        let windows = (began.elapsed().as_secs_f64() / WINDOW_S).ceil();

        let refused: Vec<_> = replies.iter().filter(|reply| reply.status != 200).collect();
        let (retried, failures) = (good.seen().len(), REQUESTS * 2 / 3);
        assert_eq!(retried + refused.len(), failures, "each failure was tried again or told of");
        assert!(retried >= 3 && retried as f64 <= 0.1 * REQUESTS as f64 + 3.0 * windows, "{retried} in {windows}");
        let reply = refused.last().unwrap();
        assert_eq!((reply.status.as_u16(), reply.header("x-pointsman-attempts")), (503, "1"));
        let said = reply.text();
        assert!(said.contains("status 500; not tried again: ") && said.contains("the route allows 10 %"), "{said}");

        let made = gateway.metric("pointsman_retries_total{route=\"all\",result=\"made\"}").await;
        let not_made = gateway.metric("pointsman_retries_total{route=\"all\",result=\"refused\"}").await;
        assert_eq!((made as usize, not_made as usize), (retried, refused.len()));
        let told = wait::some("its record is closed", async || {
            let id = reply.header("x-request-id");
            let reply = gateway.admin(&format!("/api/v1/decisions/{id}")).await;
            (reply.status == 200).then(|| reply.json())
        });
        let told = told.await;
        let reason = told["outcome"]["not_retried"].as_str().unwrap_or_default();
        assert!(reason.ends_with("in 10 s; the route allows 10 %, at least 3"), "{told}");
    });
}

#[test]
fn without_one_every_failure_is_tried_again() {
    beside_others(async {
        let (broken, good) = (broken().await, Double::always(Act::json(200, WHOLE)).await);
        let gateway = gateway(&broken, &good, "attempts = 2").await;
        assert!(asked(&gateway).await.iter().all(|reply| reply.status == 200));
        assert_eq!(good.seen().len(), REQUESTS * 2 / 3);
    });
}

/// Machines that only ask for patience are asked again within the budget, too.
#[test]
fn back_pressure_does_not_get_around_it() {
    beside_others(async {
        let busy = Double::always(Act::json(429, "{}").header("retry-after-ms", "1")).await;
        let other = Double::always(Act::json(429, "{}").header("retry-after-ms", "1")).await;
        let gateway = gateway(&busy, &other, "budget = 0.01").await;
        for _ in 0..10 {
            assert_eq!(gateway.send(Ask::chat(&chat(4, false))).await.status, 429);
        }
        let asked = busy.seen().len() + other.seen().len();
        assert!((10..=10 + 3 * 3).contains(&asked), "10 first attempts and at most 3 more in each window: {asked}");
    });
}
