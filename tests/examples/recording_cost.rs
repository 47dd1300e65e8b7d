//! What recording costs the data path: `cargo run --release -p pointsman-tests --example recording_cost`.
//!
//! Settled records are offered in bursts that fit the queue, as the pipeline offers them; the writer empties it between
//! two bursts, so nothing is dropped and every offer is a real one.
#![expect(clippy::expect_used, reason = "a measurement may stop")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman::decision_log::Recorder;
use pointsman::decision_log::writer::LogFiles;
use pointsman::telemetry::metrics::Metrics;
use pointsman_backends::fleet::Fleet;
use pointsman_policies::facts::OwnedFacts;
use pointsman_policies::fleet::EndpointState;
use pointsman_tests::files::{Files, MODEL, PROCESS};
use pointsman_tests::virtual_time::{decided, demo_portfolio, snapshot};

const BURST: u64 = 1_024; // whole batches, which are written at once
const BURSTS: u32 = 200;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let files = Files::new(PROCESS, &demo_portfolio(), "name = \"p\"\n");
    let snapshot = snapshot(&files, 1, &Fleet::default());
    let endpoints = snapshot.targets().map(|target| EndpointState::idle(target.endpoint.pool)).collect();
    let facts = OwnedFacts { model: MODEL.to_owned(), input_tokens: 1000, output_tokens: 200, ..OwnedFacts::default() };
    let record = Arc::new(decided(&snapshot, facts, endpoints, 1));
    let recorder = Recorder::new(Arc::new(Metrics::default()));
    let off = time(&recorder, &record);
    let file = LogFiles { file: files.path("cost.log"), max_bytes: 1 << 30, keep: 1 };
    recorder.start(file).await.expect("it can record");
    let (mut on, mut wanted) = (Duration::ZERO, 0);
    for _ in 0..BURSTS {
        on += time(&recorder, &record);
        wanted += BURST;
        while recorder.recording().decisions < wanted {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(recorder.recording().dropped, 0);
    recorder.stop().await;
    let each = |time: Duration, bursts: u32| time.as_nanos() as f64 / f64::from(bursts) / BURST as f64;
    println!("off: {:.1} ns a request, on: {:.1} ns a request", each(off, 1), each(on, BURSTS));
}

fn time(recorder: &Recorder, record: &Arc<pointsman::record::Record>) -> Duration {
    let began = Instant::now();
    for _ in 0..BURST {
        recorder.offer(black_box(record));
    }
    began.elapsed()
}
