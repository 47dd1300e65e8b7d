//! The headers in which callers say who they are and how patient: one table for the gateway and for scenarios.

/// The class.
pub const CLASS: [&str; 1] = ["x-pointsman-class"];
/// The whole answer is wanted within so many milliseconds.
pub const DEADLINE: [&str; 1] = ["x-pointsman-deadline-ms"];
/// The first token is wanted within so many milliseconds; ours, then those of other gateways.
pub const TTFT: [&str; 3] = ["x-pointsman-ttft-ms", "x-llm-d-slo-ttft-ms", "x-slo-ttft-ms"];
/// Each further token is wanted within so many milliseconds.
pub const ITL: [&str; 3] = ["x-pointsman-itl-ms", "x-llm-d-slo-tpot-ms", "x-slo-tpot-ms"];
/// Requests of one conversation.
pub const SESSION: [&str; 2] = ["x-pointsman-session", "x-session-id"];
/// Who asks. Whoever reaches the data port may write it, as it may write its class.
pub const TENANT: [&str; 1] = ["x-pointsman-tenant"];
/// A day; a longer wish is a mistake.
pub const LONGEST_MS: f64 = 86_400_000.0;

/// The milliseconds of a header's text; `None` where they make no sense.
pub fn milliseconds(text: &str) -> Option<f64> {
    text.parse().ok().filter(|ms| *ms > 0.0 && *ms <= LONGEST_MS)
}
