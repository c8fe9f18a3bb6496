"""Where readings lie, without their values: what the look for gaps asks. Selects only.

In: a store, positions or a channel's number. Out: spans of intervals. A row of values lies within one UTC day.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from gridpost.model import Position
from gridpost.versions import DAY_S, GAP, STORED

from .driver import select_keyed
from .reading import Reading
from .tables import interval_block


class Lying(NamedTuple):
    """Intervals of a channel that an entry brought: ends first, first + interval_s ... last, UTC seconds."""

    position: Position
    channel_id: int
    first_interval_end_utc: int
    last_interval_end_utc: int
    interval_s: int
    outcome: str


_OF_ENTRIES = f"""
    SELECT b.partition, b.seq, b.channel_id, b.first_interval_end_utc, b.last_interval_end_utc, b.interval_s, b.outcome
    FROM wanted w CROSS JOIN {interval_block.name} b WHERE b.partition = w.k0 AND b.seq = w.k1
    ORDER BY b.partition, b.seq, b.line
"""
# The newest row before an interval, and of all rows of its day the one that ends last: a longer one may begin before a
# shorter one and end behind it. None is longer than its day.
_BEFORE = f"""
    FROM {interval_block.name} b WHERE b.channel_id = w.k0 AND b.first_interval_end_utc < w.k1
    AND b.outcome IN ('{STORED}', '{GAP}')
"""
_LAST_BEFORE = f"""
    SELECT w.k0, w.k1, (
        SELECT MAX(b.last_interval_end_utc) {_BEFORE} AND b.first_interval_end_utc > (
            (SELECT b.first_interval_end_utc {_BEFORE} ORDER BY b.first_interval_end_utc DESC LIMIT 1) - 1
        ) / {DAY_S} * {DAY_S}
    )
    FROM wanted w
"""


def lying(store: Reading, positions: Sequence[Position]) -> list[Lying]:
    """Return where the intervals of some entries lie, in the order of the log."""
    with store.connection() as connection:
        rows = select_keyed(connection, _OF_ENTRIES, sorted(set(positions))) if positions else ()
        return [Lying(Position(row[0], row[1]), *row[2:]) for row in rows]


def last_before(store: Reading, wanted: Collection[tuple[int, int]]) -> dict[tuple[int, int], int | None]:
    """Return the last interval end before another one, by channel and that other one; None: there is none.

    What a device has reported missing counts as there: it has said that it has nothing.
    """
    keys = sorted(set(wanted))
    with store.connection() as connection:
        return {(row[0], row[1]): row[2] for row in select_keyed(connection, _LAST_BEFORE, keys)} if keys else {}
