//! A request as bars under one another: where its time went.

use std::time::Duration;

use serde::Serialize;

use crate::record::{AttemptRecord, OUTRUN, Outcome, Record, Waited};

/// What a bar stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The whole.
    Request,
    /// Reading its body.
    Read,
    /// Naming its class.
    Classify,
    /// Deciding.
    Route,
    /// Being held until a machine has room.
    Queue,
    /// One attempt.
    Attempt,
    /// Of the attempt that answered: until the first token.
    Prefill,
    /// From the first token to the last.
    Decode,
}

/// One bar. Times count from the moment the request came.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bar {
    name: String,
    kind: Kind,
    depth: u8,
    from_ms: f64,
    to_ms: f64,
    failed: bool,
    /// What came of it, in words; empty where there is nothing to say.
    told: String,
    /// HTTP status of an attempt.
    status: Option<u16>,
    /// What an attempt failed for, in short.
    cause: Option<&'static str>,
    /// Whether an attempt was made beside a slow one.
    hedge: bool,
}

/// The bars of a request, in order.
pub fn waterfall(record: &Record) -> Vec<Bar> {
    let mut bars = vec![Bar { told: ending(record), failed: failed(record), ..whole(record) }];
    bars.push(bar(Kind::Read, "read", (Duration::ZERO, record.read_at)));
    if let Some(class) = &record.class {
        let told =
            if record.because.is_empty() { class.to_string() } else { format!("{class}, by {}", record.because) };
        bars.push(Bar { told, ..bar(Kind::Classify, "classify", (record.read_at, record.classified_at)) });
    }
    if let Some(decision) = &record.decision {
        let deciding = decision.deciding();
        let route = deciding.policy.routes.get(decision.route).map_or("", |route| route.name.as_str());
        let name = format!("route {route}");
        let told = format!("by {}", deciding.version);
        bars.push(Bar { told, ..bar(Kind::Route, &name, (record.classified_at, record.decided_at)) });
    }
    bars.extend(record.waited.as_ref().map(queue));
    for attempt in &record.attempts {
        bars.push(attempted(attempt));
        if attempt.failure.is_none() {
            bars.extend(lanes(record, attempt));
        }
    }
    bars
}

fn ms(at: Duration) -> f64 {
    at.as_secs_f64() * 1e3
}

fn bar(kind: Kind, name: &str, (from, to): (Duration, Duration)) -> Bar {
    let depth = match kind {
        Kind::Request => 0,
        Kind::Prefill | Kind::Decode => 2,
        _ => 1,
    };
    let (from_ms, to_ms) = (ms(from), ms(to.max(from)));
    let (told, status, cause) = Default::default();
    Bar { name: name.to_owned(), kind, depth, from_ms, to_ms, failed: false, told, status, cause, hedge: false }
}

fn whole(record: &Record) -> Bar {
    bar(Kind::Request, "request", (Duration::ZERO, record.ended_at))
}

fn failed(record: &Record) -> bool {
    record.status >= 500 || matches!(record.outcome, Outcome::Broken(_))
}

fn ending(record: &Record) -> String {
    let status = record.status;
    match &record.outcome {
        Outcome::Broken(reason) => format!("broke: {reason}"),
        Outcome::Refused(code) => format!("refused with {status}, {code}"),
        outcome => format!("{}, {status}", outcome.as_str()),
    }
}

fn queue(waited: &Waited) -> Bar {
    let moved = match waited.moved {
        0 => String::new(),
        1 => "; moved once".to_owned(),
        times => format!("; moved {times} times"),
    };
    let told = format!("{} stood before it{moved}; {}", waited.ahead, waited.end.as_str());
    let name = format!("queue {}", waited.pool);
    Bar { told, ..bar(Kind::Queue, &name, (waited.from, waited.until)) }
}

fn attempted(attempt: &AttemptRecord) -> Bar {
    let told = match (&attempt.failure, attempt.status) {
        (Some(failure), _) => failure.clone(),
        (None, Some(status)) => format!("answered, {status}"),
        (None, None) => "answered".to_owned(),
    };
    Bar {
        failed: attempt.failure.is_some() && attempt.cause != OUTRUN,
        told,
        status: attempt.status,
        cause: attempt.failure.is_some().then_some(attempt.cause),
        hedge: attempt.hedge,
        ..bar(Kind::Attempt, attempt.endpoint.as_str(), (attempt.began, attempt.ended))
    }
}

/// Before and after the first token, of the attempt that answered.
fn lanes(record: &Record, attempt: &AttemptRecord) -> Vec<Bar> {
    let Some(first) = record.first_byte_at else { return Vec::new() };
    if !record.stream {
        return Vec::new(); // the first byte is the whole answer
    }
    let last = record.last_byte_at.unwrap_or(attempt.ended);
    let usage = record.usage.unwrap_or_default();
    let counted = |tokens: u64| if record.usage.is_some() { format!("{tokens} tokens") } else { String::new() };
    let decode = match record.itl_ms() {
        Some(itl_ms) => format!("{}, {itl_ms:.1} ms each", counted(usage.output_tokens)),
        None => counted(usage.output_tokens),
    };
    vec![
        Bar { told: counted(usage.input_tokens), ..bar(Kind::Prefill, "prefill", (attempt.began, first)) },
        Bar { told: decode, ..bar(Kind::Decode, "decode", (first, last)) },
    ]
}
