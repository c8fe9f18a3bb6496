"""The log as evidence: what `log check` reads, the signed tree heads, and what may go after its time.

All of the log is handed out as it lies on file, untyped and unjudged: a damaged column must be found by who asks, not
trip whoever fetches. Plain transactions, any process: a head and the removal of old evidence change no entry's
header, no row and no node of a tree (decision 7).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import zstandard
from sqlalchemy import (
    BigInteger,
    Connection,
    Integer,
    LargeBinary,
    Table,
    Text,
    and_,
    func,
    insert,
    select,
    type_coerce,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import NullType

from gridpost import merkle
from gridpost.errors import StoreUnavailable

from .engine import Dialect, told
from .on_file import subtrees
from .tables import certificate, entry, event, interval_block, log_node, outbox, partition, register_reading, tree_head
from .tables_office import control, control_now, control_sealed, control_step, partner_certificate
from .tables_value import document

STRAYS = 100  # rows without an entry that are named; the first says enough
CHUNK = 256  # entries handed out at once
PRUNED_AT_ONCE = 500  # entries in one transaction, so that a running bus never waits long
CACHED_NODES = 1 << 16
_NO_SEQ = 1 << 62  # text in the column, which SQLite sorts behind every number, is not below it

_KINDS: Mapping[type, type] = {Text: str, BigInteger: int, Integer: int, LargeBinary: bytes}
_TALLIES = ("interval_values", "conflicts", "gaps", "register_readings", "events")


class PartitionOnFile(NamedTuple):
    """A partition: how many entries it has, and its running counts by column."""

    number: int
    entries: int
    tallies: Mapping[str, object]


class EntryOnFile(NamedTuple):
    """An entry's row and the rows of its readings, events, controls and documents, as they lie on file."""

    partition: int
    seq: int
    columns: Mapping[str, Any]
    blocks: Sequence[Mapping[str, Any]]
    registers: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]
    controls: Sequence[Mapping[str, Any]]
    documents: Sequence[Mapping[str, Any]]


class KeptHead(NamedTuple):
    """A signed tree head: its row."""

    id: int
    partition: int
    size: int
    root: bytes
    made_at_utc_ms: int
    signed: bytes


class Due(NamedTuple):
    """Evidence that may go: of how many entries, and its bytes as stored."""

    entries: int
    octets: int


