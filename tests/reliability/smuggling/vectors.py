"""Heads and bodies that two readers of one connection may read in two ways. Each is followed by a request of its own, so
that a reader that ends the first one elsewhere shows it. `{len}` is the body's length, `{chunks}` the body in chunks."""

BODY = '{"model":"gpt-oss-120b","messages":[]}'
CHUNKS = f"{len(BODY):x}\r\n{BODY}\r\n0\r\n\r\n"
LENGTH = f"Content-Length: {len(BODY)}\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
POST = "POST /v1/chat/completions HTTP/1.1\r\n"
HOST = "Host: a\r\n"
JSON = "Content-Type: application/json\r\n"
FOLLOWING = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nX-Following: yes\r\n{JSON}{LENGTH}Connection: close\r\n\r\n{BODY}"


def post(lines, body=BODY, first=POST, host=HOST):
    return (first + host + JSON + lines + "\r\n" + body).encode("latin-1")


def target(text, host=HOST):
    return post(LENGTH, first=f"POST {text} HTTP/1.1\r\n", host=host)


# Name, bytes.
VECTORS = [
    ("sound: a length", post(LENGTH)),
    ("sound: chunks", post(CHUNKED, CHUNKS)),
    ("sound: chunks with an extension and a trailer", post(CHUNKED, f"{len(BODY):x};a=b\r\n{BODY}\r\n0\r\nX-T: y\r\n\r\n")),
    ("a length and chunks", post(LENGTH + CHUNKED, CHUNKS)),
    ("chunks and a length of 0", post(CHUNKED + "Content-Length: 0\r\n", CHUNKS)),
    ("`gzip, chunked`", post("Transfer-Encoding: gzip, chunked\r\n", CHUNKS)),
    ("`chunked, identity`", post("Transfer-Encoding: chunked, identity\r\n", CHUNKS)),
    ("`identity` and a length", post("Transfer-Encoding: identity\r\n" + LENGTH)),
    ("`xchunked`", post("Transfer-Encoding: xchunked\r\n" + LENGTH)),
    ("`chunked` twice", post(CHUNKED + CHUNKED, CHUNKS)),
    ("`Chunked` in capitals", post("Transfer-Encoding: Chunked\r\n", CHUNKS)),
    ("a vertical tab before `chunked`", post("Transfer-Encoding: \x0bchunked\r\n", CHUNKS)),
    ("a blank before the colon of Transfer-Encoding", post("Transfer-Encoding : chunked\r\n", CHUNKS)),
    ("a folded Transfer-Encoding", post("Transfer-Encoding:\r\n chunked\r\n", CHUNKS)),
    ("`Transfer_Encoding` and a length", post("Transfer_Encoding: chunked\r\n" + LENGTH)),
    ("chunks with HTTP/1.0", post(CHUNKED, CHUNKS, first="POST /v1/chat/completions HTTP/1.0\r\n")),
    ("two equal lengths", post(LENGTH + LENGTH)),
    ("two lengths", post(LENGTH + "Content-Length: 0\r\n")),
    ("a list of equal lengths", post(f"Content-Length: {len(BODY)}, {len(BODY)}\r\n")),
    ("a length with a plus", post(f"Content-Length: +{len(BODY)}\r\n")),
    ("a length in hexadecimal", post(f"Content-Length: 0x{len(BODY):x}\r\n")),
    ("a length with zeros before it", post(f"Content-Length: 000{len(BODY)}\r\n")),
    ("a negative length", post("Content-Length: -1\r\n")),
    ("a length past 64 bits", post("Content-Length: 18446744073709551616\r\n")),
    ("an empty length", post("Content-Length:\r\n")),
    ("a bare line feed in the head", post("X-A: b\n" + LENGTH)),
    ("a bare carriage return in the head", post("X-A: b\rX-C: d\r\n" + LENGTH)),
    ("a null byte in a value", post("X-A: b\0c\r\n" + LENGTH)),
    ("a header line without a colon", post("nonsense\r\n" + LENGTH)),
    ("a header without a name", post(": x\r\n" + LENGTH)),
    ("a folded header", post("X-A: b\r\n c\r\n" + LENGTH)),
    ("a blank in a header's name", post("X A: b\r\n" + LENGTH)),
    ("an empty line before the request", b"\r\n" + post(LENGTH)),
    ("a chunk's size with a blank behind it", post(CHUNKED, f"{len(BODY):x} \r\n{BODY}\r\n0\r\n\r\n")),
    ("a chunk's size with 0x", post(CHUNKED, f"0x{len(BODY):x}\r\n{BODY}\r\n0\r\n\r\n")),
    ("a chunk's size with a bare line feed", post(CHUNKED, f"{len(BODY):x}\n{BODY}\r\n0\r\n\r\n")),
    ("a chunk's size that ends in a bare carriage return", post(CHUNKED, f"{len(BODY):x};\rx\r\n{BODY}\r\n0\r\n\r\n")),
    ("a bare line feed in a chunk's extension", post(CHUNKED, f"{len(BODY):x};a\n{BODY}\r\n0\r\n\r\n")),
    ("a chunk longer than its size", post(CHUNKED, f"{len(BODY):x}\r\n{BODY}x\r\n0\r\n\r\n")),
    ("a chunk's size past 64 bits", post(CHUNKED, f"10000000000000000{len(BODY):x}\r\n{BODY}\r\n0\r\n\r\n")),
    ("a length among the trailers", post(CHUNKED, f"{len(BODY):x}\r\n{BODY}\r\n0\r\nContent-Length: 5\r\n\r\n")),
    ("no host", post(LENGTH, host="")),
    ("two hosts", post("Host: b\r\n" + LENGTH)),
    ("a user in the host", post(LENGTH, host="Host: u@a\r\n")),
    ("an absolute target of the same host", target("http://a/v1/chat/completions")),
    ("an absolute target of another host", target("http://b/v1/chat/completions")),
    ("a fragment", target("/v1/chat/completions#x")),
    ("raw UTF-8 in the target", target("/v1/chat/completions?\xc3\xa4")),
    ("a tab in the request line", post(LENGTH, first="POST\t/v1/chat/completions HTTP/1.1\r\n")),
    ("two blanks in the request line", post(LENGTH, first="POST  /v1/chat/completions HTTP/1.1\r\n")),
    ("dots in the path", target("/v1/x/../chat/completions")),
    ("an escaped slash in the path", target("/v1%2fchat/completions")),
    ("an escaped null in the path", target("/v1/chat/completions%00")),
    ("`GET *`", post("", "", first="GET * HTTP/1.1\r\n")),
    ("CONNECT", post("", "", first="CONNECT a:443 HTTP/1.1\r\n", host="Host: a:443\r\n")),
    ("HTTP/1.2", post(LENGTH, first="POST /v1/chat/completions HTTP/1.2\r\n")),
    ("Connection names Content-Length", post("Connection: Content-Length\r\n" + LENGTH)),
    ("Connection names Host", post("Connection: Host\r\n" + LENGTH)),
    ("an unknown Expect", post("Expect: 200-maybe\r\n" + LENGTH)),
    ("an upgrade to h2c", post("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n" + LENGTH)),
    ("a body behind GET", post(LENGTH, first="GET /v1/models HTTP/1.1\r\n")),
]
