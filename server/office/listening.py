"""The office side as a running part of the bus: its pool, its store connections, its listeners.

In: what the bus is made of. Out: factories for the listeners that the settings name, and an orderly end. `app.py` binds
the addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from gridpost.ports import Signer

from ..audit import Audit
from ..config import Config
from ..store import SqlStore, open_store
from ..tls import Https
from ..transports.http_connections import Timer
from ..transports.http_values import HttpLimits
from ..transports.office_http import OfficeHttpFactory
from ..worker import ReactorWorker
from .service import UTILITY, OfficeRoutes, Parts, doors_of

THREADS = 2  # a password and a long answer at once


class Given(NamedTuple):
    """What the bus gives the office side; all of it lives as long as the bus."""

    config: Config
    store: SqlStore
    audit: Audit
    clock: Callable[[], int]
    signer: Signer
    rsa: Signer | None = None
    recorded: Callable[[], None] | None = None  # hears that commands were recorded
    multispeak: Callable[[], Any] | None = None  # returns the adapter


class Listener(NamedTuple):
    """A listener to be bound: ``http`` or ``https``, its address, the path of its calls, what speaks there."""

    scheme: str
    address: str
    path: str
    factory: OfficeHttpFactory
    https: Https | None


class OfficeSide:
    """Made where [office] names an address."""

    def __init__(self, given: Given, reactor: Any, timer: Timer) -> None:
        """Nothing runs before `listeners`.

        Raises:
            NotFound, ConfigInvalid: the HTTPS certificate or the clients' CAs cannot be used.
        """
        config = given.config
        self._given, self._timer, self._reactor = given, timer, reactor
        self._pool = ThreadPool(1, THREADS, "office")
        self._one_at_a_time = DeferredSemaphore(1)
        self._looking = open_store(config.database, given.clock)
        self.https = Https(config, config.office) if config.office.https else None
        worker = ReactorWorker(reactor, self._pool, lambda: 0)
        self._doors = doors_of(Parts(
            config, given.store, self._looking, given.signer, given.clock, given.audit, worker, self._aside,
            self._hashed, given.rsa, given.recorded, given.multispeak,
        ))  # fmt: skip

    def listeners(self) -> Iterator[Listener]:
        """Start the pool and yield what is to be bound."""
        self._pool.start()
        office = self._given.config.office
        limits = HttpLimits(
            body=office.body_limit,
            head=16_384,
            connections=office.connections,
            connections_per_peer=office.connections_per_peer,
        )
        for scheme, address in (("http", office.http), ("https", office.https)):
            if address:
                routes = OfficeRoutes(self._doors, scheme, office.public_url).routes()
                factory = OfficeHttpFactory(routes, self._timer, limits, self._given.audit.refused)
                yield Listener(scheme, address, UTILITY, factory, self.https if scheme == "https" else None)

    def close(self) -> None:
        """End the pool and the connections to the store, once every call is answered."""
        if self._pool.started:
            self._pool.stop()
        self._looking.close()

    def _hashed(self, work: Callable[[], Any]) -> Deferred[Any]:
        return self._one_at_a_time.run(self._aside, work)

    def _aside(self, work: Callable[[], Any]) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._pool, work)
