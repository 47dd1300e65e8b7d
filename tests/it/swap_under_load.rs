//! A thousand edits while requests run: no error, and every answer names a generation that was in force.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use pointsman::generations::entry::Change;
use pointsman::reload::{Reloaded, reload};
use pointsman_tests::files::{PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::load::Load;
use pointsman_tests::machines::{self, url};
use pointsman_tests::run::beside_others;
use pointsman_tests::wait;

const EDITS: usize = 1_000;

fn policy(edit: usize) -> String {
    let objective = ["cheapest", "fastest", "greenest", "cheapest-that-meets-slo"][edit % 4];
    format!("name = \"edit-{edit}\"\n[[route]]\nobjective = \"{objective}\"\n")
}

/// Every edit is put in force by a reload of its own, while the watcher and a rival read the files as well; every fifth
/// is broken.
fn edit_a_thousand_times(gateway: &Gateway) -> BTreeSet<String> {
    let (inner, file) = (gateway.inner(), gateway.files.process_file());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                reload(inner, &file, &Change::file());
            }
        });
        let versions = edit_each(gateway);
        done.store(true, Ordering::Relaxed);
        versions
    })
}

fn edit_each(gateway: &Gateway) -> BTreeSet<String> {
    let (inner, file) = (gateway.inner(), gateway.files.process_file());
    let mut versions = BTreeSet::from([inner.snapshot().version.to_string()]);
    for edit in 1..=EDITS {
        let broken = edit % 5 == 0;
        let text = if broken { format!("{}nonsense", policy(edit)) } else { policy(edit) };
        gateway.files.replace("policy.toml", &text);
        let reloaded = reload(inner, &file, &Change::file());
        // Nothing new is left to say where the watcher or the rival has read this edit first.
        let foreseen = match reloaded {
            Reloaded::Same => true,
            Reloaded::Refused(_) => broken,
            Reloaded::Swapped(_) => !broken,
        };
        assert!(foreseen, "edit {edit}: {reloaded:?}");
        assert_eq!(inner.reload_status().ok, !broken, "edit {edit} is told as what it is");
        let version = inner.snapshot().version.to_string();
        assert_eq!(version.starts_with(&format!("edit-{edit}@")), !broken, "edit {edit}: {version} is in force");
        versions.insert(version);
    }
    versions
}

#[test]
fn a_thousand_edits_under_load_cause_no_error() {
    beside_others(async {
        let machines = [machines::start("cs3").await, machines::start("h100").await];
        let pools =
            [PoolText::new("wafer", [url(&machines[0])]).hardware("cs3"), PoolText::new("gpu", [url(&machines[1])])];
        let gateway = Gateway::start(PROCESS, &portfolio(&pools), &policy(0)).await;
        let load = Load::start(gateway.address(), 8, 30);
        wait::until("the load runs", || load.answered() > 8).await;
        let before = load.answered();
        let (gateway, versions) = tokio::task::spawn_blocking(move || {
            let versions = edit_a_thousand_times(&gateway);
            (gateway, versions)
        })
        .await
        .unwrap();
        let during = load.answered() - before;
        let ledger = load.stop().await;

        ledger.close();
        assert_eq!(ledger.broken, 0, "no stream was cut");
        assert!(during >= 50, "only {during} requests ran meanwhile");
        let seen: BTreeSet<String> = ledger.answers.iter().map(|answer| answer.policy.clone()).collect();
        let unknown: Vec<_> = seen.difference(&versions).collect();
        assert!(unknown.is_empty(), "never in force: {unknown:?}");
        assert!(seen.len() > 10, "the load saw {} generations", seen.len());
        assert_eq!(gateway.inner().snapshot().generation, 1 + (EDITS - EDITS / 5) as u64, "one generation an edit");
        println!("{during} requests during {EDITS} edits; {} generations seen, {} made", seen.len(), versions.len());
    });
}
