//! Records as explanations: why a request was treated as it was, and what came of it.

use std::time::SystemTime;

use pointsman_policies::classify::{Because, Classified, classify};
use pointsman_policies::explain::{AttemptOutcome, Explanation, Given, Origin, Outcome};

use crate::record::{DecisionRecord, Record, Waited};

/// Explains the decision of a record as it was made, by the policy that made it; `None` where the request was refused
/// before anything was decided.
pub fn explained(record: &Record) -> Option<Explanation> {
    let made = record.decision.as_ref()?;
    let (facts, states) = (made.facts.facts(), made.endpoints.states());
    let deciding = made.deciding();
    let given = Given { policy: deciding.policy, facts: &facts, fleet: made.fleet(&states), draw: made.draw };
    let mut explanation = Explanation::decided(&given, classified(&given, made), &made.again(&states));
    explanation.policy = deciding.version.to_string();
    explanation.fleet = "as it was then".to_owned();
    explanation.origin = Some(origin(record, made));
    explanation.outcome = Some(outcome(record));
    Some(explanation)
}

/// The class is the one that was given; what named it is found again, as the same policy finds it of the same facts.
fn classified(given: &Given<'_>, made: &DecisionRecord) -> Classified {
    let again = classify(given.policy, given.facts).filter(|again| again.class == made.class);
    again.unwrap_or(Classified { class: made.class, because: Because::Declared })
}

fn origin(record: &Record, made: &DecisionRecord) -> Origin {
    Origin {
        request_id: record.request_id.clone(),
        trace_id: format!("{:032x}", record.trace.trace_id),
        unix_ms: unix_ms(record),
        generation: made.snapshot.generation,
        hash: made.snapshot.hash.clone(),
    }
}

/// When a request came, milliseconds since 1970.
pub fn unix_ms(record: &Record) -> u64 {
    record.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// What came of a request.
pub fn outcome(record: &Record) -> Outcome {
    let results = record.slo_results();
    let missed = results.iter().filter(|(_, kept)| !kept);
    let attempts = record.attempts.iter().map(|attempt| AttemptOutcome {
        endpoint: attempt.endpoint.to_string(),
        status: attempt.status,
        ms: attempt.ended.saturating_sub(attempt.began).as_secs_f64() * 1e3,
        failure: attempt.failure.clone(),
    });
    Outcome {
        outcome: record.outcome.as_str().to_owned(),
        status: record.status,
        attempts: attempts.collect(),
        not_retried: record.retries_spent.map(|spent| spent.to_string()),
        not_continued: record.why_not_continued().map(str::to_owned),
        queue_ms: record.waited.as_ref().map(Waited::ms),
        ttft_ms: record.ttft_ms(),
        itl_ms: record.itl_ms(),
        total_ms: record.ended_at.as_secs_f64() * 1e3,
        input_tokens: record.usage.map(|usage| usage.input_tokens),
        output_tokens: record.usage.map(|usage| usage.output_tokens),
        usage_estimated: record.usage_estimated,
        usd: record.usd,
        slo_met: record.attained(),
        slo_missed: missed.map(|(part, _)| part.as_str().to_owned()).collect(),
    }
}
