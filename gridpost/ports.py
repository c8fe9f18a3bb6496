"""Where the rings meet: the Protocols that a store, a key, a format and a delivery fulfil.

Floor 3: imports model only. An implementation promises what the docstring says, no more; `tests/contract/` holds each
implementation to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import NamedTuple, Protocol, runtime_checkable

from .documents import Document
from .errors import Item
from .model import (
    Channel,
    ChannelKey,
    Counts,
    DataVersion,
    Enrolment,
    Entry,
    IntervalBlock,
    Position,
    Qualities,
    Readings,
    RegisterReading,
    Rows,
)
from .model import Site as Site

# position, root over all entries before it, recorded time in UTC milliseconds, counts -> the signed receipt's bytes.
MakeReceipt = Callable[[Position, bytes, int, Counts], bytes]
Clock = Callable[[], int]  # UTC milliseconds
ZoneOf = Callable[[str], tzinfo]  # IANA name -> zone value; raises NotFound


class Signer(Protocol):
    """A private key and its certificate, wherever the key lives."""

    @property
    def certificate(self) -> bytes:
        """DER."""

    @property
    def algorithm(self) -> str:
        """The XML Signature URI of what `sign` makes."""

    def sign(self, data: bytes) -> bytes:
        """Return the SignatureValue's octets (ECDSA: r||s, RFC 4050 section 3.3).

        Raises:
            SignerUnavailable: the key cannot be used now.
        """


class StoredReceipt(NamedTuple):
    """What the store knows of a message id."""

    content_digest: bytes
    receipt: bytes


class EntryHeader(NamedTuple):
    """An entry without its evidence, as readers see it."""

    position: Position
    sender: str
    message_id: str
    noun: str
    recorded_at_utc_ms: int


class StoredBlock(NamedTuple):
    """A row of interval values: contiguous, one outcome (``stored``, ``conflict``, ``gap``)."""

    position: Position
    channel_id: int
    first_interval_end_utc: int
    interval_s: int
    values: tuple[str | None, ...]
    qualities: tuple[tuple[tuple[str, str], ...], ...]
    outcome: str


class StoredDocument(NamedTuple):
    """A version of a document, the entry that brought it, and when that was recorded."""

    position: Position
    recorded_at_utc_ms: int
    document: Document


@dataclass(frozen=True, slots=True)
class CurrentReadings:
    """The current version of a channel's readings over a period.

    Attributes:
        channel: whose.
        block: one value an interval, ascending ends, gaps absent; interval_s is the channel's.
        positions: the entry behind each value of `block`.
        registers: ascending; the current version at each moment, both edges of the period included.
        conflicts: interval ends at which a conflicting version is on file.
        newest_recorded_at_utc_ms: of all entries whose values or registers these are; 0 when none.
        gaps: interval ends without a value that were reported missing, ascending, with the newest note's qualities.
    """

    channel: Channel
    block: IntervalBlock
    positions: tuple[Position, ...]
    registers: tuple[RegisterReading, ...]
    conflicts: tuple[int, ...]
    newest_recorded_at_utc_ms: int
    gaps: tuple[tuple[int, Qualities], ...] = ()


class OutboxItem(NamedTuple):
    """A rendered file waiting for delivery; `name` is stable and unique for a reader."""

    reader: str
    name: str
    content: bytes
    sha256: bytes
    version: DataVersion


class Store(Protocol):
    """The log of entries, the readings in it, and who may write to it.

    Reads see every commit made before they were called. Only `record`, `advance` and the enrolment verbs write.
    """

    def enrolment(self, certificate_sha256: bytes) -> Enrolment | None:
        """Return who the certificate is, revoked or not; None for strangers."""

    def find(self, sender: str, message_id: str) -> StoredReceipt | None:
        """Return the receipt that stands for a message id, at any age."""

    def record(self, entry: Entry, rows: Rows, make_receipt: MakeReceipt) -> Future[bytes]:
        """Append `entry` and its rows; the future yields the receipt that stands, after the sync.

        The writer numbers the entry, compares each value with the versions on file (decisions 9 to 11), adds it to
        the tree and calls `make_receipt`, all in one transaction with its group. A repeat of the same content gets the
        first one's receipt after that one's commit.

        The future raises:
            MessageIdReused: the id is known with other content.
            SignerUnavailable: from make_receipt; nothing was stored.
            StoreUnavailable: the queue is full or the store failed; nothing was stored.
        """

    def version(self) -> DataVersion:
        """Return the newest seq of each partition that has one."""

    def version_at(self, moment_utc_ms: int) -> DataVersion:
        """Return the data version a moment stands for: the greatest seq of each partition recorded by then.

        The same for ever, which is why the moment must be at least 60 s past (decision 4).

        Raises:
            NotFound: it is not.
        """

    def entries(self, after: DataVersion, limit: int) -> Sequence[EntryHeader]:
        """Return up to `limit` entries behind `after` in (partition, seq) order."""

    def blocks(self, positions: Sequence[Position]) -> Sequence[StoredBlock]:
        """Return the interval rows of those entries."""

    def channels(
        self, sender: str | None = None, meter: str | None = None, usage_point: str | None = None
    ) -> Sequence[Channel]:
        """Return enrolled channels in order of their number."""

    def readings(self, channel_id: int, from_utc: int, to_utc: int, at: DataVersion | None = None) -> CurrentReadings:
        """Return the current versions with from_utc < interval end <= to_utc, as known at `at` (now when None)."""

    def documents(
        self,
        kind: str,
        *,
        owner: str | None = None,
        subject: str | None = None,
        id: str | None = None,
        at: DataVersion | None = None,
    ) -> Sequence[StoredDocument]:
        """Return the documents of a kind in force, in order of (recorded_at, partition, seq, line).

        In force is the last version of each (kind, owner, id) in that order.

        Args:
            kind: of documents.KINDS.
            owner: only this partner's.
            subject: only those about this usage point or contract.
            id: only those of this id.
            at: as known at this data version; None: now.
        """

    def document_versions(
        self,
        kind: str,
        *,
        owner: str | None = None,
        subject: str | None = None,
        id: str | None = None,
        at: DataVersion | None = None,
    ) -> Sequence[StoredDocument]:
        """Return every version of those documents, in the same order."""

    def readings_of(
        self, channel_ids: Sequence[int], from_utc: int, to_utc: int, at: DataVersion | None = None
    ) -> Iterator[CurrentReadings]:
        """Yield what `readings` gives for each of these channels, in their order, all as known at one data version.

        What a bill run asks for: much less a channel than one by one. A channel comes when its turn does.

        Raises:
            NotFound: there is no such channel.
        """

    def cursor(self, reader: str) -> tuple[DataVersion, Mapping[str, object]]:
        """Return a reader's place and its own small state; ({}, {}) at first."""

    def advance(
        self, reader: str, version: DataVersion, state: Mapping[str, object], items: Sequence[OutboxItem]
    ) -> Future[None]:
        """Move a reader's cursor and put its files into the outbox, in one transaction; a known name stays."""


