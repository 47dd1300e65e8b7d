//! Files that change: an edit moves traffic within a second, a broken one changes nothing and is told, and nothing that
//! runs is disturbed.

use std::time::{Duration, Instant};

use pointsman_backends::simulators::server::RunningSimulator;
use pointsman_tests::client::{self, Ask, Next};
use pointsman_tests::double::{Act, Double, WHOLE};
use pointsman_tests::files::{CHEAPEST, Files, PROCESS, PoolText, only, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::{self, chat, endless, url};
use pointsman_tests::process::Served;
use pointsman_tests::run::{alone, beside_others};
use pointsman_tests::wait;
use rustix::process::Signal;

/// What the issue allows between an edit and the first request that follows it.
const LIMIT: Duration = Duration::from_secs(1);

struct Two {
    _machines: [RunningSimulator; 2],
    pools: String,
}

/// Pools `left` and `right`, one machine each.
async fn two() -> Two {
    let machines = [machines::start("cs3").await, machines::start("cs3").await];
    let pools = [PoolText::new("left", [url(&machines[0])]), PoolText::new("right", [url(&machines[1])])];
    let pools = portfolio(&pools);
    Two { _machines: machines, pools }
}

/// Asks until another policy answers; says which, on which pool, and how long that took.
async fn until_moved(address: std::net::SocketAddr, from: &str) -> (String, String, Duration) {
    let began = Instant::now();
    let (policy, endpoint) = wait::some("the edit is in force", async || {
        let reply = client::send(address, Ask::chat(&chat(1, false))).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let policy = reply.header("x-pointsman-policy");
        let pool = reply.header("x-pointsman-endpoint").split('/').next().unwrap_or_default();
        (policy != from).then(|| (policy.to_owned(), pool.to_owned()))
    })
    .await;
    (policy, endpoint, began.elapsed())
}

async fn moves(how: &str, gateway: &Gateway, edit: impl Fn(&Files, &str)) {
    let mut slowest = Duration::ZERO;
    for (generation, (from, to)) in [("left", "right"), ("right", "left"), ("left", "right")].into_iter().enumerate() {
        let before = format!("only-{from}@{}", generation + 1);
        assert_eq!(gateway.send(Ask::chat(&chat(1, false))).await.header("x-pointsman-policy"), before);
        edit(&gateway.files, to);
        let (policy, pool, took) = until_moved(gateway.address(), &before).await;
        assert_eq!((policy, pool.as_str()), (format!("only-{to}@{}", generation + 2), to), "{how}");
        assert!(took <= LIMIT, "{how}: after {took:?}");
        slowest = slowest.max(took);
    }
    println!("{how}: slowest of 3 edits in force after {slowest:?}");
}

#[test]
fn an_edit_in_place_moves_traffic_within_a_second() {
    alone(async {
        let two = two().await;
        let gateway = Gateway::start(PROCESS, &two.pools, &only("left")).await;
        moves("overwritten", &gateway, |files, pool| files.write("policy.toml", &only(pool))).await;
    });
}

#[test]
fn an_edit_by_renaming_moves_traffic_within_a_second() {
    alone(async {
        let two = two().await;
        let gateway = Gateway::start(PROCESS, &two.pools, &only("left")).await;
        moves("renamed over", &gateway, |files, pool| files.replace("policy.toml", &only(pool))).await;
    });
}

#[test]
fn a_new_version_of_a_config_map_moves_traffic_within_a_second() {
    alone(async {
        let two = two().await;
        let files = Files::none();
        files.mount("version_1", [PROCESS, &two.pools, &only("left")]);
        let gateway = Gateway::on(files).await;
        let version = std::cell::Cell::new(1);
        moves("config map", &gateway, |files, pool| {
            version.set(version.get() + 1);
            files.mount(&format!("version_{}", version.get()), [PROCESS, &two.pools, &only(pool)]);
        })
        .await;
    });
}

/// A key that has changed in a folder nobody watches: only the signal tells of it.
#[test]
fn a_hangup_signal_reads_files_and_secrets_again() {
    alone(async {
        let machine = Double::always(Act::json(200, WHOLE)).await;
        let elsewhere = Files::none();
        elsewhere.write("key", "old");
        let pool =
            PoolText::new("gpu", [machine.url()]).key(&format!("api_key = {{ file = {:?} }}", elsewhere.path("key")));
        let files = Files::new(PROCESS, &portfolio(&[pool]), &only("gpu"));
        let served = Served::start(files.folder(), &[]).await;
        elsewhere.write("key", "new");
        let reply = client::send(served.address, Ask::chat(&chat(1, false))).await;
        assert_eq!(
            (reply.header("x-pointsman-policy"), machine.last().header("authorization")),
            ("only-gpu@1", "Bearer old")
        );
        served.process.signal(Signal::HUP);
        let (policy, _, took) = until_moved(served.address, "only-gpu@1").await;
        assert_eq!((policy.as_str(), machine.last().header("authorization")), ("only-gpu@2", "Bearer new"));
        assert!(took <= LIMIT, "after {took:?}");
    });
}

/// What stops the files from being used; that the policies here leave a pool unused is a mere warning.
fn errors(status: &serde_json::Value) -> Vec<String> {
    let told = status["reload"]["diagnostics"].as_array().expect("a list").iter();
    let errors = told.filter(|one| one["severity"] == "error");
    errors.map(|one| one["message"].as_str().expect("a message").to_owned()).collect()
}

/// Longer than the gateway waits before it looks at the files without an event.
const LONGER_THAN_A_LOOK: Duration = Duration::from_millis(2_500);

#[test]
fn one_broken_edit_is_refused_once_and_a_file_that_is_gone_is_missed() {
    beside_others(async {
        let two = two().await;
        let gateway = Gateway::start(PROCESS, &two.pools, "").await;
        let refused = async |times: u32| {
            let line = format!("pointsman_reloads_total{{result=\"refused\"}} {times}\n");
            gateway.admin("/metrics").await.text().contains(&line)
        };
        gateway.files.write("policy.toml", "name = 5\n");
        wait::some("the edit is refused", async || refused(1).await.then_some(())).await;
        tokio::time::sleep(LONGER_THAN_A_LOOK).await;
        assert!(refused(1).await, "nothing has changed, so nothing is read again");
        gateway.files.write("policy.toml", "");
        wait::some("the repair is taken", async || (gateway.status().await["reload"]["ok"] == true).then_some(()))
            .await;
        std::fs::remove_file(gateway.files.path("policy.toml")).unwrap();
        wait::some("the file is missed", async || refused(2).await.then_some(())).await;
    });
}

#[test]
fn a_broken_edit_changes_nothing_and_is_told_until_it_is_repaired() {
    beside_others(async {
        let two = two().await;
        let gateway = Gateway::start(PROCESS, &two.pools, &only("left")).await;
        assert_eq!(gateway.admin("/readyz").await.text(), "ok\n");
        gateway.files.write("policy.toml", "name = \"broken\"\n[[route]]\npools = 'pool.nam == \"right\"'\n");
        let status = wait::some("the edit is refused", async || {
            let status = gateway.status().await;
            (status["reload"]["ok"] == false).then_some(status)
        })
        .await;
        let diagnostic = &status["reload"]["diagnostics"][0];
        assert_eq!((&diagnostic["line"], &diagnostic["severity"]), (&3.into(), &"error".into()), "{diagnostic}");
        assert!(diagnostic["file"].as_str().unwrap().ends_with("policy.toml"));
        assert_eq!((&status["policy"], &status["generation"]), (&"only-left@1".into(), &1.into()));
        let ready = gateway.admin("/readyz").await;
        assert_eq!(ready.status, 200, "the last good generation serves");
        assert!(ready.text().contains("is refused and generation 1 stays in force"), "{}", ready.text());
        assert_eq!(gateway.metric("pointsman_last_reload_ok").await, 0.0);
        let reply = gateway.send(Ask::chat(&chat(1, false))).await;
        assert_eq!((reply.status.as_u16(), reply.header("x-pointsman-policy")), (200, "only-left@1"));

        gateway.files.write("policy.toml", &only("right"));
        let (policy, ..) = until_moved(gateway.address(), "only-left@1").await;
        assert_eq!(policy, "only-right@2");
        assert_eq!(gateway.admin("/readyz").await.text(), "ok\n");
        assert_eq!(errors(&gateway.status().await), Vec::<String>::new());
    });
}

#[test]
fn a_file_that_is_gone_for_a_moment_changes_nothing() {
    beside_others(async {
        let two = two().await;
        let gateway = Gateway::start(PROCESS, &two.pools, &only("left")).await;
        std::fs::remove_file(gateway.files.path("portfolio.toml")).unwrap();
        wait::some("it is told", async || (gateway.status().await["reload"]["ok"] == false).then_some(())).await;
        assert_eq!(gateway.send(Ask::chat(&chat(1, false))).await.status, 200);
        gateway.files.write("portfolio.toml", &two.pools);
        wait::some("it is well again", async || (gateway.status().await["reload"]["ok"] == true).then_some(())).await;
        assert_eq!(gateway.status().await["generation"], 1, "the same files are the same generation");
    });
}

#[test]
fn keys_that_cannot_change_are_refused_by_name() {
    beside_others(async {
        let two = two().await;
        let gateway = Gateway::start(PROCESS, &two.pools, &only("left")).await;
        let moved = PROCESS.replacen("127.0.0.1:0", "127.0.0.1:7999", 1);
        gateway.files.write("pointsman.toml", &format!("{moved}[telemetry]\nservice_name = \"other\"\n"));
        let status = wait::some("it is refused", async || {
            let status = gateway.status().await;
            (status["reload"]["ok"] == false).then_some(status)
        })
        .await;
        assert_eq!(
            errors(&status),
            ["`listen` cannot change while the gateway runs", "`telemetry` cannot change while the gateway runs"]
        );

        let others = format!("{PROCESS}[limits]\nbody_bytes = 1024\n");
        gateway.files.write("pointsman.toml", &others);
        wait::some("what can change does", async || (gateway.status().await["generation"] == 2).then_some(())).await;
        let reply = gateway.send(Ask::raw("/v1/chat/completions", "x".repeat(2000))).await;
        assert_eq!(reply.status, 413, "the new limit holds");
    });
}

#[test]
fn a_stream_finishes_under_the_generation_it_began_with() {
    beside_others(async {
        let two = two().await;
        let machine = machines::start("h100").await;
        let pools = two.pools.clone() + &portfolio(&[PoolText::new("slow", [url(&machine)])]);
        let gateway = Gateway::start(PROCESS, &pools, &only("slow")).await;
        let mut stream = client::open(gateway.address(), Ask::chat(&chat(1500, true))).await;
        assert_eq!(stream.header("x-pointsman-policy"), "only-slow@1");
        assert!(matches!(stream.next().await, Next::Event(_)));
        assert_eq!(gateway.endpoint("slow").await["in_flight"], 1);

        gateway.files.write("policy.toml", &only("left"));
        until_moved(gateway.address(), "only-slow@1").await;
        assert_eq!(gateway.endpoint("slow").await["in_flight"], 1, "what is in flight is not forgotten");

        gateway.files.write("portfolio.toml", &two.pools); // the machine it streams from is no longer there
        until_moved(gateway.address(), "only-left@2").await;
        let (events, end) = stream.rest().await;
        assert_eq!((events.last().map(String::as_str), end), (Some("[DONE]"), Next::End));
        assert!(events.len() >= 1500, "{} events", events.len());
        assert_eq!(machine.stats().cancelled, 0);
    });
}

#[test]
fn what_was_learned_of_a_machine_survives() {
    beside_others(async {
        let bad = machines::faulty("cs3", &["error500:1"]).await;
        let good = machines::start("h100").await;
        let pools = [PoolText::new("bad", [url(&bad)]).price(1), PoolText::new("good", [url(&good)]).price(2)];
        let gateway = Gateway::start(PROCESS, &portfolio(&pools), CHEAPEST).await;
        for _ in 0..3 {
            gateway.send(Ask::chat(&chat(1, false))).await;
        }
        let _held = client::open(gateway.address(), Ask::chat(&endless())).await;
        let of = async |pool| {
            let state = gateway.endpoint(pool).await;
            (state["availability"].clone(), state["in_flight"].clone())
        };
        assert_eq!(of("bad").await, ("breaker-open".into(), 0.into()));
        assert_eq!(of("good").await, ("ready".into(), 1.into()));
        let edits = [
            portfolio(&pools) + "\n# another text\n",
            portfolio(&pools.clone().map(|pool| pool.key("http = \"h1\""))),
            portfolio(&pools.map(|pool| pool.key("limits = { requests_per_minute = 1000 }"))),
        ];
        for (edit, generation) in edits.iter().zip(2..) {
            gateway.files.write("portfolio.toml", edit);
            wait::some("the edit is in force", async || {
                (gateway.status().await["generation"] == generation).then_some(())
            })
            .await;
            assert_eq!(of("bad").await.0, "breaker-open", "{edit}");
            assert_eq!(of("good").await, ("ready".into(), 1.into()), "{edit}");
        }
    });
}
