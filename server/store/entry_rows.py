"""Events and register readings as readers and offices ask for them: of entries, or of meters over a period.

Selects only, on connections of their own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import and_, or_, select, tuple_

from gridpost import leaf
from gridpost.errors import NotFound
from gridpost.model import DataVersion, EndDeviceEvent, Position, Register

from .driver import select_keyed
from .enrolments import Enrolments
from .tables import entry, event, register_reading

_EVENTS_OF = f"""
    SELECT v.*, e.sender FROM wanted w CROSS JOIN {event.name} v JOIN {entry.name} e
    ON e.partition = v.partition AND e.seq = v.seq
    WHERE v.partition = w.k0 AND v.seq = w.k1 ORDER BY v.partition, v.seq, v.line
"""
_REGISTERS_OF = f"""
    SELECT r.* FROM wanted w CROSS JOIN {register_reading.name} r
    WHERE r.partition = w.k0 AND r.seq = w.k1 ORDER BY r.partition, r.seq, r.line
"""
_ORDER = (event.c.created_utc_ms, event.c.partition, event.c.seq, event.c.line)
_EVENTS = select(event, entry.c.sender).join(
    entry, and_(entry.c.partition == event.c.partition, entry.c.seq == event.c.seq)
)


class StoredEvent(NamedTuple):
    """A row of an event: its place in the log, its line in the entry, who sent it."""

    position: Position
    line: int
    sender: str
    event: EndDeviceEvent


class StoredRegister(NamedTuple):
    """A row of a register reading; `outcome` as in StoredBlock."""

    position: Position
    register: Register
    outcome: str


class EntryRows(Enrolments):
    """What `SqlStore` tells of events and registers."""

    def events_of(self, positions: Sequence[Position]) -> list[StoredEvent]:
        """Return the events of those entries, in order of position and line."""
        return [_event(row) for row in self._rows_of(_EVENTS_OF, positions)]

    def registers_of(self, positions: Sequence[Position]) -> list[StoredRegister]:
        """Return the register readings of those entries, in order of position and line."""
        rows = self._rows_of(_REGISTERS_OF, positions)
        return [StoredRegister(Position(row.partition, row.seq), _register(row), row.outcome) for row in rows]

    def events(
        self, assets: Sequence[str], period: tuple[int, int], at: DataVersion, limit: int, after: str = ""
    ) -> list[StoredEvent]:
        """Return up to `limit` events of meters or IEDs, in order of time, partition, seq, line.

        Args:
            assets: mRIDs of meters, serials of IEDs.
            period: UTC milliseconds, first exclusive, last inclusive.
            at: as known at this data version.
            limit: how many.
            after: `page_of` the last event of the page before; empty: from the first.

        Raises:
            NotFound: `after` names no page.
        """
        known = [and_(event.c.partition == number, event.c.seq <= seq) for number, seq in at.items()]
        if not known or not assets:
            return []
        query = _EVENTS.where(or_(*known), event.c.asset.in_(sorted(set(assets))))
        query = query.where(event.c.created_utc_ms > period[0], event.c.created_utc_ms <= period[1])
        if after:
            query = query.where(tuple_(*_ORDER) > tuple_(*_place(after)))
        with self._look() as connection:
            return [_event(row) for row in connection.execute(query.order_by(*_ORDER).limit(limit))]

    def _rows_of(self, query: str, positions: Sequence[Position]) -> list[Any]:
        with self._look() as connection:
            return list(select_keyed(connection, query, sorted(set(positions))))


def page_of(one: StoredEvent) -> str:
    """Return what names an event's place in the order of `EntryRows.events`."""
    return f"{one.event.created_utc_ms}:{one.position.partition}:{one.position.seq}:{one.line}"


def _place(page: str) -> tuple[int, ...]:
    parts = page.split(":")
    if len(parts) != len(_ORDER) or not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts):
        raise NotFound(f"there is no page {page!r}; go on from the one an answer named")
    return tuple(map(int, parts))


def _event(row: Any) -> StoredEvent:
    details: dict[str, str] = json.loads(row.details)
    said = (row.mrid, row.event_type, row.created_utc_ms, row.asset, row.reason, row.severity, details)
    return StoredEvent(Position(row.partition, row.seq), row.line, row.sender, EndDeviceEvent(*said))


def _register(row: Any) -> Register:
    (qualities,) = leaf.parse_qualities(row.qualities, 1)
    return Register(row.channel_id, row.reading_type, row.time_utc, row.value, qualities)
