"""The reading side: enrolments, known ids, entries, readings, evidence, proofs.

One connection in autocommit, so each select sees the newest commit; a lock makes it safe from any thread, the reactor
is the usual one. Because the log is append-only, several selects bounded by one data version agree with each other.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

import zstandard
from sqlalchemy import ColumnElement, Connection, Row, bindparam, func, select
from sqlalchemy.exc import DBAPIError

from gridpost import leaf, merkle
from gridpost.conditions import Conditions
from gridpost.errors import NotFound, StoreUnavailable
from gridpost.model import Channel, ChannelKey, DataVersion, Enrolment, Position
from gridpost.ports import Clock, EntryHeader, StoredBlock, StoredReceipt
from gridpost.versions import Run

from .driver import select_by
from .engine import Dialect, told
from .on_file import entry_count, subtrees
from .tables import (
    certificate,
    channel,
    crl,
    enrolment_version,
    entry,
    ied,
    interval_block,
    partition,
)

_CHUNK = 500
SETTLED_MS = 60_000
ENROLMENTS = 20_000  # kept in memory, some 3 kB each: a bus with a million IEDs asks the store for the others

_FIND = f"SELECT content_sha256, receipt FROM {entry.name} WHERE message_id = ? AND sender = ?"
# A bus whose IEDs seldom call twice while they are remembered asks these two for each message: so by the driver.
_CERTIFICATE = f"""
    SELECT c.serial, c.der, c.revoked_at_utc_ms, c.rights, c.ends_at_utc_ms, c.issuer_sha256,
           l.next_update_utc_ms, i.factors
    FROM {certificate.name} c JOIN {ied.name} i ON i.serial = c.serial
    LEFT JOIN {crl.name} l ON l.issuer_sha256 = c.issuer_sha256
    WHERE c.sha256 = ?
"""
_VERSION_OF_ENROLMENTS = f"SELECT version FROM {enrolment_version.name}"
_CHANNELS_OF = f"""
    SELECT usage_point, meter, stream, reading_type, unit, interval_s, zone, valid_from_utc, valid_to_utc, id
    FROM {channel.name} WHERE serial = ? ORDER BY id
