"""The office listener: HTTP/1.1 for offices, twisted.web with limits of its own on a port of its own.

In: octets from a transport, plain or TLS. Out: whole, checked requests to the handlers of a route table, their answers
back in order. Nothing of SOAP is read here; who a peer is, its TLS certificate aside, is not known here.

Unlike devices, office toolkits send chunked bodies, so the framing is twisted.web's. But every head is held against the
device listener's rules (`http_head.py`) before twisted.web acts on it, a body is counted as it comes and kept in memory
and nowhere else, and every phase of a connection has its time limit. What twisted.web would do with forms, cookies and
multipart bodies is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from io import BytesIO
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.web import http

from .http_connections import Connections, Timer, peer_group
from .http_head import Head, check_octets, check_route, check_unfinished, read_whole_head
from .http_values import (
    BODY_TIMEOUT,
    BODY_TOO_LARGE,
    HEAD_TIMEOUT,
    HEAD_TOO_LARGE,
    METHOD_NOT_ALLOWED,
    PATH_UNKNOWN,
    TOO_MUCH_WAITING,
    HttpLimits,
    HttpRefusal,
    OnRefusal,
    Request,
    Response,
    Route,
    http_date,
    internal_error,
    refusal_response,
    render_response,
)

_log = Logger()
# Twisted's own hints of these two say less than is used here.
_Channel: Any = http.HTTPChannel
_Request: Any = http.Request
_FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class OfficeRequest(Request):
    """A request with what TLS says of the connection.

    Attributes:
        secure: whether it came over TLS that ends in this process.
        certificate: DER of the client certificate, of a configured CA; empty: none.
    """

    secure: bool = False
    certificate: bytes = b""


class _Phase(Enum):
    """What a connection is doing; each has its time limit in `OfficeChannel.sweep`."""

    HEAD = auto()  # idle, or a head is arriving
    BODY = auto()
    HANDLING = auto()
    LINGERING = auto()  # refused; input is thrown away until the peer has read why
    CLOSING = auto()  # told to close, an answer still leaving
    LEAVING = auto()  # told to close, nothing is to leave; a TLS peer may never say that it has closed too
    CLOSED = auto()


class OfficeWebRequest(_Request):  # type: ignore[misc]
    """twisted.web's request without what it does to bodies and headers that nobody asked for."""

    channel: OfficeChannel

    def gotLength(self, _length: int | None) -> None:
        """Keep the body in memory; twisted.web would put a large one into an unlimited file."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Count what comes, and keep it while it is within the limits."""
        if self.channel.may_keep(len(data)):
            self.content.write(data)

    def parseCookies(self) -> None:
        """Read none."""

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Hand the request on; no form is parsed."""
        self.method, self.uri, self.clientproto = command, path, version
        self.channel.handle(self, self.content.getvalue())


class OfficeChannel(_Channel):  # type: ignore[misc]
    """One connection of an office."""

    requestFactory = OfficeWebRequest
    timeOut = None  # the sweep has every limit
    persistent: int | bool

    def __init__(self, owner: OfficeHttpFactory) -> None:
        """Nothing is known before `connectionMade`."""
        super().__init__()
        self.factory = owner
        self._limits = owner.limits
        # Ours come first and say which rule it was.
        self.maxHeaders = self.totalHeadersSize = self.MAX_LENGTH = 2 * self._limits.head
        self.peer = self.group = ""
        self.held = 0
        self._phase = _Phase.CLOSED
        self._since = 0.0
        self._head = bytearray()
        self._route: Route | None = None
        self._accepted: Head | None = None
        self._begun = False  # an octet of the next request has come
        self._served = False
        self._last = False  # close behind the present answer
        self._blocked_since = _FOREVER
        self._thrown = 0

    # --- from the transport ---

    def connectionMade(self) -> None:
        """Take the connection, or cut it where the peer or everybody together has too many."""
        address = self.transport.getPeer()
        host = getattr(address, "host", "local")
        self.peer = f"[{host}]:{address.port}" if ":" in host else f"{host}:{getattr(address, 'port', 0)}"
        self.group = peer_group(host)
        if not self.factory.connections.admit(self):
            self.transport.abortConnection()
            return
        super().connectionMade()
        self._enter(_Phase.HEAD)

    def dataReceived(self, data: bytes) -> None:
        """Let twisted.web read on, unless the connection is to end."""
        if self._phase in (_Phase.LINGERING, _Phase.CLOSING, _Phase.LEAVING, _Phase.CLOSED):
            self._thrown += len(data)
            if self._thrown > self._limits.body:
                self.transport.abortConnection()
            return
        if self._phase is _Phase.HEAD and not self._begun:
            self._begun = True
            self._enter(_Phase.HEAD)  # from idle time to the head's deadline
        super().dataReceived(data)
        self._count()

    def connectionLost(self, reason: Any = None) -> None:
        """Forget everything; an answer still being made finds nobody."""
        if self._phase is not _Phase.CLOSED:
            self._phase = _Phase.CLOSED
            self._count()
            self.factory.connections.remove(self)
            super().connectionLost(reason)

    def pauseProducing(self) -> None:
        """The peer reads slower than we write."""
        self._blocked_since = self.factory.timer.seconds()
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """All output has left us."""
        self._blocked_since = _FOREVER
        super().resumeProducing()

    # --- from twisted.web's reading ---

    def lineReceived(self, line: bytes) -> None:
        """Hold a head against our rules before twisted.web acts on its end."""
        if self._phase is not _Phase.HEAD:
            return
        if line or self._head:
            self._head += line + b"\r\n"
        ended = not line and bool(self._head)
        refusal = check_unfinished(self._head, 0, self._limits) if self._head and not ended else None
        if ended:
            refusal = self._judge(bytes(self._head))
        if refusal:
            self._refuse(refusal)
            return
        super().lineReceived(line)

    def lineLengthExceeded(self, _line: bytes) -> None:
        """Refuse a head that does not end."""
        self._refuse(HEAD_TOO_LARGE)

    def allHeadersReceived(self) -> None:
        """Go from the head to the body."""
        self._enter(_Phase.BODY)
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        """Go from the body to the handler, unless the request was refused meanwhile."""
        if self._phase is _Phase.BODY:
            self._enter(_Phase.HANDLING)
            self._begun = False
            self._head.clear()
            super().allContentReceived()

    def rawDataReceived(self, data: bytes) -> None:
        """Read a body, unless it was refused."""
        if self._phase in (_Phase.BODY, _Phase.HANDLING):
            super().rawDataReceived(data)

    def requestDone(self, request: Any) -> None:
        """Be ready for the next request, or close."""
        self._served = True
        stays = bool(self.persistent) and not self._last
        self.persistent = stays
        self._enter(_Phase.HEAD if stays else _Phase.CLOSING)
        super().requestDone(request)
        self._count()

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Count twisted.web's own refusals too."""
        self.factory.on_refusal("request-malformed", self.peer, "twisted.web")
        self._enter(_Phase.CLOSING)
        super()._respondToBadRequestAndDisconnect()

    # --- ours ---

    def may_keep(self, octets: int) -> bool:
        """Count octets of a body; refuse it once it is too large."""
        if self._phase is not _Phase.BODY:
            return False
        limit = self._limits.body if self._route is None or self._route.body_limit is None else self._route.body_limit
        if self._kept() + octets > limit:
            self._refuse(BODY_TOO_LARGE)
            return False
        return True

    def handle(self, request: OfficeWebRequest, body: bytes) -> None:
        """Give a whole request to its handler; the answer follows."""
        assert self._route is not None, "the head was accepted"
        assert self._accepted is not None
        head, route = self._accepted, self._route
        secure = ISSLTransport.providedBy(self.transport)
        asked = OfficeRequest(
            head.method, head.path, head.query, head.headers, body, self.peer, secure,
            self._certificate() if secure else b"",
        )  # fmt: skip
        self.factory.connections.begin()
        answering = Deferred.fromCoroutine(_answered(route, asked))
        answering.addCallback(lambda response: self._answer(request, response))
        answering.addErrback(lambda failure: _log.failure("office listener", failure))  # a defect of ours
        answering.addBoth(lambda _: self.factory.connections.end())

    def sweep(self, now: float) -> None:
        """Act on a time limit that has passed; called once a second."""
        if now - self._blocked_since > self._limits.write_s:
            self.transport.abortConnection()
        if now - self._since < self._allowed_s():
            return
        match self._phase:
            case _Phase.HEAD if not self._begun:
                self._close()
            case _Phase.HEAD:
                self._refuse(HEAD_TIMEOUT)
            case _Phase.BODY:
                self._refuse(BODY_TIMEOUT)
            case _Phase.LINGERING:
                self._close()
            case _:
                self.transport.abortConnection()

    def finish(self) -> None:
        """Close now, or behind the answer being made."""
        self._last = True
        if self._phase in (_Phase.HEAD, _Phase.BODY):
            self._close()

    def shed(self) -> None:
        """Let go of what is held: all connections together hold too much, and this one the most."""
        if self._phase in (_Phase.HEAD, _Phase.BODY):
            self._refuse(TOO_MUCH_WAITING)
        else:
            self.transport.abortConnection()

    def _judge(self, octets: bytes) -> HttpRefusal | None:
        refusal = check_octets(octets, self._limits)
        if refusal:
            return refusal
        head = read_whole_head(octets)
        if isinstance(head, HttpRefusal):
            return head
        self._accepted, self._route = head, self.factory.routes.get((head.method, head.path))
        if self._route is None:
            return METHOD_NOT_ALLOWED if self.factory.methods_at(head.path) else PATH_UNKNOWN
        return check_route(head, self._route, self._limits)

    def _allowed_s(self) -> float:
        limits = self._limits
        match self._phase:
            case _Phase.HEAD:
                return limits.idle_s if self._served and not self._begun else limits.head_deadline_s
            case _Phase.BODY:
                return limits.body_deadline_s + self._kept() / limits.least_rate
            case _Phase.CLOSING:
                return limits.write_s
            case _Phase.LINGERING | _Phase.LEAVING:
                return limits.linger_s
            case _:
                return _FOREVER

    def _enter(self, phase: _Phase) -> None:
        self._phase = phase
        self._since = self.factory.timer.seconds()

    def _kept(self) -> int:
        return self.requests[-1].content.tell() if self.requests and self.requests[-1].content else 0

    def _count(self) -> None:
        now = 0 if self._phase is _Phase.CLOSED else len(self._head) + self._kept() + sum(map(len, self._dataBuffer))
        more, self.held = now - self.held, now
        self.factory.connections.hold(more)

    def _refuse(self, refusal: HttpRefusal) -> None:
        """Answer with a refusal and end the connection once the peer can have read it."""
        self.factory.on_refusal(refusal.code, self.peer, refusal.reason)
        allow = self.factory.methods_at(self._accepted.path) if self._accepted else ""
        response = refusal_response(refusal, allow if refusal is METHOD_NOT_ALLOWED else "")
        self._enter(_Phase.LINGERING)
        self.transport.write(render_response(response, close=True, date=http_date()))

    def _answer(self, request: OfficeWebRequest, response: Response) -> None:
        if self._phase is not _Phase.HANDLING:
            return  # the peer has gone
        request.setResponseCode(response.status)
        close = self._last or not self.persistent
        fields = {"Date": http_date(), "Content-Type": response.content_type,
                  "Content-Length": str(len(response.body)), **response.headers}  # fmt: skip
        for name, value in (fields | ({"Connection": "close"} if close else {})).items():
            request.responseHeaders.setRawHeaders(name.encode(), [value.encode("ascii")])
        request.write(response.body)
        request.finish()

    def _close(self) -> None:
        self._enter(_Phase.LEAVING)
        self.loseConnection()

    def _certificate(self) -> bytes:
        shown = self.transport.getPeerCertificate()
        return b"" if shown is None else shown.to_cryptography().public_bytes(Encoding.DER)