class Archive:
    """The log's evidence in a store; a part of `SqlStore`."""

    _dialect: Dialect

    def connection(self) -> AbstractContextManager[Connection]:
        """See `Reading.connection`."""
        raise NotImplementedError

    # --- as it lies on file ---

    def partitions_on_file(self) -> list[PartitionOnFile]:
        """Return every partition that has a row or an entry; its counts and its size are of one moment."""
        newest = select(func.max(entry.c.seq)).where(entry.c.partition == partition.c.partition, entry.c.seq < _NO_SEQ)
        with self.connection() as connection:
            rows = (
                connection.execute(select(*_raw(partition), newest.scalar_subquery().label("newest"))).mappings().all()
            )
            # One step along the key for each partition; DISTINCT would walk the whole log.
            numbers, found = [], connection.execute(select(func.min(entry.c.partition))).scalar()
            while found is not None:
                numbers.append(found)
                following = select(func.min(entry.c.partition)).where(entry.c.partition > found)
                found = connection.execute(following).scalar()
        known = [
            PartitionOnFile(row["partition"], _size(row["newest"]), {name: row[name] for name in _TALLIES})
            for row in rows
        ]
        lost = set(numbers) - {one.number for one in known}
        known += [PartitionOnFile(number, 0, {}) for number in lost]
        return sorted(known, key=lambda one: str(one.number))

    def entries_on_file(self, number: int, first: int, limit: int = CHUNK) -> list[EntryOnFile]:
        """Return up to `limit` entries of a partition from seq `first` on, those that are there, and their rows."""
        with self.connection() as connection:
            entries = _fetch(connection, entry, number, (first, _NO_SEQ), limit)
            if not entries:
                return []
            span = (entries[0]["seq"], entries[-1]["seq"] + 1)
            rows = [_grouped(_fetch(connection, one, number, span)) for one in _ROW_TABLES]
        return [EntryOnFile(number, one["seq"], one, *(by.get(one["seq"], ()) for by in rows)) for one in entries]

    def nodes_on_file(self, number: int, level: int, first: int, end: int) -> dict[int, Any]:
        """Return the kept subtrees of one level with first <= number < end."""
        query = select(log_node.c.number, type_coerce(log_node.c.hash, NullType()).label("hash")).where(
            log_node.c.partition == number, log_node.c.level == level, log_node.c.number.between(first, end - 1)
        )
        with self.connection() as connection:
            return {row.number: row.hash for row in connection.execute(query)}

    def node_counts(self) -> dict[tuple[int, int], tuple[int, int]]:
        """Return how many subtrees are kept of each partition and level, and the greatest number among them."""
        levels = (log_node.c.partition, log_node.c.level)
        query = select(*levels, func.count(), func.max(log_node.c.number)).group_by(*levels)
        with self.connection() as connection:
            return {(row[0], row[1]): (row[2], row[3]) for row in connection.execute(query)}

    def strays_on_file(self) -> list[tuple[str, int, int, int]]:
        """Return table, partition, seq and line of rows that have no entry."""
        found: list[tuple[str, int, int, int]] = []
        with self.connection() as connection:
            for table in _ROW_TABLES:
                key = (table.c.partition, table.c.seq, table.c.line)
                theirs = and_(entry.c.partition == table.c.partition, entry.c.seq == table.c.seq)
                query = select(*key).outerjoin(entry, theirs).where(entry.c.seq.is_(None)).order_by(*key).limit(STRAYS)
                found += [(table.name, *row) for row in connection.execute(query)]
        return found

    def certificates_on_file(self) -> list[Mapping[str, Any]]:
        """Return every device certificate ever bound."""
        with self.connection() as connection:
            return [dict(row) for row in connection.execute(select(*_raw(certificate))).mappings()]

    def partner_certificates_on_file(self) -> list[Mapping[str, Any]]:
        """Return every certificate that was ever a partner's."""
        with self.connection() as connection:
            return [dict(row) for row in connection.execute(select(*_raw(partner_certificate))).mappings()]

    def outbox_on_file(self) -> Iterator[tuple[int, Any, Any]]:
        """Yield id, hash and content of each rendered file."""
        raw = [type_coerce(column, NullType()) for column in (outbox.c.sha256, outbox.c.content)]
        with self.connection() as connection:
            ids = list(connection.execute(select(outbox.c.id).order_by(outbox.c.id)).scalars())
            for one in ids:
                row = connection.execute(select(*raw).where(outbox.c.id == one)).one_or_none()
                if row is not None:
                    yield one, row[0], row[1]

    def cached_subtrees(self, number: int) -> merkle.Subtree:
        """Return a look-up of a partition's subtrees that remembers: for proofs of many entries.

        The look-up raises:
            StoreUnavailable: the log has a hole; the store is damaged.
        """

        @lru_cache(maxsize=CACHED_NODES)
        def subtree(level: int, at: int) -> bytes:
            with self.connection() as connection:
                return subtrees(connection, number)(level, at)

        return subtree

    # --- tree heads ---

    def heads(self, number: int | None = None) -> list[KeptHead]:
        """Return the signed tree heads, of one partition or all, oldest first."""
        query = select(tree_head).order_by(tree_head.c.id)
        with self.connection() as connection:
            rows = connection.execute(query if number is None else query.where(tree_head.c.partition == number)).all()
        return [KeptHead(*row) for row in rows]

    def heads_on_file(self) -> list[Mapping[str, Any]]:
        """Return the rows of all tree heads as they lie on file, oldest first."""
        with self.connection() as connection:
            rows = connection.execute(select(*_raw(tree_head)).order_by(tree_head.c.id)).mappings()
            return [dict(row) for row in rows]

    def newest_head(self, number: int) -> KeptHead | None:
        """Return the newest signed tree head of a partition."""
        query = select(tree_head).where(tree_head.c.partition == number).order_by(tree_head.c.id.desc()).limit(1)
        with self.connection() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else KeptHead(*row)

    def add_head(self, head: KeptHead) -> None:
        """Keep a signed tree head; its id is given here.

        Raises:
            StoreUnavailable: it was not kept.
        """
        columns = head._asdict()
        del columns["id"]
        with self._transaction() as connection:
            connection.execute(insert(tree_head), columns)

    # --- retention ---

    def evidence_due(self, before_utc_ms: int) -> Due:
        """Return what evidence of entries recorded before a moment is still kept."""
        octets = func.coalesce(func.sum(func.length(entry.c.evidence)), 0)
        with self.connection() as connection:
            count, total = connection.execute(select(func.count(), octets).where(*_old(before_utc_ms))).one()
        return Due(count, int(total))

    def drop_evidence(self, before_utc_ms: int) -> Iterator[int]:
        """Remove it, some entries a transaction; yields how many each removed. Header, hashes, receipt and rows stay.

        Raises:
            StoreUnavailable: what was yielded is removed, the rest is not.
        """
        after = (-1, -1)
        while True:
            with self._transaction() as connection:
                batch = _next_old(connection, before_utc_ms, after)
                for number, seq in batch:
                    one = and_(entry.c.partition == number, entry.c.seq == seq)
                    connection.execute(update(entry).where(one).values(evidence=None))
            if not batch:
                return
            after = batch[-1]
            yield len(batch)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._dialect.writing.begin() as connection:
                yield connection
        except DBAPIError as problem:
            raise StoreUnavailable(detail=told(problem)) from problem


