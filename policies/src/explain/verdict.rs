//! The whole in one sentence: where it goes and why there, or why nowhere.

use super::figures::{ms, short, usd};
use super::{CandidateReason, Explanation, HoldReason, RouteReason};
use crate::pick::NEAR_TIE;

pub(super) fn verdict(explanation: &Explanation) -> String {
    if let Some(refusal) = &explanation.refusal {
        let wait = refusal.retry_in_ms.map_or_else(String::new, |wait| format!(", come back in {}", ms(wait)));
        // Each machine with its reason follows below.
        let message = match refusal.message.split_once(": ") {
            Some((fact, _)) if !explanation.candidates.is_empty() => fact,
            _ => &refusal.message,
        };
        return format!("refused, `{}`{wait}: {message}", refusal.code);
    }
    let chosen = explanation.first().and_then(|first| explanation.candidate(&first.endpoint));
    let Some((chosen, route)) = chosen.zip(explanation.route.as_ref()) else {
        return "decided nothing".to_owned();
    };
    let class = explanation.class.as_ref().map_or("", |class| class.name.as_str());
    let to = match explanation.plan.as_ref().and_then(|plan| plan.hold.as_ref()) {
        None => format!("goes to {}", chosen.endpoint),
        Some(hold) => waits(hold, chosen),
    };
    match &chosen.rejection {
        None => format!("{class} request {to}: {}", why(explanation, chosen, route)),
        Some(rejection) => format!("{class} request {to}: {}, and no other may be asked sooner", rejection.message),
    }
}

/// It goes where it goes, but not yet.
fn waits(hold: &HoldReason, chosen: &CandidateReason) -> String {
    let behind = hold.behind();
    let behind = if behind.is_empty() { behind } else { format!(" {behind}") };
    let about = if hold.wait_ms >= 1.0 { format!(", about {}", ms(hold.wait_ms)) } else { String::new() };
    format!("waits for {}{behind}{about}", chosen.endpoint)
}

/// Why the first is first: what its objective counts, and what went before the objective.
fn why(explanation: &Explanation, chosen: &CandidateReason, route: &RouteReason) -> String {
    let passed: Vec<&CandidateReason> =
        explanation.candidates.iter().filter(|candidate| candidate.rejection.is_none()).collect();
    let before = match chosen.tier {
        0 => String::new(),
        tier if passed.iter().any(|other| other.tier < tier) => {
            format!("fallback {tier}, because no pool before it is likely to keep the promise; ")
        }
        tier => format!("fallback {tier}, because no pool before it can be asked; "),
    };
    let peers: Vec<&CandidateReason> = passed.into_iter().filter(|other| ranks_with(other, chosen, route)).collect();
    let home = if chosen.home { home(route, &explanation.request.session) } else { String::new() };
    format!("{before}{}{home}{}", best_of(chosen, route, peers.len()), tie(chosen, &peers))
}

/// Whether only the score is between two candidates.
fn ranks_with(other: &CandidateReason, chosen: &CandidateReason, route: &RouteReason) -> bool {
    let slo_counts = route.spill == "slo-at-risk" || route.objective == "cheapest-that-meets-slo";
    other.tier == chosen.tier && (!slo_counts || other.meets_slo == chosen.meets_slo)
}

fn best_of(chosen: &CandidateReason, route: &RouteReason, peers: usize) -> String {
    let estimate = chosen.estimate.unwrap_or_default();
    let of = |what: &str| if peers > 1 { format!("the {what} of {peers}") } else { "the only one left".to_owned() };
    let keeps = chosen.meets_slo == Some(true);
    let price = match chosen.effective_usd.filter(|_| !chosen.counts_because.is_empty()) {
        Some(counts) => format!("{}, which counts as {}", usd(estimate.usd), usd(counts)),
        None => usd(estimate.usd),
    };
    match route.objective.as_str() {
        "cheapest-that-meets-slo" if keeps && peers > 1 => {
            format!("the cheapest of {peers} likely to keep the promise, {price}")
        }
        "cheapest-that-meets-slo" if keeps => {
            format!("the only one likely to keep the promise, {price}")
        }
        "cheapest-that-meets-slo" => {
            let strain = chosen.strain.unwrap_or_default();
            format!("none is likely to keep the promise, this one misses it least (strain {})", short(strain))
        }
        "fastest" => format!("{}, {} to the whole answer", of("fastest"), ms(estimate.total_ms)),
        "cheapest" => format!("{}, {price}", of("cheapest")),
        "greenest" => match (estimate.grams_co2, estimate.joules) {
            (Some(grams), _) if chosen.terms.iter().any(|term| term.name == "grams_co2") => {
                format!("{}, {} g of CO2", of("greenest"), short(grams))
            }
            (_, Some(joules)) => format!("{}, {} J", of("greenest"), short(joules)),
            _ => of("greenest"),
        },
        _ => format!("{}, {}", of("lowest weighted sum"), short(chosen.score.unwrap_or_default())),
    }
}

fn home(route: &RouteReason, session: &str) -> String {
    match (&route.affinity, route.home_bonus.unwrap_or_default() * 100.0) {
        (Some(by), bonus) => format!("; home of its {by} (-{bonus:.0} %)"),
        (None, _) if session.is_empty() => "; home of prompts that begin like it".to_owned(),
        (None, _) => "; home of its session".to_owned(),
    }
}

/// Among near-ties the draw decides, which nobody would guess from the figures.
fn tie(chosen: &CandidateReason, peers: &[&CandidateReason]) -> String {
    let scores = || peers.iter().filter_map(|peer| peer.score);
    let best = scores().fold(f64::INFINITY, f64::min);
    let limit = best + best.abs() * NEAR_TIE;
    let ties = scores().filter(|score| *score <= limit).count();
    let drawn = chosen.score.is_some_and(|score| score <= limit) && ties > 1;
    if drawn { format!("; {ties} are near-ties: of two drawn, the less busy") } else { String::new() }
}
