//! HTTP/2 frame by frame, for what no well-behaved client sends.

/// What a client says first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames.
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RESET: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// The stream ends with this frame.
pub(crate) const END_STREAM: u8 = 1;
/// The head ends with this frame.
pub(crate) const END_HEADERS: u8 = 4;

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The fields of the head of a chat, each written out in full.
pub(crate) fn head(body_bytes: usize) -> Vec<u8> {
    let length = body_bytes.to_string();
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/v1/chat/completions"),
        (":authority", "a"),
        ("content-type", "application/json"),
        ("content-length", length.as_str()),
    ];
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// A field that no table keeps.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0, name.len() as u8];
    bytes.extend(name.as_bytes());
    bytes.push(value.len() as u8);
    bytes.extend(value.as_bytes());
    bytes
}

/// A whole chat on a stream.
pub(crate) fn chat(stream: u32, body: &str) -> Vec<u8> {
    let mut bytes = frame(kind::HEADERS, END_HEADERS, stream, &head(body.len()));
    bytes.extend(frame(kind::DATA, END_STREAM, stream, body.as_bytes()));
    bytes
}
