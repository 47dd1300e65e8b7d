//! The decision: facts about a request and a view of the fleet go in, a plan with a reason for every candidate comes
//! out. Pure: no clock, no I/O, no async, no randomness, no metrics; whatever of these is needed is an argument.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
#![cfg_attr(not(test), deny(clippy::disallowed_macros))]
#![cfg_attr(test, allow(clippy::string_slice, reason = "tests may panic"))]

/// Micros and tokens: the units that travel between crates.
pub mod units;
/// What is known of a request when it arrives.
pub mod facts;
/// How a prompt begins.
pub mod prefix;
/// The headers in which callers say who they are and how patient.
pub mod wishes;
/// What is known of the machines now.
pub mod fleet;
/// What experience says of them.
pub mod learned;
/// The compiled rules.
pub mod policy;
/// Which class a request belongs to.
pub mod classify;
/// Bounds on all requests together, as they stand now.
mod caps;
/// Which endpoints of large pools are weighed.
pub mod shortlist;
/// Hard reasons against an endpoint.
pub mod filter;
/// What a request would experience on an endpoint.
pub mod estimate;
/// What machines draw.
pub mod power;
/// What work costs beside its price.
pub mod price;
/// How well an endpoint serves the objective.
pub mod score;
/// Which endpoints requests that belong together have in common.
pub mod home;
/// The order of the candidates.
pub mod pick;
/// What will be attempted.
pub mod plan;
/// A second attempt beside a slow first one.
pub mod hedge;
/// A look at machines of which little is known.
pub mod explore;
/// What attempts beyond the first may take of a route.
pub mod extra;
/// What stands in the way for a while only.
pub mod passing;
/// Requests that are held until a machine has room.
pub mod queue;
/// What a decision can do without.
pub mod mechanisms;
/// What each endpoint would do for a request.
mod weigh;
/// All of it: facts and fleet → plan and reasons.
pub mod decide;
/// A fingerprint of a decision.
pub mod digest;
/// Why no machine is asked.
pub mod refusal;
/// One decision, explained.
pub mod explain;
/// What a policy is to do, and whether it does.
pub mod scenario;
/// Whether a promise was kept.
pub mod attain;
/// A candidate policy on trial.
pub mod trial;
/// The reasons in words.
pub mod trace;
/// TOML and CEL text → a checked policy, with diagnostics that point at the character.
pub mod language;