"""
# One look at the end of each partition's key; a GROUP BY would walk the whole log.
_VERSION = select(
    partition.c.partition,
    select(func.max(entry.c.seq)).where(entry.c.partition == partition.c.partition).scalar_subquery(),
).order_by(partition.c.partition)
_HEADERS = (
    select(entry.c.seq, entry.c.sender, entry.c.message_id, entry.c.noun, entry.c.recorded_at_utc_ms)
    .where(entry.c.partition == bindparam("partition"), entry.c.seq > bindparam("after"))
    .order_by(entry.c.seq)
    .limit(bindparam("most"))
)
_RECORDED = select(entry.c.recorded_at_utc_ms).where(
    entry.c.partition == bindparam("partition"), entry.c.seq == bindparam("seq")
)
_BLOCKS = (
    select(interval_block)
    .where(interval_block.c.partition == bindparam("partition"))
    .where(interval_block.c.seq.in_(bindparam("seqs", expanding=True)))
    .order_by(interval_block.c.seq, interval_block.c.line)
)
_SPANS = (
    select(
        interval_block.c.channel_id,
        interval_block.c.first_interval_end_utc,
        interval_block.c.last_interval_end_utc,
        interval_block.c.interval_s,
    )
    .where(interval_block.c.outcome == "stored")
    .order_by(interval_block.c.channel_id, interval_block.c.first_interval_end_utc)
)
_CHANNELS = select(channel).order_by(channel.c.id)


class _Certificate(NamedTuple):
    """A row of _CERTIFICATE."""

    serial: str
    der: bytes
    revoked_at_utc_ms: int | None
    rights: str | None
    ends_at_utc_ms: int | None
    issuer_sha256: bytes | None
    next_update_utc_ms: int | None
    factors: str | None


class Reading:
    """Everything that a store is asked; see `ports.Store` for the promises."""

    def __init__(self, dialect: Dialect, clock: Clock) -> None:
        self._dialect = dialect
        self._clock = clock
        self._lock = threading.RLock()
        self._connection = dialect.reading.connect()
        self._enrolments: dict[bytes, Enrolment] = {}
        self._mark: int | None = None
        self._enrolment_version = -1

    def close(self) -> None:
        """Give the connection back."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend the reading connection.

        Raises:
            StoreUnavailable: the database failed; the detail says how.
        """
        with self._lock:
            try:
                yield self._connection
            except DBAPIError as problem:
                self._connection.rollback()  # of nothing: a connection that was lost is then made anew by the next call
                raise StoreUnavailable(detail=told(problem)) from problem

    # --- who, and what is known ---

    def enrolment(self, certificate_sha256: bytes) -> Enrolment | None:
        """Return who the certificate is; from a cache that any change of the enrolments empties."""
        with self.connection() as connection:
            self._drop_stale(connection)
            found = self._enrolments.get(certificate_sha256)
            if found is not None:
                return found
            rows = select_by(connection, _CERTIFICATE, (certificate_sha256,))
            if not rows:
                return None  # not cached: strangers must not fill our memory
            row = _Certificate(*rows[0])
            channels = tuple(_channel(*one) for one in select_by(connection, _CHANNELS_OF, (row.serial,)))
            found = Enrolment(row.serial, row.der, row.revoked_at_utc_ms, channels, _conditions(row))
            self._enrolments[certificate_sha256] = found
            if len(self._enrolments) > ENROLMENTS:
                del self._enrolments[next(iter(self._enrolments))]
            return found

    def _drop_stale(self, connection: Connection) -> None:
        mark = self._dialect.change_mark(connection)
        if mark is not None and mark == self._mark:
            return
        ((version,),) = select_by(connection, _VERSION_OF_ENROLMENTS)
        if version != self._enrolment_version:
            self._enrolments.clear()
        self._mark, self._enrolment_version = mark, version

    def find(self, sender: str, message_id: str) -> StoredReceipt | None:
        """See `ports.Store`."""
        with self.connection() as connection:
            rows = select_by(connection, _FIND, (message_id, sender))
        return StoredReceipt(*rows[0]) if rows else None

    def channels(
        self, sender: str | None = None, meter: str | None = None, usage_point: str | None = None
    ) -> Sequence[Channel]:
        """See `ports.Store`."""
        query = _CHANNELS
        if sender is not None:
            query = query.where(channel.c.serial == sender)
        if meter is not None:
            query = query.where(channel.c.meter == meter)
        if usage_point is not None:
            query = query.where(channel.c.usage_point == usage_point)
        return [channel_of(row) for row in self._all(query, {})]

    def channels_at(self, usage_point: str) -> Sequence[Channel]:
        """Return the channels of a usage point, of whatever meter, in order of their number."""
        return [channel_of(row) for row in self._all(_CHANNELS.where(channel.c.usage_point == usage_point), {})]

    # --- the log ---

    def version(self) -> DataVersion:
        """See `ports.Store`."""
        return {row[0]: row[1] for row in self._all(_VERSION, {}) if row[1] is not None}

    def version_at(self, moment_utc_ms: int) -> DataVersion:
        """See `ports.Store`; a search in each partition's key, so it needs no index of times."""
        if moment_utc_ms > self._clock() - SETTLED_MS:
            raise NotFound("a moment has one data version for ever only once it is 60 s past; ask again then")
        found = {number: self._last_at(number, seq, moment_utc_ms) for number, seq in self.version().items()}
        return {number: seq for number, seq in found.items() if seq >= 0}

    def _last_at(self, number: int, newest: int, moment_utc_ms: int) -> int:
        """Return the greatest seq recorded by that moment, -1 when none; recorded times never fall (decision 4)."""
        low, high = -1, newest
        while low < high:
            middle = (low + high + 1) // 2
            row = self._one(_RECORDED, {"partition": number, "seq": middle})
            assert row is not None, "the log has a hole"
            low, high = (middle, high) if row[0] <= moment_utc_ms else (low, middle - 1)
        return low

    def entries(self, after: DataVersion, limit: int) -> Sequence[EntryHeader]:
        """See `ports.Store`."""
        return list(islice(self._entries(after, limit), limit))

    def _entries(self, after: DataVersion, limit: int) -> Iterator[EntryHeader]:
        for number in sorted(self.version()):
            wanted = {"partition": number, "after": after.get(number, -1), "most": limit}
            for row in self._all(_HEADERS, wanted):
                yield EntryHeader(Position(number, row.seq), *row[1:])

    def blocks(self, positions: Sequence[Position]) -> Sequence[StoredBlock]:
        """See `ports.Store`."""
        by_partition: dict[int, list[int]] = {}
        for position in sorted(set(positions)):
            by_partition.setdefault(position.partition, []).append(position.seq)
        found: list[StoredBlock] = []
        for number, seqs in by_partition.items():
            for start in range(0, len(seqs), _CHUNK):
                rows = self._all(_BLOCKS, {"partition": number, "seqs": seqs[start : start + _CHUNK]})
                found += [StoredBlock(Position(row.partition, row.seq), *_run(row)) for row in rows]
        return found

    def receipt(self, position: Position) -> bytes:
        """Return an entry's receipt.

        Raises:
            NotFound: no such entry.
        """
        row = self._one(select(entry.c.receipt).where(*_at(position)), {})
        if row is None:
            raise NotFound(f"no entry {position.partition}:{position.seq}")
        return bytes(row.receipt)

    def evidence(self, position: Position) -> bytes:
        """Return an entry's message as it was received.

        Raises:
            NotFound: no such entry, or its evidence is no longer kept.
        """
        row = self._one(select(entry.c.evidence).where(*_at(position)), {})
        if row is None or row.evidence is None:
            raise NotFound(f"no evidence of entry {position.partition}:{position.seq}")
        return zstandard.ZstdDecompressor().decompress(row.evidence)

    # --- the tree ---

    def root(self, number: int, size: int) -> bytes:
        """Return the RFC 9162 root over the first `size` entries of a partition."""
        with self.connection() as connection:
            _require_size(connection, number, size)
            return merkle.root(merkle.restore(size, subtrees(connection, number)))

    def inclusion_proof(self, position: Position, size: int) -> tuple[bytes, ...]:
        """Return the proof that an entry is in the tree of `size`, RFC 9162 section 2.1.3."""
        with self.connection() as connection:
            _require_size(connection, position.partition, size)
            return merkle.inclusion_proof(position.seq, size, subtrees(connection, position.partition))

    def consistency_proof(self, number: int, first: int, second: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of `second` extends that of `first`, RFC 9162 section 2.1.4."""
        with self.connection() as connection:
            _require_size(connection, number, second)
            return merkle.consistency_proof(first, second, subtrees(connection, number))

    def missing_intervals(self) -> int:
        """Return how many intervals lack a value between the first and the last one stored of each channel."""
        missing, edge = 0, (0, 0)  # channel and the last interval end covered so far
        with self.connection() as connection:
            for row in connection.execute(_SPANS):
                first, last = row.first_interval_end_utc, row.last_interval_end_utc
                if row.channel_id == edge[0]:
                    missing += max(0, first - edge[1] - row.interval_s) // row.interval_s
                    last = max(last, edge[1])
                edge = (row.channel_id, last)
        return missing

    def _all(self, query: Any, values: Mapping[str, object]) -> Sequence[Any]:
        with self.connection() as connection:
            return connection.execute(query, values).all()

    def _one(self, query: Any, values: Mapping[str, object]) -> Row[Any] | None:
        with self.connection() as connection:
            return connection.execute(query, values).one_or_none()


def _conditions(row: _Certificate) -> Conditions | None:
    """What the key's new messages must satisfy; None for an ordinary one, which then costs nothing."""
    factors = tuple(json.loads(row.factors).items()) if row.factors else ()
    if row.rights is None and row.ends_at_utc_ms is None and row.issuer_sha256 is None and not factors:
        return None
    rights = None if row.rights is None else frozenset(filter(None, row.rights.split(",")))
    due = None if row.issuer_sha256 is None else row.next_update_utc_ms or 0
    return Conditions(rights, row.ends_at_utc_ms, due, factors)


def channel_of(row: Row[Any]) -> Channel:
    """Return a row of the channel table as a value."""
    named = row.usage_point, row.meter, row.stream, row.reading_type
    return _channel(*named, row.unit, row.interval_s, row.zone, row.valid_from_utc, row.valid_to_utc, row.id)


def _channel(usage_point: str, meter: str, stream: str, reading_type: str, *rest: Any) -> Channel:
    """Return a row of _CHANNELS_OF as a value."""
    return Channel(ChannelKey(usage_point, meter, stream, reading_type), *rest)


def _run(row: Row[Any]) -> Run:
    values = leaf.parse_values(row.interval_values)
    qualities = leaf.parse_qualities(row.qualities, len(values))
    return Run(row.channel_id, row.first_interval_end_utc, row.interval_s, values, qualities, row.outcome)


def _at(position: Position) -> tuple[ColumnElement[bool], ...]:
    return entry.c.partition == position.partition, entry.c.seq == position.seq


def _require_size(connection: Connection, number: int, size: int) -> None:
    have = entry_count(connection, number)
    if not 0 <= size <= have:
        raise NotFound(f"partition {number} has {have} entries, not {size}")
