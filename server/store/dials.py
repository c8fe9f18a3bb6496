"""When registers of a channel were read: their moments alone, whatever lies between them.

In: a store, a channel's number, a period. Out: UTC seconds, or how many. What was read then is `Reading.readings`'
business, by the version that is current; nothing here looks at values.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, bindparam, func, select

from .reading import Reading
from .tables import register_reading

_TIME = register_reading.c.time_utc
_WITHIN: ColumnElement[bool] = and_(
    register_reading.c.channel_id == bindparam("channel"),
    _TIME.between(bindparam("first"), bindparam("until")),
)
_MOMENTS = select(_TIME).distinct().where(_WITHIN).order_by(_TIME).limit(bindparam("most"))
_COUNT = select(func.count(_TIME.distinct())).where(_WITHIN)
_NEWEST = select(func.max(_TIME)).where(_WITHIN)


def moments(store: Reading, channel_id: int, period: tuple[int, int], limit: int) -> list[int]:
    """Return the first moments of a period (begin exclusive, end inclusive) at which registers were read, ascending."""
    asked = {"channel": channel_id, "first": period[0] + 1, "until": period[1], "most": limit}
    with store.connection() as connection:
        return [int(one) for one in connection.scalars(_MOMENTS, asked)]


def count(store: Reading, channel_id: int, period: tuple[int, int]) -> int:
    """Return how many such moments there are."""
    with store.connection() as connection:
        return int(connection.scalar(_COUNT, _named(channel_id, period)) or 0)


def newest(store: Reading, channel_id: int, period: tuple[int, int]) -> int | None:
    """Return the last of them; None: there is none."""
    with store.connection() as connection:
        found = connection.scalar(_NEWEST, _named(channel_id, period))
    return None if found is None else int(found)


def _named(channel_id: int, period: tuple[int, int]) -> dict[str, int]:
    return {"channel": channel_id, "first": period[0] + 1, "until": period[1]}
