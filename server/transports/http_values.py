"""What the device listener and its handlers hand to each other: requests, answers, routes, limits, refusals.

In: plain values. Out: plain values and the bytes of an answer. No sockets, no parsing; no clock but the Date's.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

from gridpost.answers import encode_fault
from gridpost.errors import Internal

SOAP_TYPE = "text/xml"
PLAIN_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """One whole request, after every check of the listener.

    Attributes:
        method: ``GET`` or ``POST``.
        path: the target before ``?``, as sent; nothing is percent-decoded.
        query: the target behind ``?``, as sent; empty when there is none.
        headers: lower-case name -> value; unknown headers sent more than once are joined by ``, ``. Unauthenticated.
        body: exactly Content-Length octets.
        peer: the socket's other end, ``192.0.2.7:49152``; never taken from a header.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    peer: str


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; Content-Length, Date and Connection are the listener's business.

    Attributes:
        status: the HTTP status.
        body: the octets of the answer.
        content_type: of the body.
        headers: further ones; a line break in a value makes the answer a 500.
    """

    status: int
    body: bytes = b""
    content_type: str = "text/xml; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Awaitable[Response] | Response]
OnRefusal = Callable[[str, str, str], None]  # code, peer, detail -> the audit log


class Route(NamedTuple):
    """One address the listener serves.

    Attributes:
        method: ``GET`` or ``POST``.
        path: compared octet by octet with the target before ``?``.
        handler: gets the whole request; a coroutine or Deferred leaves the reactor free.
        content_types: media types a POST may carry, lower case; charset utf-8 or none.
        body_limit: octets of a POST's body, instead of the listener's own limit.
    """

    method: str
    path: str
    handler: Handler
    content_types: tuple[str, ...] = (SOAP_TYPE,)
    body_limit: int | None = None


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one peer may cost. Times in seconds, sizes in octets.

    Attributes:
        body: the largest body, where the route says nothing else.
        head: request line and headers together.
        headers: header lines in one request.
        head_deadline_s: from the first octet of a request (of a new connection: from its start, TLS handshake
            included) to the end of its head.
        body_deadline_s: for the body, beyond the time `least_rate` gives it.
        least_rate: octets a second a body must keep up once `body_deadline_s` is used up.
        idle_s: between an answer and the next request's first octet.
        write_s: for an answer to leave us once the peer stops reading.
        linger_s: how long input is thrown away behind a refusal, so that the peer can read the refusal; never more of
            it than `body`.
        ahead: pipelined octets kept while an answer is made; beyond them the socket is not read. Not below `head`.
        held: octets of unfinished and waiting requests, all peers together; beyond, who holds the most is refused.
        connections: open at once, all peers together.
        connections_per_peer: open at once from one IPv4 address or IPv6 /64.
    """

    body: int = 1024 * 1024
    head: int = 8192
    headers: int = 64
    head_deadline_s: float = 10.0
    body_deadline_s: float = 30.0
    least_rate: int = 1000
    idle_s: float = 60.0
    write_s: float = 30.0
    linger_s: float = 2.0
    ahead: int = 65536
    held: int = 16 * 1024 * 1024
    connections: int = 10_000
    connections_per_peer: int = 256


class HttpRefusal(NamedTuple):
    """Why a request never reached a handler: HTTP status, stable code, one sentence for the peer's operator."""

    status: int
    code: str
    reason: str


