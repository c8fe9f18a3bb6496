"""The assembly: the one file that knows every other, and builds the running bus from a configuration.

In: a `Config`. Out: a `Bus` that starts and stops. Everything is made here and
handed on by argument; nothing finds anything by import. Stopping is designed first: no new requests, answer those in
flight, let the readers finish their step, then close the store.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from gridpost import tabular
from gridpost.envelope import DEVICE_LIMITS
from gridpost.errors import ConfigInvalid, GridpostError, NotFound
from gridpost.model import ChannelKey, Site
from gridpost.ports import Delivery
from gridpost.wssecurity import KeySigner

from .audit import Audit
from .audit import configured as audit_log
from .clock import MonotonicTimer, WatchedClock
from .config import Config, host_port
from .controls.follower import NAME as FOLLOWER
from .controls.running import FOLLOW_S, LOOK_S, ControlRoom
from .day_files import DayFiles
from .enrolment import DeviceCA, Est, ends_utc_ms, utc_now
from .figures import TIMES_US, Distribution
from .heads import Author, HeadPublisher
from .identity import load_rsa_signer, load_signer
from .installed import adapter, entry_point
from .metrics import LOOKED_S, Metrics, Sources
from .office.mailbox import forget_old
from .office.pushing import PUSH_S, Pushes, calling
from .open_files import check_open_files
from .own import Bench
from .quoted import QuotedReceipts
from .readers import BATCH, DayFileReader, Deliveries
from .reception import Post, Reception
from .store import SqlStore, open_store
from .tls import Https, renewed
from .transports.device_http import DeviceHttpFactory
from .transports.device_routes import Door
from .transports.http_values import HttpLimits
from .transports.office_http import OfficeHttpFactory
from .transports.shared_port import BACKLOG, SharedPort
from .trust_keeper import TrustKeeper, own_certificates
from .value_side import ValueSide
from .worker import Aside, ReactorWorker
from .zones import zone_of

if TYPE_CHECKING:
    from .office.listening import OfficeSide

REFUSALS_FLUSH_S = 5  # decision 8
HEADS_LOOKED_S = 60  # how often it is asked whether a tree head is due
TRUST_LOOKED_S = 60  # and whether a certificate ends or a list of revoked ones is due
QUOTES_S = 5  # between two looks at what devices quote
MAIL_LOOKED_S = 60  # and whether there is mail that was taken long ago
METRICS_CONNECTIONS = 32
SCHEMES = ("http", "https")  # of the device listeners
_log = Logger()


@dataclass(frozen=True, slots=True)
class Parts:
    """What a bus is made of, once it is opened."""

    config: Config
    store: SqlStore
    audit: Audit
    clock: WatchedClock
    signer: KeySigner
    ca: DeviceCA
    rsa: KeySigner | None = None


def open_parts(config: Config, on_fatal: Callable[[BaseException], None]) -> Parts:
    """Open everything that can fail before a socket is opened.

    Args:
        config: checked.
        on_fatal: called from the writer's thread when the store can no longer be trusted to keep anything.

    Raises:
        NotFound, ConfigInvalid: a file is missing or not what it should be.
        StoreUnavailable: another `serve` holds the store, or its schema is of another version.
    """
    signer, rsa = load_signer(config), load_rsa_signer(config)
    ca = DeviceCA.load(config.path(config.identity.ca_certificate), config.path(config.identity.ca_key))
    audit: Audit
    clock = WatchedClock(lambda step: audit.event("clock-stepped", by_ms=step))
    audit = audit_log(config, clock)
    store = open_store(config.database, clock, serve=True, on_fatal=on_fatal)
    return Parts(config, store, audit, clock, signer, ca, rsa)


def day_files(config: Config, store: SqlStore) -> DayFiles:
    """Return what renders MV-90 days from a store, with the configured site table."""
    sites = site_table(config.path(config.mv90.site)) if config.mv90.site else {}
    return DayFiles(store, adapter("mv90"), sites, zone_of)


def site_table(file: Path) -> Mapping[ChannelKey, Site]:
    """Read a ``--site`` table.

    Raises:
        NotFound: no such file.
        FileInvalid: it is not one.
    """
    try:
        return tabular.sites(file.read_bytes())
    except OSError as error:
        raise NotFound(f"the site table cannot be read: {error}") from None


class Bus:
    """The running bus: listeners, readers, housekeeping."""

    def __init__(self, parts: Parts, reactor: Any, https: Https | None) -> None:
        """Nothing runs before `start`; `https` is there when the settings say so."""
        self._parts, self._reactor, self._https = parts, reactor, https
        self._pool = ThreadPool(1, 1, "large messages")
        self._readers_pool = ThreadPool(1, 1, "readers")
        self._factories: dict[str, DeviceHttpFactory | OfficeHttpFactory] = {}  # by scheme
        self._ports: list[Any] = []  # IListeningPort; zope's interfaces carry no self for mypy
        self._loops: list[LoopingCall] = []
        config = parts.config
        limits = DEVICE_LIMITS.raised(config.listen.body_limit)
        known = (config.bus.id, parts.signer, parts.store, parts.clock, zone_of)
        post = Post(*known, limits, config.trust.stale_crl, parts.rsa)
        self._controls = ControlRoom(post, config.commands, parts.store, reactor)
        worker = ReactorWorker(reactor, self._pool, self._may_send)
        self._reception = Reception(post, parts.audit, worker, self._controls.desk)
        self._aside = Aside(reactor, self._readers_pool, lambda: self._reception.received)
        bench = Bench(parts.store, parts.signer, config.bus.id, parts.clock, zone_of, config)
        self._value = ValueSide(bench, self._aside.run, parts.audit, reactor)
        self._quoted = QuotedReceipts(parts.store, parts.clock)
        self._est = Est(parts.ca, parts.store, utc_now, config.trust)
        self._trust = self._trust_keeper()
        self._answered_us = Distribution(TIMES_US)
        self._stopping = False
        folder = config.log.heads
        out: Delivery | None = entry_point("gridpost.deliveries", "directory")(config.path(folder)) if folder else None
        self._heads = HeadPublisher(parts.store, Author(config.bus.id, parts.signer), out)
        self._office = self._office_side() if config.office.http or config.office.https else None
        service = partial(entry_point, "gridpost.deliveries", "soap")
        self._pushes = Pushes(parts.store, calling(service, parts.signer, parts.clock), parts.clock)
        self._reader: tuple[DayFileReader, Deliveries] | None = None
        if config.mv90.enabled:
            delivery: Delivery = entry_point("gridpost.deliveries", "directory")(config.path(config.mv90.directory))
            files = day_files(config, parts.store)
            self._reader = (
                DayFileReader("mv90", parts.store, files, config.mv90.grace_h),
                Deliveries("mv90", parts.store, delivery),
            )

    async def start(self) -> list[str]:
        """Start everything and return the addresses listened on, such as ``http://127.0.0.1:8080``.

        Raises:
            ConfigInvalid: an address cannot be bound, or the process may not open enough files.
        """
        check_open_files(self._parts.config.listen.connections)
        self._pool.start()
        self._readers_pool.start()
        self._controls.begin()
        self._value.begin()
        listen = self._parts.config.listen
        addresses = []
        for scheme, address in zip(SCHEMES, (listen.http, listen.https), strict=True):
            if address:
                endpoint = self._endpoint(address, self._https if scheme == "https" else None)
                addresses.append(await self._listen(scheme, endpoint, self._factory(scheme)))
        for one in self._office.listeners() if self._office else ():
            endpoint = self._endpoint(one.address, one.https)
            addresses.append(await self._listen(f"office-{one.scheme}", endpoint, one.factory) + one.path)
        metrics = await self._tell_metrics(self._parts.config.metrics.listen)
        self._every(REFUSALS_FLUSH_S, self._flush_refusals)
        self._every(TRUST_LOOKED_S, lambda: self._reading("trust", self._keep_trust), now=True)
        self._every(HEADS_LOOKED_S, self._publish_heads, now=True)
        self._every(QUOTES_S, lambda: self._reading("quoted-receipts", self._hold_quotes_against_the_log))
        follow = partial(self._controls.follow, self._aside.run, self._parts.audit, self._reception.alarms)
        self._every(LOOK_S, self._controls.desk.look)
        self._every(FOLLOW_S, lambda: self._reading(FOLLOWER, follow))
        for look in self._value.looks():
            self._every(look.every_s, partial(self._reading, look.name, look.once))
        push = partial(self._pushes.carry, self._aside.run, self._parts.audit)
        self._every(PUSH_S, lambda: self._reading("push", push))
        days = self._parts.config.office.mail_days
        forget = partial(self._aside.run, partial(forget_old, self._parts.store, self._parts.clock, days))
        self._every(MAIL_LOOKED_S, lambda: self._reading("mail", forget), now=True)
        if self._reader:
            self._every(self._parts.config.mv90.poll_s, lambda: self._reading("mv90", self._read_log))
        self._parts.audit.event("started", addresses=" ".join(addresses), **metrics)
        return addresses

    async def stop(self) -> None:
        """Stop in order: the doors, the messages in flight, the readers after their present step, the store."""
        self._stopping = True
        self._aside.hurry()
        self._controls.stop()
        self._value.stop()
        for port in self._ports:
            await (port.stopListening() or succeed(None))
        for factory in self._factories.values():
            await factory.stop()
        for loop in self._loops:
            running = loop.deferred if loop.running else None
            if loop.running:
                loop.stop()
            if running is not None:
                await running
        self._flush_refusals()
        if self._office:
            self._office.close()
        await deferToThreadPool(self._reactor, self._readers_pool, self._pushes.close)
        self._readers_pool.stop()
        self._pool.stop()
        self._parts.audit.event("stopped")
        self._parts.store.close()

    def _office_side(self) -> OfficeSide:
        from .office.listening import Given, OfficeSide  # here: Spyne takes a third of a second to load

        parts = self._parts
        return OfficeSide(Given(
            parts.config, parts.store, parts.audit, parts.clock, parts.signer, parts.rsa, self._controls.desk.wake,
            partial(entry_point, "gridpost.services", "multispeak"),
        ), self._reactor, MonotonicTimer(self._reactor))  # fmt: skip

    async def _tell_metrics(self, address: str) -> dict[str, str]:
        """Serve the metrics, if there is an address, on one of this process's own; return what to tell of it."""
        if not address:
            return {}
        readers = [*([self._reader[0].name] if self._reader else []), FOLLOWER, *self._value.readers()]
        metrics = Metrics(Sources(
            self._parts.audit, self._parts.store, lambda: self._reception.received, self._connections,
            self._is_healthy, self._answered_us, self._owns_end, readers,
        ))  # fmt: skip
        self._every(LOOKED_S, lambda: self._looked(metrics), now=True)
        limits = HttpLimits(connections=METRICS_CONNECTIONS)
        factory = DeviceHttpFactory(metrics.routes(), MonotonicTimer(self._reactor), limits, self._parts.audit.refused)
        host, port = host_port(address)
        kind = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
        return {"metrics": await self._listen("metrics", kind(self._reactor, port, BACKLOG, host), factory)}

    def _looked(self, metrics: Metrics) -> Deferred[None]:
        looked = deferToThreadPool(self._reactor, self._readers_pool, metrics.look, self._parts.clock())
        return looked.addErrback(lambda failure: _log.failure("metrics", failure=failure))  # a defect; again next time

    def _owns_end(self) -> dict[str, int]:
        return {own.use: ends_utc_ms(own.der) for own in self._trust.owns}

    def _connections(self) -> dict[str, int]:
        return {name: len(factory.connections) for name, factory in self._factories.items() if name != "metrics"}

    def _may_send(self) -> int:
        """Return how many peers are connected of whom we have no request."""
        return sum(self._factories[scheme].connections.silent for scheme in SCHEMES if scheme in self._factories)

    def _factory(self, scheme: str) -> DeviceHttpFactory:
        parts, listen = self._parts, self._parts.config.listen
        door = Door(
            self._reception, self._est, parts.audit, scheme, listen.public_url, self._is_healthy,
            lambda work: deferToThreadPool(self._reactor, self._pool, work), self._answered_us,
        )  # fmt: skip
        limits = HttpLimits(
            body=listen.body_limit,
            connections=listen.connections,
            connections_per_peer=listen.connections_per_peer,
        )
        return DeviceHttpFactory(door.routes(), MonotonicTimer(self._reactor), limits, parts.audit.refused)

    def renew_https(self) -> None:
        """Use what the HTTPS certificate's files hold now for connections that come; without HTTPS nothing happens."""
        held = [self._https, self._office.https if self._office else None]
        if [one for one in held if one and renewed(one, self._parts.audit)]:
            self._trust = self._trust_keeper()

    def _trust_keeper(self) -> TrustKeeper:
        parts, config = self._parts, self._parts.config
        return TrustKeeper(parts.store, parts.ca, own_certificates(config, parts.signer, parts.ca), config.trust)

    async def _listen(self, name: str, endpoint: Any, factory: DeviceHttpFactory | OfficeHttpFactory) -> str:
        try:
            port = await endpoint.listen(factory)
        except CannotListenError as error:
            raise ConfigInvalid(f"cannot listen on {error.interface}:{error.port}: {error.socketError}") from None
        self._factories[name] = factory
        self._ports.append(port)
        host, scheme = port.getHost(), "https" if name.endswith("https") else "http"
        return f"{scheme}://{f'[{host.host}]' if ':' in host.host else host.host}:{host.port}"

    def _endpoint(self, address: str, https: Https | None) -> Any:
        host, port = host_port(address)
        if self._parts.config.bus.processes > 1:
            return SharedPort(self._reactor, (host, port), https)
        if https:
            return SSL4ServerEndpoint(self._reactor, port, https, BACKLOG, host)
        kind = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
        return kind(self._reactor, port, BACKLOG, host)

    def _is_healthy(self) -> bool:
        return self._parts.store.is_healthy() and self._reception.is_able()

    def _every(self, seconds: float, function: Callable[[], Any], *, now: bool = False) -> None:
        loop = LoopingCall(function)
        loop.clock = self._reactor
        loop.start(seconds, now=now)
        self._loops.append(loop)

    async def _keep_trust(self) -> None:
        now = self._parts.clock()
        for event in await self._aside.run(lambda: self._trust.step(now)):
            self._parts.audit.event(event.name, **event.values)

    def _flush_refusals(self) -> None:
        taken = self._parts.audit.take_refusals()
        if taken:
            self._parts.store.add_refusals(taken)
        if alarms := self._reception.alarms.take():
            self._parts.store.add_alarms(alarms)

    def _publish_heads(self) -> Deferred[None]:
        def aside(step: Callable[[], Any]) -> Deferred[Any]:
            return deferToThreadPool(self._reactor, self._readers_pool, step)

        return self._reading("heads", lambda: self._heads.run(aside, self._parts.audit, self._parts.clock()))

    def _reading(self, name: str, look: Callable[[], Coroutine[Any, Any, None]]) -> Deferred[None]:
        return Deferred.fromCoroutine(self._guarded(name, look))

    async def _guarded(self, name: str, look: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Follow the log as far as it goes, off the reactor; a failure is told and tried again next time.

        Of several processes one does so: the store says which.
        """
        try:
            if await self._aside.run(self._parts.store.leads):
                await look()
        except GridpostError as error:
            self._parts.audit.event("reader-failed", reader=name, code=error.code, reason=error.reason)
        except Exception:
            # A defect in one step must be seen and must not end the readers: the next step starts from the cursor.
            _log.failure("reader {name} failed", name=name)
            self._parts.audit.event("reader-failed", reader=name, code="internal-error", reason="see the process log")

    async def _read_log(self) -> None:
        assert self._reader is not None
        reader, deliveries = self._reader
        audit, now = self._parts.audit, self._parts.clock()
        more = True
        while more and not self._stopping:
            outcome = await self._aside.run(lambda: reader.step(now))
            for made in outcome.files:
                audit.event("file-rendered", **made._asdict())
            for day, reason in outcome.dead:
                audit.event("dead-letter", reader=reader.name, meter=day.meter, date=day.date, reason=reason)
            await self._deliver(deliveries, now)
            more = outcome.entries == BATCH  # what came in since waits for the next look

    async def _hold_quotes_against_the_log(self) -> None:
        more = True
        while more and not self._stopping:
            more, found = await self._aside.run(self._quoted.step)
            for one in found:
                self._parts.audit.event(
                    "entries-missing", sender=one.sender, first=f"{one.partition}:{one.first_seq}",
                    last=f"{one.partition}:{one.last_seq}", quoted_in=f"{one.quoted_in.partition}:{one.quoted_in.seq}",
                )  # fmt: skip

    async def _deliver(self, deliveries: Deliveries, now: int) -> None:
        audit = self._parts.audit
        for sent in await self._aside.run(lambda: deliveries.step(now)):
            if sent.reason:
                audit.event("dead-letter", reader=deliveries.name, name=sent.name, reason=sent.reason)
            else:
                audit.event("file-delivered", name=sent.name, place=sent.place)
