//! Times of many calls, and a yardstick that tells fast machines from slow ones.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::large::Chance;

/// Times of so many calls, after a tenth as many that are not counted.
pub(crate) fn times(count: usize, mut call: impl FnMut()) -> Vec<Duration> {
    timed_after(count, || (), |()| call())
}

/// The same where each call needs something made first, which is not counted.
pub(crate) fn timed_after<T>(count: usize, mut make: impl FnMut() -> T, mut call: impl FnMut(T)) -> Vec<Duration> {
    let mut timed = || {
        let made = make();
        let began = Instant::now();
        call(made);
        began.elapsed()
    };
    for _ in 0..count / 10 {
        timed();
    }
    (0..count).map(|_| timed()).collect()
}

/// Prints a distribution.
pub(crate) fn report(name: &str, mut times: Vec<Duration>, yardstick: Duration) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let ratio = at(0.5).as_secs_f64() / yardstick.as_secs_f64();
    let (half, most, max) = (at(0.5), at(0.99), at(1.0));
    println!("{name}: p50 {half:.1?}, p99 {most:.1?}, max {max:.1?}, {ratio:.2} yardsticks");
}

/// A piece of work that depends on the machine alone: sorting 1,000 numbers. Ratios to it compare between machines.
pub(crate) fn yardstick() -> Duration {
    let mut chance = Chance(7);
    let numbers: Vec<u64> = (0..1_000).map(|_| chance.number()).collect();
    let mut times = times(2_000, || {
        let mut copy = numbers.clone();
        copy.sort_unstable();
        black_box(copy);
    });
    times.sort_unstable();
    let median = times[times.len() / 2];
    println!("yardstick: 1,000 numbers sorted in {median:.1?}");
    median
}
