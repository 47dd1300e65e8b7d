//! Accidents that other gateways had and that no other module here is about; `tests/README.md` lists all of them with
//! the tests that keep them away.

use std::time::{Duration, Instant};

use pointsman_tests::client::{self, Ask, Connection, Next, open};
use pointsman_tests::double::{Act, DONE, Double, End, FIRST, LAST, WHOLE};
use pointsman_tests::files::{CHEAPEST, MODEL, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::chat;
use pointsman_tests::run::{alone, beside_others};
use pointsman_tests::wait;
use serde_json::json;

async fn gateway(pool: PoolText) -> Gateway {
    Gateway::start(PROCESS, &portfolio(&[pool]), CHEAPEST).await
}

#[test]
fn a_body_of_many_megabytes_reaches_the_machine_whole() {
    beside_others(async {
        let machine = Double::always(Act::json(200, WHOLE)).await;
        let gateway = gateway(PoolText::new("gpu", [machine.url()])).await;
        let pasted = "All work and no play. ".repeat(400_000);
        let body = json!({"model": MODEL, "messages": [{"role": "user", "content": pasted}]}).to_string();
        assert!(body.len() > 8 << 20);
        let reply = gateway.send(Ask::raw("/v1/chat/completions", body.clone())).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(machine.last().body == body.as_bytes(), "{} of {} bytes", machine.last().body.len(), body.len());
    });
}

#[test]
fn no_request_chooses_the_address_it_is_sent_to() {
    beside_others(async {
        let (machine, elsewhere) =
            (Double::always(Act::json(200, WHOLE)).await, Double::always(Act::json(200, WHOLE)).await);
        let gateway = gateway(PoolText::new("gpu", [machine.url()])).await;
        let host = elsewhere.url().replace("http://", "");
        let keys = ["base_url", "api_base", "url", "endpoint", "custom_host"];
        for key in keys {
            let mut body = chat(1, false);
            body[key] = elsewhere.url().into();
            assert_eq!(gateway.send(Ask::chat(&body)).await.status, 200, "{key}");
        }
        for name in
            ["host", "x-base-url", "x-portkey-custom-host", "x-forwarded-host", "x-gateway-destination-endpoint"]
        {
            assert_eq!(gateway.send(Ask::chat(&chat(1, false)).header(name, &host)).await.status, 200, "{name}");
        }
        assert_eq!((machine.seen().len(), elsewhere.seen().len()), (keys.len() + 5, 0));
        assert!(
            machine.seen().iter().all(|seen| machine.url().ends_with(seen.header("host"))),
            "nor the name it is sent under"
        );
    });
}

#[test]
fn what_reads_like_a_query_is_a_name_and_no_more() {
    beside_others(async {
        let machine = Double::always(Act::json(200, WHOLE)).await;
        let process = format!("{PROCESS}[admin]\ntoken = {{ file = \"token\" }}\n");
        let files = pointsman_tests::files::Files::new(
            &process,
            &portfolio(&[PoolText::new("gpu", [machine.url()])]),
            CHEAPEST,
        );
        files.write("token", "right");
        let gateway = Gateway::on(files).await;
        for text in ["' OR '1'='1", "right' --", "x'; DROP TABLE keys; --", "right\" UNION SELECT token"] {
            let key = format!("Bearer {text}");
            let asked = Ask::get("/api/v1/status").header("authorization", &key);
            let reply = client::send(gateway.running.admin_address, asked).await;
            assert_eq!(reply.status, 401, "{text}: {}", reply.text());
            let ask = Ask::chat(&chat(1, false)).header("authorization", &key).header("x-pointsman-tenant", text);
            assert_eq!(gateway.send(ask).await.status, 200, "{text}");
        }
    });
}

#[test]
fn what_it_cost_is_what_was_used_at_the_price_of_the_pool() {
    beside_others(async {
        let machine = Double::always(Act::json(200, WHOLE)).await; // 7 tokens read, 1 written
        let gateway = gateway(PoolText::new("gpu", [machine.url()]).price(2)).await;
        assert_eq!(gateway.send(Ask::chat(&chat(100, false))).await.status, 200);
        let text = gateway.admin("/metrics").await.text();
        let spent: f64 = text
            .lines()
            .filter(|line| line.starts_with("pointsman_cost_usd_total"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        assert!(
            (spent - 8.0 * 2.0 / 1e6).abs() < 1e-12,
            "{spent} dollars for 8 tokens at 2 dollars a million:\n{text}"
        );
    });
}

#[test]
fn a_token_limit_holds_for_streams_that_come_at_once() {
    beside_others(async {
        let machine = Double::always(Act::stream(&[FIRST], End::Hang)).await;
        let limit = "limits = { tokens_per_minute = 1000, reserves_output = true }";
        let gateway = gateway(PoolText::new("gpu", [machine.url()]).key(limit)).await;
        let address = gateway.address();
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..40 {
            asking.spawn(async move {
                let mut stream = open(address, Ask::chat(&chat(100, true))).await;
                stream.rest().await
            });
        }
        let mut refused = 0;
        wait::some("each is sent, held or refused", async || {
            let held = gateway.admin("/api/v1/queue").await.json()["held"].as_u64()? as usize;
            while asking.try_join_next().is_some() {
                refused += 1;
            }
            (machine.seen().len() + held + refused >= 40).then_some(())
        })
        .await;
        let sent = machine.seen().len();
        // Each may use 100 tokens and what its prompt has; a minute's worth is 1,000, and half a second's is 8.
        assert!((4..=10).contains(&sent), "{sent} streams of 100 tokens within 1,000 tokens");
    });
}

#[test]
fn a_stream_that_runs_hot_starves_nobody() {
    alone(async {
        let hot: Vec<&str> = std::iter::repeat_n(FIRST, 200_000).chain([LAST, DONE]).collect();
        let (hot, machine) =
            (Double::always(Act::stream(&hot, End::Clean)).await, Double::always(Act::good_stream()).await);
        let pools = [PoolText::new("hot", [hot.url()]).price(1), PoolText::new("gpu", [machine.url()]).price(1)];
        let policy = "name = \"two\"\n[[route]]\nname = \"hot\"\nwhen = 'request.headers[\"x-hot\"] == \"yes\"'\npools = 'pool.name == \"hot\"'\n\
                      [[route]]\nname = \"rest\"\npools = 'pool.name == \"gpu\"'\n";
        let gateway = Gateway::start(PROCESS, &portfolio(&pools), policy).await;
        let address = gateway.address();
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..2 {
            running.spawn(async move {
                let mut stream = open(address, Ask::chat(&chat(9, true)).header("x-hot", "yes")).await;
                stream.rest().await
            });
        }
        wait::until("they run hot", || hot.seen().len() == 2).await;
        let connection = Connection::http1(address).await;
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let asked = Instant::now();
            let (events, end) = connection.open(Ask::chat(&chat(1, true))).await.rest().await;
            assert_eq!((events.len(), end), (3, Next::End));
            slowest = slowest.max(asked.elapsed());
        }
        println!("slowest of 20 beside two hot streams: {slowest:?}");
        assert!(slowest < Duration::from_secs(1), "held up for {slowest:?}");
        running.abort_all();
    });
}
