"""Where readings lie, without their values: what the look for gaps asks. Selects only.

In: a store, positions or a channel's number. Out: spans of intervals. A row of values lies within one UTC day.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, func, select

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
_first, _last = interval_block.c.first_interval_end_utc, interval_block.c.last_interval_end_utc
_BEFORE = (
    interval_block.c.channel_id == bindparam("channel"),
    _first < bindparam("until"),
    interval_block.c.outcome.in_((STORED, GAP)),
)
_NEWEST_BEFORE = select(_first).where(*_BEFORE).order_by(_first.desc()).limit(1)
_LAST_BEFORE = select(func.max(_last)).where(*_BEFORE, _first > bindparam("since"))


def lying(store: Reading, positions: Sequence[Position]) -> list[Lying]:
    """Return where the intervals of some entries lie, in the order of the log."""
    with store.connection() as connection:
        rows = select_keyed(connection, _OF_ENTRIES, sorted(set(positions))) if positions else ()
        return [Lying(Position(row[0], row[1]), *row[2:]) for row in rows]


def last_before(store: Reading, channel_id: int, first_end_utc: int) -> int | None:
    """Return the last interval end of a channel before another one; None: there is none.

    What a device has reported missing counts as there: it has said that it has nothing.
    """
    asked = {"channel": channel_id, "until": first_end_utc}
    with store.connection() as connection:
        newest = connection.execute(_NEWEST_BEFORE, asked).scalar()
        if newest is None:
            return None
        since = (newest - 1) // DAY_S * DAY_S  # a longer row of the same day may begin before it and end behind it
        return int(connection.execute(_LAST_BEFORE, asked | {"since": since}).scalar_one())
