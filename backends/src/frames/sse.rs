//! Server-sent events: where each event ends in the bytes as they arrive. Nothing is copied except an event that
//! arrives in pieces.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// An event longer than this is not held back until it is whole, bytes.
const LONGEST_HELD: usize = 1 << 20;

/// Cuts a byte stream into whole events.
#[derive(Debug, Default)]
pub struct Events {
    /// What has come of the event that is not yet whole.
    held: BytesMut,
    ready: VecDeque<Bytes>,
}

impl Events {
    /// Takes what has arrived; whole events can then be taken by [`Events::take`].
    pub fn push(&mut self, mut chunk: Bytes) {
        if !self.held.is_empty() {
            chunk = self.complete_held(chunk);
        }
        while let Some(end) = event_end(&chunk) {
            self.ready.push_back(chunk.split_to(end));
        }
        if !chunk.is_empty() {
            self.held.extend_from_slice(&chunk);
        }
        if self.held.len() > LONGEST_HELD {
            self.ready.push_back(self.held.split().freeze());
        }
    }

    /// The next whole event with the blank line that ends it.
    pub fn take(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }

    /// What has come of an event that never became whole; it was never given out.
    pub fn incomplete(&self) -> usize {
        self.held.len()
    }

    /// Appends to the held piece what completes its event and returns the rest of the chunk.
    fn complete_held(&mut self, mut chunk: Bytes) -> Bytes {
        // The blank line may straddle the two pieces, so the search starts a little before the seam.
        let seam = self.held.len();
        let from = seam.saturating_sub(3);
        self.held.extend_from_slice(&chunk);
        let end = self.held.get(from..).and_then(event_end).map(|end| from + end);
        match end.filter(|&end| end > seam || end == self.held.len()) {
            Some(end) => {
                self.ready.push_back(self.held.split_to(end).freeze());
                self.held.clear();
                chunk.split_off(end.saturating_sub(seam).min(chunk.len()))
            }
            None => Bytes::new(),
        }
    }
}

/// The offset just behind the first blank line: `\n\n` or `\n\r\n`.
fn event_end(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', bytes).find_map(|newline| match bytes.get(newline + 1..) {
        Some([b'\n', ..]) => Some(newline + 2),
        Some([b'\r', b'\n', ..]) => Some(newline + 3),
        _ => None,
    })
}

/// The value of the first `data:` line of an event, without its line end; empty where there is none.
pub fn data(event: &[u8]) -> &[u8] {
    let mut rest = event;
    loop {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let (line, behind) = rest.split_at(end);
        if let Some(value) = line.strip_prefix(b"data:") {
            return value.trim_ascii();
        }
        match behind.split_first() {
            Some((_, behind)) if !behind.is_empty() => rest = behind,
            _ => return &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events_of(pieces: &[&str]) -> (Vec<String>, usize) {
        let mut events = Events::default();
        let mut whole = Vec::new();
        for piece in pieces {
            events.push(Bytes::copy_from_slice(piece.as_bytes()));
            while let Some(event) = events.take() {
                whole.push(String::from_utf8(event.to_vec()).unwrap());
            }
        }
        (whole, events.incomplete())
    }

    #[test]
    fn events_are_cut_at_blank_lines() {
        #[track_caller]
        fn check(pieces: &[&str], expected: &[&str], incomplete: usize) {
            let (whole, held) = events_of(pieces);
            assert_eq!((whole.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), held), (expected, incomplete));
        }
        check(&["data: a\n\ndata: b\n\n"], &["data: a\n\n", "data: b\n\n"], 0);
        check(&["data: a\r\n\r\ndata: b\r\n\r\n"], &["data: a\r\n\r\n", "data: b\r\n\r\n"], 0);
        check(&["data: a", "\n", "\nda", "ta: b\n\n"], &["data: a\n\n", "data: b\n\n"], 0);
        check(&["data: a\r\n", "\r\ndata: b"], &["data: a\r\n\r\n"], 7);
        check(&[": ping\n\n", "data: x\nda"], &[": ping\n\n"], 10);
    }

    #[test]
    fn any_cutting_of_the_bytes_gives_the_same_events() {
        let text = "data: {\"a\":1}\n\n: ping\r\n\r\nevent: x\ndata: two\n\ndata: [DONE]\n\n";
        let expected = events_of(&[text]);
        for first in 0..text.len() {
            for second in first..text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(events_of(&pieces), expected, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn an_event_without_end_is_not_held_for_ever() {
        let mut events = Events::default();
        for _ in 0..20 {
            events.push(Bytes::from(vec![b'x'; 100 << 10]));
        }
        let mut given = 0;
        while let Some(piece) = events.take() {
            given += piece.len();
        }
        assert!(given > LONGEST_HELD && events.incomplete() <= LONGEST_HELD, "{given} given");
    }

    #[test]
    fn the_data_line_is_found() {
        assert_eq!(data(b"event: x\ndata: [DONE]\r\n\r\n"), b"[DONE]");
        assert_eq!(data(b": ping\n\n"), b"");
    }
}
