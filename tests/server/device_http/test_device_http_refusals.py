"""What the device listener refuses, through real sockets, and that nothing hides behind a refusal.

Expected statuses are those of RFC 9110 and 9112 and of the table of HTTP threats the listener was designed against.
"""

import pytest


def post(body: bytes = b"<a/>", path: str = "/metering") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: bus:8080\r\nContent-Type: text/xml; charset=utf-8\r\n"
    return (head + f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def get(path: str = "/health", extra: str = "", version: str = "HTTP/1.1") -> bytes:
    return f"GET {path} {version}\r\nHost: bus\r\n{extra}\r\n".encode()


def headers(*lines: str, host: str = "Host: bus\r\n") -> bytes:
    return ("POST /metering HTTP/1.1\r\n" + host + "\r\n".join(("Content-Type: text/xml", *lines, "", ""))).encode()


# --- what is refused ---

CL = "Content-Length: 4"
REFUSED = {
    "http-0.9": (b"GET /health\r\n\r\n", 400),
    "http-0.9-with-headers": (b"GET /health\r\nHost: a\r\n\r\n", 400),
    "http-2.0": (get(version="HTTP/2.0"), 505),
    "http-2-preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "http-1.2": (get(version="HTTP/1.2"), 505),
    "http-1.10": (get(version="HTTP/1.10"), 400),
    "http-lower-case": (get(version="http/1.1"), 400),
    "rtsp": (get(version="RTSP/1.0"), 400),
    "tls-hello": (bytes.fromhex("1603010200010001fc0303"), 400),
    "two-blanks": (get(" /health"), 400),
    "tab-in-request-line": (b"GET\t/health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "blank-behind-version": (get(version="HTTP/1.1 "), 400),
    "two-blank-lines-first": (b"\r\n\r\n" + get(), 400),
    "a-thousand-blank-lines": (b"\r\n" * 1000 + get(), 400),
    "absolute-target": (get("http://bus/health"), 400),
    "other-host-target": (get("http://192.0.2.1/health"), 400),
    "asterisk-target": (get("*"), 400),
    "fragment": (get("/health#a"), 400),
    "no-slash": (get("health"), 400),
    "nul-in-target": (get("/health\0"), 400),
    "0xff-in-target": (get("/health").replace(b"health", b"health\xff"), 400),
    "connect": (b"CONNECT bus:80 HTTP/1.1\r\nHost: bus\r\n\r\n", 501),
    "options": (b"OPTIONS * HTTP/1.1\r\nHost: bus\r\n\r\n", 501),
    "put": (b"PUT /metering HTTP/1.1\r\nHost: bus\r\n\r\n", 501),
    "head": (b"HEAD /health HTTP/1.1\r\nHost: bus\r\n\r\n", 501),
    "unknown-method": (b"BREW /health HTTP/1.1\r\nHost: bus\r\n\r\n", 501),
    "lower-case-method": (b"get /health HTTP/1.1\r\nHost: bus\r\n\r\n", 400),
    "no-host": (b"GET /health HTTP/1.1\r\n\r\n", 400),
    "no-host-1.0": (b"GET /health HTTP/1.0\r\n\r\n", 400),
    "two-hosts": (get(extra="Host: bus\r\n"), 400),
    "empty-host": (headers(CL, host="Host:\r\n"), 400),
    "host-list": (headers(CL, host="Host: a, b\r\n"), 400),
    "host-with-path": (headers(CL, host="Host: a/b@c\r\n"), 400),
    "length-twice-equal": (headers(CL, CL), 400),
    "length-twice-different": (headers(CL, "Content-Length: 50"), 400),
    "length-list": (headers("Content-Length: 4, 4"), 400),
    "length-plus": (headers("Content-Length: +4"), 400),
    "length-minus": (headers("Content-Length: -4"), 400),
    "length-underscore": (headers("Content-Length: 4_0"), 400),
    "length-hex": (headers("Content-Length: 0x4"), 400),
    "length-empty": (headers("Content-Length:"), 400),
    "length-leading-zeros": (headers("Content-Length: 004"), 400),
    "length-trailing-blank": (headers("Content-Length: 4 "), 400),
    "length-blank-inside": (headers("Content-Length: 4 0"), 400),
    "length-point": (headers("Content-Length: 4.0"), 400),
    "length-2^64-1": (headers("Content-Length: 18446744073709551615"), 400),
    "length-2^64": (headers("Content-Length: 18446744073709551616"), 400),
    "length-10^18": (headers("Content-Length: 1000000000000000000"), 413),
    "length-missing": (headers(), 411),
    "length-300-MB": (headers("Content-Length: 300000000"), 413),
    "length-one-more-than-allowed": (headers("Content-Length: 100001"), 413),
    "body-in-get": (get(extra="Content-Length: 4\r\n") + b"<a/>", 400),
    "chunked": (headers("Transfer-Encoding: chunked") + b"4\r\n<a/>\r\n0\r\n\r\n", 411),
    "chunked-bad-size": (headers("Transfer-Encoding: chunked") + b"-1\r\n", 411),
    "chunked-endless-extension": (headers("Transfer-Encoding: chunked") + b"4;" + b"a" * 50_000, 411),
    "chunked-and-length": (headers("Transfer-Encoding: chunked", CL) + b"0\r\n\r\n", 400),
    "length-and-chunked": (headers(CL, "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "chunked-1.0": (headers("Transfer-Encoding: chunked").replace(b"/1.1", b"/1.0"), 400),
    "chunked-twice": (headers("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 400),
    "identity": (headers("Transfer-Encoding: identity"), 400),
    "identity-and-length": (headers("Transfer-Encoding: identity", CL) + b"<a/>", 400),
    "gzip-chunked": (headers("Transfer-Encoding: gzip, chunked"), 400),
    "identity-chunked": (headers("Transfer-Encoding: identity, chunked"), 400),
    "xchunked": (headers("Transfer-Encoding: xchunked"), 400),
    "chunked-parameter": (headers("Transfer-Encoding: chunked;a=b"), 400),
    "encoding-space-colon": (headers("Transfer-Encoding : chunked", CL), 400),
    "encoding-folded": (headers("Transfer-Encoding:\r\n chunked", CL), 400),
    "encoding-vertical-tab": (headers("Transfer-Encoding: \vchunked", CL), 400),
    "length-space-colon": (headers("Content-Length : 4"), 400),
    "obs-fold": (get(extra="X: a\r\n b\r\n"), 400),
    "obs-fold-tab": (get(extra="X: a\r\n\tb\r\n"), 400),
    "fold-first": (b"GET /health HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "lf-only": (b"GET /health HTTP/1.1\nHost: a\n\n", 400),
    "one-lf": (get(extra="X: a\nY: b\r\n"), 400),
    "lf-at-the-end": (b"GET /health HTTP/1.1\r\nHost: a\r\n\n", 400),
    "bare-cr": (get(extra="X: a\rY: b\r\n"), 400),
    "cr-cr-lf": (get(extra="X: a\r\r\n"), 400),
    "nul-in-value": (get(extra="X: a\0b\r\n"), 400),
    "nul-in-name": (get(extra="X\0: a\r\n"), 400),
    "control-in-value": (get(extra="X: a\x01b\r\n"), 400),
    "delete-in-value": (get(extra="X: a\x7fb\r\n"), 400),
    "0xff-in-value": (get(extra="X: Q\r\n").replace(b"Q", b"\xff"), 400),
    "no-colon": (get(extra="X\r\n"), 400),
    "no-name": (get(extra=": a\r\n"), 400),
    "name-in-brackets": (get(extra="(X): a\r\n"), 400),
    "a-thousand-headers": (get(extra="".join(f"X{n}: a\r\n" for n in range(1000))), 431),
    "65-headers": (get(extra="".join(f"X{n}: a\r\n" for n in range(64))), 431),
    "100-kB-header": (get(extra="X: " + "a" * 100_000 + "\r\n"), 431),
    "100-kB-target": (get("/" + "a" * 100_000), 431),
    "100-kB-without-an-end": (b"GET /" + b"a" * 100_000, 431),
    "head-8193": (get(extra="X: " + "a" * (8193 - len(get()) - 5) + "\r\n"), 431),
    "upgrade": (get(extra="Upgrade: h2c\r\n"), 400),
    "connection-upgrade": (get(extra="Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"), 400),
    "websocket": (get(extra="Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"), 400),
    "two-content-types": (headers("Content-Type: text/xml", CL), 400),
    "two-soapactions": (headers("SOAPAction: a", "SOAPAction: b", CL), 400),
    "expectation": (headers(CL, "Expect: miracles"), 417),
    "gzip": (headers(CL, "Content-Encoding: gzip"), 415),
    "unknown-encoding": (headers(CL, "Content-Encoding: identity, x"), 415),
    "soap-1.2": (post().replace(b"text/xml", b"application/soap+xml"), 415),
    "multipart": (post().replace(b"text/xml; charset=utf-8", b"multipart/related; boundary=b"), 415),
    "latin-1": (post().replace(b"utf-8", b"iso-8859-1"), 415),
    "utf-16": (post().replace(b"utf-8", b"utf-16"), 415),
    "no-type": (b"POST /metering HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n", 415),
    "unknown-path": (get("/nothing"), 404),
    "escaped-path": (get("/%6detering"), 404),
    "path-with-dots": (get("/x/../health"), 404),
    "double-slash": (get("//health"), 404),
    "wrong-method": (post(path="/health"), 405),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_its_code_closes_and_serves_nothing_behind_it(bus, name: str) -> None:
    raw, status = REFUSED[name]
    (answer,) = bus.talk(raw + get("/metering?smuggled"))
    assert answer.status == status
    assert answer.headers["Connection"] == "close"
    assert answer.headers["Content-Type"].startswith("text/plain")
    ((code, peer, detail),) = bus.refusals
    assert answer.body.decode() == f"{code}: {detail}\n"
    assert peer.startswith("127.0.0.1:")
    assert bus.seen == []
