//! What has passed, as operators look at it: lists, filters, comparisons, traces, sums, the stream, and the commands.

use pointsman_tests::client::{self, Ask, Next, Reply};
use pointsman_tests::files::{CHEAPEST, MODEL, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::{self, chat, url};
use pointsman_tests::process;
use pointsman_tests::run::beside_others;
use pointsman_tests::wait;
use serde_json::{Value, json};

/// A gateway whose first pool always fails and whose second answers, with machines that live as long.
async fn failing_over() -> (Gateway, impl Sized) {
    let (bad, good) = (machines::faulty("cs3", &["error500:1"]).await, machines::start("h100").await);
    let pools = [PoolText::new("bad", [url(&bad)]).price(1), PoolText::new("good", [url(&good)]).price(2)];
    let gateway = Gateway::start(PROCESS, &portfolio(&pools), CHEAPEST).await;
    (gateway, (bad, good))
}

fn escaped(filter: &str) -> String {
    filter.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

async fn asked(gateway: &Gateway, path: &str) -> Value {
    let reply = gateway.admin(path).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    reply.json()
}

/// The requests that a filter finds, once there are so many.
async fn found(gateway: &Gateway, filter: &str, count: usize) -> Vec<Value> {
    let path = format!("/api/v1/requests?filter={}", escaped(filter));
    wait::some(&format!("{count} of {filter}"), async || {
        let listed = asked(gateway, &path).await["requests"].as_array().expect("a list").clone();
        (listed.len() == count).then_some(listed)
    })
    .await
}

fn refused(reply: &Reply, status: u16, code: &str) -> Value {
    let told = reply.json();
    assert_eq!((reply.status.as_u16(), &told["error"]["code"]), (status, &code.into()), "{told}");
    told
}

#[test]
fn requests_are_listed_filtered_and_paged() {
    beside_others(async {
        let (gateway, _machines) = failing_over().await;
        for (class, tokens) in [("interactive", 2), ("batch", 3), ("interactive", 4)] {
            gateway.send(Ask::chat(&chat(tokens, false)).header("x-pointsman-class", class)).await;
        }
        gateway.send(Ask::chat(&json!({ "model": "nobody's", "messages": [] }))).await;
        let all = found(&gateway, "", 4).await;
        let seqs: Vec<u64> = all.iter().map(|one| one["seq"].as_u64().expect("a number")).collect();
        assert_eq!(seqs, [3, 2, 1, 0], "the newest first");
        let first = &all[3];
        assert_eq!(
            (&first["class"], &first["pool"], &first["status"]),
            (&json!("interactive"), &json!("good"), &json!(200))
        );
        assert_eq!(
            (&first["model"], &first["route"], &first["policy"]),
            (&json!(MODEL), &json!("all"), &json!("cheapest"))
        );
        assert_eq!(
            (&first["output_tokens"], &first["hardware"], &first["stream"]),
            (&json!(2), &json!("gpu"), &json!(false))
        );
        assert!(
            first["ttft_ms"].as_f64().is_some_and(|ms| ms > 0.0) && first["usd"].as_f64().is_some_and(|usd| usd > 0.0)
        );
        for (filter, count) in [
            ("class:interactive", 2),
            ("class:interactive tout>2", 1),
            ("-class:batch outcome:answered", 2),
            ("outcome:refused", 1),
            ("status:4xx", 1),
            ("backend:good", 3),
            ("model:gpt*", 3),
        ] {
            assert_eq!(found(&gateway, filter, count).await.len(), count, "{filter}");
        }
        let page = asked(&gateway, "/api/v1/requests?limit=3").await;
        assert_eq!((&page["next"], &page["matched"]), (&json!(1), &json!(4)));
        let page = asked(&gateway, "/api/v1/requests?limit=3&before=1").await;
        assert_eq!((page["requests"].as_array().map(Vec::len), &page["next"]), (Some(1), &Value::Null));
        let new = asked(&gateway, "/api/v1/requests?after=2").await;
        assert_eq!(new["requests"].as_array().map(Vec::len), Some(1));

        let wrong = gateway.admin(&format!("/api/v1/requests?filter={}", escaped("status:5xx clas:x"))).await;
        let told = refused(&wrong, 400, "bad-filter");
        assert_eq!(
            (&told["error"]["help"], &told["error"]["diagnostics"][0]["column"]),
            (&json!("did you mean `class`?"), &json!(12))
        );
    });
}

#[test]
fn a_trace_tells_where_the_time_went_and_why() {
    beside_others(async {
        let (gateway, _machines) = failing_over().await;
        let reply = gateway.send(Ask::chat(&chat(8, true))).await;
        assert_eq!(reply.header("x-pointsman-attempts"), "2");
        let id = reply.header("x-request-id").to_owned();
        found(&gateway, "", 1).await;
        let trace = asked(&gateway, &format!("/api/v1/traces/{id}")).await;
        assert_eq!((&trace["detail"], &trace["request_id"]), (&json!("unusual"), &json!(id)), "it was tried twice");
        let spans = trace["spans"].as_array().expect("spans");
        let kinds: Vec<&str> = spans.iter().filter_map(|span| span["kind"].as_str()).collect();
        assert_eq!(kinds, ["request", "read", "classify", "route", "attempt", "attempt", "prefill", "decode"]);
        assert_eq!(
            (&spans[4]["failed"], &spans[4]["status"], &spans[4]["cause"]),
            (&json!(true), &json!(500), &json!("server-error"))
        );
        let at = |span: &Value, key: &str| span[key].as_f64().expect("a time");
        assert!(
            spans
                .iter()
                .all(|span| at(span, "from_ms") <= at(span, "to_ms")
                    && at(span, "to_ms") <= at(&spans[0], "to_ms") + 0.1)
        );
        assert_eq!(at(&spans[6], "to_ms"), at(&spans[7], "from_ms"), "the first token");
        assert_eq!(trace["why"]["plan"]["attempts"].as_array().map(Vec::len), Some(2));
        assert_eq!(trace["attributes"]["pointsman.attempts"], "2");
        let by_trace =
            asked(&gateway, &format!("/api/v1/traces/{}", trace["request"]["trace_id"].as_str().expect("an id"))).await;
        assert_eq!(by_trace["request_id"], json!(id));
        refused(&gateway.admin("/api/v1/traces/nobody").await, 404, "unknown-id");

        let admin = format!("http://{}", gateway.running.admin_address);
        let folder = gateway.files.folder().to_owned();
        let commands = tokio::task::spawn_blocking(move || {
            ["trace", "tail", "top"].map(|command| {
                let told: Vec<&str> = if command == "trace" { vec![&id] } else { vec!["--once", "is:retried"] };
                let output = process::output(&folder, &[&[command], &told[..], &["--admin", &admin]].concat());
                (output.status.success(), String::from_utf8(output.stdout).expect("UTF-8"))
            })
        });
        let [(traced, trace), (tailed, tail), (topped, top)] = commands.await.expect("they end");
        assert!(
            traced && trace.contains("decode") && trace.contains("█") && trace.contains("policy    cheapest@1"),
            "{trace}"
        );
        assert!(tailed && tail.lines().count() == 2 && tail.contains("good/"), "{tail}");
        assert!(topped && top.contains("cheapest@1") && top.contains("requests/s") && top.ends_with(&tail), "{top}");
    });
}

#[test]
fn sums_promises_backends_and_comparisons_are_of_every_request() {
    beside_others(async {
        let (gateway, _machines) = failing_over().await;
        for _ in 0..6 {
            gateway.send(Ask::chat(&chat(4, false))).await;
        }
        found(&gateway, "", 6).await;
        let sum = |series: &Value, key: &str| {
            series[key].as_array().map_or(0, |all| all.iter().filter_map(Value::as_u64).sum())
        };
        let series = wait::some("a complete second", async || {
            let series = asked(&gateway, "/api/v1/timeseries?by=class&window_s=60").await["series"][0].clone();
            (sum(&series, "requests") == 6).then_some(series)
        })
        .await;
        assert_eq!((&series["name"], series["requests"].as_array().map(Vec::len)), (&json!("standard"), Some(60)));
        assert_eq!(sum(&series, "output_tokens"), 24);
        refused(&gateway.admin("/api/v1/timeseries?step_s=7").await, 400, "bad-parameter");
        let summary = asked(&gateway, "/api/v1/summary?window_s=60").await;
        assert_eq!((&summary["all"]["requests"], &summary["classes"][0]["name"]), (&json!(6), &json!("standard")));
        assert_eq!(summary["pools"].as_array().map(Vec::len), Some(1), "of the last attempt's pool");

        let slo = asked(&gateway, "/api/v1/slo").await;
        let classes = slo["classes"].as_array().expect("classes");
        let class = classes.iter().find(|class| class["class"] == "standard").expect("the class");
        let judged = class["kept"].as_u64().zip(class["missed"].as_u64()).map(|(kept, missed)| kept + missed);
        assert_eq!((judged, class["windows"].as_array().map(Vec::len)), (Some(6), Some(4)), "{class}");
        let objectives = class["objectives"].as_array().expect("objectives");
        let parts: Vec<&str> = objectives.iter().filter_map(|one| one["objective"].as_str()).collect();
        assert!(
            !parts.is_empty() && parts.iter().all(|part| class["slo"][format!("{part}_ms")].is_number()),
            "{class}"
        );
        for one in objectives {
            let part = one["objective"].as_str().expect("its name");
            let found = asked(&gateway, &format!("/api/v1/requests?filter=class:standard+slo:{part}")).await;
            assert_eq!(found["matched"], one["missed"], "{part}: {class}");
            assert!(one["burn"]["5m"].is_number() && one["attainment"].is_number(), "{one}");
        }
        let cost = &slo["cost"][0];
        assert_eq!((&cost["pool"], &cost["requests"]), (&json!("good"), &json!(6)));
        assert!(cost["usd_all_gpu"].as_f64().is_some_and(|usd| usd > 0.0), "{cost}");
        assert!(cost["joules_all_gpu"].as_f64().is_some_and(|joules| joules > 0.0), "{cost}");
        let tenant = &slo["tenants"][0];
        assert_eq!((&tenant["requests"], &tenant["usd"]), (&json!(6), &slo["all"]["usd"]), "{slo}");

        let backends = asked(&gateway, "/api/v1/backends").await;
        let of = |pool: &str| {
            backends["backends"].as_array().and_then(|all| all.iter().find(|one| one["pool"] == pool)).expect("it")
        };
        assert_eq!(of("good")["minute"]["requests"], 6);
        let (held, room) = (of("good")["kv_tokens_held"].as_u64(), of("good")["kv_tokens"].as_u64());
        assert!(of("good")["hidden_load"]["itl"].is_number(), "{backends}");
        assert!(held.zip(room).is_some_and(|(held, room)| held < room), "{backends}");
        assert!(
            of("good")["service_learned"]["slots"].is_number()
                && of("bad")["url"].as_str().is_some_and(|url| url.starts_with("http://"))
        );
        wait::some("the failing one is seen to be out", async || {
            let all = asked(&gateway, "/api/v1/backends").await;
            let bad = all["backends"].as_array()?.iter().find(|one| one["pool"] == "bad")?.clone();
            (!bad["strip"].as_array()?.is_empty()).then_some(())
        })
        .await;

        let contrast = asked(&gateway, "/api/v1/contrast?select=is:retried").await;
        assert_eq!(
            contrast["selected"].as_u64().zip(contrast["rest"].as_u64()).map(|(one, other)| one + other),
            Some(6)
        );
        refused(&gateway.admin("/api/v1/contrast").await, 400, "nothing-selected");
        let points = asked(&gateway, "/api/v1/scatter?limit=4").await;
        assert_eq!((points["seq"].as_array().map(Vec::len), &points["matched"]), (Some(4), &json!(6)));
    });
}

#[test]
fn who_watches_sees_what_its_filter_means_and_goes_on_where_it_left_off() {
    beside_others(async {
        let (gateway, _machines) = failing_over().await;
        let address = gateway.running.admin_address;
        let path = format!("/api/v1/stream?filter={}", escaped("class:batch"));
        let mut stream = client::open(address, Ask::get(&path)).await;
        assert_eq!((stream.status.as_u16(), stream.header("content-type")), (200, "text/event-stream"));
        let Next::Event(snapshot) = stream.next().await else { panic!("no snapshot") };
        assert!(snapshot.contains("\"policy\":\"cheapest@1\""), "{snapshot}");
        for class in ["interactive", "batch"] {
            gateway.send(Ask::chat(&chat(2, false)).header("x-pointsman-class", class)).await;
        }
        let (mut ticks, mut requests) = (0, Vec::new());
        while ticks < 2 || requests.is_empty() {
            let Next::Event(event) = stream.next().await else { panic!("it ended") };
            let event: Value = serde_json::from_str(&event).expect("JSON");
            if event["all"].is_object() { ticks += 1 } else { requests.push(event) }
        }
        assert!(requests.iter().all(|request| request["class"] == "batch"), "{requests:?}");
        drop(stream);
        let mut stream = client::open(address, Ask::get("/api/v1/stream").header("last-event-id", "0.0")).await;
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let Next::Event(event) = stream.next().await else { panic!("it ended") };
            let event: Value = serde_json::from_str(&event).expect("JSON");
            seen.extend(event["seq"].as_u64());
        }
        assert_eq!(seen, [0, 1], "what it has missed");
        refused(&gateway.admin("/api/v1/stream?filter=clas:x").await, 400, "bad-filter");
    });
}

#[test]
fn a_text_is_tried_on_the_last_decisions_and_a_swap_has_two_sides() {
    beside_others(async {
        let machines = (machines::start("h100").await, machines::start("h100").await);
        let pools = [PoolText::new("a", [url(&machines.0)]).price(1), PoolText::new("b", [url(&machines.1)]).price(2)];
        let gateway = Gateway::start(PROCESS, &portfolio(&pools), CHEAPEST).await;
        for _ in 0..4 {
            gateway.send(Ask::chat(&chat(2, false))).await;
        }
        found(&gateway, "pool:a", 4).await;
        let again = async |text: &str, last: u32| {
            let ask = Ask::raw(&format!("/api/v1/policy/again?last={last}"), text.to_owned());
            gateway.operate(ask).await
        };
        let same = again(CHEAPEST, 100).await.json();
        assert_eq!((&same["decisions"], &same["elsewhere"]), (&json!(4), &json!(0)), "{same}");
        let only = pointsman_tests::files::only("b");
        let moved = again(&only, 3).await.json();
        assert_eq!(
            (&moved["decisions"], &moved["elsewhere"], &moved["policy"]),
            (&json!(3), &json!(3), &json!("only-b"))
        );
        let first = &moved["moved"][0];
        assert!(first["from"].as_str().is_some_and(|from| from.starts_with("a/")), "{moved}");
        assert!(first["to"].as_str().is_some_and(|to| to.starts_with("b/")), "{moved}");
        assert_eq!(gateway.status().await["generation"], 1, "nothing has changed");
        assert!(!refused(&again("name = 1", 3).await, 422, "bad-policy")["error"]["diagnostics"].is_null());

        let effect = asked(&gateway, "/api/v1/generations/1/effect").await;
        assert!(effect["before"].is_null(), "nothing was in force before: {effect}");
        gateway.files.write("policy.toml", &only);
        wait::some("another policy", async || (gateway.status().await["generation"] == json!(2)).then_some(())).await;
        let effect = wait::some("a second after it is over", async || {
            gateway.send(Ask::chat(&chat(2, false))).await;
            let effect = asked(&gateway, "/api/v1/generations/2/effect?window_s=60").await;
            effect["after"]["pools"][0]["requests"].is_number().then_some(effect)
        })
        .await;
        assert_eq!(effect["after"]["pools"][0]["pool"], "b", "{effect}");
        assert!(effect["before"]["classes"].is_array(), "{effect}");
        refused(&gateway.admin("/api/v1/generations/7/effect").await, 404, "unknown-generation");
    });
}
