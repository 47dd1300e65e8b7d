//! What a served request teaches, taken from its record.

use pointsman_backends::fleet::{Dispatched, Flight};
use pointsman_policies::units::Micros;

use super::{Answering, Ending};
use crate::gateway::Gateway;
use crate::record::{Outcome, Record};

/// The first event of an answer came.
pub fn first_token(gateway: &Gateway, record: &Record, dispatched: &Dispatched, streamed: bool) {
    let now = gateway.fleet().now();
    let snapshot = gateway.snapshot();
    let (Some(made), Some(attempt)) = (&record.decision, record.attempts.last()) else { return };
    let (flight, retried) = (dispatched.flight(now), record.attempts.len() > 1);
    let answering = Answering { snapshot: &snapshot, made, endpoint: attempt.index, flight, retried, streamed };
    gateway.learning().first_token(&answering, now);
}

/// An answer ended, its record closed but for the books.
pub fn ended(gateway: &Gateway, record: &Record, flight: Flight, streamed: bool) {
    let now = gateway.fleet().now();
    let (Some(made), Some(attempt), Some(usage)) = (&record.decision, record.attempts.last(), record.usage) else {
        return;
    };
    // What several machines gave together says nothing of one of them.
    if record.outcome != Outcome::Answered || record.was_continued() {
        return;
    }
    let counted = !record.usage_estimated;
    let text = &record.text;
    if counted && text.other_tokens == 0 {
        let facts = &made.facts;
        gateway.learning().counted(&facts.model, &facts.tenant, text.content, text.bytes, usage.input_tokens);
    }
    let snapshot = gateway.snapshot();
    let retried = record.attempts.len() > 1;
    let answering = Answering { snapshot: &snapshot, made, endpoint: attempt.index, flight, retried, streamed };
    let ending = Ending {
        last_token: last_token(record, flight, now),
        input_tokens: usage.input_tokens,
        // Who does not tell is taken to have had what was believed.
        cached_tokens: usage.cached_tokens.unwrap_or_else(|| made.work(attempt.index).cached_tokens),
        output_tokens: counted.then_some(usage.output_tokens),
        whole: counted && text.choices == 1,
    };
    gateway.learning().ended(&answering, &ending, now);
}

/// On the fleet's clock: its first token, and as much later as the record says.
fn last_token(record: &Record, flight: Flight, now: Micros) -> Micros {
    let streaming = record.last_byte_at.zip(record.first_byte_at).map(|(last, first)| last.saturating_sub(first));
    match (flight.first_token, streaming) {
        (Some(first), Some(span)) => first + Micros(span.as_micros() as u64),
        _ => now,
    }
}
