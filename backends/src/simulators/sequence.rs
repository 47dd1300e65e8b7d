//! Work that runs on a simulated machine: what was asked, how far it is, what it sends.

use std::sync::Arc;

use pointsman_policies::units::Micros;

use crate::lease::Reservation;

/// A request as a machine sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// The caller's number for it; unique among those that wait or run.
    pub id: u64,
    /// Length of the prompt, tokens.
    pub prompt_tokens: u64,
    /// Of these, tokens whose KV the machine still holds and need not compute. A machine with a prefix cache finds out
    /// itself where `prefix` is given.
    pub cached_tokens: u64,
    /// Hashes of the prompt's blocks, each over all before it, so that an equal hash is an equal beginning. Empty where
    /// nothing is known of the text.
    pub prefix: Arc<[u64]>,
    /// Length of the answer, tokens, known to the simulation alone; at least one is made.
    pub output_tokens: u64,
    /// The longest answer the caller allows, tokens: what a limiter reserves.
    pub reserved_output_tokens: u64,
}

/// One event of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emission {
    /// The job.
    pub id: u64,
    /// When it was sent.
    pub at: Micros,
    /// Tokens it carries.
    pub tokens: u32,
    /// Whether it is the job's first.
    pub first: bool,
    /// Whether it is the job's last.
    pub last: bool,
    /// How long the job waited for its place, without the fixed part of its time to first token.
    pub queue: Micros,
    /// From its place to its first token.
    pub prefill: Micros,
    /// Prompt tokens that needed no computing when the job last got its place.
    pub cached_tokens: u64,
}

/// A job with its progress. It keeps what it has produced when it loses its place.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    pub(super) job: Job,
    /// From when it may be given a place.
    pub(super) ready: Micros,
    /// What was taken of the rate limit.
    pub(super) reservation: Reservation,
    /// Tokens generated so far.
    pub(super) produced: u64,
    /// Prompt tokens that need no computing.
    pub(super) cached_tokens: u64,
    queue: Option<Micros>,
    admitted: Micros,
    prefill: Option<Micros>,
    sent: u64,
    /// The count of tokens at which the next event is sent: fractions make events of 2 and 3 tokens take turns.
    event_due: f64,
}

impl Sequence {
    pub(super) fn new(job: Job, ready: Micros, reservation: Reservation) -> Sequence {
        let admitted = ready;
        Sequence {
            cached_tokens: job.cached_tokens,
            job,
            ready,
            reservation,
            produced: 0,
            queue: None,
            admitted,
            prefill: None,
            sent: 0,
            // The first token is sent alone, as soon as it is there.
            event_due: 1.0,
        }
    }

    /// KV memory it needs now, tokens.
    pub(super) fn kv_tokens(&self) -> u64 {
        self.job.prompt_tokens + self.produced
    }

    /// What must be computed before it can go on, tokens: also what it produced before it lost its place.
    pub(super) fn uncomputed_tokens(&self) -> u64 {
        self.kv_tokens().saturating_sub(self.cached_tokens)
    }

    /// It got a place. The first time counts as its wait.
    pub(super) fn admit(&mut self, at: Micros) {
        if self.queue.is_none() {
            self.queue = Some(at - self.ready);
            self.admitted = at;
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.produced >= self.job.output_tokens
    }

    /// Tokens until its next event; at least one.
    pub(super) fn tokens_to_event(&self) -> u64 {
        let wanted = (self.event_due.ceil() as u64).saturating_sub(self.produced).max(1);
        wanted.min(self.job.output_tokens.saturating_sub(self.produced)).max(1)
    }

    /// Adds tokens to the answer; the event they complete, if they do.
    pub(super) fn produce(&mut self, tokens: u64, at: Micros, tokens_per_event: f64) -> Option<Emission> {
        self.produced += tokens;
        let last = self.is_finished();
        if !last && (self.produced as f64) < self.event_due {
            return None;
        }
        self.event_due += tokens_per_event.max(1.0);
        let first = self.sent == 0;
        let prefill = *self.prefill.get_or_insert(at - self.admitted);
        let carried = u32::try_from(self.produced - self.sent).unwrap_or(u32::MAX);
        self.sent = self.produced;
        let queue = self.queue.unwrap_or_default();
        let cached_tokens = self.cached_tokens;
        Some(Emission { id: self.job.id, at, tokens: carried, first, last, queue, prefill, cached_tokens })
    }
}
