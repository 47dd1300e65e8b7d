//! Framing of streamed answers: bytes → events, without copying.

/// Server-sent events.
pub mod sse;
