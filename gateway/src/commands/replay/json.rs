//! The result for tools: one object, whose `format` is raised when a field changes its meaning or goes.

use serde_json::{Value, json};

use super::Arguments;
use super::command::explain;
use super::stream::Outcome;
use super::tally::{ClassDifference, Difference, Predicted};
use crate::commands::figures::share;

/// Version of the object.
const FORMAT: u32 = 1;

/// All of it.
pub(super) fn json(outcome: &Outcome, arguments: &Arguments) -> Value {
    let tally = &outcome.tally;
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let files: Vec<Value> = outcome
        .files
        .iter()
        .map(|(file, bytes)| json!({ "file": file.display().to_string(), "bytes": bytes }))
        .collect();
    let damage: Vec<Value> = outcome
        .damage
        .iter()
        .map(|(file, damage)| {
            json!({
                "file": file.display().to_string(),
                "offset": damage.offset,
                "bytes": damage.bytes,
                "decisions": damage.decisions,
                "problem": damage.problem,
            })
        })
        .collect();
    let differing: Vec<Value> = tally
        .examples
        .iter()
        .map(|found| json!({ "id": found.id, "unix_ms": found.unix_ms, "policy": found.version, "what": found.what }))
        .collect();
    let compared = arguments.policy.is_some() || arguments.portfolio.is_some();
    json!({
        "format": FORMAT,
        "log": files,
        "policy": path(&arguments.policy),
        "against": path(&arguments.against),
        "portfolio": path(&arguments.portfolio),
        "decisions": tally.decisions,
        "first_unix_ms": tally.span_ms.map(|span| span.0),
        "last_unix_ms": tally.span_ms.map(|span| span.1),
        "under": tally.versions,
        "damage": damage,
        "undecided": tally.undecided,
        "reproduction": { "same": tally.same, "differing": tally.differing, "examples": differing },
        "difference": compared.then(|| difference(&tally.difference, outcome, arguments)),
        "promises_that_differ": outcome.promises,
        "open_loop": true,
        "seconds": outcome.took.as_secs_f64(),
        "threads": outcome.threads,
    })
}

fn difference(difference: &Difference, outcome: &Outcome, arguments: &Arguments) -> Value {
    let classes: serde_json::Map<String, Value> =
        difference.classes.iter().map(|(name, figures)| (name.clone(), class(figures))).collect();
    let flows: Vec<Value> = difference
        .flows
        .iter()
        .map(|((from, to), count)| json!({ "from": from, "to": to, "requests": count }))
        .collect();
    let reclassified: Vec<Value> = difference
        .reclassified
        .iter()
        .map(|((from, to), count)| json!({ "from": from, "to": to, "requests": count }))
        .collect();
    let kinds: Vec<Value> = difference
        .most_moved(arguments.limit)
        .into_iter()
        .map(|(kind, moved)| {
            let log = outcome.files.get(moved.file).map(|(file, _)| file.as_path());
            json!({
                "class": kind.class,
                "model": kind.model,
                "stream": kind.stream,
                "input_tokens": { "from": 1u64 << kind.input_log2.min(62), "below": 2u64 << kind.input_log2.min(62) },
                "tools": kind.tools,
                "from": kind.from,
                "to": kind.to,
                "requests": moved.count,
                "example": moved.example,
                "explain": log.map(|log| explain(log, &moved.example, arguments)),
            })
        })
        .collect();
    json!({
        "decisions": difference.decisions,
        "all": class(&difference.all()),
        "expected_attainment": difference.experience.expected(difference.decisions).map(|(incumbent, candidate)| {
            json!({ "incumbent": incumbent, "candidate": candidate })
        }),
        "classes": classes,
        "flows": flows,
        "reclassified": reclassified,
        "most_moved": kinds,
    })
}

fn class(class: &ClassDifference) -> Value {
    json!({
        "requests": class.requests,
        "moved": class.moved,
        "moved_share": share(class.moved, class.requests),
        "moved_within_pool": class.moved_within,
        "incumbent": predicted(&class.incumbent),
        "candidate": predicted(&class.candidate),
        "observed": {
            "judged": class.observed.judged,
            "attained": class.observed.attained,
            "attainment": class.observed.attainment(),
            "usd": class.observed.usd,
        },
    })
}

fn predicted(predicted: &Predicted) -> Value {
    json!({
        "sent": predicted.sent,
        "refused": predicted.refused,
        "likely": predicted.likely,
        "attainment": predicted.attainment(),
        "usd": predicted.usd,
        "joules": predicted.joules,
        "joules_unknown": predicted.joules_unknown,
    })
}
