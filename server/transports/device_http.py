"""The device listener: HTTP/1.1 for meters, as a Twisted Protocol around httptools (llhttp).

In: octets from a transport, plain or TLS. Out: whole, checked requests to the handlers of a route table, their answers
back in order. Nothing of SOAP is read here and no header is believed about who the peer is.

One request at a time: the input is framed here (a head ends at CRLF CRLF, a body after Content-Length octets), the
parser sees one whole head and nothing else. So it is never fed twice, never keeps a body, cannot run ahead of the
answers, and a second reading of the same octets (request smuggling) has no place to happen.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from functools import lru_cache
from typing import cast

import httptools
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from .http_connections import Connections, Timer, Transport, peer_group
from .http_head import HEAD_END, Fields, Head, RawHead, check_octets, check_route, check_unfinished, read_head
from .http_values import (
    BODY_TIMEOUT,
    CONTINUE,
    HEAD_TIMEOUT,
    HEADER_INVALID,
    METHOD_NOT_ALLOWED,
    PATH_UNKNOWN,
    TOO_MUCH_WAITING,
    UPGRADE_REFUSED,
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
_FOREVER = float("inf")


@lru_cache(maxsize=256)  # a device sends the same head with each message; this many of 8 KiB are 2 MiB at most
def parse_head(octets: bytes, limits: HttpLimits) -> Head | HttpRefusal:
    """Return what one whole head, its blank line included, means, or the rule it breaks.

    One CRLF before the request line is let pass (RFC 9112 section 2.2).
    """
    octets = octets.removeprefix(b"\r\n")
    refusal = check_octets(octets, limits)
    if refusal:
        return refusal
    heard = Fields()
    parser = httptools.HttpRequestParser(heard)
    try:
        parser.feed_data(octets)
    except httptools.HttpParserCallbackError as error:  # a bug of ours, dressed as a bad request: undress it
        raise error.__context__ or error from None
    except httptools.HttpParserUpgrade:
        return UPGRADE_REFUSED
    except httptools.HttpParserError:
        return HEADER_INVALID
    if not heard.complete:
        return HEADER_INVALID
    return read_head(RawHead(parser.get_method().decode(), heard.target, parser.get_http_version(), heard.fields))


class _State(Enum):
    """What a connection is doing; each state has its time limit in `DeviceHttpProtocol.sweep`."""

    HEAD = auto()  # idle, or a head is arriving
    BODY = auto()  # a head was accepted, its body is arriving
    HANDLING = auto()  # a handler has the request
    DRAINING = auto()  # the answer waits for a slow reader
    LINGERING = auto()  # refused; some input is thrown away until the peer has read why
    FLUSHING = auto()  # told to close, answer still leaving
    CLOSED = auto()  # not connected, or not admitted


class DeviceHttpProtocol(Protocol):
    """One connection of a device: requests in, answers out, strictly one after the other."""

    def __init__(self, owner: DeviceHttpFactory) -> None:
        self._owner = owner
        self._limits = owner.limits
        self.peer = ""
        self.group = ""
        self._state = _State.CLOSED
        self._since = 0.0
        self._buffer = bytearray()
        self._scanned = 0
        self._pending: tuple[Head, Route] | None = None  # accepted; its body is arriving
        self._served = False  # one request at least, so silence is keep-alive
        self._last = False  # close behind the present answer
        self._blocked = False  # the transport holds as much of our output as it will
        self._reading = True
        self._thrown = 0  # octets thrown away behind a refusal
        self.held = 0  # octets of unfinished or waiting requests, as last told to `Connections`

    # --- from the transport ---

    def connectionMade(self) -> None:
        """Take the connection, or cut it where the peer or everybody together has too many."""
        self._wire = cast(Transport, self.transport)
        address = self._wire.getPeer()
        host = getattr(address, "host", "local")
        self.peer = f"[{host}]:{address.port}" if ":" in host else f"{host}:{getattr(address, 'port', 0)}"
        self.group = peer_group(host)
        if not self._owner.connections.admit(self):
            self._wire.abortConnection()
            return
        # An answer is one write and waits for nothing; else it waits for a peer's 40 ms of delayed acknowledgement of
        # the session tickets that TLS 1.3 sends just before.
        self._wire.setTcpNoDelay(True)
        self._wire.registerProducer(self, True)
        self._enter(_State.HEAD)

    def dataReceived(self, data: bytes) -> None:
        """Keep what arrives and go as far as it leads."""
        if self._state in (_State.LINGERING, _State.FLUSHING, _State.CLOSED):
            self._thrown += len(data)
            self._throttle()
            return
        if self._state is _State.HEAD and not self._buffer:
            self._enter(_State.HEAD)  # the first octet of a request: from idle time to the head's deadline
        self._buffer += data
        self._advance()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Forget everything; an answer still being made finds nobody."""
        if self._state is not _State.CLOSED:
            self._state = _State.CLOSED
            self._pending = None
            self._buffer.clear()
            self._count()
            self._owner.connections.remove(self)

    # --- IPushProducer: the transport about our output ---

    def pauseProducing(self) -> None:
        """The peer reads slower than we write."""
        self._blocked = True

    def resumeProducing(self) -> None:
        """All output has left us."""
        self._blocked = False
        if self._state is _State.DRAINING:
            self._next_request()

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost says so too."""

    # --- from the factory ---

    def sweep(self, now: float) -> None:
        """Act on a time limit that has passed; called once a second."""
        if now - self._since < self._allowed_s():
            return
        match self._state:
            case _State.HEAD if not self._buffer:
                self._flush()
            case _State.HEAD:
                self._refuse(HEAD_TIMEOUT)
            case _State.BODY:
                self._refuse(BODY_TIMEOUT)
            case _State.LINGERING if self._may_throw():
                self._flush()
            case _:
                self._wire.abortConnection()

    def finish(self) -> None:
        """Close now, or behind the answer being made."""
        self._last = True
        if self._state in (_State.HEAD, _State.BODY):
            self._flush()

    def shed(self) -> None:
        """Let go of what is held: all connections together hold too much, and this one the most."""
        if self._state in (_State.HEAD, _State.BODY):
            self._refuse(TOO_MUCH_WAITING)
        else:
            self._wire.abortConnection()

    def _count(self) -> None:
        more, self.held = len(self._buffer) - self.held, len(self._buffer)
        self._owner.connections.hold(more)

    def _may_throw(self) -> bool:
        limits = self._limits  # one more read, of some 64 KiB, may follow
        return self._thrown <= max(limits.body - limits.ahead, 2 * limits.ahead)

    def _allowed_s(self) -> float:
        match self._state:
            case _State.HEAD:
                idle = self._served and not self._buffer
                return self._limits.idle_s if idle else self._limits.head_deadline_s
            case _State.BODY:
                return self._limits.body_deadline_s + len(self._buffer) / self._limits.least_rate
            case _State.DRAINING | _State.FLUSHING:
                return self._limits.write_s
            case _State.LINGERING:
                return self._limits.linger_s
            case _:
                return _FOREVER

    # --- from octets to a request ---

    def _enter(self, state: _State) -> None:
        self._state = state
        self._since = self._owner.timer.seconds()

    def _advance(self) -> None:
        if self._state is _State.HEAD:
            self._read_head()
        if self._state is _State.BODY:
            self._read_body()
        self._throttle()

    def _read_head(self) -> None:
        found = self._buffer.find(HEAD_END, max(0, self._scanned - len(HEAD_END)))
        if found < 0:
            refusal = check_unfinished(self._buffer, self._scanned, self._limits)
            self._scanned = len(self._buffer)
            if refusal:
                self._refuse(refusal)
            return
        end = found + len(HEAD_END)
        head = parse_head(bytes(self._buffer[:end]), self._limits)
        del self._buffer[:end]
        self._scanned = 0
        if isinstance(head, HttpRefusal):
            self._refuse(head)
        else:
            self._route(head)

    def _route(self, head: Head) -> None:
        route = self._owner.routes.get((head.method, head.path))
        if route is None:
            allow = self._owner.methods_at(head.path)
            self._refuse(METHOD_NOT_ALLOWED if allow else PATH_UNKNOWN, allow)
            return
        refusal = check_route(head, route, self._limits)
        if refusal:
            self._refuse(refusal)
            return
        self._pending = (head, route)
        self._enter(_State.BODY)
        if head.expects_continue and len(self._buffer) < head.length:
            self._wire.write(CONTINUE)

    def _read_body(self) -> None:
        assert self._pending is not None
        head, route = self._pending
        if len(self._buffer) < head.length:
            return
        body = bytes(memoryview(self._buffer)[: head.length])
        del self._buffer[: head.length]
        self._pending = None
        self._served = True
        self._enter(_State.HANDLING)
        request = Request(head.method, head.path, head.query, head.headers, body, self.peer)
        self._last = self._last or not head.keep_alive
        self._owner.connections.begin()
        Deferred.fromCoroutine(self._serve(route, request)).addErrback(self._broken)

    # --- from an answer to octets ---

    async def _serve(self, route: Route, request: Request) -> None:
        try:
            outcome = route.handler(request)
            response = outcome if isinstance(outcome, Response) else await outcome
            answer = self._render(response)
        except Exception:
            _log.failure("handler of {method} {path} failed", method=route.method, path=route.path, peer=self.peer)
            self._last = True
            answer = self._render(internal_error(route))
        finally:
            self._owner.connections.end()
        if self._state is _State.HANDLING:
            self._send(answer)

    def _render(self, response: Response) -> bytes:
        return render_response(response, close=self._last, date=http_date())

    def _broken(self, failure: Failure) -> None:
        _log.failure("device listener", failure=failure, peer=self.peer)
        self._wire.abortConnection()

    def _send(self, answer: bytes) -> None:
        self._wire.write(answer)
        if self._last:
            self._linger() if self._buffer else self._flush()
        elif self._blocked:
            self._enter(_State.DRAINING)
        else:
            self._next_request()

    def _next_request(self) -> None:
        if self._last:
            self._flush()
            return
        self._enter(_State.HEAD)
        if self._buffer:  # pipelined: in a later turn, so that other connections have theirs first
            self._owner.timer.callLater(0, self._advance)
        self._throttle()

    def _refuse(self, refusal: HttpRefusal, allow: str = "") -> None:
        self._owner.on_refusal(refusal.code, self.peer, refusal.reason)
        self._last = True
        self._wire.write(self._render(refusal_response(refusal, allow)))
        self._linger()

    # --- closing and holding back ---

    def _linger(self) -> None:
        """Let the peer read the answer: closing on unread input would reset the connection under it."""
        self._enter(_State.LINGERING)
        self._thrown += len(self._buffer)
        self._buffer.clear()
        self._throttle()

    def _flush(self) -> None:
        self._buffer.clear()
        self._throttle()  # TLS closes by reading the peer's farewell
        self._enter(_State.FLUSHING)
        self._wire.unregisterProducer()
        self._wire.loseConnection()

    def _throttle(self) -> None:
        """Stop reading while more pipelined input waits than we keep; a body's length has its own limit.

        Behind a refusal as much is thrown away as a body may be long, no more: the peer ought to read instead.
        """
        self._count()
        if self._state in (_State.FLUSHING, _State.CLOSED):
            return
        if self._state is _State.LINGERING:
            reading = self._may_throw()
        else:
            reading = self._state is _State.BODY or len(self._buffer) <= self._limits.ahead
        if reading == self._reading:
            return
        self._reading = reading
        if reading:
            self._wire.resumeProducing()
        else:
            self._wire.pauseProducing()


class DeviceHttpFactory(Factory):
    """One listener: its routes, its limits, its connections.

    Args:
        routes: what is served.
        timer: the reactor, which runs one sweep a second while anybody is connected. Make its `seconds` monotonic: a
            step of the wall clock would cut everybody, or nobody for as long as the step.
        limits: what one peer may cost.
        on_refusal: told of every request that reached no handler and every connection cut: code, peer, detail.
    """

    noisy = False

    def __init__(self, routes: Iterable[Route], timer: Timer, limits: HttpLimits, on_refusal: OnRefusal) -> None:
        self.routes = {(route.method, route.path): route for route in routes}
        self.timer = timer
        self.limits = limits
        self.on_refusal = on_refusal
        self.connections = Connections(timer, limits, on_refusal)

    def buildProtocol(self, addr: IAddress | None) -> DeviceHttpProtocol:
        """Return a connection; caps are applied once it is made, because a TLS wrapper cannot take None here."""
        return DeviceHttpProtocol(self)

    def methods_at(self, path: str) -> str:
        """Return the methods a path takes, as the Allow header lists them; empty for an unknown path."""
        return ", ".join(sorted(method for method, known in self.routes if known == path))

    def stop(self) -> Deferred[None]:
        """Close idle connections, take no further request, and fire once every request in flight is answered.

        Stop listening first. Requests still arriving are cut unanswered: nothing of them was kept.
        """
        return self.connections.stop()
