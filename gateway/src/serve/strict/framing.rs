//! Follows a connection from head to head, through bodies of known length and bodies in chunks.

use memchr::{memchr, memchr_iter};

use super::head::{Flaw, Length, examine, examine_chunk_size, examine_line};

/// A chunk's size with its extensions, bytes.
const LONGEST_SIZE_LINE: usize = 1 << 10;
/// A head that is held back until it is whole, bytes; what is allowed is less, and refused by the pipeline.
const LONGEST_HEAD: usize = 256 << 10;
/// What may follow the last chunk, bytes.
const LONGEST_TRAILER: usize = 16 << 10;

/// What comes next on a connection.
#[derive(Debug, PartialEq)]
pub(super) enum Framing {
    /// A head, or the rest of one; carries how much of it was looked at in vain for its end.
    Head(usize),
    /// So many bytes of a body of known length.
    Body(u64),
    /// The line with the size of a chunk.
    ChunkSize,
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The empty line after a chunk.
    ChunkEnd,
    /// What follows the last chunk.
    Trailer,
    /// A flaw came.
    Refused,
}

impl Default for Framing {
    fn default() -> Framing {
        Framing::Head(0)
    }
}

impl Framing {
    /// How many of these bytes may go on, the first being the first that has not gone on yet: none behind the end of a
    /// request. The flaw that the rest begins with, and whether a request ended.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> (usize, Option<Flaw>, bool) {
        let mut passed = 0;
        while let Some(rest) = bytes.get(passed..).filter(|rest| !rest.is_empty()) {
            let empty_line = matches!(self, Framing::Head(_)) && rest.starts_with(b"\r\n");
            match self.step(rest) {
                Ok(0) => break,
                Ok(count) => passed += count,
                Err(flaw) => return (passed, Some(flaw), false),
            }
            if *self == Framing::Head(0) && !empty_line {
                return (passed, None, true);
            }
        }
        (passed, None, false)
    }

    /// The same, for what comes next only; 0 where it is not whole yet.
    fn step(&mut self, rest: &[u8]) -> Result<usize, Flaw> {
        match self {
            Framing::Head(_) if rest.starts_with(b"\r\n") => Ok(2), // an empty line before a request means nothing
            Framing::Head(_) if rest == b"\r" => Ok(0),
            Framing::Head(looked) => {
                let Some(end) = head_end(rest, *looked) else {
                    *looked = rest.len();
                    return if rest.len() > LONGEST_HEAD { Err(Flaw::HeadTooLarge) } else { Ok(0) };
                };
                *self = match examine(rest.get(..end).unwrap_or_default())? {
                    Length::Known(0) => Framing::Head(0),
                    Length::Known(bytes) => Framing::Body(bytes),
                    Length::Chunked => Framing::ChunkSize,
                };
                Ok(end)
            }
            Framing::Body(left) => {
                let count = taken(left, rest);
                if *left == 0 {
                    *self = Framing::Head(0);
                }
                Ok(count)
            }
            Framing::ChunkSize => {
                let Some(line) = whole_line(rest, LONGEST_SIZE_LINE, Flaw::ChunkSize)? else { return Ok(0) };
                *self = match examine_chunk_size(line)? {
                    0 => Framing::Trailer,
                    bytes => Framing::Chunk(bytes),
                };
                Ok(line.len())
            }
            Framing::Chunk(left) => {
                let count = taken(left, rest);
                if *left == 0 {
                    *self = Framing::ChunkEnd;
                }
                Ok(count)
            }
            Framing::ChunkEnd => match rest {
                [b'\r', b'\n', ..] => {
                    *self = Framing::ChunkSize;
                    Ok(2)
                }
                [b'\r'] => Ok(0),
                _ => Err(Flaw::ChunkEnd),
            },
            Framing::Trailer => self.trailer(rest),
            Framing::Refused => Ok(0),
        }
    }

    fn trailer(&mut self, rest: &[u8]) -> Result<usize, Flaw> {
        let mut at = 0;
        while let Some(line) = whole_line(rest.get(at..).unwrap_or_default(), LONGEST_TRAILER, Flaw::Trailer)? {
            at += line.len();
            if line == b"\r\n" {
                *self = Framing::Head(0);
                return Ok(at);
            }
            examine_line(line)?;
            if at > LONGEST_TRAILER {
                return Err(Flaw::Trailer);
            }
        }
        Ok(0)
    }
}

