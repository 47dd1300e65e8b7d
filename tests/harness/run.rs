//! How a test runs: on threads of its own, beside others or alone, never for ever.

use std::time::Duration;

use parking_lot::RwLock;

/// No test takes longer; one that does hangs.
const LONGEST: Duration = Duration::from_secs(90);

/// Tests that measure time hold it for writing, all others for reading.
static QUIET: RwLock<()> = RwLock::new(());

/// Runs a test beside others.
pub fn beside_others(test: impl Future<Output = ()>) {
    let _others_may_run = QUIET.read();
    bounded(test);
}

/// Runs a test that measures time: nothing else runs meanwhile.
pub fn alone(test: impl Future<Output = ()>) {
    let _nothing_else_runs = QUIET.write();
    bounded(test);
}

fn bounded(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let ended = runtime.block_on(async { tokio::time::timeout(LONGEST, test).await });
    runtime.shutdown_background();
    assert!(ended.is_ok(), "the test did not end within {LONGEST:?}");
}
