"""Fetches what a group of new entries is compared with: known ids, versions of intervals and registers, the tree.

In: the writer's connection, inside its transaction. One query a kind and group, never one a message: a look-up by
itself costs more than its answer. Nothing is judged here (`gridpost/versions.py` does).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from gridpost import leaf, log, merkle
from gridpost.errors import StoreUnavailable
from gridpost.log import Head, OnFile, Wanted
from gridpost.model import Entry, Register, Rows
from gridpost.ports import StoredReceipt
from gridpost.versions import DAY_S, JudgedRegister, Run

from .driver import padded, select_in, select_joined
from .tables import entry, log_node

_MAX_WANTED = 256
_NOTHING = (-1, 0, 0, -1)

_KNOWN = f"SELECT sender, message_id, content_sha256, receipt FROM {entry.name} WHERE message_id IN (%s)"
_LAST = (
    select(entry.c.seq, entry.c.recorded_at_utc_ms)
    .where(entry.c.partition == bindparam("partition"))
    .order_by(entry.c.seq.desc())
    .limit(1)
)
_LEAF = select(entry.c.leaf_hash).where(entry.c.partition == bindparam("partition"), entry.c.seq == bindparam("number"))
_NODE = select(log_node.c.hash).where(
    log_node.c.partition == bindparam("partition"),
    log_node.c.level == bindparam("level"),
    log_node.c.number == bindparam("number"),
)

# CROSS JOIN: SQLite then keeps `wanted` as the outer loop, so each pair is one search of the channel's index.
_RUNS = """
    SELECT e.recorded_at_utc_ms, b.partition,
           b.channel_id, b.first_interval_end_utc, b.interval_s, b.interval_values, b.qualities, b.outcome
    FROM wanted w CROSS JOIN interval_block b JOIN entry e ON e.partition = b.partition AND e.seq = b.seq
    WHERE b.channel_id = w.channel_id
      AND b.first_interval_end_utc > w.day_start AND b.first_interval_end_utc <= w.high
      AND b.last_interval_end_utc >= w.low
    ORDER BY e.recorded_at_utc_ms, b.partition, b.seq, b.line
"""
_REGISTERS = """
    SELECT e.recorded_at_utc_ms, r.partition,
           r.channel_id, r.reading_type, r.time_utc, r.value, r.qualities, r.outcome
    FROM wanted w CROSS JOIN register_reading r JOIN entry e ON e.partition = r.partition AND e.seq = r.seq
    WHERE r.channel_id = w.channel_id AND r.time_utc >= w.low AND r.time_utc <= w.high
    ORDER BY e.recorded_at_utc_ms, r.partition, r.seq, r.line
"""


def known_receipts(connection: Connection, entries: Sequence[Entry]) -> dict[tuple[str, str], StoredReceipt]:
    """Return what stands for those (sender, message id) pairs that are known."""
    found = select_in(connection, _KNOWN, sorted({one.message_id for one in entries}))
    return {(sender, message_id): StoredReceipt(digest, receipt) for sender, message_id, digest, receipt in found}


def on_file(connection: Connection, new: Iterable[Rows], held: int) -> tuple[OnFile, int]:
    """Return every run and register reading that `log.plan` needs for these rows, in order.

    With it comes the newest recorded time among those of other partitions than `held`, UTC milliseconds; -1 when none.
    """
    intervals: Wanted = {}
    registers: Wanted = {}
    for rows in new:
        log.merge_wanted(intervals, log.wanted_intervals(rows))
        log.merge_wanted(registers, log.wanted_registers(rows))
    found, elsewhere = OnFile({}, {}), -1
    for recorded_at, number, *columns in _rows(connection, _RUNS, intervals):
        elsewhere = elsewhere if number == held else max(elsewhere, recorded_at)
        channel_id, first, interval_s, values, qualities, outcome = columns
        literals = leaf.parse_values(values)
        run = Run(channel_id, first, interval_s, literals, leaf.parse_qualities(qualities, len(literals)), outcome)
        found.runs.setdefault(channel_id, []).append(run)
    for recorded_at, number, *columns in _rows(connection, _REGISTERS, registers):
        elsewhere = elsewhere if number == held else max(elsewhere, recorded_at)
        channel_id, reading_type, time_utc, value, qualities, outcome = columns
        (only,) = leaf.parse_qualities(qualities, 1)
        judged = JudgedRegister(Register(channel_id, reading_type, time_utc, value, only), outcome)
        found.registers.setdefault(channel_id, []).append(judged)
    return found, elsewhere


def subtrees(connection: Connection, partition: int) -> merkle.Subtree:
    """Return a look-up of a partition's complete subtrees.

    The look-up raises:
        StoreUnavailable: the log has a hole; the store file is damaged.
    """

    def subtree(level: int, number: int) -> bytes:
        key = {"partition": partition, "number": number} | ({"level": level} if level else {})
        found: bytes | None = connection.execute(_NODE if level else _LEAF, key).scalar_one_or_none()
        if found is None:
            raise StoreUnavailable("the store's log is damaged", detail=f"no node {partition}:{level}:{number}")
        return found

    return subtree


def load_head(connection: Connection, partition: int) -> Head:
    """Return where the partition's log ends, from the newest commit."""
    last = connection.execute(_LAST, {"partition": partition}).one_or_none()
    if last is None:
        return Head(partition, merkle.Frontier(), 0)
    frontier = merkle.restore(last.seq + 1, subtrees(connection, partition))
    return Head(partition, frontier, last.recorded_at_utc_ms)


def entry_count(connection: Connection, partition: int) -> int:
    """Return the number of entries in a partition."""
    last: int | None = connection.execute(
        select(func.max(entry.c.seq)).where(entry.c.partition == partition)
    ).scalar_one_or_none()
    return 0 if last is None else last + 1


def _rows(connection: Connection, query: str, wanted: Wanted) -> Iterator[Any]:
    pairs = sorted(wanted.items())
    for start in range(0, len(pairs), _MAX_WANTED):
        chunk = [(key[0], key[1] * DAY_S, *ends) for key, ends in pairs[start : start + _MAX_WANTED]]
        yield from select_joined(connection, "channel_id, day_start, low, high", query, padded(chunk, _NOTHING))
