"""Tariffs that a bus fetches by itself from suppliers' addresses, on a schedule (F61).

In: addresses from the settings, each with the supplier it speaks for; a bench. Out: entries of the bus's own for what
is new, lines of the audit log for all the rest. An answer is bounded in size and time, redirections are not followed,
and what is refused or cannot be had leaves what is on file in force. Nobody's word but the address's own stands behind
a polled tariff: a supplier who wants his signature behind it sends it (`office/tariffs.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple, NoReturn

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

from gridpost.documents import TARIFF, Document
from gridpost.errors import ConfigInvalid, FileInvalid, NotFound, PeerFault
from gridpost.supply_messages import tariff_document
from gridpost.tariff import Tariff

from . import own
from .audit import Audit
from .config import Tariffs
from .own import Bench
from .tariff_files import Unsaid, read

LARGEST = 16 << 20  # bytes of an answer
LONGEST_S = 30.0  # of a fetch, from its beginning to the answer's last byte
Aside = Callable[[Callable[[], Any]], Awaitable[Any]]
Fetch = Callable[[str], Deferred[bytes]]


class Source(NamedTuple):
    """An address, the supplier it speaks for, and the zone of what does not state one."""

    supplier: str
    address: str
    zone: str


def sources_of(wanted: Tariffs) -> tuple[Source, ...]:
    """Return what the settings name.

    Raises:
        ConfigInvalid: an address is neither http nor https.
    """
    for supplier, address in wanted.poll.items():
        if not isinstance(address, str) or not address.startswith(("http://", "https://")):
            raise ConfigInvalid(f"tariffs.poll: the address of {supplier} must begin with http:// or https://")
    return tuple(Source(name, address, wanted.zones.get(name, wanted.zone)) for name, address in wanted.poll.items())


class TariffPolls:
    """Polls each source when it is due: at the bus's start, and so many seconds after each time."""

    def __init__(self, bench: Bench, fetch: Fetch) -> None:
        """Nothing is fetched before `carry`.

        Raises:
            ConfigInvalid: an address is neither http nor https.
        """
        self._bench, self._fetch = bench, fetch
        self._sources = sources_of(bench.config.tariffs)
        self._due_utc_ms = dict.fromkeys(self._sources, 0)
        self._under_way: Deferred[bytes] | None = None
        self._stopping = False

    def stop(self) -> None:
        """Poll no more, and break off what is being fetched."""
        self._stopping = True
        if self._under_way is not None:
            self._under_way.cancel()

    async def carry(self, aside: Aside, audit: Audit) -> None:
        """Poll what is due, one after the other.

        Raises:
            OurFault: the store fails; the next look polls again.
        """
        for source in self._sources:
            now = self._bench.clock()
            if self._stopping or now < self._due_utc_ms[source]:
                continue
            self._due_utc_ms[source] = now + self._bench.config.tariffs.every_s * 1000
            try:
                self._under_way = self._fetch(source.address)
                raw = await self._under_way
                filed = await aside(partial(self._file, source, raw))
                audit.event("tariffs-polled", supplier=source.supplier, address=source.address, filed=" ".join(filed))
            except PeerFault as refused:
                places = "; ".join(f"{item.path}: {item.reason}" for item in refused.items) or refused.reason
                audit.event(
                    "tariffs-refused", supplier=source.supplier, address=source.address, code=refused.code,
                    reason=places,
                )  # fmt: skip

    def _file(self, source: Source, raw: bytes) -> Sequence[str]:
        """Put on file what is new; all of an answer or none of it. Return the ids."""
        found = read(raw, Unsaid(source.zone), source.address)
        new = list(self._new([self._owned(one, source) for one in found]))
        if new:
            # The same answer after another one is news again, so the id is made of what it follows, too.
            before = [self._newest(one) for one in new]
            name = sha256("\n".join(f"{one}\n{old}" for one, old in zip(new, before, strict=True)).encode())
            author = f"polled from {source.address}"
            own.record_documents(self._bench, f"poll-{name.hexdigest()[:48]}", author, new)
        return [one.id for one in new]

    def _owned(self, tariff: Tariff, source: Source) -> Tariff:
        """A tariff as the supplier's whose address it comes from; URDB knows no ids of partners, only names."""
        self._bench.zone_of(tariff.zone)
        return replace(tariff, supplier=source.supplier)

    def _new(self, tariffs: Sequence[Tariff]) -> Iterator[Document]:
        for document in map(tariff_document, tariffs):
            if self._newest(document) != document.content:
                yield document

    def _newest(self, one: Document) -> str:
        """The content on file of a document; empty: none."""
        found = self._bench.store.documents(TARIFF, owner=one.owner, id=one.id)
        return found[0].document.content if found else ""


# --- fetching --------------------------------------------------------------------------------------------------------


def fetching(reactor: Any, ca_pem: bytes = b"") -> Fetch:
    """Return what fetches an address.

    Args:
        reactor: of the bus.
        ca_pem: certificates of the CAs that https addresses are trusted by; empty: the machine's.
    """
    roots = [Certificate.loadPEM(part + _END) for part in ca_pem.split(_END)[:-1]]
    policy = BrowserLikePolicyForHTTPS(trustRootFromCertificates(roots)) if roots else BrowserLikePolicyForHTTPS()
    agent = Agent(reactor, policy, connectTimeout=LONGEST_S)

    def fetch(address: str) -> Deferred[bytes]:
        return Deferred.fromCoroutine(_get(agent, address)).addTimeout(LONGEST_S, reactor, _too_slow)

    return fetch


_END = b"-----END CERTIFICATE-----"
# Names, routes, certificates, an address that is none, a peer that goes away.
_FAILED = (OSError, ConnectError, ConnectionClosed, ResponseFailed, CancelledError, ValueError)


def _too_slow(_result: object, _timeout: float) -> NoReturn:
    raise NotFound(f"no whole answer within {LONGEST_S:g} s")


async def _get(agent: Agent, address: str) -> bytes:
    try:
        response: Any = await agent.request(b"GET", address.encode(), Headers({b"User-Agent": [b"gridpost"]}))
    except _FAILED as failed:
        raise NotFound(f"cannot be fetched: {failed or type(failed).__name__}") from None
    body = _Body()
    response.deliverBody(body)
    raw = await body.whole
    if response.code != 200:
        raise NotFound(f"answers with status {response.code}")
    return raw


class _Body(Protocol):
    """Gathers an answer up to its limit."""

    transport: Any

    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred(lambda _: self._cut())
        self._parts: list[bytes] = []
        self._held = 0

    def dataReceived(self, data: bytes) -> None:
        """Keep it, unless it is too much."""
        self._held += len(data)
        self._parts.append(data)
        if self._held > LARGEST:
            self._parts.clear()
            self._cut()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Give what there is, if it is whole."""
        if self.whole.called:
            return
        if self._held > LARGEST:
            self.whole.errback(FileInvalid(f"the answer is longer than {LARGEST >> 20} MiB"))
        elif reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(b"".join(self._parts))
        else:
            self.whole.errback(NotFound("the answer broke off"))

    def _cut(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()
