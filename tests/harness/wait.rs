//! Waiting for a condition, with a deadline and a word about what was waited for.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(1);
/// Long enough for anything that is going to happen.
pub const SOON: Duration = Duration::from_secs(10);

/// Waits until a condition holds and returns how long that took; panics after ten seconds.
#[track_caller]
pub fn until(what: &str, condition: impl FnMut() -> bool) -> impl Future<Output = Duration> {
    within(SOON, what, condition)
}

/// Waits until a condition holds and returns how long that took; panics when the limit has passed.
pub async fn within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(EVERY).await;
    }
    began.elapsed()
}

/// Asks again and again until the answer is there; panics after ten seconds.
pub async fn some<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(EVERY).await;
    }
}
