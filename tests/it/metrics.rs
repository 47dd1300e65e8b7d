//! Metrics, health and logs.

use std::collections::HashSet;

use pointsman_tests::client::{self, Ask};
use pointsman_tests::double::{Act, Double, End, FIRST};
use pointsman_tests::files::{CHEAPEST, Files, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::{self, chat, url};
use pointsman_tests::process::Served;
use pointsman_tests::run::beside_others;
use pointsman_tests::{receiver, wait};
use serde_json::{Value, json};

/// Every name that the table of names has, read from its source so that a new one is asked for here.
fn names() -> Vec<&'static str> {
    let table = include_str!("../../gateway/src/telemetry/names.rs").split("#[cfg(test)]").next().unwrap_or_default();
    let (_, metrics) = table.split_once("pub mod metric {").expect("the table of metrics");
    metrics.lines().filter_map(|line| line.split('"').nth(1)).collect()
}

#[test]
fn every_metric_is_there_after_traffic() {
    beside_others(async {
        let receiver = receiver::start().await;
        let bad = machines::faulty("cs3", &["error500:1"]).await;
        let good = machines::start("h100").await;
        let owned = "site = \"valley\"
vendor = \"acme\"
commitment = { usd_per_month = 0.001 }
metrics = \"vllm\"";
        let pools =
            [PoolText::new("bad", [url(&bad)]).price(1), PoolText::new("good", [url(&good)]).price(2).key(owned)];
        let record = "[record]\nfile = \"decisions.log\"\n";
        let process = format!("{PROCESS}{record}[telemetry]\notlp_endpoint = \"{}\"\n", receiver.url());
        let limits = "[limits]\nvendor_share = { acme = 1 }\nusd_per_day = 1000\nusd_per_tonne_co2 = 80\n";
        let policy = format!("{CHEAPEST}{limits}[canary]\npolicy = \"candidate.toml\"\n");
        let site = "[site.valley]\npower_cap_kw = 900\n";
        let files = Files::new(&process, &format!("{site}{}", portfolio(&pools)), &policy);
        files.write("candidate.toml", CHEAPEST);
        let gateway = Gateway::on(files).await;
        let mut body = chat(8, true);
        body["stream_options"] = json!({"include_usage": true});
        assert_eq!(gateway.send(Ask::chat(&body)).await.status, 200);
        gateway.files.write("policy.toml", &format!("{}{limits}", CHEAPEST.replace("all", "any")));
        gateway.metric("pointsman_reloads_total").await;
        gateway.metric("pointsman_spans_total").await;
        gateway.metric("pointsman_decisions_recorded_total").await;
        gateway.metric("pointsman_engine_metrics_age_seconds{").await;
        let backends = gateway.admin("/api/v1/backends").await.json();
        let engines: Vec<_> = backends["backends"].as_array().into_iter().flatten().map(|one| &one["engine"]).collect();
        assert!(engines.iter().any(|engine| engine["age_s"].is_number() && engine["running"].is_u64()), "{engines:?}");
        let reply = gateway.admin("/metrics").await;
        assert_eq!(reply.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
        let text = reply.text();
        assert_is_openmetrics(&text);
        let names = names();
        assert!(names.len() >= 17, "{names:?}");
        // Nobody is held, hedged or asked for a name here, nor shown a certificate, and
        // no stream breaks; those are asked for where that happens.
        let others = ["pointsman_queue_", "pointsman_hedges", "pointsman_identified_", "pointsman_caller_"];
        let others =
            others.into_iter().chain(["pointsman_credentials_", "pointsman_certificate_", "pointsman_broken_streams"]);
        let elsewhere = |name: &str| others.clone().any(|start| name.starts_with(start));
        let here = names.iter().filter(|name| !elsewhere(name));
        let missing: Vec<_> = here.filter(|name| !text.contains(&format!("# TYPE {name} "))).collect();
        assert!(missing.is_empty(), "{missing:?} are missing in\n{text}");
        let line = "pointsman_tokens_total{class=\"interactive\",pool=\"good\",direction=\"output\"} 8\n";
        assert!(text.contains(line), "{text}");
        let statement = gateway.admin("/api/v1/prices").await.json();
        let good = &statement["prices"]["pools"][1];
        assert_eq!((&good["pool"], &good["commitment"]["unit"]), (&json!("good"), &json!("usd")), "{statement:#}");
        let site = &statement["prices"]["sites"][0];
        assert_eq!((&site["site"], &site["cap_kw"]), (&json!("valley"), &json!(900.0)), "{statement:#}");
        let line = "pointsman_attempt_failures_total{pool=\"bad\",cause=\"server-error\"} 1\n";
        assert!(text.contains(line), "{text}");
    });
}

/// Families in one piece, each sample of a declared family, one end.
#[track_caller]
fn assert_is_openmetrics(text: &str) {
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    assert_eq!(text.matches("# EOF").count(), 1);
    let mut families = HashSet::new();
    let mut family = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let name = rest.split(' ').nth(1).unwrap_or_default();
            if rest.starts_with("TYPE ") {
                assert!(families.insert(name), "`{name}` is declared twice");
            }
            family = if name.is_empty() { family } else { name };
            continue;
        }
        assert!(line.starts_with(family), "`{line}` does not belong to `{family}`");
        let (line, exemplar) = line.split_once(" # ").map_or((line, None), |(line, rest)| (line, Some(rest)));
        if let Some(exemplar) = exemplar {
            let (labels, value) = exemplar.rsplit_once(' ').expect("a value");
            let id = labels.strip_prefix("{trace_id=\"").and_then(|rest| rest.strip_suffix("\"}"));
            assert!(id.is_some_and(|id| id.len() == 32) && value.parse::<f64>().is_ok(), "{exemplar}");
            assert!(line.contains("_bucket{"), "{line}");
        }
        let (sample, value) = line.rsplit_once(' ').expect("a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert_eq!(sample.contains('{'), sample.ends_with('}'), "{line}");
    }
}

