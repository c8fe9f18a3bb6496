"""From when to when there is anything of a channel on file: what bounds a look over an open period.

In: a store, a channel's number. Out: UTC seconds. Two looks at the ends of an index each; nothing is counted.
"""

from __future__ import annotations

from sqlalchemy import bindparam, func, select

from gridpost.versions import DAY_S

from .reading import Reading
from .tables import interval_block, register_reading

_BLOCKS = select(
    func.min(interval_block.c.first_interval_end_utc), func.max(interval_block.c.first_interval_end_utc)
).where(interval_block.c.channel_id == bindparam("channel"))
_REGISTERS = select(func.min(register_reading.c.time_utc), func.max(register_reading.c.time_utc)).where(
    register_reading.c.channel_id == bindparam("channel")
)


def extent(store: Reading, channel_id: int) -> tuple[int, int] | None:
    """Return a moment before the first and one not before the last reading of a channel; None when it has none."""
    with store.connection() as connection:
        first, last = connection.execute(_BLOCKS, {"channel": channel_id}).one()
        first_dial, last_dial = connection.execute(_REGISTERS, {"channel": channel_id}).one()
    ends = [(first - 1, last + DAY_S)] if first is not None else []  # a row lies within one UTC day
    ends += [(first_dial - 1, last_dial)] if first_dial is not None else []
    return (min(begins for begins, _ in ends), max(end for _, end in ends)) if ends else None
