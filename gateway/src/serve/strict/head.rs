//! The rules: RFC 9112 where it says *must*, and the stricter choice wherever two readers may choose differently.

use std::fmt;

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// So many bytes.
    Known(u64),
    /// In chunks.
    Chunked,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It does not end.
    HeadTooLarge,
    /// The first line is not `METHOD TARGET HTTP/1.x`.
    RequestLine,
    /// The target is no path of ASCII: `*`, an authority, a fragment, raw bytes.
    Target,
    /// A line ends in a bare line feed, or a carriage return stands alone.
    LineEnd,
    /// A header line is folded, has no name, or blanks or odd bytes in its name.
    HeaderName,
    /// A header's value has a control character in it.
    HeaderValue,
    /// Not exactly one host, or one that is none.
    Host,
    /// A target with a host of its own that is not the one of `host`.
    OtherHost,
    /// A length that is no number, or several.
    ContentLength,
    /// Both a length and chunks.
    TwoLengths,
    /// An encoding of the transfer other than `chunked`, once.
    TransferEncoding,
    /// `connection` names a header that is not of the connection.
    Connection,
    /// The size of a chunk is no hexadecimal number.
    ChunkSize,
    /// A chunk does not end where its size says.
    ChunkEnd,
    /// What follows the last chunk is no header, or too long.
    Trailer,
    /// A path that can be read in two ways.
    Path,
}

impl Flaw {
    /// What is wrong, for whoever sent it.
    pub fn message(self) -> &'static str {
        match self {
            Flaw::HeadTooLarge => "the head does not end within 256 KiB",
            Flaw::RequestLine => "the first line is not `METHOD TARGET HTTP/1.1`, with one blank between them",
            Flaw::Target => "the target is not a path in visible ASCII that begins with `/`, without `#`",
            Flaw::LineEnd => "a line does not end in CR LF, or has a CR or LF inside",
            Flaw::HeaderName => "a header line is folded, or its name is empty or has a byte that no name has",
            Flaw::HeaderValue => "a header's value has a control character in it",
            Flaw::Host => "there must be exactly one `host`, a name or address with an optional port",
            Flaw::OtherHost => "the target names another host than `host` does",
            Flaw::ContentLength => "`content-length` must be one decimal number, once",
            Flaw::TwoLengths => "`content-length` and `transfer-encoding` contradict each other; send one of them",
            Flaw::TransferEncoding => "the only `transfer-encoding` is `chunked`, once, with HTTP/1.1",
            Flaw::Connection => "`connection` names a header that is not its to drop",
            Flaw::ChunkSize => "the size of a chunk is not a hexadecimal number",
            Flaw::ChunkEnd => "a chunk does not end where its size says",
            Flaw::Path => "the path has a backslash or a zero byte in it, escaped or not, or is not ASCII",
            Flaw::Trailer => "what follows the last chunk is not a header, or too long",
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.message())
    }
}

/// Headers that `connection` may not name: whoever drops them changes the request.
const NOT_OF_CONNECTIONS: [&[u8]; 8] = [
    b"host",
    b"content-length",
    b"content-type",
    b"content-encoding",
    b"transfer-encoding",
    b"authorization",
    b"cookie",
    b"x-api-key",
];
/// Nor one that begins like this.
const OWN_PREFIX: &[u8] = b"x-pointsman-";

/// What the lines of a head say together.
#[derive(Default)]
struct Said<'h> {
    host: Option<&'h [u8]>,
    length: Option<u64>,
    chunked: bool,
}

