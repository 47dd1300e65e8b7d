//! How a test runs: on threads of its own, beside others or alone, never for ever.

use std::fs::File;
use std::time::Duration;

/// No test takes longer; one that does hangs.
const LONGEST: Duration = Duration::from_secs(110);

/// Runs a test beside others.
pub fn beside_others(test: impl Future<Output = ()>) {
    let others_may_run = quiet();
    others_may_run.lock_shared().expect("a lock");
    bounded(test);
}

/// Runs a test that measures time: nothing else runs meanwhile.
pub fn alone(test: impl Future<Output = ()>) {
    let nothing_else_runs = quiet();
    nothing_else_runs.lock().expect("a lock");
    bounded(test);
}

/// A lock on a file, since some runners give every test a process of its own; let go when closed.
fn quiet() -> File {
    let this = std::env::current_exe().expect("the path of this test");
    File::create(this.with_file_name("pointsman-tests-quiet.lock")).expect("a file beside this test")
}

fn bounded(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let ended = runtime.block_on(async { tokio::time::timeout(LONGEST, test).await });
    runtime.shutdown_background();
    assert!(ended.is_ok(), "the test did not end within {LONGEST:?}");
}
