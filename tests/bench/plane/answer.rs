//! Answers as they arrive, cut at will: where an HTTP/1.1 answer ends, and the events within it.

/// A head longer than this is none, bytes.
const LONGEST_HEAD: usize = 64 << 10;

/// What is no answer.
#[derive(Debug)]
pub(crate) struct Malformed;

/// Where the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Head,
    Sized(u64),
    UntilClosed,
    ChunkHead,
    Chunk(u64),
    ChunkEnd,
    Trailer,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its status, 0 as long as it is unknown.
    pub(crate) status: u16,
    /// Whether the connection ends with it.
    pub(crate) closes: bool,
    part: Part,
    held: Vec<u8>,
}

impl Default for Answer {
    fn default() -> Answer {
        Answer { status: 0, closes: false, part: Part::Head, held: Vec::new() }
    }
}

impl Answer {
    /// Makes it ready for the next one.
    pub(crate) fn reset(&mut self) {
        (self.status, self.closes, self.part) = (0, false, Part::Head);
        self.held.clear();
    }

    /// Takes bytes and hands those of the body on; true once the answer is whole.
    pub(crate) fn take(&mut self, mut bytes: &[u8], mut body: impl FnMut(&[u8])) -> Result<bool, Malformed> {
        loop {
            match self.part {
                Part::Head => {
                    let Some(rest) = self.head(bytes)? else { return Ok(false) };
                    bytes = rest;
                    if self.part == Part::Sized(0) {
                        return Ok(true);
                    }
                }
                Part::Sized(left) | Part::Chunk(left) => {
                    let (ours, rest) = bytes.split_at(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
                    body(ours);
                    bytes = rest;
                    let left = left - ours.len() as u64;
                    let chunked = matches!(self.part, Part::Chunk(_));
                    if left > 0 {
                        self.part = if chunked { Part::Chunk(left) } else { Part::Sized(left) };
                        return Ok(false);
                    } else if !chunked {
                        return Ok(true);
                    }
                    self.part = Part::ChunkEnd;
                }
                Part::UntilClosed => {
                    body(bytes);
                    return Ok(false);
                }
                Part::ChunkHead | Part::ChunkEnd | Part::Trailer => {
                    let Some(rest) = self.line(bytes) else { return Ok(false) };
                    bytes = rest;
                    let line = std::mem::take(&mut self.held);
                    let line = line.trim_ascii();
                    match self.part {
                        Part::ChunkEnd => self.part = Part::ChunkHead,
                        Part::Trailer if line.is_empty() => return Ok(true),
                        Part::Trailer => {}
                        _ => self.part = chunk(line)?,
                    }
                }
            }
        }
    }

    /// Holds bytes up to the end of a line and returns those behind it.
    fn line<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let end = memchr::memchr(b'\n', bytes);
        let (ours, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
        self.held.extend_from_slice(ours);
        end.map(|_| rest)
    }

    fn head<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
        let before = self.held.len();
        self.held.extend_from_slice(bytes);
        let Some(end) = memchr::memmem::find(&self.held, b"\r\n\r\n") else {
            return if self.held.len() > LONGEST_HEAD { Err(Malformed) } else { Ok(None) };
        };
        let rest = &bytes[end + 4 - before..];
        let mut lines = self.held[..end].split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let status = lines.next().and_then(|line| std::str::from_utf8(line.get(9..12)?).ok()?.parse().ok());
        self.status = status.ok_or(Malformed)?;
        let (mut length, mut chunked) = (None, false);
        for line in lines {
            let colon = line.iter().position(|byte| *byte == b':').ok_or(Malformed)?;
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"content-length") {
                length = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                chunked = value.eq_ignore_ascii_case(b"chunked");
            } else if name.eq_ignore_ascii_case(b"connection") {
                self.closes = value.eq_ignore_ascii_case(b"close");
            }
        }
        self.held.clear();
        self.part = match (self.status, chunked, length) {
            (100..200, ..) => Part::Head,
            (_, true, _) => Part::ChunkHead,
            (_, _, Some(length)) => Part::Sized(length),
            _ => Part::UntilClosed,
        };
        Ok(Some(rest))
    }
}

fn chunk(line: &[u8]) -> Result<Part, Malformed> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let digits = std::str::from_utf8(digits.trim_ascii()).map_err(|_| Malformed)?;
    match u64::from_str_radix(digits, 16).map_err(|_| Malformed)? {
        0 => Ok(Part::Trailer),
        length => Ok(Part::Chunk(length)),
    }
}

/// The events of a stream: each says between two `@` when it was sent.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// How many have come.
    pub(crate) seen: u64,
    /// Whether the last has.
    pub(crate) done: bool,
    sent_ns: Option<u64>,
    last_word: usize,
}

impl Events {
    /// Takes bytes of a body and tells of each event when it was sent, nanoseconds.
    pub(crate) fn take(&mut self, bytes: &[u8], mut event: impl FnMut(u64)) {
        const LAST_WORD: &[u8] = b"[DONE]";
        for &byte in bytes {
            match (byte, self.sent_ns) {
                (b'@', None) => self.sent_ns = Some(0),
                (b'@', Some(sent_ns)) => {
                    self.seen += 1;
                    event(sent_ns);
                    self.sent_ns = None;
                }
                (b'0'..=b'9', Some(ns)) => self.sent_ns = Some(ns * 10 + u64::from(byte - b'0')),
                _ => {}
            }
            self.last_word =
                if byte == LAST_WORD[self.last_word] { self.last_word + 1 } else { usize::from(byte == b'[') };
            if self.last_word == LAST_WORD.len() {
                (self.done, self.last_word) = (true, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_where_they_end_however_they_are_cut() {
        let texts = [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nConnection: close\r\n\r\n@12@x",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n@12\r\n2;x=y\r\n@x\r\n0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n@12@x\r\n0\r\na: b\r\n\r\n",
        ];
        for text in texts {
            for cut in 0..text.len() {
                let (mut answer, mut body, mut events, mut sent) =
                    (Answer::default(), Vec::new(), Events::default(), 0);
                let (first, second) = text.as_bytes().split_at(cut);
                assert!(!answer.take(first, |bytes| body.extend_from_slice(bytes)).unwrap(), "{text} cut at {cut}");
                assert!(answer.take(second, |bytes| body.extend_from_slice(bytes)).unwrap(), "{text} cut at {cut}");
                events.take(&body, |ns| sent = ns);
                assert_eq!((answer.status, body.as_slice(), events.seen, sent), (200, &b"@12@x"[..], 1, 12));
            }
        }
    }
}
