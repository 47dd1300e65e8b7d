//! Too little memory: what may be shed goes first, then everything new, then connections without work; what runs, runs on.

use pointsman::overload::Level;
use pointsman_tests::client::{Ask, Connection, Next};
use pointsman_tests::double::{Act, Double, End, FIRST};
use pointsman_tests::files::{CHEAPEST, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::chat;
use pointsman_tests::run::beside_others;
use pointsman_tests::wait;

/// Sets the limit so that this process uses about this part of it.
async fn use_part(gateway: &Gateway, part: f64, level: Level) {
    let overload = gateway.inner().overload();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let used = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: f64 = used.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    let mib = (kib / part / 1024.0).round();
    gateway.files.write("pointsman.toml", &format!("{PROCESS}[limits]\nmemory_mib = {mib}\n"));
    wait::until(&format!("{level:?} at {part}"), || overload.level() >= level).await;
}

#[test]
fn memory_that_only_grows_is_noticed_and_held_up_step_by_step() {
    beside_others(async {
        let machine = Double::always(Act::stream(&[FIRST], End::Hang)).await;
        let gateway = Gateway::start(PROCESS, &portfolio(&[PoolText::new("gpu", [machine.url()])]), CHEAPEST).await;
        let ask = |class: &str| Ask::chat(&chat(9, true)).header("x-pointsman-class", class);
        let status =
            async |class: &str| Connection::http1(gateway.address()).await.open(ask(class)).await.status.as_u16();
        assert_eq!((status("batch").await, status("interactive").await), (200, 200));

        let mut running = Vec::new();
        for _ in 0..20 {
            let mut stream = Connection::http2(gateway.address()).await.open(ask("interactive")).await;
            assert!(matches!(stream.next().await, Next::Event(_)));
            running.push(stream);
        }

        use_part(&gateway, 0.85, Level::Shed).await;
        assert_eq!((status("batch").await, status("interactive").await), (503, 200));

        let idle = Connection::http2(gateway.address()).await;
        assert_eq!(idle.send(Ask::get("/v1/models")).await.status, 200);
        use_part(&gateway, 0.93, Level::Refuse).await;
        let refused = gateway.send(ask("interactive")).await;
        assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "5"));
        assert_eq!(refused.json()["error"]["code"], "gateway_overloaded");
        let ready = gateway.admin("/readyz").await;
        assert!(ready.status == 200 && ready.text().contains("short of memory"), "{}", ready.text());

        use_part(&gateway, 2.0, Level::CloseIdle).await;
        assert_eq!(gateway.metric("pointsman_overload_level").await, 3.0);
        wait::some("an idle connection is closed", async || idle.try_open(Ask::get("/v1/models")).await.err()).await;
        let asked = "pointsman_client_connections_asked_to_end_total{reason=\"memory\"}";
        wait::some("it is counted", async || (gateway.metric(asked).await >= 1.0).then_some(())).await;
        gateway.until_in_flight(running.len() as u64).await;

        // With next to nothing running, refusing would free nothing.
        running.truncate(2);
        wait::some("a few are admitted all the same", async || {
            let stream = Connection::http1(gateway.address()).await.try_open(ask("interactive")).await;
            stream.is_ok_and(|stream| stream.status == 200).then_some(())
        })
        .await;
        assert_eq!(status("batch").await, 503);

        gateway.files.write("pointsman.toml", PROCESS);
        wait::until("it is over", || gateway.inner().overload().level() == Level::Calm).await;
        assert_eq!(status("batch").await, 200);
    });
}