# --- formats ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FormatOptions:
    """What a format needs beyond the readings.

    Attributes:
        zone: whose standard time the file's clock shows; None where the format fixes it.
        sites: channel -> its row of the site table.
        created_utc_ms: what the file states as its creation time.
        from_utc: first moment of the period to render, exclusive; None: the readings' own extent.
        to_utc: its end, inclusive.
        origin: the file parsed, for error messages.
    """

    zone: tzinfo | None = None
    sites: Mapping[ChannelKey, Site] = field(default_factory=dict)
    created_utc_ms: int = 0
    from_utc: int | None = None
    to_utc: int | None = None
    origin: str = ""


class Parsed(NamedTuple):
    """A file read: its readings, what it says of its channels, and warnings a person should see."""

    readings: Readings
    sites: Mapping[ChannelKey, Site]
    notes: tuple[Item, ...]


class Rendered(NamedTuple):
    """A file written: its bytes and, listed, everything the format could not hold."""

    content: bytes
    losses: tuple[Item, ...]


class Adapter(Protocol):
    """A foreign format, found by the entry point group ``gridpost.adapters``; pure: bytes and values only."""

    name: str
    suffix: str

    def parse(self, raw: bytes, options: FormatOptions) -> Parsed:
        """Read a whole file.

        Raises:
            FileInvalid: with the place and reason; nothing is returned for half a file.
        """

    def render(self, readings: Readings, options: FormatOptions) -> Rendered:
        """Write readings as one file; the same arguments give the same bytes.

        Raises:
            CannotRepresent: the format has no place for something without which the file would be wrong.
        """


@runtime_checkable
class Rewriter(Protocol):
    """An adapter whose own files hold more than readings, and that writes such a file again without losing it."""

    def rewrite(self, raw: bytes) -> bytes:
        """Read a whole file and write it again: equal bytes for every valid file.

        Raises:
            FileInvalid: with the place and reason.
        """


@runtime_checkable
class Joiner(Protocol):
    """An adapter whose file may hold many meters: files of some each become one, part by part, never all in memory."""

    def join(self, files: Iterable[bytes]) -> Iterator[bytes]:
        """Yield, in parts, one file that holds what these hold, in their order.

        Raises:
            FileInvalid: one of them is no whole file.
            CannotRepresent: two hold one meter, or there are none.
        """


class Delivery(Protocol):
    """A way out, found by the entry point group ``gridpost.deliveries``."""

    def deliver(self, name: str, content: bytes) -> str:
        """Put the file where it belongs and return that place; doing it again with equal content changes nothing.

        Raises:
            StoreUnavailable: not delivered now; try again.
            AlreadyExists: other content stands there under that name.
        """
