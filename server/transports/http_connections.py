"""Who is connected to the device listener: caps, the sweep of time limits, the orderly stop.

In: connections coming and going, requests beginning and ending. Out: admission, one `sweep` a second to each
connection, a Deferred when all is answered. No octets are seen here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger

from .http_values import TOO_MANY_CONNECTIONS, HttpLimits, OnRefusal

_log = Logger()
SWEEP_S = 1.0


class Timer(Protocol):
    """The part of a reactor that time limits need; `twisted.internet.task.Clock` is one too."""

    def seconds(self) -> float:
        """Return a time that never steps; see `DeviceHttpFactory`."""

    def callLater(self, delay: float, call: Callable[..., object], /, *args: object) -> object:
        """Run `call` in `delay` seconds."""


class Transport(Protocol):
    """What is used of a Twisted transport, TCP or TLS alike; so no half-close, which TLS has not."""

    getPeer: Callable[[], IAddress]
    write: Callable[[bytes], None]
    setTcpNoDelay: Callable[[bool], None]
    registerProducer: Callable[[object, bool], None]
    unregisterProducer: Callable[[], None]
    pauseProducing: Callable[[], None]
    resumeProducing: Callable[[], None]
    loseConnection: Callable[[], None]
    abortConnection: Callable[[], None]


class Connection(Protocol):
    """What is needed of a connection."""

    peer: str  # its socket address, for the audit log
    group: str  # what counts as one peer
    held: int  # octets of unfinished and waiting requests

    def shed(self) -> None:
        """Let go of what is held."""

    def sweep(self, now: float) -> None:
        """Act on a time limit that has passed."""

    def finish(self) -> None:
        """Close now, or behind the answer being made."""


class Connections:
    """All connections of one listener."""

    def __init__(self, timer: Timer, limits: HttpLimits, on_refusal: OnRefusal) -> None:
        self._timer = timer
        self._limits = limits
        self._on_refusal = on_refusal
        self._open: set[Connection] = set()
        self._groups: Counter[str] = Counter()
        self._held = 0
        self._in_flight = 0
        self._sweeping = False
        self._stopping: list[Deferred[None]] | None = None

    def admit(self, connection: Connection) -> bool:
        """Count a new connection, unless it is one too many or we are stopping."""
        alone, together = self._groups[connection.group], len(self._open)
        full = alone >= self._limits.connections_per_peer or together >= self._limits.connections
        if full or self._stopping is not None:
            self._on_refusal(TOO_MANY_CONNECTIONS.code, connection.peer, f"{alone} from this peer, {together} in all")
            return False
        self._open.add(connection)
        self._groups[connection.group] += 1
        if not self._sweeping:
            self._sweeping = True
            self._timer.callLater(SWEEP_S, self._sweep)
        return True

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    @property
    def silent(self) -> int:
        """How many are open without a request that a handler has; a handler may outlive its connection."""
        return max(0, len(self._open) - self._in_flight)

    def remove(self, connection: Connection) -> None:
        """Forget a connection that was admitted."""
        self._open.remove(connection)
        self._groups[connection.group] -= 1
        if not self._groups[connection.group]:
            del self._groups[connection.group]
        self._check_stopped()

    def hold(self, octets: int) -> None:
        """Count octets held, or let go where negative; where they are too many, who holds the most lets go.

        Nearly whole messages are kept alive for as long as their rate is right: a thousand would hold a gigabyte.
        """
        self._held += octets
        if octets > 0 and self._held > self._limits.held and self._open:
            max(self._open, key=lambda connection: connection.held).shed()

    def begin(self) -> None:
        """A handler has a request."""
        self._in_flight += 1

    def end(self) -> None:
        """A handler is done, whether or not its peer is still there."""
        self._in_flight -= 1
        self._check_stopped()

    def stop(self) -> Deferred[None]:
        """Close what is idle, and fire once every request in flight is answered and every connection closed."""
        fired: Deferred[None] = Deferred()
        self._stopping = [*(self._stopping or ()), fired]
        for connection in tuple(self._open):
            connection.finish()
        self._check_stopped()
        return fired

    def _sweep(self) -> None:
        now = self._timer.seconds()
        for connection in tuple(self._open):
            try:
                connection.sweep(now)
            except Exception:  # one broken connection must not keep the others from their time limits
                _log.failure("sweep of a device connection", peer=connection.peer)
        self._sweeping = bool(self._open)
        if self._sweeping:
            self._timer.callLater(SWEEP_S, self._sweep)

    def _check_stopped(self) -> None:
        if self._stopping and not self._open and not self._in_flight:
            stopping, self._stopping = self._stopping, []
            for fired in stopping:
                fired.callback(None)


def peer_group(host: str) -> str:
    """Return what counts as one peer: an IPv4 address (also as ``::ffff:``), or an IPv6 /64, which one site has."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return host
    return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))
