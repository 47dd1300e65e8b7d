//! From text to a checked policy.
