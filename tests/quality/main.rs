//! The bench of decision quality: baselines, oracle, scenarios, tables.
//!
//!     cargo run --release -p pointsman-tests --bin quality
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench may stop where its own assumptions break"
)]
#![allow(unreachable_pub, reason = "modules tell what they offer one another")]
#![cfg_attr(not(test), expect(dead_code, reason = "the table of baselines is shown before anything runs them"))]

/// What people can pick today.
mod baselines;

fn main() {
    for baseline in baselines::all() {
        println!("{:22} {}\n{:22} {}", baseline.name, baseline.formula, "", baseline.source);
    }
}