/// Examines a whole head, its empty line included, and tells how long its body is.
pub(super) fn examine(head: &[u8]) -> Result<Length, Flaw> {
    let mut lines = head.split_inclusive(|byte| *byte == b'\n').map(without_end);
    let (authority, latest) = request_line(lines.next().ok_or(Flaw::RequestLine)??)?;
    let mut said = Said::default();
    for line in lines {
        let line = line?;
        if !line.is_empty() {
            let (name, value) = header(line)?;
            said.add(name, value)?;
        }
    }
    match (said.host, latest) {
        (None, true) => return Err(Flaw::Host),
        (Some(host), _) if !is_host(host) => return Err(Flaw::Host),
        (host, _) if authority.is_some_and(|own| host.is_some_and(|host| !own.eq_ignore_ascii_case(host))) => {
            return Err(Flaw::OtherHost);
        }
        _ => {}
    }
    match (said.chunked, said.length) {
        (true, Some(_)) => Err(Flaw::TwoLengths),
        (true, None) if !latest => Err(Flaw::TransferEncoding),
        (true, None) => Ok(Length::Chunked),
        (false, length) => Ok(Length::Known(length.unwrap_or(0))),
    }
}

/// A header line outside a head.
pub(super) fn examine_line(line: &[u8]) -> Result<(), Flaw> {
    header(without_end(line)?).map(|_| ())
}

/// The size of a chunk. Extensions are passed over: nobody knows any.
pub(super) fn examine_chunk_size(line: &[u8]) -> Result<u64, Flaw> {
    let line = without_end(line)?;
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let extension = line.get(digits.len()..).unwrap_or_default();
    if extension.iter().any(|byte| is_control(*byte)) {
        return Err(Flaw::ChunkSize);
    }
    text.and_then(|text| u64::from_str_radix(text, 16).ok()).ok_or(Flaw::ChunkSize)
}

impl<'h> Said<'h> {
    fn add(&mut self, name: &[u8], value: &'h [u8]) -> Result<(), Flaw> {
        if name.eq_ignore_ascii_case(b"host") {
            if self.host.replace(value).is_some() {
                return Err(Flaw::Host);
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
            if self.length.replace(number.ok_or(Flaw::ContentLength)?).is_some() {
                return Err(Flaw::ContentLength);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Flaw::TransferEncoding);
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"connection") {
            let mut named = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            if named.any(is_not_of_connections) {
                return Err(Flaw::Connection);
            }
        }
        Ok(())
    }
}

fn is_not_of_connections(name: &[u8]) -> bool {
    let own = name.get(..OWN_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(OWN_PREFIX));
    own || NOT_OF_CONNECTIONS.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// A line without its CR LF.
fn without_end(line: &[u8]) -> Result<&[u8], Flaw> {
    let line = line.strip_suffix(b"\r\n").ok_or(Flaw::LineEnd)?;
    if line.contains(&b'\r') { Err(Flaw::LineEnd) } else { Ok(line) }
}

/// The authority of a target that has one, and whether it is HTTP/1.1.
fn request_line(line: &[u8]) -> Result<(Option<&[u8]>, bool), Flaw> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Flaw::RequestLine);
    };
    let latest = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        _ => return Err(Flaw::RequestLine),
    };
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(Flaw::RequestLine);
    }
    if !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(Flaw::Target);
    }
    if target.starts_with(b"/") {
        return Ok((None, latest));
    }
    let rest = [&b"http://"[..], b"https://"].iter().find_map(|scheme| {
        let start = target.get(..scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then(|| target.get(scheme.len()..))?
    });
    let authority = rest.and_then(|rest| rest.split(|byte| matches!(byte, b'/' | b'?')).next()).ok_or(Flaw::Target)?;
    if is_host(authority) { Ok((Some(authority), latest)) } else { Err(Flaw::Target) }
}

fn header(line: &[u8]) -> Result<(&[u8], &[u8]), Flaw> {
    let colon = memchr::memchr(b':', line).ok_or(Flaw::HeaderName)?;
    let (name, value) = line.split_at_checked(colon).ok_or(Flaw::HeaderName)?;
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(Flaw::HeaderName);
    }
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    if value.iter().any(|byte| is_control(*byte)) { Err(Flaw::HeaderValue) } else { Ok((name, value)) }
}

/// A name or address with an optional port; no user, no list, no path.
fn is_host(host: &[u8]) -> bool {
    let odd = |byte: &u8| !(byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte));
    !host.is_empty() && !host.iter().any(odd)
}

fn is_control(byte: u8) -> bool {
    byte != b'\t' && byte.is_ascii_control()
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
