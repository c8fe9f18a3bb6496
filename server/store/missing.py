"""What devices quote of the log: the newest receipt each holds, held against the log; and what is found missing.

Statements only: those that write take a connection and run as the writer's jobs; those that read take the reading one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, insert, select, update

from gridpost.model import DataVersion, Position

from .tables import entry, missing_entry, restoration


class Quote(NamedTuple):
    """An entry and the receipt it quotes, as its sender wrote it; empty when none."""

    position: Position
    sender: str
    last_receipt: str


class Missing(NamedTuple):
    """Entries of a partition that a sender holds receipts for and the log lacks, first and last included.

    Attributes:
        sender: whom to ask for them again.
        partition: of the entries.
        first_seq: as far as known; the numbers from here on may belong to other entries by now.
        last_seq: the newest whose receipt was quoted.
        root: the root before that one, as quoted, in hex.
        quoted_in: the entry that quotes it.
        noticed_at_utc_ms: when.
    """

    sender: str
    partition: int
    first_seq: int
    last_seq: int
    root: str
    quoted_in: Position
    noticed_at_utc_ms: int


_QUOTES = (
    select(entry.c.seq, entry.c.sender, entry.c.last_receipt)
    .where(entry.c.partition == bindparam("partition"), entry.c.seq > bindparam("after"))
    .order_by(entry.c.seq)
    .limit(bindparam("most"))
)
_STANDING = select(entry.c.seq, entry.c.sender, entry.c.receipt).where(
    entry.c.partition == bindparam("partition"), entry.c.seq.in_(bindparam("seqs", expanding=True))
)
_LOST_FROM = select(func.min(restoration.c.size)).where(
    restoration.c.partition == bindparam("partition"), restoration.c.size <= bindparam("seq")
)
_NOTICED_FROM = select(func.min(missing_entry.c.first_seq)).where(
    missing_entry.c.partition == bindparam("partition"), missing_entry.c.first_seq <= bindparam("seq")
)


def quotes(connection: Connection, partitions: Iterable[int], after: DataVersion, limit: int) -> list[Quote]:
    """Return up to `limit` entries of each partition behind `after`, in (partition, seq) order."""
    found: list[Quote] = []
    for number in sorted(partitions):
        wanted = {"partition": number, "after": after.get(number, -1), "most": limit}
        found += [Quote(Position(number, row[0]), row[1], row[2]) for row in connection.execute(_QUOTES, wanted)]
    return found


def standing(connection: Connection, positions: Iterable[Position]) -> dict[Position, tuple[str, bytes]]:
    """Return sender and receipt of those positions that have an entry."""
    by_partition: dict[int, list[int]] = {}
    for position in sorted(set(positions)):
        by_partition.setdefault(position.partition, []).append(position.seq)
    found: dict[Position, tuple[str, bytes]] = {}
    for number, seqs in by_partition.items():
        rows = connection.execute(_STANDING, {"partition": number, "seqs": seqs})
        found |= {Position(number, row.seq): (row.sender, bytes(row.receipt)) for row in rows}
    return found


def lost_from(connection: Connection, position: Position, size: int) -> int:
    """Return from which number on a partition lacks what it once had, when it lacks this position.

    Known are the sizes at which it was put back from backups; else what was noticed before; else, for a position it has
    not reached again, its present size; else nothing is, so 0.
    """
    wanted = {"partition": position.partition, "seq": position.seq}
    for query in (_LOST_FROM, _NOTICED_FROM):
        first: int | None = connection.execute(query, wanted).scalar_one()
        if first is not None:
            return first
    return size if position.seq >= size else 0


def note(connection: Connection, found: Sequence[Missing]) -> list[Missing]:
    """Keep what is missing, one row a sender and partition; return what is news."""
    news = []
    for one in found:
        same = (missing_entry.c.sender == one.sender, missing_entry.c.partition == one.partition)
        known = connection.execute(select(missing_entry).where(*same)).one_or_none()
        if known is None:
            connection.execute(insert(missing_entry), _row(one))
        elif one.last_seq > known.last_seq:
            wider = one._replace(
                first_seq=min(one.first_seq, known.first_seq), noticed_at_utc_ms=known.noticed_at_utc_ms
            )
            connection.execute(update(missing_entry).where(*same).values(_row(wider)))
        else:
            continue
        news.append(one)
    return news


def missing(connection: Connection) -> list[Missing]:
    """Return all that is known to be missing, by sender."""
    rows = connection.execute(select(missing_entry).order_by(missing_entry.c.sender, missing_entry.c.partition))
    return [Missing(row[0], row[1], row[2], row[3], row[4], Position(row[5], row[6]), row[7]) for row in rows]


def _row(one: Missing) -> Mapping[str, object]:
    return {
        "sender": one.sender,
        "partition": one.partition,
        "first_seq": one.first_seq,
        "last_seq": one.last_seq,
        "root": one.root,
        "quoted_partition": one.quoted_in.partition,
        "quoted_seq": one.quoted_in.seq,
        "noticed_at_utc_ms": one.noticed_at_utc_ms,
    }
