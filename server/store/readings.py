"""Readings of channels as a data version has them, of one or of many at once: a query for some dozens.

The statements go to the driver as plain text and come back as its own tuples, because a bill reads a month of every
meter. Everything is bounded by one data version, taken once. What is current is said by `gridpost.current`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gridpost import current, leaf
from gridpost.current import FiledRegister, Row
from gridpost.errors import NotFound
from gridpost.model import Channel, ChannelKey, DataVersion, Position, Register
from gridpost.ports import CurrentReadings
from gridpost.versions import DAY_S, JudgedRegister

from .driver import select_wanted
from .reading import Reading
from .tables import channel, entry, interval_block, register_reading

_AT_ONCE = 16  # channels; a month of quarter hours in daily pushes is then 16 x 62 rows of 48 values, 0.5 MB
_CHANNELS = f"""
    SELECT c.usage_point, c.meter, c.stream, c.reading_type, c.unit, c.interval_s, c.zone, c.valid_from_utc,
           c.valid_to_utc, c.id
    FROM wanted w CROSS JOIN {channel.name} c WHERE c.id = w.k0
"""
# A row lies within one UTC day, so one that reaches into the period begins after the day's start before it.
_RUNS = f"""
    SELECT b.channel_id, e.recorded_at_utc_ms, b.partition, b.seq, b.line,
           b.first_interval_end_utc, b.last_interval_end_utc, b.interval_s, b.interval_values, b.qualities, b.outcome
    FROM wanted w CROSS JOIN {interval_block.name} b
    JOIN {entry.name} e ON e.partition = b.partition AND e.seq = b.seq
    WHERE b.channel_id = w.k0 AND b.first_interval_end_utc > ? AND b.first_interval_end_utc <= ?
      AND b.last_interval_end_utc > ?
"""
_REGISTERS = f"""
    SELECT r.channel_id, e.recorded_at_utc_ms, r.partition, r.seq, r.reading_type, r.time_utc, r.value, r.qualities,
           r.outcome
    FROM wanted w CROSS JOIN {register_reading.name} r
    JOIN {entry.name} e ON e.partition = r.partition AND e.seq = r.seq
    WHERE r.channel_id = w.k0 AND r.time_utc >= ? AND r.time_utc <= ?
    ORDER BY e.recorded_at_utc_ms, r.partition, r.seq, r.line
"""


class ChannelReadings(Reading):
    """What `SqlStore` tells of readings; see `ports.Store`."""

    def readings(self, channel_id: int, from_utc: int, to_utc: int, at: DataVersion | None = None) -> CurrentReadings:
        """See `ports.Store`."""
        (only,) = self.readings_of([channel_id], from_utc, to_utc, at)
        return only

    def readings_of(
        self, channel_ids: Sequence[int], from_utc: int, to_utc: int, at: DataVersion | None = None
    ) -> Iterator[CurrentReadings]:
        """See `ports.Store`; `_AT_ONCE` channels a query."""
        until = self.version() if at is None else at
        period = (from_utc, to_utc)
        for start in range(0, len(channel_ids), _AT_ONCE):
            some = channel_ids[start : start + _AT_ONCE]
            channels = {row[-1]: Channel(ChannelKey(*row[:4]), *row[4:]) for row in self._wanted(_CHANNELS, some)}
            if missing := [number for number in some if number not in channels]:
                raise NotFound(f"no channel {missing[0]}")
            runs, registers = self._runs(some, period, until), self._registers(some, period, until)
            for number in some:
                yield current.of_rows(channels[number], period, runs.get(number, []), registers.get(number, []))

    def _runs(self, some: Sequence[int], period: tuple[int, int], until: DataVersion) -> dict[int, list[Row]]:
        found: dict[int, list[Row]] = {}
        for row in self._wanted(_RUNS, some, (period[0] // DAY_S * DAY_S, period[1], period[0])):
            if row[3] <= until.get(row[2], -1):
                found.setdefault(row[0], []).append(row)
        return found

    def _registers(
        self, some: Sequence[int], period: tuple[int, int], until: DataVersion
    ) -> dict[int, list[FiledRegister]]:
        found: dict[int, list[FiledRegister]] = {}
        for number, recorded_at, partition, seq, *columns in self._wanted(_REGISTERS, some, period):
            if seq <= until.get(partition, -1):
                judged = FiledRegister(recorded_at, Position(partition, seq), _judged(number, columns))
                found.setdefault(number, []).append(judged)
        return found

    def _wanted(self, query: str, some: Sequence[int], values: tuple[int, ...] = ()) -> Sequence[Any]:
        with self.connection() as connection:
            return select_wanted(connection, query, some, values)


def _judged(number: int, columns: Sequence[Any]) -> JudgedRegister:
    reading_type, time_utc, value, qualities, outcome = columns
    (only,) = leaf.parse_qualities(qualities, 1)
    return JudgedRegister(Register(number, reading_type, time_utc, value, only), outcome)
