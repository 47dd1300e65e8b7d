//! A request as it is described: what the scenario says, else what the file says of every request, else plain.

use std::ops::Range;

use super::moment::{monday_noon, unix_seconds};
use super::shape::RequestTable;
use crate::facts::{Api, BYTES_PER_TOKEN, OwnedFacts, PRIOR_OUTPUT_TOKENS};
use crate::language::{Diagnostic, Located, Report, TimeSpan, milliseconds_of};
use crate::policy::Policy;
use crate::wishes;

/// Length of a prompt of which nothing is said, tokens.
const DEFAULT_INPUT_TOKENS: u64 = 500;

/// The facts of a request; what is wrong goes to the report. `model` is left empty where none is named.
pub(super) fn facts(
    every: &RequestTable,
    one: &RequestTable,
    policy: &Policy,
    report: &mut Report,
) -> Option<OwnedFacts> {
    let told = report.len();
    let text =
        |get: fn(&RequestTable) -> &Option<String>| get(one).clone().or_else(|| get(every).clone()).unwrap_or_default();
    let number = |get: fn(&RequestTable) -> Option<u64>| get(one).or_else(|| get(every));
    let mut span = |get: fn(&RequestTable) -> &Option<Located<TimeSpan>>| {
        milliseconds_of(report, get(one).as_ref().or(get(every).as_ref())?)
    };
    let (slo_ttft_ms, slo_itl_ms, deadline_ms) =
        (span(|table| &table.slo_ttft_ms), span(|table| &table.slo_itl_ms), span(|table| &table.deadline_ms));
    let (api, path) = api_and_path(every, one);
    let max_output_tokens = number(|table| table.max_tokens);
    let expected = if api == Api::Embeddings { 0 } else { PRIOR_OUTPUT_TOKENS };
    let output_tokens = number(|table| table.output_tokens).unwrap_or(expected);
    let mut facts = OwnedFacts {
        api,
        path,
        headers: Vec::new(),
        tenant: text(|table| &table.tenant),
        model: one.model.as_ref().or(every.model.as_ref()).map(|model| model.value.clone()).unwrap_or_default(),
        stream: one.stream.or(every.stream).unwrap_or(false) && api != Api::Embeddings,
        service_tier: text(|table| &table.service_tier),
        declared_class: text(|table| &table.declared_class),
        input_tokens: input_tokens(every, one, report),
        max_output_tokens,
        output_tokens: max_output_tokens.map_or(output_tokens, |bound| bound.min(output_tokens)),
        tools: number(|table| table.tools).unwrap_or(0),
        images: number(|table| table.images).unwrap_or(0),
        deadline_ms,
        slo_ttft_ms,
        slo_itl_ms,
        session: text(|table| &table.session),
        prefix: 0,
        unix_s: at(every, one, policy, report),
        waited_ms: 0.0,
    };
    headers(every, one, &mut facts, report);
    (report.len() == told).then_some(facts)
}

fn api_and_path(every: &RequestTable, one: &RequestTable) -> (Api, String) {
    // What the scenario says of either goes before what the file says of the other.
    let said = if one.api.is_some() || one.path.is_some() { one } else { every };
    let api = said.api.or_else(|| Api::at(said.path.as_deref()?)).or(every.api).unwrap_or_default();
    (api, said.path.clone().unwrap_or_else(|| api.path().to_owned()))
}

fn input_tokens(every: &RequestTable, one: &RequestTable, report: &mut Report) -> u64 {
    for table in [one, every] {
        match (&table.input_tokens, &table.input_bytes) {
            (Some(tokens), Some(bytes)) => {
                let twice = Diagnostic::error("given-twice", "the prompt's length is given in tokens and in bytes");
                let later = if tokens.span.start > bytes.span.start { &tokens.span } else { &bytes.span };
                report.push(twice.at(later.clone()).help("take one of them out"));
                return tokens.value;
            }
            (Some(tokens), None) => return tokens.value,
            (None, Some(bytes)) => return bytes.value.div_ceil(BYTES_PER_TOKEN),
            (None, None) => {}
        }
    }
    DEFAULT_INPUT_TOKENS
}

fn at(every: &RequestTable, one: &RequestTable, policy: &Policy, report: &mut Report) -> u64 {
    let Some(at) = one.at.as_ref().or(every.at.as_ref()) else { return monday_noon(policy.utc_offset_s) };
    unix_seconds(at, policy.utc_offset_s).unwrap_or_else(|| {
        let problem = Diagnostic::error("bad-moment", format!("`{}` is no moment", at.value));
        let help = "write it like `09:30`, `sat 09:30` or `2026-09-15T09:30:00Z`";
        report.push(problem.at(at.span.clone()).help(help));
        0
    })
}

/// Headers, the scenario's over the file's; those that the gateway reads become what it makes of them, where no key says
/// the same.
fn headers(every: &RequestTable, one: &RequestTable, facts: &mut OwnedFacts, report: &mut Report) {
    for (name, value) in one.headers.iter().chain(&every.headers) {
        let name = name.to_ascii_lowercase();
        if facts.headers.iter().any(|(known, _)| *known == name) {
            continue;
        }
        facts.headers.push((name.clone(), value.value.clone()));
        let is = |names: &[&str]| names.contains(&name.as_str());
        let wanted = [
            (is(&wishes::TTFT), &mut facts.slo_ttft_ms),
            (is(&wishes::ITL), &mut facts.slo_itl_ms),
            (is(&wishes::DEADLINE), &mut facts.deadline_ms),
        ];
        for (meant, wish) in wanted {
            if meant && wish.is_none() {
                *wish = milliseconds(&name, value, &value.span, report);
            }
        }
        let named = [
            (is(&wishes::CLASS), &mut facts.declared_class),
            (is(&wishes::SESSION), &mut facts.session),
            (is(&wishes::TENANT), &mut facts.tenant),
        ];
        for (meant, said) in named {
            if meant && said.is_empty() {
                said.clone_from(&value.value);
            }
        }
    }
}

fn milliseconds(name: &str, text: &str, span: &Range<usize>, report: &mut Report) -> Option<f64> {
    let parsed = wishes::milliseconds(text);
    if parsed.is_none() {
        let message = format!("`{text}` is no number of milliseconds between 0 and {}", wishes::LONGEST_MS);
        let problem = Diagnostic::error("bad-header", message).at(span.clone());
        report.push(problem.help(format!("the gateway refuses such a `{name}`, so no policy sees it")));
    }
    parsed
}
