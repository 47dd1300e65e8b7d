//! What the gateway learns from streams, engines and the process before it.

use http::StatusCode;
use pointsman::learning::file::FILE;
use pointsman_backends::hardware;
use pointsman_backends::learn::output_length::Asked;
use pointsman_backends::simulators::server::SimulatorConfig;
use pointsman_tests::client::{self, Ask, Stream};
use pointsman_tests::files::{CHEAPEST, Files, MODEL, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::{self, chat, endless, url};
use pointsman_tests::run::beside_others;
use pointsman_tests::wait;
use serde_json::json;

/// Streams that others ask of a machine, past the gateway.
const FOREIGN: usize = 30;

/// A streamed chat with a usage report.
fn counted(tokens: u64) -> Ask {
    let mut body = chat(tokens, true);
    body["stream_options"] = json!({"include_usage": true});
    Ask::chat(&body)
}

#[test]
fn work_that_others_send_is_seen_in_the_engines_metrics_and_avoided() {
    beside_others(async {
        let (busy, idle) = (machines::start("h100").await, machines::start("h100").await);
        let mut foreign: Vec<Stream> = Vec::new();
        for _ in 0..FOREIGN {
            foreign.push(client::open(busy.address(), Ask::chat(&endless())).await);
        }
        let pool = PoolText::new("gpu", [url(&busy), url(&idle)]).key("metrics = \"vllm\"\nmetrics_interval_ms = 50");
        let fastest =
            CHEAPEST.replace("\"cheapest\"\n[[", "\"fastest\"\n[[").replace("= \"cheapest\"", "= \"fastest\"");
        let gateway = Gateway::start(PROCESS, &portfolio(&[pool]), &fastest).await;
        let seen = format!("pointsman_endpoint_in_flight{{endpoint=\"gpu/{}\"}}", busy.address());
        wait::some("the foreign load is seen", async || {
            (gateway.metric(&seen).await >= FOREIGN as f64 * 0.8).then_some(())
        })
        .await;
        let before = idle.stats().completed;
        for _ in 0..10 {
            assert_eq!(gateway.send(counted(5)).await.status, StatusCode::OK);
        }
        assert_eq!(idle.stats().completed - before, 10, "all of them went past the busy machine");
        drop(foreign);
        wait::some("its end is seen", async || (gateway.metric(&seen).await <= 1.0).then_some(())).await;
    });
}

#[test]
fn an_engine_without_metrics_is_served_all_the_same() {
    beside_others(async {
        let machine = machines::start("h100").await;
        let pool = PoolText::new("gpu", [url(&machine)])
            .key("metrics = \"sglang\"\nmetrics_path = \"/nothing\"\nmetrics_interval_ms = 50");
        let gateway = Gateway::start(PROCESS, &portfolio(&[pool]), CHEAPEST).await;
        for _ in 0..3 {
            assert_eq!(gateway.send(counted(5)).await.status, StatusCode::OK);
        }
    });
}

#[test]
fn what_one_process_learned_the_next_one_knows() {
    beside_others(async {
        // Five times slower than the catalog says: its time runs at a fifth of ours.
        let slow = machines::run(SimulatorConfig { speed: 0.2, ..machines::config("cs3") }).await;
        let files = Files::new(PROCESS, &portfolio(&[PoolText::new("wafer", [url(&slow)]).hardware("cs3")]), CHEAPEST);
        let prior = hardware::find("cs3").expect("shipped").service_model();
        let gateway = Gateway::on(files).await;
        for _ in 0..20 {
            assert_eq!(gateway.send(counted(40)).await.status, StatusCode::OK);
        }
        let step_ms = |gateway: &Gateway| gateway.inner().snapshot().learned().services[0].step_base_ms;
        let learned_ms = wait::some("it has learned", async || {
            // What is learned is told a few times a second, with traffic.
            assert_eq!(gateway.send(counted(40)).await.status, StatusCode::OK);
            Some(step_ms(&gateway)).filter(|ms| *ms > 2.0 * prior.step_base_ms)
        })
        .await;
        let told = gateway.admin("/api/v1/backends").await.json()["backends"][0].clone();
        let step_ms_of = |model: &str| told[model]["step_base_ms"].as_f64().unwrap_or_default();
        assert!(step_ms_of("service_learned") > 2.0 * step_ms_of("service_of_catalog"), "{told}");
        assert!(told["prediction_error"]["itl"].as_f64().is_some_and(|error| error > 0.0), "{told}");
        let Gateway { files, running } = gateway;
        running.drain().await;
        assert!(files.path("state").join(FILE).exists(), "what was learned is written at the end");
        let next = Gateway::on(files).await;
        let known_ms = step_ms(&next);
        assert!((known_ms / learned_ms - 1.0).abs() < 0.25, "{known_ms} after {learned_ms}");
        let (tenant, model, class, input_tokens) = ("", MODEL, "interactive", 10);
        let asked = Asked { tenant, model, class, input_tokens };
        let length = next.inner().learning().output_length(&asked, None);
        assert!((25.0..=80.0).contains(&length.p50), "{length:?}");
    });
}

#[test]
fn what_cannot_be_read_is_kept_aside_and_the_gateway_starts() {
    beside_others(async {
        let machine = machines::start("h100").await;
        let files = Files::new(PROCESS, &portfolio(&[PoolText::new("gpu", [url(&machine)])]), CHEAPEST);
        std::fs::create_dir(files.path("state")).expect("a folder");
        files.write(&format!("state/{FILE}"), "{ this is no JSON");
        let gateway = Gateway::on(files).await;
        assert_eq!(gateway.send(counted(5)).await.status, StatusCode::OK);
        let aside = gateway.files.path("state").join("learned.unusable");
        assert_eq!(std::fs::read_to_string(aside).expect("it is kept"), "{ this is no JSON");
    });
}
