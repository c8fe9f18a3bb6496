"""What entries say of an IED's habits: when it called, what its clock said, what it drew last. Selects only.

By the index of a channel's rows, newest first: an IED's entries have no index of their own, and a walk over the log
of a million meters to foresee one call would be out of proportion. An IED without intervals leaves no trace here.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, and_, select

from gridpost import leaf
from gridpost.model import Channel, ReadingType
from gridpost.versions import STORED

from .reading import Reading
from .tables import entry, interval_block
from .tables_office import control

_ROWS = 24  # of a channel: what a push cut at midnight, or a late one, takes of them still leaves a rhythm
_HTTP, _OFFICE = "http", "office"
_WATT_HOUR, _ENERGY, _FORWARD, _KILO, _HOUR_S = 72, 12, 1, 3, 3600


class CallIns(NamedTuple):
    """An IED's newest entries that came by HTTP.

    Attributes:
        calls: (recorded at, Created), UTC milliseconds, newest first, each entry once.
        power_kw: what its forward energy channels drew together in their last interval; None when none is known.
    """

    calls: tuple[tuple[int, int], ...] = ()
    power_kw: Decimal | None = None


def call_ins(store: Reading, serial: str, now_utc: int) -> CallIns:
    """Return an IED's habits as the store knows them.

    Args:
        store: any open one.
        serial: of the IED; a stranger has none.
        now_utc: UTC seconds: channels that have ended by then tell no power.
    """
    channels = store.channels(serial)
    calls: dict[tuple[int, int], tuple[int, int]] = {}
    powers = []
    with store.connection() as connection:
        for one in channels:
            rows = _newest(connection, one)
            calls |= {(row.partition, row.seq): (row.recorded_at_utc_ms, row.created_utc_ms) for row in rows}
            if one.valid_to_utc is None or one.valid_to_utc > now_utc:
                powers.append(_power_kw(one, rows))
    known = [power for power in powers if power is not None]
    return CallIns(tuple(sorted(calls.values(), reverse=True)), sum(known, Decimal()) if known else None)


def asked(store: Reading, partner: str) -> tuple[tuple[int, int], ...]:
    """Return (recorded at, Created), UTC milliseconds, of a partner's newest signed requests for commands."""
    query = (
        select(entry.c.recorded_at_utc_ms, entry.c.created_utc_ms)
        .join(control, and_(entry.c.partition == control.c.partition, entry.c.seq == control.c.seq))
        .where(control.c.issuer == partner, entry.c.transport == _OFFICE)
        .order_by(control.c.partition, control.c.seq.desc(), control.c.line)
        .limit(_ROWS)
    )
    with store.connection() as connection:
        return tuple((row.recorded_at_utc_ms, row.created_utc_ms) for row in connection.execute(query))


def _newest(connection: Connection, one: Channel) -> Sequence[Row[Any]]:
    blocks = interval_block
    query = (
        select(blocks, entry.c.recorded_at_utc_ms, entry.c.created_utc_ms)
        .join(entry, and_(entry.c.partition == blocks.c.partition, entry.c.seq == blocks.c.seq))
        .where(blocks.c.channel_id == one.id, entry.c.transport == _HTTP)
        .order_by(blocks.c.first_interval_end_utc.desc(), blocks.c.last_interval_end_utc.desc())
        .limit(_ROWS)
    )
    return connection.execute(query).all()


def _power_kw(one: Channel, rows: Sequence[Row[Any]]) -> Decimal | None:
    """Return what a channel of forward energy drew in its last interval; None for any other, or without a value."""
    kind = ReadingType.parse(one.key.reading_type)
    if (kind.measurement_kind, kind.flow_direction, kind.unit) != (_ENERGY, _FORWARD, _WATT_HOUR):
        return None
    stored = (leaf.parse_values(row.interval_values) for row in rows if row.outcome == STORED)
    newest = next((value for values in stored for value in reversed(values) if value is not None), None)
    if newest is None:
        return None
    return Decimal(newest).scaleb(kind.multiplier - _KILO) * _HOUR_S / one.interval_s
