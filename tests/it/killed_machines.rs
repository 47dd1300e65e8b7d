//! `kill -9` of a machine under load: nobody sees an error before the first byte, every stream cut after it ends in an
//! error event, and the ledger closes.

use pointsman_tests::files::{CHEAPEST, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::load::Load;
use pointsman_tests::process::Simulated;
use pointsman_tests::run::alone;
use pointsman_tests::wait;

const CLIENTS: usize = 40;

async fn kill_one_of_two(http: &str) {
    let mut machines =
        [Simulated::start("h100", &["--speed", "5"]).await, Simulated::start("h100", &["--speed", "5"]).await];
    let pool = PoolText::new("gpu", machines.iter().map(Simulated::url)).key(&format!("http = \"{http}\""));
    let gateway = Gateway::start(PROCESS, &portfolio(&[pool]), CHEAPEST).await;
    let load = Load::start(gateway.address(), CLIENTS, 60);
    wait::until("the load runs", || load.answered() >= CLIENTS as u64 && load.streaming() >= CLIENTS / 4).await;

    machines[0].process.kill();
    let at_kill = load.answered();
    wait::some("the dead machine's breaker opens", async || {
        let status = gateway.status().await;
        let mut endpoints = status["endpoints"].as_array().expect("endpoints").iter();
        endpoints.any(|one| one["availability"] == "breaker-open").then_some(())
    })
    .await;
    wait::until("it runs on", || load.answered() >= at_kill + 4 * CLIENTS as u64).await;
    let ledger = load.stop().await;

    ledger.close();
    assert!(ledger.complete >= 4 * CLIENTS as u64, "{ledger:?}");
    assert!(ledger.broken >= 1, "with {CLIENTS} clients, half of them streaming, some stream was cut");
    assert!(ledger.broken <= CLIENTS as u64 / 2, "{} streams broke, more than ran at the kill", ledger.broken);
    gateway.until_in_flight(0).await;
    println!("{http}: sent {}, complete {}, ended in an error event {}", ledger.sent, ledger.complete, ledger.broken);
}

#[test]
fn a_machine_killed_under_load_costs_no_error_before_the_first_byte() {
    alone(kill_one_of_two("h1"));
}

#[test]
fn a_machine_killed_under_load_costs_no_error_before_the_first_byte_over_http2() {
    alone(kill_one_of_two("h2"));
}

#[test]
fn all_machines_killed_is_503_and_never_a_hang() {
    alone(async {
        let mut machine = Simulated::start("h100", &["--speed", "5"]).await;
        let gateway = Gateway::start(PROCESS, &portfolio(&[PoolText::new("gpu", [machine.url()])]), CHEAPEST).await;
        let load = Load::start(gateway.address(), 20, 60);
        wait::until("the load runs", || load.answered() >= 20).await;
        machine.process.kill();
        let at_kill = load.answered();
        wait::until("every client is answered", || load.answered() >= at_kill + 60).await;
        let ledger = load.stop().await;
        assert_eq!(ledger.sent, ledger.complete + ledger.broken + ledger.wrong.len() as u64);
        let refused = |wrong: &&String| wrong.contains("503") || wrong.contains("backends_unavailable");
        let others: Vec<_> = ledger.wrong.iter().filter(|wrong| !refused(wrong)).collect();
        assert!(others.is_empty(), "{others:?}");
    });
}
