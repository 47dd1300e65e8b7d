//! `[limits]` as far as it bounds what a client takes before anybody knows what it wants.

use super::LimitsShape;

/// What a client may take. Read for each connection and request, so that a change counts at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeLimits {
    /// Connections from one address, where that is said.
    pub connections_per_address: Option<usize>,
    /// Requests of one caller at once, where that is bounded.
    pub requests_per_caller: Option<u32>,
    /// Bytes of an answer that are kept for a client that does not take them.
    pub client_buffer_bytes: usize,
    /// The same for all clients together.
    pub client_buffers_bytes: usize,
    /// Bytes of requests and answers that are kept so that streams which break can go on elsewhere, of all together.
    pub continuation_bytes: usize,
    /// Memory of the process, where that is said.
    pub memory_bytes: Option<u64>,
}

/// Some thousand events: more than a hiccup of a mobile network holds up.
const CLIENT_BUFFER_BYTES: usize = 256 << 10;
/// A thousand clients that are as far behind as they may be.
const CLIENT_BUFFERS_BYTES: usize = 256 << 20;

/// Ten thousand streams of some thousand tokens, prompt and answer.
const CONTINUATION_BYTES: usize = 256 << 20;

impl EdgeLimits {
    /// Connections from one address where nothing else is said: a client that opens more does not reuse them.
    pub const CONNECTIONS_PER_ADDRESS: usize = 200;

    pub(super) fn new(shape: &LimitsShape) -> EdgeLimits {
        EdgeLimits {
            connections_per_address: shape.connections_per_address,
            requests_per_caller: shape.requests_per_caller,
            client_buffer_bytes: shape.client_buffer_bytes.unwrap_or(CLIENT_BUFFER_BYTES),
            memory_bytes: shape.memory_mib.map(|mib| mib.saturating_mul(1 << 20)),
            client_buffers_bytes: shape.client_buffers_bytes.unwrap_or(CLIENT_BUFFERS_BYTES),
            continuation_bytes: shape.continuation_bytes.unwrap_or(CONTINUATION_BYTES),
        }
    }
}