class OfficeHttpFactory(ServerFactory):
    """The listener's state: routes, limits, connections."""

    noisy = False

    def __init__(self, routes: Iterable[Route], timer: Timer, limits: HttpLimits, on_refusal: OnRefusal) -> None:
        """`timer` never steps; `on_refusal` hears of every request that reached no handler."""
        self.routes = {(route.method, route.path): route for route in routes}
        self.timer, self.limits, self.on_refusal = timer, limits, on_refusal
        self.connections = Connections(timer, limits, on_refusal)

    def buildProtocol(self, _address: Any) -> OfficeChannel:
        """Return the protocol of a new connection."""
        return OfficeChannel(self)

    def methods_at(self, path: str) -> str:
        """Return the methods a path takes, for Allow."""
        return ", ".join(sorted(method for method, known in self.routes if known == path))

    def stop(self) -> Deferred[None]:
        """Close what is idle, and fire once every request in flight is answered."""
        return self.connections.stop()

    def log(self, _request: Any) -> None:
        """Write no access log; the audit log has what counts."""


async def _answered(route: Route, request: Request) -> Response:
    try:
        answer = route.handler(request)
        return answer if isinstance(answer, Response) else await answer
    except Exception:
        # A defect in a handler must be seen and must cost its caller an answer, never the listener.
        _log.failure("handler of {path}", path=request.path)
        return internal_error(route)
