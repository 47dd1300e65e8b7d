//! Quantities with units. A bare number is in the unit that the key's name ends with; a string must say its unit, so that
//! nothing is ever guessed.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::diagnostic::{Diagnostic, Report, nearest};
use super::located::Located;
use super::schema::listed;
use super::shape::MAX_BOUND;

/// Units of time with their milliseconds.
pub(super) const UNITS: [(&str, f64); 6] =
    [("us", 1e-3), ("ms", 1.0), ("s", 1e3), ("min", 60e3), ("h", 3_600e3), ("d", 86_400e3)];

/// Other spellings of them, to be guessed at and never taken.
const MISSPELT: [(&str, &str); 10] = [
    ("msec", "ms"),
    ("millis", "ms"),
    ("milliseconds", "ms"),
    ("sec", "s"),
    ("seconds", "s"),
    ("m", "min"),
    ("minutes", "min"),
    ("hr", "h"),
    ("hours", "h"),
    ("days", "d"),
];

/// A span of time as it is written: `300`, `"300ms"`, `"0.3s"`.
#[derive(Clone, Debug, PartialEq)]
pub enum TimeSpan {
    /// In the unit of the key.
    Number(f64),
    /// With its unit.
    Text(String),
}

/// The unit of a bare number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Keys that end in `_ms`.
    Ms,
    /// Keys that end in `_s`.
    S,
}

impl Unit {
    fn ms(self) -> f64 {
        match self {
            Unit::Ms => 1.0,
            Unit::S => 1e3,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Unit::Ms => "ms",
            Unit::S => "s",
        }
    }
}

/// The milliseconds of a span whose bare number is in milliseconds.
pub(crate) fn milliseconds_of(report: &mut Report, span: &Located<TimeSpan>) -> Option<f64> {
    ms(report, span, Unit::Ms)
}

/// The milliseconds of a span, above 0 and bounded; what is wrong goes to the report.
pub(super) fn ms(report: &mut Report, span: &Located<TimeSpan>, unit: Unit) -> Option<f64> {
    let problem = match &span.value {
        TimeSpan::Number(number) => return Some(number * unit.ms()), // its bounds are the schema's
        TimeSpan::Text(text) => match milliseconds(text) {
            Ok(ms) if ms > 0.0 && ms <= MAX_BOUND as f64 * unit.ms() => return Some(ms),
            Ok(ms) => {
                let bound = if ms > 0.0 { "too long" } else { "no time at all" };
                Diagnostic::error("out-of-range", format!("`{text}` is {bound}"))
            }
            Err(Wrong::NoUnit) => {
                let help = format!("write `{0}` or `\"{0}{1}\"`", text.trim(), unit.name());
                Diagnostic::error("no-unit", format!("`{text}` does not say its unit")).help(help)
            }
            Err(Wrong::UnknownUnit(wrong)) => {
                let names = UNITS.map(|(name, _)| name);
                let meant = MISSPELT.iter().find(|(word, _)| *word == wrong).map(|(_, unit)| *unit);
                let help = match meant.or_else(|| nearest(&wrong, names)) {
                    Some(guess) => format!("did you mean `{guess}`?"),
                    None => format!("units of time are {}", listed(&names, "and")),
                };
                Diagnostic::error("unknown-unit", format!("`{wrong}` is no unit of time")).help(help)
            }
            Err(Wrong::NoNumber) => {
                let help = format!("write it like `300` or `\"300{}\"`", unit.name());
                Diagnostic::error("bad-quantity", format!("`{text}` is no span of time")).help(help)
            }
        },
    };
    report.push(problem.at(span.span.clone()));
    None
}

/// Why a text is no span of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    NoUnit,
    UnknownUnit(String),
    NoNumber,
}

/// The milliseconds of a text such as `300ms` or `1.5 h`.
pub(super) fn milliseconds(text: &str) -> Result<f64, Wrong> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '_' | '-')).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end).unwrap_or_default();
    let number: f64 = number.replace('_', "").parse().map_err(|_| Wrong::NoNumber)?;
    let unit = unit.trim();
    if unit.is_empty() {
        return Err(Wrong::NoUnit);
    }
    let known = UNITS.iter().find(|(name, _)| *name == unit);
    known.map(|(_, ms)| number * ms).ok_or_else(|| Wrong::UnknownUnit(unit.to_owned()))
}

impl<'de> Deserialize<'de> for TimeSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TimeSpan, D::Error> {
        deserializer.deserialize_any(TimeSpanVisitor)
    }
}

struct TimeSpanVisitor;

impl Visitor<'_> for TimeSpanVisitor {
    type Value = TimeSpan;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or a string such as \"300ms\"")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<TimeSpan, E> {
        Ok(TimeSpan::Number(number as f64))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<TimeSpan, E> {
        Ok(TimeSpan::Number(number as f64))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<TimeSpan, E> {
        Ok(TimeSpan::Number(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<TimeSpan, E> {
        Ok(TimeSpan::Text(text.to_owned()))
    }
}

impl JsonSchema for TimeSpan {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TimeSpan".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": ["number", "string"],
            "exclusiveMinimum": 0,
            "maximum": MAX_BOUND,
            "pattern": "^ *[0-9._]+ *(us|ms|s|min|h|d) *$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_says_its_unit_or_is_refused() {
        #[track_caller]
        fn check(text: &str, expected: Result<f64, Wrong>) {
            assert_eq!(milliseconds(text), expected, "{text}");
        }
        check("300ms", Ok(300.0));
        check("0.3 s", Ok(300.0));
        check("10min", Ok(600_000.0));
        check("1_000us", Ok(1.0));
        check("1d", Ok(86_400_000.0));
        check("300", Err(Wrong::NoUnit));
        check("300msec", Err(Wrong::UnknownUnit("msec".to_owned())));
        check("soon", Err(Wrong::NoNumber));
        check("", Err(Wrong::NoNumber));
        check("1.2.3s", Err(Wrong::NoNumber));
    }
}
