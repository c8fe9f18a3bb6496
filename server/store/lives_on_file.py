"""Controls' lives as they lie on file, for `log check`: untyped and unjudged, as `archive.py` hands out the log.

Statements only. One look at a stretch of controls is several statements, so a running bus may take a step between two
of them: whoever finds something looks again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, and_, func, select, tuple_, type_coerce
from sqlalchemy.types import NullType

from .archive import STRAYS
from .tables import entry, event
from .tables_office import control, control_counter, control_now, control_sealed, control_step

CHUNK = 256  # controls looked at together
Row = Mapping[str, Any]
Key = tuple[Any, Any, Any]
_FIRST: Key = (-1, 0, 0)
_HANGING = (control_step, control_now, control_sealed)


class LifeOnFile(NamedTuple):
    """A control's row, `recorded_at_utc_ms` of its entry in it, and what hangs on it; None: there is no such row."""

    key: Key
    control: Row
    steps: Sequence[Row]
    now: Row | None
    sealed: Row | None


def lives_on_file(connection: Connection, after: Key = _FIRST, limit: int = CHUNK) -> list[LifeOnFile]:
    """Return the next controls behind a key, in its order; those whose entry is missing are left out."""
    query = select(*_raw(control), entry.c.recorded_at_utc_ms).join(
        entry, and_(entry.c.partition == control.c.partition, entry.c.seq == control.c.seq)
    )
    key = _key(control)
    query = query.where(tuple_(*key) > tuple_(*after)).order_by(*key).limit(limit)
    rows = [dict(row) for row in connection.execute(query).mappings()]
    if not rows:
        return []
    span = _place(rows[0]), _place(rows[-1])
    steps, nows, sealed = (_by_key(connection, table, span) for table in _HANGING)
    return [
        LifeOnFile(place, row, steps.get(place, ()), *(_only(of.get(place)) for of in (nows, sealed)))
        for place, row in ((_place(row), row) for row in rows)
    ]


def hanging_on_nothing(connection: Connection) -> list[tuple[str, Key]]:
    """Return table and key of rows whose control is missing."""
    found: list[tuple[str, Key]] = []
    for table in _HANGING:
        theirs = and_(*(mine == its for mine, its in zip(_key(control), _key(table), strict=True)))
        query = select(*_key(table)).outerjoin(control, theirs).where(control.c.seq.is_(None)).limit(STRAYS)
        found += [(table.name, (row[0], row[1], row[2])) for row in connection.execute(query)]
    return found


def wrong_counters(connection: Connection) -> list[tuple[Any, Any, int]]:
    """Return target, counter (None: no row) and the greatest counter sealed for it, where these are not the same."""
    sealed = (
        select(control_sealed.c.target, func.max(control_sealed.c.counter).label("most"))
        .group_by(control_sealed.c.target)
        .subquery()
    )
    counter, most = type_coerce(control_counter.c.counter, NullType()), func.coalesce(sealed.c.most, 0)
    known = select(control_counter.c.target, counter, most).outerjoin(
        sealed, sealed.c.target == control_counter.c.target
    )
    lost = (
        select(sealed.c.target, sealed.c.most)
        .outerjoin(control_counter, sealed.c.target == control_counter.c.target)
        .where(control_counter.c.target.is_(None))
    )
    found = [(row[0], row[1], row[2]) for row in connection.execute(known.where(control_counter.c.counter != most))]
    return found + [(row[0], None, row[1]) for row in connection.execute(lost)]


def outcomes_on_file(connection: Connection, event_type: str) -> list[tuple[Any, Any, Any]]:
    """Return sender, moment (UTC ms) and details, as JSON text, of every event of a type."""
    theirs = and_(entry.c.partition == event.c.partition, entry.c.seq == event.c.seq)
    query = select(entry.c.sender, event.c.created_utc_ms, event.c.details).join(entry, theirs)
    return [(row[0], row[1], row[2]) for row in connection.execute(query.where(event.c.event_type == event_type))]


def _by_key(connection: Connection, table: Table, span: tuple[Key, Key]) -> dict[Key, list[Row]]:
    key = tuple_(*_key(table))
    query = select(*_raw(table)).where(key >= tuple_(*span[0]), key <= tuple_(*span[1]))
    found: dict[Key, list[Row]] = {}
    for row in map(dict, connection.execute(query.order_by(*table.primary_key.columns)).mappings()):
        found.setdefault(_place(row), []).append(row)
    return found


def _only(rows: Sequence[Row] | None) -> Row | None:
    return rows[0] if rows else None


def _key(table: Table) -> tuple[Any, Any, Any]:
    return table.c.partition, table.c.seq, table.c.line


def _place(row: Row) -> Key:
    return row["partition"], row["seq"], row["line"]


def _raw(table: Table) -> list[Any]:
    """As they lie on file, see `archive.py`."""
    return [type_coerce(column, NullType()).label(column.name) for column in table.columns]
