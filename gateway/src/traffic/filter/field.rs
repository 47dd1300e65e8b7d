//! Fields of the filter language, and the values that each takes.

use super::{Being, Comparison, Figure, Worded};
use crate::traffic::names::Column;
use crate::traffic::row::{APIS, KINDS, Mark, OUTCOMES};

/// What stands before `:` or a comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Field {
    Named(&'static [Column]),
    Word(Worded),
    Is,
    Figure(Figure, Unit),
}

/// How a figure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// `300ms`, `1.5s`, `800us`, `2m`; milliseconds without one.
    Time,
    /// `2k`, `1M`.
    Count,
    /// As it is; `k` and `M` are understood.
    Plain,
}

/// Every name of a field.
const FIELDS: &[(&str, Field)] = &[
    ("class", Field::Named(&[Column::Class])),
    ("route", Field::Named(&[Column::Route])),
    ("policy", Field::Named(&[Column::Policy])),
    ("pool", Field::Named(&[Column::Pool])),
    ("endpoint", Field::Named(&[Column::Endpoint])),
    ("backend", Field::Named(&[Column::Endpoint, Column::Pool])),
    ("model", Field::Named(&[Column::Model])),
    ("tenant", Field::Named(&[Column::Tenant])),
    ("code", Field::Named(&[Column::Code])),
    ("hardware", Field::Word(Worded::Kind)),
    ("api", Field::Word(Worded::Api)),
    ("outcome", Field::Word(Worded::Outcome)),
    ("slo", Field::Word(Worded::Slo)),
    ("stream", Field::Word(Worded::Stream)),
    ("is", Field::Is),
    ("status", Field::Figure(Figure::Status, Unit::Plain)),
    ("ttft", Field::Figure(Figure::Ttft, Unit::Time)),
    ("itl", Field::Figure(Figure::Itl, Unit::Time)),
    ("total", Field::Figure(Figure::Total, Unit::Time)),
    ("e2e", Field::Figure(Figure::Total, Unit::Time)),
    ("queue", Field::Figure(Figure::Queue, Unit::Time)),
    ("tin", Field::Figure(Figure::Input, Unit::Count)),
    ("tout", Field::Figure(Figure::Output, Unit::Count)),
    ("cached", Field::Figure(Figure::Cached, Unit::Count)),
    ("attempts", Field::Figure(Figure::Attempts, Unit::Plain)),
    ("generation", Field::Figure(Figure::Generation, Unit::Plain)),
    ("usd", Field::Figure(Figure::Usd, Unit::Plain)),
    ("joules", Field::Figure(Figure::Joules, Unit::Count)),
    ("at", Field::Figure(Figure::At, Unit::Plain)),
];

/// Comparisons, longer ones first.
pub(super) const COMPARISONS: [(&str, Comparison); 5] = [
    (">=", Comparison::AtLeast),
    ("<=", Comparison::AtMost),
    (">", Comparison::Above),
    ("<", Comparison::Below),
    ("=", Comparison::Equal),
];

/// What `is:` takes.
pub(super) const BEINGS: &[(&str, Result<Mark, Being>)] = &[
    ("hedged", Ok(Mark::Hedged)),
    ("continued", Ok(Mark::Continued)),
    ("held", Ok(Mark::Held)),
    ("canary", Ok(Mark::Canary)),
    ("stream", Ok(Mark::Stream)),
    ("asked", Ok(Mark::Asked)),
    ("disagreed", Ok(Mark::Disagreed)),
    ("error", Err(Being::Error)),
    ("retried", Err(Being::Retried)),
    ("detail", Err(Being::Detailed)),
];

pub(super) fn field(name: &str) -> Option<Field> {
    FIELDS.iter().find(|(known, _)| *known == name).map(|(_, field)| *field)
}

pub(super) fn field_names() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|(name, _)| *name)
}

/// The words of a field, in the order of the numbers that rows keep.
pub(super) fn words(worded: Worded) -> &'static [&'static str] {
    match worded {
        Worded::Api => &APIS,
        Worded::Kind => &KINDS,
        Worded::Outcome => &OUTCOMES,
        Worded::Slo => &["kept", "missed", "none", "ttft", "itl", "deadline"],
        Worded::Stream => &["no", "yes"],
    }
}

/// What else such a word may be written as.
pub(super) fn synonym(worded: Worded, word: &str) -> &str {
    match (worded, word) {
        (Worded::Slo, "miss") => "missed",
        (Worded::Slo, "met") => "kept",
        (Worded::Stream, "true") => "yes",
        (Worded::Stream, "false") => "no",
        (_, word) => word,
    }
}

/// What a unit multiplies with; `None` where there is no such unit.
pub(super) fn factor(unit: Unit, written: &str) -> Option<f64> {
    match (unit, written) {
        (Unit::Time, "us" | "µs") => Some(1e-3),
        (_, "") | (Unit::Time, "ms") => Some(1.0),
        (Unit::Time, "s") => Some(1e3),
        (Unit::Time, "m" | "min") => Some(6e4),
        (Unit::Count | Unit::Plain, "k") => Some(1e3),
        (Unit::Count | Unit::Plain, "M") => Some(1e6),
        _ => None,
    }
}

/// How a unit is written, for advice.
pub(super) fn units(unit: Unit) -> &'static str {
    match unit {
        Unit::Time => "write it like `300ms`, `1.5s` or `800us`",
        Unit::Count | Unit::Plain => "write it like `2000`, `2k` or `1M`",
    }
}
