//! What a record takes in memory, as far as it is its own; what it shares is in `shared.rs`.

use pointsman_policies::fleet::Waiting;
use pointsman_policies::plan::Attempt;
use pointsman_policies::prefix::Prefix;

use crate::record::{AttemptRecord, DecisionRecord, Planned, Record};

/// About what a record takes, without the configuration that it shares with others.
pub(super) fn bytes(record: &Record) -> usize {
    let attempts: usize = record
        .attempts
        .iter()
        .map(|attempt| size_of::<AttemptRecord>() + attempt.failure.as_ref().map_or(0, String::len))
        .sum();
    let decision = record.decision.as_ref().map_or(0, |decision| decision_bytes(decision));
    size_of::<Record>() + record.path.len() + record.model.len() + attempts + decision
}

fn decision_bytes(decision: &DecisionRecord) -> usize {
    let facts = &decision.facts;
    let headers: usize = facts.headers.iter().map(|(name, value)| 48 + name.len() + value.len()).sum();
    let told = [&facts.path, &facts.tenant, &facts.model, &facts.service_tier, &facts.declared_class, &facts.session];
    let attempts = decision.plan.as_ref().map_or(0, |plan| plan.attempts.len() * size_of::<Attempt>());
    size_of::<DecisionRecord>()
        + size_of::<Prefix>()
        + decision.prefix.marks_bytes()
        + decision.endpoints.bytes()
        + decision.planned.len() * size_of::<Planned>()
        + decision.waiting.len() * size_of::<Waiting>()
        + attempts
        + headers
        + told.iter().map(|text| text.len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pointsman_backends::fleet::Seen;
    use pointsman_policies::fleet::{Cached, EndpointState};
    use pointsman_policies::prefix::of_blocks;

    use super::*;
    use crate::decision_log::recorder::tests::{record as decided, snapshot};

    const WAITING: Waiting =
        Waiting { pool: 0, priority: 0, requests: 1, input_tokens: 1, output_tokens: 1, least_slack_ms: None };

    #[test]
    fn all_that_a_decision_holds_counts() {
        let folder = tempfile::tempdir().unwrap();
        let record = decided(&snapshot(folder.path()));
        let made = record.decision.as_deref().unwrap();
        let more = |change: fn(&mut DecisionRecord)| {
            let mut other = made.clone();
            change(&mut other);
            decision_bytes(&other) - decision_bytes(made)
        };
        let prompt = more(|made| made.prefix = Arc::new(of_blocks(&(0..100).collect::<Vec<_>>(), 512, 51_200)));
        assert!(prompt >= 60 * 16, "marks of a long prompt: {prompt}");
        assert!(more(|made| made.waiting = vec![WAITING; 10]) >= 10 * size_of::<Waiting>());
        let cached = more(|made| {
            let cached: Vec<Cached> = (0..100).map(|endpoint| Cached { endpoint, tokens: 7 }).collect();
            made.endpoints = Seen::of(vec![EndpointState::idle(0); 100]).for_prompt(&cached);
        });
        assert!(cached >= 100 * 16, "{cached}");
        assert!(more(|made| made.facts.session = "x".repeat(1_000)) >= 1_000);
    }
}
