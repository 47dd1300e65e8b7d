//! From text to a checked policy: TOML and CEL in, a compiled [`crate::policy::Policy`] or diagnostics out. The other
//! files of the gateway are read with the same machinery, so that every mistake in any of them is told the same way.

/// What is told to the operator: code, place, message, advice.
mod diagnostic;
/// Values that remember where they were written.
mod located;
/// TOML text → any shape, checked against the schema of that shape.
mod document;
/// A TOML tree against a JSON Schema.
mod schema;

pub use diagnostic::{Diagnostic, DiagnosticRecord, Report, Severity, Source, nearest};
pub use document::{MAX_TEXT_BYTES, read, schema_text};
pub use located::{LocalDate, Located};