def mistyped(table: str, row: Mapping[str, Any]) -> list[str]:
    """Return the columns of a row whose value is not of the kind the schema has: SQLite keeps whatever it is given."""
    wrong = []
    for column in _TABLES[table].columns:
        value = row[column.name]
        if value is None:
            fits = bool(column.nullable)
        else:
            fits = type(value) is _KINDS[type(column.type)] if type(column.type) in _KINDS else True
        if not fits:
            wrong.append(column.name)
    return wrong


def decompressed(stored: bytes) -> bytes:
    """Return evidence as it was received.

    Raises:
        ValueError: it is not one whole zstd frame.
    """
    engine = zstandard.ZstdDecompressor().decompressobj()
    try:
        raw = engine.decompress(stored)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
    if not engine.eof or engine.unused_data:
        raise ValueError("not one whole zstd frame")
    return raw


_ROW_TABLES = (interval_block, register_reading, event, control, document)
_TABLES: Mapping[str, Table] = {
    table.name: table
    for table in (
        *(entry, *_ROW_TABLES, tree_head, certificate, partner_certificate, partition),
        *(control_step, control_now, control_sealed),
    )
}


def _raw(table: Table) -> list[Any]:
    """A table's columns without conversion: bytes(5) would make zeros of a number in a column of bytes."""
    return [type_coerce(column, NullType()).label(column.name) for column in table.columns]


def _fetch(
    connection: Connection, table: Table, number: int, span: tuple[int, int], limit: int | None = None
) -> list[Mapping[str, Any]]:
    query = select(*_raw(table)).where(table.c.partition == number, table.c.seq >= span[0], table.c.seq < span[1])
    key = (table.c.seq, table.c.line) if "line" in table.c else (table.c.seq,)
    return [dict(row) for row in connection.execute(query.order_by(*key).limit(limit)).mappings()]


def _grouped(rows: Sequence[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    by_seq: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_seq.setdefault(row["seq"], []).append(row)
    return by_seq


def _size(newest: int | None) -> int:
    return 0 if newest is None else newest + 1


def _old(before_utc_ms: int) -> tuple[Any, ...]:
    return entry.c.recorded_at_utc_ms < before_utc_ms, entry.c.evidence.is_not(None)


def _next_old(connection: Connection, before_utc_ms: int, after: tuple[int, int]) -> list[tuple[int, int]]:
    """The next entries in the key's order, so that each look begins where the last one ended."""
    behind = (entry.c.partition > after[0]) | and_(entry.c.partition == after[0], entry.c.seq > after[1])
    query = select(entry.c.partition, entry.c.seq).where(behind, *_old(before_utc_ms))
    query = query.order_by(entry.c.partition, entry.c.seq).limit(PRUNED_AT_ONCE)
    return [(int(number), int(seq)) for number, seq in connection.execute(query)]
