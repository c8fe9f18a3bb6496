"""Tree heads: the bus signs, once an hour, what each partition of its log holds, keeps that and gives it away.

In: the store, the bus's key. Out: signed heads in the store, and as files in a folder, for whoever wants to hold the
bus to its log later: a head is worth nothing while only the bus has it. Name ``head-<partition>-<UTC time>.xml``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from gridpost import exchange, heads
from gridpost.errors import GridpostError, NotFound, SignerUnavailable
from gridpost.heads import TreeHead
from gridpost.model import DataVersion
from gridpost.ports import Delivery, Signer
from gridpost.units import format_utc_ms

from .audit import Audit
from .store.archive import KeptHead

HOUR_MS = 3_600_000
# Runs a step off the event loop.
Aside = Callable[[Callable[[], Sequence["Published"]]], Awaitable[Sequence["Published"]]]


class Log(Protocol):
    """What is needed of the store."""

    def leads(self) -> bool:
        """Tell whether this process is the one that does such work for all that serve the store."""

    def version(self) -> DataVersion:
        """See `ports.Store`."""

    def root(self, number: int, size: int) -> bytes:
        """Return the root over the first entries of a partition."""

    def newest_head(self, number: int) -> KeptHead | None:
        """Return the newest head of a partition."""

    def add_head(self, head: KeptHead) -> None:
        """Keep a head."""


class Author(NamedTuple):
    """Who signs heads: the bus's id and its key."""

    bus_id: str
    signer: Signer


class Published(NamedTuple):
    """A head that was made and where it was put; empty when it is kept in the store only."""

    head: KeptHead
    place: str


def sign_head(log: Log, author: Author, number: int, now_utc_ms: int) -> KeptHead:
    """Sign and keep a head of a partition as it is now.

    Raises:
        NotFound: the partition has no entry.
        SignerUnavailable: the bus's certificate is not valid now.
        StoreUnavailable: it was not kept.
    """
    newest = log.version().get(number)
    if newest is None:
        raise NotFound(f"partition {number} has no entry yet")
    if not exchange.valid_at(author.signer.certificate, now_utc_ms):
        raise SignerUnavailable("the bus's own certificate is not valid now")
    size = newest + 1
    root = log.root(number, size)
    payload = heads.encode(TreeHead(author.bus_id, number, size, root, now_utc_ms))
    head = KeptHead(0, number, size, root, now_utc_ms, exchange.seal(payload, author.signer, now_utc_ms))
    log.add_head(head)
    return head


class HeadPublisher:
    """Publishes heads of every partition that has entries, each an hour after the one before."""

    def __init__(self, log: Log, author: Author, delivery: Delivery | None) -> None:
        """`delivery` carries them out; None: they stay in the store."""
        self._log, self._author, self._delivery = log, author, delivery
        self._delivered: dict[int, int] = {}

    def step(self, now_utc_ms: int) -> Sequence[Published]:
        """Sign what is due and deliver what was not delivered yet, also what a run before this one left.

        Raises:
            SignerUnavailable, StoreUnavailable: try again later; nothing is lost.
        """
        if not self._log.leads():
            return []
        done = []
        for number in sorted(self._log.version()):
            head = self._log.newest_head(number)
            if head is None or abs(now_utc_ms - head.made_at_utc_ms) >= HOUR_MS:
                head = sign_head(self._log, self._author, number, now_utc_ms)
            if self._delivered.get(number) != head.made_at_utc_ms:
                place = self._delivery.deliver(file_name(head), head.signed) if self._delivery else ""
                self._delivered[number] = head.made_at_utc_ms
                done.append(Published(head, place))
        return done

    async def run(self, aside: Aside, audit: Audit, now_utc_ms: int) -> None:
        """Do a step by way of `aside`, and tell what became of it; a failure is tried again at the next."""
        try:
            for head, place in await aside(lambda: self.step(now_utc_ms)):
                audit.event(
                    "head-published", partition=head.partition, entries=head.size, root=head.root.hex(), place=place
                )
        except GridpostError as error:
            audit.event("head-failed", code=error.code, reason=error.reason)
        except Exception as defect:  # must be seen, and must not end the bus's other work
            audit.event("head-failed", code="internal-error", reason=f"{type(defect).__name__}: {defect}")


def file_name(head: KeptHead) -> str:
    """Return a head's file name: safe, and in order of time within its partition."""
    moment = format_utc_ms(head.made_at_utc_ms).replace("-", "").replace(":", "").replace(".", "")
    return f"head-{head.partition}-{moment}.xml"
