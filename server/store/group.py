"""One group of entries becomes one transaction: compare, number, seal, insert. The heart of the writer.

In: a connection whose transaction has begun, the log's end, the requests. Out: the new end and an answer for each
request, both worthless until the caller has committed. Everything that may fail for one entry alone (its receipt, its
data) happens before the first insert, so such an entry leaves no trace and the numbers stay without holes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple

import zstandard
from sqlalchemy import Connection, Table

from gridpost import log
from gridpost.errors import GridpostError, Internal, MessageIdReused, StoreUnavailable
from gridpost.log import Head, OnFile, Planned
from gridpost.model import Entry, Rows
from gridpost.ports import MakeReceipt, StoredReceipt
from gridpost.versions import CONFLICT, GAP, STORED

from . import on_file as lookup
from .driver import changed_rows
from .lives import begin
from .tables import entry, event, interval_block, log_node, partition, register_reading
from .tables_value import document

ZSTD_LEVEL = 1  # facts/store.md: 32 us for 43 kB, ten to one


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """An entry that waits to be recorded."""

    entry: Entry
    rows: Rows
    make_receipt: MakeReceipt
    future: Future[bytes]


class Tenure(NamedTuple):
    """Which partition this writer holds, and the fencing token it took it with."""

    partition: int
    token: int


class Target(NamedTuple):
    """Where a group goes: a connection whose transaction has begun, how its engine inserts, what the writer holds."""

    connection: Connection
    insert: Callable[[Connection, Table, Sequence[tuple[object, ...]]], None]
    tenure: Tenure


Answer = bytes | GridpostError

_TALLIES = ("interval_values", "conflicts", "gaps", "register_readings", "events")
_TALLY = (
    f"UPDATE {partition.name} SET {', '.join(f'{name} = {name} + ?' for name in _TALLIES)}"
    " WHERE partition = ? AND token = ?"
)


def channels_of(requests: Sequence[Request]) -> set[int]:
    """Return the channels of which a group brings readings."""
    found = {block.channel_id for request in requests for block in request.rows.blocks}
    return found | {register.channel_id for request in requests for register in request.rows.registers}


def write_group(
    target: Target, head: Head, now_utc_ms: int, requests: Sequence[Request]
) -> tuple[Head, list[tuple[Request, Answer]]]:
    """Write the new entries among `requests`, in the order they came, behind `head`.

    Raises:
        StoreUnavailable: the partition's token is no longer ours: another process writes.
    """
    connection = target.connection
    standing = lookup.known_receipts(connection, [request.entry for request in requests])
    new = [request.rows for request in requests if _key(request) not in standing]
    on_file, elsewhere = lookup.on_file(connection, new, head.partition)
    # Versions are ordered by recorded time first (decision 9), and machines' clocks differ: what is compared with the
    # versions another process wrote must not sort before them.
    now_utc_ms = max(now_utc_ms, elsewhere + 1)
    planned: list[Planned] = []
    answers: list[tuple[Request, Answer]] = []
    for request in requests:
        known = standing.get(_key(request))
        if known is None:
            one = _plan(head, now_utc_ms, request, on_file)
            if isinstance(one, GridpostError):
                answers.append((request, one))  # the same id further down in this group then gets its own try
                continue
            head = one.head
            on_file.add(one)
            planned.append(one)
            known = standing[_key(request)] = StoredReceipt(one.entry.content_digest, one.receipt)
        same = known.content_digest == request.entry.content_digest
        answers.append((request, known.receipt if same else MessageIdReused()))
    if planned:
        _insert(target, planned)
        begin(target.connection, target.insert, planned)
        _tally(connection, target.tenure, planned)
    return head, answers


def _key(request: Request) -> tuple[str, str]:
    return request.entry.sender, request.entry.message_id


def _plan(head: Head, now_utc_ms: int, request: Request, on_file: OnFile) -> Planned | GridpostError:
    try:
        return log.plan(head, now_utc_ms, (request.entry, request.rows, request.make_receipt), on_file)
    except GridpostError as refusal:
        return refusal
    except Exception as defect:  # of this entry alone; told to its sender and, by detail, to the audit log
        return Internal(detail=f"{type(defect).__name__}: {defect}")


def _insert(target: Target, planned: Sequence[Planned]) -> None:
    connection, insert, _ = target
    compress = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress
    # Sorted by id (decision 3): two writers that insert the same ids then wait for each other, never in a circle.
    by_id = sorted(planned, key=lambda one: (one.entry.message_id, one.entry.sender))
    insert(connection, entry, [_entry_row(one, compress) for one in by_id])
    insert(connection, log_node, [(one.position.partition, *node) for one in planned for node in one.nodes])
    # The row values of gridpost/leaf.py are in the order of their tables' columns.
    insert(connection, interval_block, [(*one.position, *row) for one in planned for row in one.blocks])
    insert(connection, register_reading, [(*one.position, *row) for one in planned for row in one.register_rows])
    insert(connection, event, [(*one.position, *row) for one in planned for row in one.events])
    insert(connection, document, [(*one.position, *row) for one in planned for row in one.documents])


def _entry_row(one: Planned, compress: Callable[[bytes], bytes]) -> tuple[object, ...]:
    given, parts = one.entry, one.parts
    return (
        *one.position,
        given.sender,
        given.message_id,
        given.noun,
        given.transport,
        given.created_utc_ms,
        given.sequence,
        given.last_receipt,
        given.content_digest,
        parts.recorded_at_utc_ms,
        parts.evidence_sha256,
        parts.rows_sha256,
        one.leaf_hash,
        one.receipt,
        compress(given.evidence),
    )


def _tally(connection: Connection, tenure: Tenure, planned: Sequence[Planned]) -> None:
    """Add to the partition's running counts; the same statement finds out whether we still hold it."""
    intervals = dict.fromkeys((STORED, CONFLICT, GAP), 0)
    for run in (run for one in planned for run in one.runs):
        intervals[run.outcome] += len(run.values)
    registers = [judged.outcome for one in planned for judged in one.registers]
    more = (
        intervals[STORED],
        intervals[CONFLICT] + registers.count(CONFLICT),
        intervals[GAP],
        registers.count(STORED),
        sum(len(one.events) for one in planned),
    )
    if changed_rows(connection, _TALLY, (*more, *tenure)) != 1:
        raise fenced(tenure)


def fenced(tenure: Tenure) -> StoreUnavailable:
    """Return the error of a writer whose partition was taken over."""
    return StoreUnavailable(
        "another process took over this store", detail=f"partition {tenure.partition}, token {tenure.token} is old"
    )
