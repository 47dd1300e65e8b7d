//! A decision out of a log, made again from what was recorded.

use std::path::PathBuf;

use anyhow::{Context, bail};
use pointsman_policies::digest::digest;
use pointsman_policies::explain::{Considered, Explanation, Given, Origin, Outcome, consider};
use pointsman_policies::fleet::Fleet;
use pointsman_policies::language::{Source, compile};

use crate::decision_log::{self, Ended, Found};

/// Finds a decision in logs and explains it.
pub(super) fn decided(logs: &[PathBuf], id: &str) -> anyhow::Result<Explanation> {
    for log in logs {
        let found = decision_log::find(log, id.trim()).with_context(|| format!("cannot read `{}`", log.display()))?;
        if let Some(found) = found {
            return explained(&found, &log.display().to_string());
        }
    }
    let names: Vec<String> = logs.iter().map(|log| format!("`{}`", log.display())).collect();
    bail!("no decision `{id}` in {}\n  help: give its x-request-id or its trace id of 32 digits", names.join(", "))
}

fn explained(found: &Found, log: &str) -> anyhow::Result<Explanation> {
    let Found { decision, set } = found;
    let (policy, report) = compile(Source::new(&set.version, &set.policy), &set.pools);
    let Some(policy) = policy else {
        bail!("the recorded policy of {} cannot be compiled by this version:\n{}", set.version, report.render(false));
    };
    let mut endpoints = Vec::new();
    decision.states(set, &mut endpoints);
    let facts = decision.facts.facts();
    let fleet = Fleet { pools: &set.pools, endpoints: &endpoints };
    let given = Given { policy: &policy, facts: &facts, fleet, draw: decision.draw };
    let mut explanation = Explanation::of(&given);
    let same = match consider(&given) {
        Considered::Decided(classified, again) => {
            digest(classified.class, again.route, &again.candidates, again.plan.as_ref()) == decision.decided.digest
        }
        Considered::Refused(_) => false,
    };
    let how = if same { "decided again, exactly as it was" } else { "decided again; this version decides differently" };
    explanation.policy.clone_from(&set.version);
    explanation.fleet = format!("as recorded in {log}; {how}");
    explanation.origin = Some(Origin {
        request_id: decision.request_id.to_string(),
        trace_id: format!("{:032x}", u128::from_be_bytes(decision.trace_id)),
        unix_ms: decision.unix_ms,
        generation: set.generation,
        hash: set.hash.clone(),
    });
    explanation.outcome = Some(outcome(found));
    Ok(explanation)
}

/// What a log keeps of an outcome; attempts are only counted there.
fn outcome(found: &Found) -> Outcome {
    let kept = &found.decision.outcome;
    let ended = match kept.ended {
        Ended::Answered => "answered",
        Ended::Refused => "refused",
        Ended::CallersMistake => "callers-mistake",
        Ended::ClientLeft => "client-left",
        Ended::Broken => "broken",
    };
    let parts = [(1, "ttft"), (2, "itl"), (4, "deadline")];
    let missed = parts.iter().filter(|(bit, _)| kept.judged & bit != 0 && kept.kept & bit == 0);
    Outcome {
        outcome: ended.to_owned(),
        status: kept.status,
        attempts: Vec::new(),
        ttft_ms: kept.ttft_ms.map(f64::from),
        itl_ms: kept.itl_ms.map(f64::from),
        total_ms: f64::from(kept.total_ms),
        input_tokens: kept.tokens.map(|(input, _)| input),
        output_tokens: kept.tokens.map(|(_, output)| output),
        usd: f64::from(kept.usd),
        slo_met: kept.attained,
        slo_missed: missed.map(|(_, part)| (*part).to_owned()).collect(),
    }
}
