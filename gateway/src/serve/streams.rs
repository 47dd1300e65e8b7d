//! Runs the streams of a client's HTTP/2 connection, each a task of its own, and cuts those whose client is too slow.

use std::pin::pin;

use hyper::rt::Executor;

use crate::pipeline::{Reader, Watch};

tokio::task_local! {
    /// Keeps an eye on the answer of the stream that runs.
    static WATCH: Watch;
}

/// Runs streams; their tasks end with their answers, or with their connection.
#[derive(Clone, Copy, Debug)]
pub struct Streams;

impl<S> Executor<S> for Streams
where
    S: Future + Send + 'static,
    S::Output: Send,
{
    fn execute(&self, stream: S) {
        let watch = Watch::default();
        tokio::spawn(async move {
            let mut running = pin!(WATCH.scope(watch.clone(), stream));
            tokio::select! {
                biased;
                _ = running.as_mut() => {}
                () = watch.cut() => {} // dropped before its end, a stream is reset
            }
        });
    }
}

/// The answer of the stream that runs is this one.
pub fn watch(reader: &Reader) {
    let _ = WATCH.try_with(|watch| watch.begin(reader));
}
