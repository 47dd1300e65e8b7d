//! The three files: found, read, checked together.

/// One file as text.
pub mod source;
/// The process file, `pointsman.toml`.
pub mod process;
/// The policy on trial.
pub mod candidate;
/// All as one set.
pub mod set;
/// Files replaced whole.
pub mod write;