/// Takes off what is there.
fn taken(left: &mut u64, rest: &[u8]) -> usize {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
    *left -= count as u64;
    count
}

/// The first line with its end; `None` where it has none yet.
fn whole_line(rest: &[u8], longest: usize, flaw: Flaw) -> Result<Option<&[u8]>, Flaw> {
    match memchr(b'\n', rest.get(..longest.min(rest.len())).unwrap_or_default()) {
        Some(at) => Ok(rest.get(..=at)),
        None if rest.len() >= longest => Err(flaw),
        None => Ok(None),
    }
}

/// Where a head ends, its empty line included, however sloppily it is written; the first bytes were looked at before.
fn head_end(rest: &[u8], looked: usize) -> Option<usize> {
    let from = looked.saturating_sub(3);
    memchr_iter(b'\n', rest.get(from..)?).map(|at| from + at).find_map(|at| match rest.get(at + 1..)? {
        [b'\r', b'\n', ..] => Some(at + 3),
        [b'\n', ..] => Some(at + 2),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What goes on of a connection that ends, and the flaw that ended it.
    fn seen(pieces: &[&[u8]]) -> (usize, Option<Flaw>) {
        let (mut framing, mut held, mut passed) = (Framing::default(), Vec::new(), 0);
        for piece in pieces {
            held.extend_from_slice(piece);
            loop {
                let (count, flaw, ended) = framing.pass(&held);
                held.drain(..count);
                passed += count;
                if flaw.is_some() {
                    return (passed, flaw);
                }
                if !ended {
                    break;
                }
            }
        }
        (passed, None)
    }

    fn flaw(bytes: &[u8]) -> Option<Flaw> {
        seen(&[bytes]).1
    }

    fn with(lines: &str) -> Vec<u8> {
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n{lines}\r\n").into_bytes()
    }

    #[test]
    fn heads_that_two_readers_may_read_in_two_ways_are_flawed() {
        let of_lines = [
            ("content-length: 3\r\ntransfer-encoding: chunked\r\n", Flaw::TwoLengths),
            ("transfer-encoding: chunked\r\ncontent-length: 3\r\n", Flaw::TwoLengths),
            ("transfer-encoding: gzip, chunked\r\n", Flaw::TransferEncoding),
            ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", Flaw::TransferEncoding),
            ("transfer-encoding: identity\r\n", Flaw::TransferEncoding),
            ("transfer-encoding: xchunked\r\n", Flaw::TransferEncoding),
            ("transfer-encoding:\u{b}chunked\r\n", Flaw::HeaderValue),
            ("transfer-encoding : chunked\r\n", Flaw::HeaderName),
            ("content-length: 3\r\ncontent-length: 3\r\n", Flaw::ContentLength),
            ("content-length: 3, 3\r\n", Flaw::ContentLength),
            ("content-length: +3\r\n", Flaw::ContentLength),
            ("content-length: 0x3\r\n", Flaw::ContentLength),
            ("content-length: 99999999999999999999\r\n", Flaw::ContentLength),
            ("content-length:\r\n", Flaw::ContentLength),
            ("host: b\r\n", Flaw::Host),
            ("x: a\n", Flaw::LineEnd),
            ("x: a\rb: c\r\n", Flaw::LineEnd),
            ("x: a\r\n folded\r\n", Flaw::HeaderName),
            ("x\r\n", Flaw::HeaderName),
            (": a\r\n", Flaw::HeaderName),
            ("x: a\0\r\n", Flaw::HeaderValue),
            ("connection: close, Content-Length\r\n", Flaw::Connection),
            ("connection: x-pointsman-class\r\n", Flaw::Connection),
        ];
        for (lines, expected) in of_lines {
            assert_eq!(flaw(&with(lines)), Some(expected), "{lines:?}");
        }
        let whole: [(&[u8], Flaw); 15] = [
            (b"GET / HTTP/1.1\r\n\r\n", Flaw::Host),
            (b"GET / HTTP/1.1\r\nhost:\r\n\r\n", Flaw::Host),
            (b"GET / HTTP/1.1\r\nhost: user@a\r\n\r\n", Flaw::Host),
            (b"GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", Flaw::Host),
            (b"GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n", Flaw::OtherHost),
            (b"GET http://user@a/ HTTP/1.1\r\nhost: a\r\n\r\n", Flaw::Target),
            (b"GET * HTTP/1.1\r\nhost: a\r\n\r\n", Flaw::Target),
            (b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", Flaw::Target),
            (b"GET /#x HTTP/1.1\r\nhost: a\r\n\r\n", Flaw::Target),
            ("GET /\u{e4} HTTP/1.1\r\nhost: a\r\n\r\n".as_bytes(), Flaw::Target),
            (b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n", Flaw::RequestLine),
            (b"GET / HTTP/1.1\nhost: a\n\n", Flaw::LineEnd),
            (b"GET / HTTP/2.0\r\nhost: a\r\n\r\n", Flaw::RequestLine),
            (b"GET /\r\n\r\n", Flaw::RequestLine),
            (b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", Flaw::TransferEncoding),
        ];
        for (bytes, expected) in whole {
            assert_eq!(flaw(bytes), Some(expected), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn bodies_end_where_they_say() {
        let chunked = |body: &str| [&with("transfer-encoding: chunked\r\n")[..], body.as_bytes()].concat();
        for (body, expected) in [
            ("3\r\nabc\r\n0\r\n\r\n", None),
            ("3;name=value\r\nabc\r\n0\r\nx: y\r\n\r\n", None),
            ("3\nabc\r\n0\r\n\r\n", Some(Flaw::LineEnd)),
            ("3\r\nabcd\r\n0\r\n\r\n", Some(Flaw::ChunkEnd)),
            ("0x3\r\nabc\r\n0\r\n\r\n", Some(Flaw::ChunkSize)),
            ("-1\r\nabc\r\n0\r\n\r\n", Some(Flaw::ChunkSize)),
            ("3 \r\nabc\r\n0\r\n\r\n", Some(Flaw::ChunkSize)),
            ("\r\nabc\r\n0\r\n\r\n", Some(Flaw::ChunkSize)),
            ("fffffffffffffffff\r\n", Some(Flaw::ChunkSize)),
            ("0\r\nx\r\n\r\n", Some(Flaw::HeaderName)),
        ] {
            assert_eq!(flaw(&chunked(body)), expected, "{body:?}");
        }
        let endless = "a".repeat(LONGEST_SIZE_LINE);
        assert_eq!(flaw(&chunked(&format!("3;{endless}"))), Some(Flaw::ChunkSize));
        assert_eq!(flaw(&vec![b'a'; LONGEST_HEAD + 1]), Some(Flaw::HeadTooLarge));
    }

    /// Requests as clients send them, one after the other, and what is wrong with the last.
    fn connection() -> Vec<u8> {
        let mut bytes = b"\r\n".to_vec();
        bytes.extend(with("content-length: 5\r\n"));
        bytes.extend(b"hello");
        bytes.extend(with("Transfer-Encoding: Chunked\r\nconnection: keep-alive\r\n"));
        bytes.extend(b"A\r\n0123456789\r\n1;x\r\n!\r\n0\r\nx: y\r\n\r\n");
        bytes.extend(b"GET http://A/v1/models HTTP/1.1\r\nHost: a\r\n\r\nGET /v1/models HTTP/1.0\r\n\r\n");
        bytes
    }

    proptest! {
        #[test]
        fn however_bytes_come_the_same_goes_on(cuts in proptest::collection::vec(0_usize..400, 0..40), flawed: bool) {
            let sound = connection();
            let mut bytes = sound.clone();
            if flawed {
                bytes.extend(with("content-length: 1\r\ncontent-length: 2\r\n"));
            }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            prop_assert_eq!(seen(&pieces), (sound.len(), flawed.then_some(Flaw::ContentLength)));
        }

        #[test]
        fn no_bytes_lead_to_a_panic(bytes: Vec<u8>, tail in "[a-zA-Z0-9:;, \r\n]{0,200}") {
            let _ = seen(&[&bytes, tail.as_bytes()]);
            let _ = seen(&[&with("transfer-encoding: chunked\r\n"), tail.as_bytes(), &bytes]);
        }
    }
}
