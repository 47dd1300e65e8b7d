//! What one request adds to its endpoint's load, taken off again when its last byte has passed or it is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use pointsman_policies::units::Micros;

use crate::health::engine_report::Share;
use crate::learn::meter::{Mark, Meter};

/// The size of a request as it is known when it is sent, and what it was promised.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Of those, tokens that the endpoint is believed to have in its prefix cache.
    pub cached_tokens: u64,
    /// Tokens expected of the answer.
    pub output_tokens: u64,
    /// The most tokens the answer may have, as a provider that reserves sees it.
    pub max_output_tokens: u64,
    /// Time per output token that is planned with, milliseconds: what was promised less a margin.
    pub itl_ms: Option<f64>,
    /// For an answer that comes whole: when its first token is expected, which nobody sees, milliseconds from now.
    pub read_in_ms: Option<f64>,
}

/// Everything dispatched to one endpoint and not yet finished.
#[derive(Debug, Default)]
pub struct Load {
    requests: AtomicU32,
    prefilling: AtomicU32,
    prefill_tokens: AtomicU64,
    context_tokens: AtomicU64,
    output_tokens: AtomicU64,
    promises: Promises,
    meter: Mutex<Meter>,
    silent: Mutex<Silent>,
}

/// Prompts of answers that come whole, by when they are expected to have been read: only their ends are heard of, and a
/// machine is not reading all the while.
#[derive(Debug, Default)]
struct Silent {
    next: u64,
    reading: BTreeMap<SilentKey, u64>,
}

/// When a prompt is expected to have been read, and a number of its own.
type SilentKey = (Micros, u64);

impl Load {
    /// Keeps account of the load from this moment on, with what others have there; to be called whenever it has changed.
    pub fn account(&self, now: Micros, foreign: Share) {
        let requests = self.requests().saturating_add(foreign.in_flight);
        self.meter.lock().load(now, requests, self.context_tokens().saturating_add(foreign.context_tokens));
    }

    /// The account at this moment.
    pub fn mark(&self, now: Micros) -> Mark {
        self.read_by(now);
        self.meter.lock().at(now)
    }

    /// Requests.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Prompts that are expected to have been read by now are being read no more.
    pub fn read_by(&self, now: Micros) {
        let mut silent = self.silent.lock();
        while let Some(entry) = silent.reading.first_entry().filter(|entry| entry.key().0 <= now) {
            self.was_read(entry.remove());
        }
    }

    /// When the next prompt is expected to have been read whose first token nobody sees.
    pub fn next_read(&self) -> Option<Micros> {
        self.silent.lock().reading.first_key_value().map(|((at, _), _)| *at)
    }

    fn was_read(&self, tokens: u64) {
        self.prefilling.fetch_sub(1, Ordering::Relaxed);
        self.prefill_tokens.fetch_sub(tokens, Ordering::Relaxed);
        self.meter.lock().prefilled(tokens);
    }

    /// Requests whose first token has not been seen.
    pub fn prefilling(&self) -> u32 {
        self.prefilling.load(Ordering::Relaxed)
    }

    /// Their prompt tokens, but for those that are cached.
    pub fn prefill_tokens(&self) -> u64 {
        self.prefill_tokens.load(Ordering::Relaxed)
    }

    /// Prompt and expected answer tokens of all requests.
    pub fn context_tokens(&self) -> u64 {
        self.context_tokens.load(Ordering::Relaxed)
    }

    /// Answer tokens still expected.
    pub fn output_tokens(&self) -> u64 {
        self.output_tokens.load(Ordering::Relaxed)
    }

    /// The least time per output token that is planned with for any request, milliseconds.
    pub fn strictest_itl_ms(&self) -> Option<f64> {
        let strictest_ms = f64::from_bits(self.promises.strictest.load(Ordering::Relaxed));
        (strictest_ms > 0.0).then_some(strictest_ms)
    }
}

/// Times per output token that are planned with for requests in flight, and how many have each.
#[derive(Debug, Default)]
struct Promises {
    counts: Mutex<Vec<(f64, u32)>>,
    /// Bits of the least; 0 where there is none.
    strictest: AtomicU64,
}

impl Promises {
    fn change(&self, itl_ms: f64, by: i32) {
        let mut counts = self.counts.lock();
        match counts.iter_mut().find(|(known, _)| known.to_bits() == itl_ms.to_bits()) {
            Some((_, count)) => *count = count.saturating_add_signed(by),
            None => counts.push((itl_ms, 1)),
        }
        counts.retain(|(_, count)| *count > 0);
        let least = counts.iter().map(|(itl_ms, _)| *itl_ms).min_by(f64::total_cmp);
        self.strictest.store(least.unwrap_or_default().to_bits(), Ordering::Relaxed);
    }
}

/// The guard of one request; it lives as long as the body.
#[derive(Debug)]
pub struct InFlight {
    load: Arc<Load>,
    work: Work,
    reading: Reading,
}

/// How it is known when a prompt has been read.
#[derive(Clone, Copy, Debug)]
enum Reading {
    /// It has been.
    Done,
    /// By its first token.
    UntilSeen,
    /// By the time that it was expected to take.
    Silent(SilentKey),
}

