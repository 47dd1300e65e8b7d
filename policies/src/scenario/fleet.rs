//! A state of the fleet as it is described: what the file says of an endpoint, else of its pool, else as it was.

use std::collections::BTreeMap;

use super::names;
use super::shape::{AvailabilityName, MAX_FLEETS, ScenarioFile, StateTable};
use crate::fleet::{Availability, EndpointState, Fleet};
use crate::language::{Diagnostic, Located, Report, milliseconds_of};

/// What a request in flight is taken to be where the file does not say, tokens: its prompt, and what is still to come of
/// its answer.
const TYPICAL_INPUT_TOKENS: u64 = 1_000;
const TYPICAL_OUTPUT_TOKENS_AHEAD: u64 = 100;
/// When an endpoint may be asked again where the file does not say, milliseconds.
const DEFAULT_RETRY_MS: f64 = 10_000.0;

type States = BTreeMap<Located<String>, StateTable>;

/// Reports what is wrong with any fleet of a file.
pub(super) fn check(file: &ScenarioFile, fleet: Fleet<'_>, report: &mut Report) {
    if let Some(name) = file.fleet.keys().nth(MAX_FLEETS) {
        let problem = Diagnostic::error("too-many", format!("the file describes more than {MAX_FLEETS} fleets"));
        report.push(problem.at(name.span.clone()).help("move some of them, with their scenarios, to another file"));
    }
    for states in file.fleet.values().take(MAX_FLEETS) {
        for name in states.keys() {
            names::check_place(name, fleet, report);
        }
        apply(states, fleet, report);
    }
}

/// The endpoints in a state that is described.
pub(super) fn apply(states: &States, fleet: Fleet<'_>, report: &mut Report) -> Vec<EndpointState> {
    let mut endpoints = fleet.endpoints.to_vec();
    // Pools first, so that what is said of one endpoint counts more.
    for whole_pools in [true, false] {
        for (name, state) in states {
            let mut members = members(name, fleet, whole_pools);
            let mut retry_in_ms = None;
            if let Some(span) = &state.retry_in_ms {
                retry_in_ms = if members.is_empty() { None } else { milliseconds_of(report, span) };
            }
            for index in members.drain(..) {
                if let Some(endpoint) = endpoints.get_mut(index) {
                    set(endpoint, name, state, retry_in_ms, report);
                }
            }
        }
    }
    endpoints
}

/// Indices of the endpoints of a pool, or of the one endpoint, by that name.
fn members(name: &str, fleet: Fleet<'_>, whole_pools: bool) -> Vec<usize> {
    let mut counts = vec![0_usize; fleet.pools.len()];
    let mut members = Vec::new();
    for (index, endpoint) in fleet.endpoints.iter().enumerate() {
        let Some((pool, count)) = fleet.pools.get(endpoint.pool).zip(counts.get_mut(endpoint.pool)) else { continue };
        let own_name = pool.endpoints.get(*count);
        *count += 1;
        let meant = if whole_pools { pool.name == name } else { own_name.is_some_and(|own| own == name) };
        if meant {
            members.push(index);
        }
    }
    members
}

fn set(
    endpoint: &mut EndpointState,
    name: &Located<String>,
    state: &StateTable,
    retry_in_ms: Option<f64>,
    report: &mut Report,
) {
    let retry_in_ms = retry_in_ms.unwrap_or(DEFAULT_RETRY_MS);
    if let Some(availability) = state.availability {
        endpoint.availability = match availability {
            AvailabilityName::Ready => Availability::Ready,
            AvailabilityName::BreakerOpen => Availability::BreakerOpen { retry_in_ms },
            AvailabilityName::BackPressure => Availability::BackPressure { retry_in_ms },
            AvailabilityName::Draining => Availability::Draining,
        };
    }
    if let Some(in_flight) = state.in_flight {
        endpoint.in_flight = in_flight;
        let count = u64::from(in_flight);
        endpoint.output_tokens_ahead = count * TYPICAL_OUTPUT_TOKENS_AHEAD;
        endpoint.context_tokens = count * (TYPICAL_INPUT_TOKENS + 2 * TYPICAL_OUTPUT_TOKENS_AHEAD);
        endpoint.prefill_tokens = 0;
    }
    let counts = [
        (state.prefill_tokens, &mut endpoint.prefill_tokens),
        (state.context_tokens, &mut endpoint.context_tokens),
        (state.output_tokens_ahead, &mut endpoint.output_tokens_ahead),
    ];
    for (given, count) in counts {
        *count = given.unwrap_or(*count);
    }
    for (left, what) in [(&state.requests_left, "requests_left"), (&state.tokens_left, "tokens_left")] {
        let Some(left) = left else { continue };
        match &mut endpoint.lease {
            Some(lease) if what == "requests_left" => lease.requests = left.value,
            Some(lease) => lease.tokens = left.value,
            None => {
                let problem = Diagnostic::error(
                    "no-limit",
                    format!("`{}` has no limit that `{what}` could be left of", name.value),
                );
                let help = "give its pool `limits` in the portfolio, or take this out";
                let known = report.iter().any(|other| other.span.as_ref() == Some(&left.span));
                if !known {
                    report.push(problem.at(left.span.clone()).help(help));
                }
            }
        }
    }
}
