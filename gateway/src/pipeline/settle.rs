//! Books what a request cost, once, and hands its record to telemetry.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LazyLock};
use std::time::{Instant, SystemTime};

use pointsman_backends::dialects::Usage;
use pointsman_policies::fleet::PoolFacts;
use pointsman_policies::power::joules;

use crate::flow::HeldEnd;
use crate::gateway::Gateway;
use crate::record::{AttemptRecord, DecisionRecord, OUTRUN, Outcome, Record};
use crate::trial;

/// A record that will be settled exactly once: by whoever takes it, or on drop, because the client has left. It stays in one
/// place of the heap: it is large, and many hands pass it on.
pub(super) struct OpenRecord {
    gateway: Arc<Gateway>,
    record: Option<Box<Record>>,
    open: bool,
}

/// What is read of a record that somebody has taken.
static NOTHING: LazyLock<Record> = LazyLock::new(|| *blank());

fn blank() -> Box<Record> {
    Box::new(Record::blank(Instant::now(), SystemTime::now()))
}

impl OpenRecord {
    pub(super) fn new(gateway: Arc<Gateway>, record: Box<Record>) -> OpenRecord {
        OpenRecord { gateway, record: Some(record), open: true }
    }

    /// Hands the record over; settling it is now the taker's duty.
    pub(super) fn take(&mut self) -> Box<Record> {
        self.open = false;
        self.record.take().unwrap_or_else(blank)
    }
}

impl Deref for OpenRecord {
    type Target = Record;
    fn deref(&self) -> &Record {
        self.record.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for OpenRecord {
    fn deref_mut(&mut self) -> &mut Record {
        self.record.get_or_insert_with(blank)
    }
}

impl Drop for OpenRecord {
    fn drop(&mut self) {
        if self.open {
            let mut record = self.take();
            record.outcome = Outcome::ClientLeft;
            settle(&self.gateway, record);
        }
    }
}

/// Closes a record: price, energy, metrics, trace, log.
pub(super) fn settle(gateway: &Gateway, mut record: Box<Record>) {
    record.ended_at = record.elapsed();
    let ended = record.ended_at;
    if let Some(attempt) = record.attempts.last_mut().filter(|attempt| attempt.failure.is_none()) {
        attempt.ended = ended;
    }
    if let Some(waited) = record.waited.as_mut().filter(|waited| waited.end == HeldEnd::Left) {
        waited.until = ended;
    }
    price(&mut record);
    gateway.accounting().book(&record);
    log(&record);
    trial::settled(gateway, &record);
    gateway.telemetry().request(record);
    gateway.room_made();
}

fn price(record: &mut Record) {
    let Some(usage) = record.usage else { return };
    let Some(decision) = &record.decision else { return };
    let pools = &decision.snapshot.portfolio.facts;
    let last = record.endpoint().and_then(|attempt| answered(record, decision, attempt, usage));
    let (mut usd, mut energy) = match last {
        Some(PartTaken { usd, joules }) => (usd + outrun_usd(record, pools), joules),
        // All had been said when the last stream broke.
        None if record.was_continued() => (0.0, Some(0.0)),
        None => return,
    };
    for (place, part) in broken_off(record, pools, usage.input_tokens) {
        usd += part.usd;
        energy = energy.zip(part.joules).map(|(all, part)| all + part);
        if let Some(continued) = record.attempts.get_mut(place).and_then(|attempt| attempt.continued.as_mut()) {
            continued.usd = part.usd;
        }
    }
    (record.usd, record.joules) = (usd, energy);
}

/// What a machine took for its part of an answer.
struct PartTaken {
    usd: f64,
    joules: Option<f64>,
}

/// The part of the machine that answered last. Of an answer that went on elsewhere, it read what was said before and wrote the
/// rest.
fn answered(record: &Record, made: &DecisionRecord, attempt: &AttemptRecord, usage: Usage) -> Option<PartTaken> {
    let pool = made.snapshot.portfolio.facts.iter().find(|pool| *pool.name == *attempt.pool)?;
    let in_flight = made.planned(attempt.index).map_or(0, |planned| planned.state.in_flight);
    let said = record.said_before();
    let (read, written) = (usage.input_tokens.saturating_add(said), usage.output_tokens.saturating_sub(said));
    let cached = usage.cached_tokens.unwrap_or(0);
    let usd = pool.model(&record.model)?.price.usd(read, written);
    Some(PartTaken { usd, joules: joules(pool, read.saturating_sub(cached), written, in_flight) })
}

/// The parts of those whose stream broke off, by the place of their attempts: each read the prompt and what was said before.
fn broken_off(record: &Record, pools: &[PoolFacts], input_tokens: u64) -> Vec<(usize, PartTaken)> {
    let mut said = 0;
    let mut parts = Vec::new();
    for (place, attempt) in record.attempts.iter().enumerate() {
        let Some(continued) = attempt.continued else { continue };
        let read = input_tokens.saturating_add(said);
        said = said.saturating_add(continued.output_tokens);
        let Some(pool) = pools.iter().find(|pool| *pool.name == *attempt.pool) else { continue };
        let Some(model) = pool.model(&record.model) else { continue };
        let usd = model.price.usd(read, continued.output_tokens);
        parts.push((place, PartTaken { usd, joules: joules(pool, read, continued.output_tokens, 0) }));
    }
    parts
}

/// What was begun in vain costs its prompt.
fn outrun_usd(record: &Record, pools: &[PoolFacts]) -> f64 {
    let outrun = record.attempts.iter().filter(|attempt| attempt.cause == OUTRUN);
    let price = |attempt: &AttemptRecord| {
        let pool = pools.iter().find(|pool| *pool.name == *attempt.pool)?;
        Some(pool.model(&record.model)?.price.usd(record.input_tokens, 0))
    };
    outrun.filter_map(price).sum()
}

fn log(record: &Record) {
    let endpoint = record.endpoint().map_or("", |attempt| attempt.endpoint.as_str());
    match &record.outcome {
        Outcome::Broken(reason) => tracing::warn!(
            request_id = %record.request_id,
            trace_id = %format_args!("{:032x}", record.trace.trace_id),
            endpoint,
            "stream broke: {reason}"
        ),
        outcome => tracing::debug!(
            request_id = %record.request_id,
            trace_id = %format_args!("{:032x}", record.trace.trace_id),
            endpoint,
            class = record.class.as_deref().unwrap_or_default(),
            status = record.status,
            outcome = outcome.as_str(),
            ms = record.ended_at.as_millis() as u64,
            queue_ms = record.waited.as_ref().map_or(0, |waited| waited.ms() as u64),
            "request"
        ),
    }
}
