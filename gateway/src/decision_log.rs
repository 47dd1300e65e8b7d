//! The decision log: what was known of each request and of the fleet, what was decided, what came of it. Compact, and
//! complete enough that every decision can be made again, to the last bit, by `pointsman replay`. Prompts, answers and
//! credentials are never in it.
//!
//! A file is a line that names the format, then frames (see `frame`): a frame is either one configuration set or
//! decisions that were made under sets that stand before it in the same file. So every file can be read alone.

/// What is written of a set and of a decision.
pub mod entry;
/// Checked, compressed pieces of a file.
pub mod frame;
/// Records → files, rotated.
pub mod writer;
/// Recording on and off, behind the data path.
pub mod recorder;
/// Files → sets and decisions, whatever state they are in.
pub mod reader;

#[cfg(test)]
mod tests;

pub use entry::{Decided, Decision, Ended, Outcome, RequestId, Set};
pub use reader::{Damage, Found, Piece, Reader, find};
pub use recorder::{Recorder, Recording};
