"""The rules for a request's head that hold before and beyond the parser's own (RFC 9112, facts of smuggling).

In: octets not yet parsed, or a head as the parser read it. Out: a `Head`, or the `HttpRefusal` that names the rule.
Pure: no sockets, no clock, no parser object here. A rule only ever refuses; it never repairs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from .http_values import (
    BODY_TOO_LARGE,
    BODY_UNEXPECTED,
    CONTENT_ENCODING_REFUSED,
    CONTENT_TYPE_REFUSED,
    EXPECTATION_REFUSED,
    HEAD_TOO_LARGE,
    HEADER_DUPLICATE,
    HEADER_INVALID,
    HEADERS_TOO_MANY,
    HOST_INVALID,
    LENGTH_INVALID,
    LENGTH_REQUIRED,
    METHOD_UNKNOWN,
    REQUEST_LINE_INVALID,
    TARGET_INVALID,
    TRANSFER_ENCODING,
    UPGRADE_REFUSED,
    VERSION_REFUSED,
    HttpLimits,
    HttpRefusal,
    Route,
)

HEAD_END = b"\r\n\r\n"
_REQUEST_LINE = re.compile(rb"([A-Z][A-Z-]*) ([^ \t\r\n]+) (HTTP/[0-9]\.[0-9])\r\n")
_TARGET = re.compile(rb"/[!\"$-~]*\Z")  # origin-form of printable ASCII; "#" is 0x23, between the two
_VALUE = re.compile(rb"[\t -~]*\Z")  # no obs-text: nobody agrees on what 0x80-0xff means
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?\Z")
_LENGTH = re.compile(rb"(?:0|[1-9][0-9]{0,18})\Z")
_CHARSETS = frozenset(("charset=utf-8", 'charset="utf-8"'))
# Headers the listener or a handler acts on: two of one kind would let two readers choose differently.
_ONCE = frozenset(
    {"authorization", "connection", "content-encoding", "content-length", "content-type", "expect", "host"}
    | {"gridpost-enrolment", "soapaction", "te", "trailer", "transfer-encoding", "upgrade"}
)


class Fields:
    """What llhttp calls back with for one head."""

    def __init__(self) -> None:
        """Nothing was heard."""
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, piece: bytes) -> None:
        """Keep a piece of the target."""
        self.target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Know that the head has ended."""
        self.complete = True


class RawHead(NamedTuple):
    """A head as the parser read it; `fields` in the order sent, names and values as octets."""

    method: str
    target: bytes
    version: str
    fields: Sequence[tuple[bytes, bytes]]


class Head(NamedTuple):
    """A head that may be acted on.

    Attributes:
        method: ``GET`` or ``POST``.
        path: before ``?``.
        query: behind it.
        headers: lower-case name -> value without outer blanks.
        length: octets of body to come.
        keep_alive: whether the peer can send another request behind this one.
        expects_continue: whether the peer waits for ``100 Continue``.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    length: int
    keep_alive: bool
    expects_continue: bool


def check_unfinished(octets: bytes | bytearray, scanned: int, limits: HttpLimits) -> HttpRefusal | None:
    """Refuse a head that has not ended yet as soon as it cannot become a good one.

    `scanned` octets were seen by an earlier call: what is cheap to look at once is not looked at again.
    """
    if len(octets) > limits.head:
        return HEAD_TOO_LARGE
    if octets.count(b"\n", scanned) != octets.count(b"\r\n", max(0, scanned - 1)):
        return HEADER_INVALID
    start = 2 if octets.startswith(b"\r\n") else 0
    if b"\n" in octets[start:]:
        return check_request_line(octets[start:])
    return None if _may_start(octets[start : start + 1]) else REQUEST_LINE_INVALID


def _may_start(first: bytes | bytearray) -> bool:
    """Tell whether a request may begin so: a method's letter, or the first half of a blank line before it."""
    return not first or first.isupper() or first == b"\r"


def check_octets(head: bytes, limits: HttpLimits) -> HttpRefusal | None:
    """Check a whole head, CRLF CRLF included, before the parser sees it: sizes, line ends, request line."""
    if len(head) > limits.head:
        return HEAD_TOO_LARGE
    lines = head.count(b"\r\n")
    if head.count(b"\r") != lines or head.count(b"\n") != lines or b"\r\n " in head or b"\r\n\t" in head:
        return HEADER_INVALID
    return HEADERS_TOO_MANY if lines - 2 > limits.headers else check_request_line(head)


def check_request_line(head: bytes | bytearray) -> HttpRefusal | None:
    """Check the first line: one blank between its three parts, GET or POST, a path, HTTP/1.1 or 1.0."""
    match = _REQUEST_LINE.match(head)
    if not match:
        return REQUEST_LINE_INVALID
    method, target, version = match.groups()
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        return VERSION_REFUSED
    if method not in (b"GET", b"POST"):
        return METHOD_UNKNOWN
    return None if _TARGET.match(target) else TARGET_INVALID


