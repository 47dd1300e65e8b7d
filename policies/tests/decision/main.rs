//! The decision, stage by stage: a small world whose figures can be worked out by hand, and what is decided in it.
#![allow(clippy::expect_used, clippy::panic, reason = "tests may panic")]

/// Two machines, one policy, plain requests.
mod world;

/// Which class a request belongs to.
mod classify;
/// A look at machines of which little is known.
mod explore;
/// Hard reasons against an endpoint.
mod filter;
/// What a request would experience on an endpoint.
mod estimate;
/// How well an endpoint serves the objective.
/// Bounds on all requests together.
mod limits;
/// Examples of what a policy is to do.
mod scenario;
/// Explanations.
mod explain;
mod score;
/// The order of the candidates.
mod pick;
/// What will be attempted.
mod plan;
/// All of it.
mod decide;
/// Pools of which not every endpoint is weighed.
mod large;
/// What routes say in the file and what comes of it.
mod routes;
/// The reasons in words.
mod trace;
