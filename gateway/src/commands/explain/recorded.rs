//! A decision out of a log, made again from what was recorded.

use std::path::Path;

use anyhow::{Context, bail};
use pointsman_backends::portfolio::{self, Secrets};
use pointsman_policies::digest::digest;
use pointsman_policies::explain::{Considered, Explanation, Given, Origin, Outcome, consider};
use pointsman_policies::fleet::{EndpointState, Fleet, PoolFacts};
use pointsman_policies::language::{Report, Source, compile};
use pointsman_policies::learned::Learned;
use pointsman_policies::policy::Policy;
use pointsman_policies::price::Used;

use super::Arguments;
use crate::config::set::{folder_of, read_source, render};
use crate::decision_log::{self, Ended, Found};

/// Finds a decision in logs and explains it.
/// `None` after telling what is wrong with the candidate.
pub(super) fn decided(arguments: &Arguments, id: &str) -> anyhow::Result<Option<Explanation>> {
    let logs = &arguments.log;
    for log in logs {
        let found = decision_log::find(log, id.trim()).with_context(|| format!("cannot read `{}`", log.display()))?;
        let Some(found) = found else { continue };
        let log = log.display().to_string();
        return match (&arguments.policy, &arguments.portfolio) {
            (None, None) => explained(&found, &log).map(Some),
            (policy, portfolio) => Ok(supposed(&found, &log, policy.as_deref(), portfolio.as_deref())),
        };
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
    let fleet = decision.fleet(&set.pools, &endpoints);
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

/// Lets a candidate decide it on the machines as they were; those that were not there are idle. `None` after telling
/// what is wrong with the candidate.
fn supposed(found: &Found, log: &str, policy: Option<&Path>, portfolio: Option<&Path>) -> Option<Explanation> {
    let Found { decision, set } = found;
    let mut reports = Vec::new();
    let ground = ground(found, policy, portfolio, &mut reports);
    let failed: Vec<Report> = reports.into_iter().filter(Report::has_errors).collect();
    anstream::eprint!("{}", render(&failed, true));
    let (policy, pools) = ground?;
    let mut recorded = Vec::new();
    decision.states(set, &mut recorded);
    let names: Vec<&String> = set.pools.iter().flat_map(|pool| &pool.endpoints).collect();
    let now = pools.iter().enumerate().flat_map(|(pool, facts)| facts.endpoints.iter().map(move |name| (pool, name)));
    let endpoints: Vec<EndpointState> = now
        .map(|(pool, name)| {
            let state = names.iter().position(|other| *other == name).and_then(|index| recorded.get(index));
            state.map_or(EndpointState::idle(pool), |state| EndpointState { pool, ..*state })
        })
        .collect();
    let facts = decision.facts.facts();
    let learned = learned(found, &pools);
    let fleet = Fleet { learned: &learned, ..Fleet::new(&pools, &endpoints) };
    let explanation = Explanation::of(&Given { policy: &policy, facts: &facts, fleet, draw: decision.draw });
    let whose = format!(
        "as recorded in {log}, with what had been learned then; decided then by {}, here by a candidate",
        set.version
    );
    Some(Explanation { fleet: whose, ..explanation })
}

/// What had been learned, as far as it is of these pools: by their names, where the machines are of the same kind.
fn learned(found: &Found, pools: &[PoolFacts]) -> Learned {
    let Found { decision, set } = found;
    let Some(then) = &decision.learned else { return Learned::default() };
    let place = |pool: &PoolFacts| {
        set.pools.iter().position(|other| other.name == pool.name && other.hardware == pool.hardware)
    };
    let service = |pool: &PoolFacts| place(pool).and_then(|at| then.services.get(at)).unwrap_or(&pool.service).clone();
    let price = |pool: &PoolFacts| place(pool).and_then(|at| then.prices.get(at)).copied().unwrap_or_default();
    let tokens = |pool: &PoolFacts| place(pool).and_then(|at| then.used.tokens.get(at)).copied().unwrap_or_default();
    let known = |pool: &PoolFacts| place(pool).and_then(|at| then.known.get(at)).copied().unwrap_or_default();
    Learned {
        services: pools.iter().map(service).collect(),
        margins: then.margins.clone(),
        prices: pools.iter().map(price).collect(),
        used: Used { budget: then.used.budget, tokens: pools.iter().map(tokens).collect() },
        known: if then.known.is_empty() { Vec::new() } else { pools.iter().map(known).collect() },
    }
}

/// What is not given is as it was recorded.
fn ground(
    found: &Found,
    policy: Option<&Path>,
    portfolio: Option<&Path>,
    reports: &mut Vec<Report>,
) -> Option<(Policy, Vec<PoolFacts>)> {
    let mut read = |file: &Path| read_source(file).map_err(|report| reports.push(report)).ok();
    let set = &found.set;
    let policy = match policy {
        Some(file) => read(file)?,
        None => Source::new(&set.version, &set.policy),
    };
    let pools = match portfolio {
        Some(file) => {
            let (portfolio, report) = portfolio::load(read(file)?, folder_of(file), Secrets::Optional);
            reports.push(report);
            portfolio?.facts
        }
        None => set.pools.clone(),
    };
    let (policy, report) = compile(policy, &pools);
    reports.push(report);
    Some((policy?, pools))
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
        Ended::ClientSlow => "client-slow",
    };
    let parts = [(1, "ttft"), (2, "itl"), (4, "deadline")];
    let missed = parts.iter().filter(|(bit, _)| kept.judged & bit != 0 && kept.kept & bit == 0);
    Outcome {
        outcome: ended.to_owned(),
        status: kept.status,
        attempts: Vec::new(),
        not_retried: None,
        not_continued: None,
        queue_ms: Some(found.decision.facts.waited_ms).filter(|ms| *ms > 0.0),
        ttft_ms: kept.ttft_ms.map(f64::from),
        itl_ms: kept.itl_ms.map(f64::from),
        total_ms: f64::from(kept.total_ms),
        input_tokens: kept.tokens.map(|(input, _)| input),
        output_tokens: kept.tokens.map(|(_, output)| output),
        usage_estimated: false, // recorded decisions do not say
        usd: f64::from(kept.usd),
        slo_met: kept.attained,
        slo_missed: missed.map(|(_, part)| (*part).to_owned()).collect(),
    }
}