def read_head(raw: RawHead) -> Head | HttpRefusal:
    """Return what a parsed head means, by the rules that need no route; the length it states is not judged yet."""
    headers = _headers(raw.fields)
    if isinstance(headers, HttpRefusal):
        return headers
    lengths = [value for name, value in raw.fields if name.lower() == b"content-length"]
    refusal = _check_framing(raw, headers, lengths)
    if refusal:
        return refusal
    path, _, query = raw.target.decode("ascii").partition("?")
    return Head(
        method=raw.method,
        path=path,
        query=query,
        headers=MappingProxyType(headers),  # read-only: heads are kept and shared between requests
        length=int(lengths[0]) if lengths else 0,
        keep_alive=raw.version == "1.1" and "close" not in _tokens(headers.get("connection", "")),
        expects_continue=raw.version == "1.1" and "expect" in headers,
    )


_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 9110 section 5.6.2
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))


def read_whole_head(octets: bytes) -> Head | HttpRefusal:
    """Return what a head means that `check_octets` let pass, blank line included; for the office listener.

    A lone ``Transfer-Encoding: chunked`` is well here: how long the body is, is counted as it comes.
    """
    first, *lines = octets.removeprefix(b"\r\n").split(b"\r\n")[:-2]
    method, target, version = first.split(b" ")
    pairs = [line.partition(b":") for line in lines]
    if not all(colon for _, colon, _ in pairs):
        return HEADER_INVALID
    fields = [(name, value.lstrip(b" \t")) for name, _, value in pairs]  # as llhttp hands them on
    if not all(_NAME.match(name) for name, _ in fields):
        return HEADER_INVALID
    framing = [(name.lower(), value.lower()) for name, value in fields if name.lower() in _FRAMING]
    if framing == [(b"transfer-encoding", b"chunked")] and version == b"HTTP/1.1" and method == b"POST":
        fields = [(name, value) for name, value in fields if name.lower() not in _FRAMING]
        fields.append((b"content-length", b"0"))
    return read_head(RawHead(method.decode(), target, version.decode().removeprefix("HTTP/"), fields))


def _headers(fields: Sequence[tuple[bytes, bytes]]) -> dict[str, str] | HttpRefusal:
    headers: dict[str, str] = {}
    for raw_name, raw_value in fields:
        if not _VALUE.match(raw_value):
            return HEADER_INVALID
        name, value = raw_name.decode("ascii").lower(), raw_value.decode("ascii").strip(" \t")
        if name in headers and name in _ONCE:
            return HOST_INVALID if name == "host" else HEADER_DUPLICATE
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _check_framing(raw: RawHead, headers: Mapping[str, str], lengths: Sequence[bytes]) -> HttpRefusal | None:
    if not _HOST.match(headers.get("host", "")):
        return HOST_INVALID
    if "upgrade" in headers or "upgrade" in _tokens(headers.get("connection", "")):
        return UPGRADE_REFUSED
    if "transfer-encoding" in headers:
        chunked = headers["transfer-encoding"].lower() == "chunked" and raw.version == "1.1" and not lengths
        return LENGTH_REQUIRED if chunked else TRANSFER_ENCODING
    if lengths and not _LENGTH.match(lengths[0]):
        return LENGTH_INVALID
    if raw.method == "POST" and not lengths:
        return LENGTH_REQUIRED
    if raw.method == "GET" and lengths and lengths[0] != b"0":
        return BODY_UNEXPECTED
    # RFC 9110 section 10.1.1: an expectation in HTTP/1.0 is ignored.
    met = raw.version == "1.0" or headers.get("expect", "100-continue").lower() == "100-continue"
    return None if met else EXPECTATION_REFUSED


def _tokens(value: str) -> set[str]:
    return {token.strip(" \t").lower() for token in value.split(",")}


def check_route(head: Head, route: Route, limits: HttpLimits) -> HttpRefusal | None:
    """Check what is declared of the body against what the route takes, before an octet of it is kept."""
    if head.headers.get("content-encoding", "identity").lower() != "identity":
        return CONTENT_ENCODING_REFUSED
    if head.method == "POST" and not _type_allowed(head.headers.get("content-type", ""), route.content_types):
        return CONTENT_TYPE_REFUSED
    limit = limits.body if route.body_limit is None else route.body_limit
    return BODY_TOO_LARGE if head.length > limit else None


def _type_allowed(content_type: str, allowed: Sequence[str]) -> bool:
    media_type, *parameters = (part.strip(" \t").lower() for part in content_type.split(";"))
    return media_type in allowed and all(parameter in _CHARSETS for parameter in parameters)
