//! From text to a checked policy: TOML and CEL in, a compiled [`crate::policy::Policy`] or diagnostics out. The other
//! files of the gateway are read with the same machinery, so that every mistake in any of them is told the same way.

/// What is told to the operator: code, place, message, advice.
mod diagnostic;
/// What no excerpt shows.
mod masked;
/// Values that remember where they were written.
mod located;
/// TOML text → any shape, checked against the schema of that shape.
mod document;
/// A TOML tree against a JSON Schema.
mod schema;
/// CEL text → a checked condition.
mod expression;

/// A text in the form in which it reads best.
mod format;
/// Spans of time with units.
mod quantity;
/// The shape of `policy.toml`.
mod shape;
/// What is surely a mistake though it can be used.
mod lint;
/// From the shape to a policy that can be used.
mod compile;
/// What a change of a file means.
mod diff;

/// Keys, fields and codes as a page.
mod reference;

pub use compile::compile;
pub use diagnostic::{CODES, Diagnostic, DiagnosticRecord, Place, PlaceRecord, Report, Severity, Source, nearest};
pub use diff::{Change, Difference, Unreadable, differences, shown, summary};
pub use document::{MAX_TEXT_BYTES, read, schema_text};
pub use expression::{
    FieldDoc, FunctionDoc, MAX_EXPRESSION_BYTES, MAX_EXPRESSION_DEPTH, MAX_EXPRESSION_NESTING, MAX_EXPRESSION_NODES,
    fields, functions, is_secret, seen,
};
pub use format::format;
pub use located::{LocalDate, Located};
pub use masked::without_secrets;
pub(crate) use quantity::{TimeSpan, milliseconds_of};
pub use reference::{keys, policy_reference};
pub(crate) use schema::listed;
pub use shape::PolicyFile;
