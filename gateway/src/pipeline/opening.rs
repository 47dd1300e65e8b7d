//! Waits for the first event of an answer: until it is there, another machine can still take over.

use std::collections::VecDeque;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use pointsman_backends::connect::Hold;
use pointsman_backends::dialects::{Dialect, EventKind};
use pointsman_backends::frames::sse::{self, Events};

/// Where an answer comes from.
pub(super) struct Source {
    /// Its bytes.
    pub(super) body: Incoming,
    /// Its connection.
    pub(super) hold: Hold,
    /// Its wire format.
    pub(super) dialect: &'static dyn Dialect,
}

/// An answer of which the first event or bytes are there.
pub(super) struct Opening {
    /// Where the rest comes from.
    pub(super) source: Source,
    /// Whether it is a stream of events.
    pub(super) streamed: bool,
    /// Cuts the rest into events.
    pub(super) events: Events,
    /// What is there already, whole events where it is streamed.
    pub(super) first: VecDeque<Bytes>,
    /// Whether that was all.
    pub(super) ended: bool,
}

impl Opening {
    /// Waits for the first event that carries content, or the first bytes of an answer that is not streamed. An error
    /// says why there will be none.
    pub(super) async fn wait(mut source: Source, streamed: bool) -> Result<Opening, String> {
        let mut events = Events::default();
        let mut first = VecDeque::new();
        loop {
            let Some(frame) = source.body.frame().await else {
                if !streamed {
                    return Ok(Opening { source, streamed, events, first, ended: true });
                }
                return Err("the stream ended before its first event".to_owned());
            };
            let frame = frame.map_err(|error| format!("the connection broke before the first byte: {error}"))?;
            let Ok(bytes) = frame.into_data() else { continue };
            if !streamed {
                first.push_back(bytes);
                return Ok(Opening { source, streamed, events, first, ended: false });
            }
            events.push(bytes);
            while let Some(event) = events.take() {
                match source.dialect.event_kind(&event) {
                    EventKind::Comment => first.push_back(event),
                    EventKind::Error if source.dialect.blames_caller(&event) => {
                        first.push_back(event);
                        return Ok(Opening { source, streamed, events, first, ended: false });
                    }
                    EventKind::Error => {
                        let said = source.dialect.error_message(sse::data(&event));
                        return Err(format!("an error event came first: {}", said.unwrap_or_default()));
                    }
                    EventKind::Content | EventKind::Done => {
                        first.push_back(event);
                        return Ok(Opening { source, streamed, events, first, ended: false });
                    }
                }
            }
        }
    }
}
