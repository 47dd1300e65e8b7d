//! Writes a log of any size in virtual time, for measuring and for looking at replays without waiting:
//!
//! ```text
//! cargo run --release -p pointsman-tests --example virtual_log -- FILE DECISIONS [RATE]
//! ```
//!
//! The demo's portfolio and the library's balanced policy, at `RATE` times the trace's 10 requests a second (3 where not
//! given); half-way the interactive class is promised more.
#![expect(clippy::expect_used, reason = "a tool for developers may stop")]

use std::path::PathBuf;

use pointsman::decision_log::writer::LogFiles;
use pointsman_backends::fleet::Fleet;
use pointsman_tests::files::{Files, PROCESS};
use pointsman_tests::virtual_time::{demo_portfolio, record, snapshot};

const BALANCED: &str = include_str!("../../policies/library/balanced.toml");

fn main() {
    let mut arguments = std::env::args().skip(1);
    let file = PathBuf::from(arguments.next().expect("FILE"));
    let decisions = arguments.next().expect("DECISIONS").parse().expect("a number of decisions");
    let rate = arguments.next().map_or(3.0, |rate| rate.parse().expect("a rate"));
    let files = Files::new(PROCESS, &demo_portfolio(), BALANCED);
    let fleet = Fleet::default();
    let first = snapshot(&files, 1, &fleet);
    files.write("policy.toml", &BALANCED.replace("ttft_ms = 1000", "ttft_ms = 700"));
    let second = snapshot(&files, 2, &fleet);
    record(LogFiles { file: file.clone(), max_bytes: u64::MAX, keep: 1 }, [&first, &second], rate, decisions);
    let bytes = std::fs::metadata(&file).expect("it was written").len();
    println!("{decisions} decisions, {bytes} bytes, {:.1} each", bytes as f64 / decisions as f64);
}