impl InFlight {
    /// Adds a request to the load.
    pub fn begin(load: &Arc<Load>, work: Work, now: Micros) -> InFlight {
        let mut in_flight = InFlight { load: Arc::clone(load), work, reading: Reading::UntilSeen };
        load.requests.fetch_add(1, Ordering::Relaxed);
        load.prefilling.fetch_add(1, Ordering::Relaxed);
        load.prefill_tokens.fetch_add(in_flight.uncached_tokens(), Ordering::Relaxed);
        load.context_tokens.fetch_add(in_flight.context_tokens(), Ordering::Relaxed);
        load.output_tokens.fetch_add(work.output_tokens, Ordering::Relaxed);
        if let Some(itl_ms) = work.itl_ms.filter(|itl_ms| *itl_ms > 0.0) {
            load.promises.change(itl_ms, 1);
        }
        // Last: whoever finds it read takes off what was counted above.
        if let Some(read_in_ms) = work.read_in_ms {
            let mut silent = load.silent.lock();
            let key = (now + Micros::from_ms(read_in_ms), silent.next);
            silent.next = silent.next.wrapping_add(1);
            silent.reading.insert(key, in_flight.uncached_tokens());
            in_flight.reading = Reading::Silent(key);
        }
        in_flight
    }

    /// The first token has come: the prompt is read.
    pub fn first_token(&mut self) {
        let unread = match std::mem::replace(&mut self.reading, Reading::Done) {
            Reading::Done => false,
            Reading::UntilSeen => true,
            Reading::Silent(key) => self.load.silent.lock().reading.remove(&key).is_some(),
        };
        if unread {
            self.load.was_read(self.uncached_tokens());
        }
    }

    fn uncached_tokens(&self) -> u64 {
        self.work.input_tokens.saturating_sub(self.work.cached_tokens)
    }

    fn context_tokens(&self) -> u64 {
        self.work.input_tokens.saturating_add(self.work.output_tokens)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.first_token();
        self.load.requests.fetch_sub(1, Ordering::Relaxed);
        self.load.context_tokens.fetch_sub(self.context_tokens(), Ordering::Relaxed);
        self.load.output_tokens.fetch_sub(self.work.output_tokens, Ordering::Relaxed);
        if let Some(itl_ms) = self.work.itl_ms.filter(|itl_ms| *itl_ms > 0.0) {
            self.load.promises.change(itl_ms, -1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_adds_its_load_and_takes_it_off_once() {
        let load = Arc::new(Load::default());
        let figures =
            |load: &Load| (load.requests(), load.prefill_tokens(), load.context_tokens(), load.output_tokens());
        let sized = |input_tokens, output_tokens| Work { input_tokens, output_tokens, ..Work::default() };
        let mut one = InFlight::begin(&load, Work { itl_ms: Some(50.0), ..sized(100, 20) }, Micros(0));
        let other = InFlight::begin(&load, Work { itl_ms: Some(10.0), cached_tokens: 4, ..sized(10, 2) }, Micros(0));
        assert_eq!(figures(&load), (2, 106, 132, 22));
        assert_eq!((load.prefilling(), load.strictest_itl_ms()), (2, Some(10.0)));
        one.first_token();
        one.first_token();
        assert_eq!(figures(&load), (2, 6, 132, 22));
        drop(other);
        assert_eq!((load.prefilling(), load.strictest_itl_ms()), (0, Some(50.0)));
        drop(one);
        assert_eq!(figures(&load), (0, 0, 0, 0));
        assert_eq!(load.strictest_itl_ms(), None);
    }

    #[test]
    fn a_prompt_whose_first_token_nobody_sees_is_read_when_it_was_expected_to_be() {
        let load = Arc::new(Load::default());
        let work = Work { input_tokens: 100, read_in_ms: Some(50.0), ..Work::default() };
        let (early, late) = (InFlight::begin(&load, work, Micros(0)), InFlight::begin(&load, work, Micros(30_000)));
        load.read_by(Micros(49_000));
        assert_eq!((load.prefilling(), load.prefill_tokens(), load.next_read()), (2, 200, Some(Micros(50_000))));
        load.read_by(Micros(50_000));
        assert_eq!((load.prefilling(), load.prefill_tokens()), (1, 100));
        drop(late);
        assert_eq!((load.requests(), load.prefilling(), load.prefill_tokens(), load.next_read()), (1, 0, 0, None));
        drop(early);
        assert_eq!((load.requests(), load.prefilling(), load.prefill_tokens()), (0, 0, 0), "taken off once");
    }

    #[test]
    fn what_was_read_in_silence_before_a_moment_is_no_work_of_the_time_after_it() {
        let load = Arc::new(Load::default());
        let work = Work { input_tokens: 100, read_in_ms: Some(50.0), ..Work::default() };
        let _whole = InFlight::begin(&load, work, Micros(0));
        let first = load.mark(Micros(60_000));
        let during = first.until(&load.mark(Micros(90_000)));
        assert_eq!(during.map(|during| during.prefilled_tokens), Some(0));
    }
}
