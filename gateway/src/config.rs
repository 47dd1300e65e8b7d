//! The three files: found, read, checked together.

/// The process file, `pointsman.toml`.
pub mod process;
/// All three as one set.
pub mod set;