REQUEST_LINE_INVALID = HttpRefusal(400, "request-line-invalid", "The first line is not an HTTP/1.1 request line.")
TARGET_INVALID = HttpRefusal(400, "target-invalid", "The request target must be a path such as /metering.")
HEADER_INVALID = HttpRefusal(400, "header-invalid", "A header line is malformed.")
HEADER_DUPLICATE = HttpRefusal(400, "header-duplicate", "A header that may stand once was sent more than once.")
HOST_INVALID = HttpRefusal(400, "host-invalid", "Send exactly one Host header, a name or address with its port.")
UPGRADE_REFUSED = HttpRefusal(400, "upgrade-refused", "Only HTTP/1.1 is spoken here; send no Upgrade header.")
LENGTH_INVALID = HttpRefusal(400, "length-invalid", "Content-Length must be one plain decimal number.")
TRANSFER_ENCODING = HttpRefusal(400, "transfer-encoding-refused", "Send a Content-Length and no Transfer-Encoding.")
BODY_UNEXPECTED = HttpRefusal(400, "body-unexpected", "A GET carries no body here.")
PATH_UNKNOWN = HttpRefusal(
    404, "path-unknown", "Nothing is served here; devices post to /metering, offices to /utility."
)
METHOD_NOT_ALLOWED = HttpRefusal(405, "method-not-allowed", "This path takes the methods in Allow only.")
HEAD_TIMEOUT = HttpRefusal(408, "head-timeout", "The request's head did not arrive in time.")
BODY_TIMEOUT = HttpRefusal(408, "body-timeout", "The request's body did not arrive in time.")
LENGTH_REQUIRED = HttpRefusal(411, "length-required", "Send a Content-Length; chunked bodies are not taken.")
BODY_TOO_LARGE = HttpRefusal(413, "body-too-large", "The body is larger than this path takes; send smaller messages.")
CONTENT_TYPE_REFUSED = HttpRefusal(415, "content-type-refused", "Send text/xml; charset=utf-8 (SOAP 1.1).")
CONTENT_ENCODING_REFUSED = HttpRefusal(415, "content-encoding-refused", "Send the body uncompressed.")
EXPECTATION_REFUSED = HttpRefusal(417, "expectation-refused", "The only expectation met here is 100-continue.")
HEAD_TOO_LARGE = HttpRefusal(431, "head-too-large", "The request's head is larger than any real one needs.")
HEADERS_TOO_MANY = HttpRefusal(431, "headers-too-many", "The request has more headers than any real one needs.")
METHOD_UNKNOWN = HttpRefusal(501, "method-unknown", "Only GET and POST are served.")
VERSION_REFUSED = HttpRefusal(505, "version-refused", "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
TOO_MUCH_WAITING = HttpRefusal(503, "too-much-waiting", "Too many unfinished messages; send faster, or again later.")
TOO_MANY_CONNECTIONS = HttpRefusal(503, "too-many-connections", "Cut unanswered; reuse connections.")

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def refusal_response(refusal: HttpRefusal, allow: str = "") -> Response:
    """Return a refusal as an answer of one line of text; `allow` is 405's list of methods."""
    headers = {"Allow": allow} if allow else {}
    return Response(
        refusal.status, f"{refusal.code}: {refusal.reason}\n".encode(), "text/plain; charset=utf-8", headers
    )


def internal_error(route: Route) -> Response:
    """Return the answer to a handler's defect: a SOAP 1.1 Fault where SOAP is spoken, else a line of text."""
    if route.method == "POST" and SOAP_TYPE in route.content_types:
        return Response(Internal.http_status, encode_fault(Internal()))
    return Response(Internal.http_status, f"{Internal.code}\n".encode(), PLAIN_TEXT)


def render_response(response: Response, *, close: bool, date: str) -> bytes:
    """Return the octets of an answer: RFC 9112 section 4, one Content-Length, no Server header.

    Raises:
        ValueError: a header holds a line break, or the status is none.
    """
    fields = {
        "Date": date,
        "Content-Type": response.content_type,
        "Content-Length": str(len(response.body)),
        **response.headers,
        **({"Connection": "close"} if close else {}),
    }
    lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("line break in a header of an answer")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + response.body


def http_date() -> str:
    """Return the Date of an answer, RFC 9110 section 6.6.1, from the wall clock; no time limit depends on it."""
    return _date_of(int(time.time()))


@lru_cache(maxsize=1)
def _date_of(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)