#[test]
fn health_is_told_apart() {
    beside_others(async {
        let gateway =
            Gateway::start(PROCESS, &portfolio(&[PoolText::new("gpu", ["http://127.0.0.1:1"])]), CHEAPEST).await;
        for path in ["/livez", "/readyz", "/health"] {
            let reply = gateway.admin(path).await;
            assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "ok\n"), "{path}");
        }
        assert_eq!(gateway.admin("/v1/models").await.status, 404, "operators' and clients' paths are apart");
        assert_eq!(gateway.send(Ask::get("/metrics")).await.status, 404);
        let status = gateway.status().await;
        assert_eq!((&status["ready"], &status["policy"]), (&json!(true), &json!("cheapest@1")));
        gateway.running.gateway.set_ready(false);
        for (path, expected) in [("/livez", 200), ("/readyz", 503), ("/health", 503)] {
            assert_eq!(gateway.admin(path).await.status, expected, "{path}");
        }
    });
}

#[test]
fn logs_are_json_where_that_is_wanted() {
    beside_others(async {
        let machine = Double::always(Act::stream(&[FIRST], End::Broken)).await;
        let process = format!("{PROCESS}[telemetry]\nlog_format = \"json\"\nlog = \"debug\"\n");
        let files = Files::new(&process, &portfolio(&[PoolText::new("gpu", [machine.url()])]), CHEAPEST);
        let mut served = Served::start(files.folder(), &[]).await;
        let ask = Ask::chat(&chat(50, true)).header("x-request-id", "find-me");
        client::send(served.address, ask).await;
        client::send(served.address, Ask::get("/nowhere")).await;
        files.write("policy.toml", "broken");
        served.process.until_printed("stays in force").await;
        let logs = served.process.stderr();
        let lines: Vec<Value> = logs.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        assert!(lines.iter().all(|line| line["level"].is_string() && line["timestamp"].is_string()));
        let broke = lines.iter().find(|line| line["request_id"] == "find-me" && line["level"] == "WARN");
        let message = broke.expect("the broken stream is logged")["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("stream broke: "), "{message}");
        wait::until("the refusal is logged", || served.process.stderr().contains("\"outcome\":\"refused\"")).await;
    });
}

#[test]
fn a_bucket_leads_to_a_trace_that_was_sent() {
    beside_others(async {
        let (receiver, machine) = (receiver::start().await, machines::start("h100").await);
        let process = format!("{PROCESS}[telemetry]\notlp_endpoint = \"{}\"\n", receiver.url());
        let gateway = Gateway::start(&process, &portfolio(&[PoolText::new("gpu", [url(&machine)])]), CHEAPEST).await;
        let of = |id: &str, flag| format!("00-{id}-b7ad6b7169203331-0{flag}");
        let (sent, unsent) = ("0af7651916cd43dd8448eb211c80319c", "1af7651916cd43dd8448eb211c80319c");
        for (id, flag) in [(sent, 1), (unsent, 0)] {
            gateway.send(Ask::chat(&chat(8, true)).header("traceparent", &of(id, flag))).await;
        }
        gateway.metric("gen_ai_server_time_to_first_token_seconds_count{class=\"interactive\",pool=\"gpu\"} 2").await;
        let text = gateway.admin("/metrics").await.text();
        assert_is_openmetrics(&text);
        for name in ["time_to_first_token_seconds", "time_per_output_token_seconds", "request_duration_seconds"] {
            let start = format!("gen_ai_server_{name}_bucket");
            let with = text.lines().filter(|line| line.starts_with(&start) && line.contains(sent)).count();
            assert_eq!(with, 1, "{name} in\n{text}");
        }
        assert!(!text.contains(unsent), "an exemplar that nobody has leads nowhere");
        let line =
            "gen_ai_client_token_usage_count{class=\"interactive\",pool=\"gpu\",gen_ai_token_type=\"output\"} 2\n";
        assert!(text.contains(line), "{text}");
    });
}

#[test]
fn what_is_promised_is_told_and_outlives_its_policy() {
    beside_others(async {
        let machine = machines::start("h100").await;
        let policy = format!("{CHEAPEST}[class.voice]\nttft_ms = 275\nitl_ms = 11\ntarget = 0.9\n");
        let gateway = Gateway::start(PROCESS, &portfolio(&[PoolText::new("gpu", [url(&machine)])]), &policy).await;
        let voice = || Ask::chat(&chat(8, true)).header("x-pointsman-class", "voice");
        let zero = "pointsman_slo_events_total{class=\"voice\",slo=\"ttft\",result=\"missed\"} 0";
        assert!(gateway.admin("/metrics").await.text().contains(zero), "the first miss is a rise");
        assert_eq!(gateway.send(voice()).await.status, 200);
        let kept = "pointsman_slo_events_total{class=\"voice\",slo=\"ttft\",result=\"kept\"} 1";
        gateway.metric(kept).await;
        let edge = "le=\"0.275\",class=\"voice\",pool=\"gpu\"} 1";
        let policy_of =
            |text: &str| text.lines().find(|line| line.starts_with("pointsman_policy_info{")).map(str::to_owned);
        let text = gateway.admin("/metrics").await.text();
        assert!(text.contains(edge), "{text}");
        let before = policy_of(&text);
        gateway.files.write("policy.toml", &format!("{CHEAPEST}[class.standard]\nttft_ms = 333\n"));
        gateway.metric("pointsman_policy_generation 2").await;
        let text = gateway.admin("/metrics").await.text();
        for line in ["pointsman_slo_objective_ratio{class=\"voice\",slo=\"ttft\"} 0.9\n", kept] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert_ne!(policy_of(&text), before);
        assert_eq!(text.matches("pointsman_policy_info{").count(), 1);
        gateway.send(Ask::chat(&chat(8, false))).await;
        let both = async || {
            let text = gateway.admin("/metrics").await.text();
            (text.contains("le=\"0.333\"") && text.contains("le=\"0.275\"")).then_some(())
        };
        wait::some("a new bound is an edge, and old ones stay", both).await;
    });
}
