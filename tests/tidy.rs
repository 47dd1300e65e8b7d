//! House rules that a machine can keep. Each rule is a function from a file to what is wrong with it; each is first
//! shown to bite. A message names the file, the rule and what to do.

/// The files of the repository.
#[path = "tidy/tree.rs"]
mod tree;

/// Names, openings, lengths, exceptions: what one source file may look like.
#[path = "tidy/sources.rs"]
mod sources;
/// Who may depend on what.
#[path = "tidy/dependencies.rs"]
mod dependencies;
/// What goes where: the root, the pipeline, the table of telemetry names.
#[path = "tidy/layout.rs"]
mod layout;
/// The table of what each code of a diagnostic stands for.
#[path = "tidy/codes.rs"]
mod codes;
/// The page of others' accidents.
#[path = "tidy/accidents.rs"]
mod accidents;
