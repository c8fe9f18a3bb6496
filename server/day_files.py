"""A meter's day as a file: which days an entry touches, and the bytes of one day at a data version.

In: the store's readings, an adapter, a site table. Out: rendered bytes and what they could not hold. Pure but for the
store it reads; used by the reader (`readers.py`) and by `gridpost export`, so both give the same bytes. A day is a day
of 24 hours of the channel's *standard* time, whatever daylight saving does (facts/formats.md 1.1, decision 22).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote

from gridpost.errors import CannotRepresent, Item
from gridpost.model import Channel, ChannelKey, DataVersion, Readings
from gridpost.ports import Adapter, CurrentReadings, FormatOptions, Site, Store, StoredBlock, ZoneOf
from gridpost.units import standard_offset

DAY_S = 86_400


class Day(NamedTuple):
    """A meter's day; `number` counts days of local standard time since 1970-01-01."""

    meter: str
    number: int

    @property
    def date(self) -> str:
        """``YYYYMMDD``."""
        return datetime.fromtimestamp(self.number * DAY_S, UTC).strftime("%Y%m%d")


class DayFile(NamedTuple):
    """A day rendered."""

    content: bytes
    losses: tuple[Item, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class DayFiles:
    """Renders a meter's day from the store, for the reader and for `gridpost export` alike."""

    store: Store
    adapter: Adapter
    sites: Mapping[ChannelKey, Site]
    zone_of: ZoneOf

    def channels(self, day: Day) -> Sequence[Channel]:
        """Return the channels the meter has during that day."""
        channels = self.store.channels(meter=day.meter)
        return [channel for channel in channels if self._overlaps(channel, day)]

    def render(self, day: Day, at: DataVersion | None) -> DayFile:
        """Render a day as known at a data version.

        Raises:
            CannotRepresent: the format cannot hold the meter's channels.
        """
        channels = self.channels(day)
        zones = {channel.zone for channel in channels}
        if len(zones) != 1:
            raise CannotRepresent(f"meter {day.meter} has channels in {len(zones)} zones on {day.date}")
        zone = self.zone_of(zones.pop())
        start, end = self.bounds(channels[0], day)
        current = [self.store.readings(channel.id, start, end, at) for channel in channels]
        options = FormatOptions(
            zone=zone,
            sites=self.sites,
            created_utc_ms=max(reading.newest_recorded_at_utc_ms for reading in current),
            from_utc=start,
            to_utc=end,
        )
        rendered = self.adapter.render(_readings(current), options)
        complete = all(len(reading.block.ends_utc) == DAY_S // reading.channel.interval_s for reading in current)
        return DayFile(rendered.content, rendered.losses, complete)

    def has_readings(self, day: Day) -> bool:
        """Tell whether any of the meter's channels has a value on that day."""
        channels = self.channels(day)
        start, end = self.bounds(channels[0], day)
        return any(self.store.readings(channel.id, start, end).block.ends_utc for channel in channels)

    def days(self, channel: Channel, block: StoredBlock) -> set[Day]:
        """Return the days a stored block touches; an interval that ends at midnight belongs to the day it closes."""
        offset = standard_offset(self.zone_of(channel.zone), block.first_interval_end_utc)
        last = block.first_interval_end_utc + (len(block.values) - 1) * block.interval_s
        numbers = {(end - 1 + offset) // DAY_S for end in (block.first_interval_end_utc, last)}
        return {Day(channel.key.meter, number) for number in numbers}

    def bounds(self, channel: Channel, day: Day) -> tuple[int, int]:
        """Return a day's start (exclusive for interval ends) and end in UTC seconds."""
        start = day.number * DAY_S
        start -= standard_offset(self.zone_of(channel.zone), start)
        return start, start + DAY_S

    def _overlaps(self, channel: Channel, day: Day) -> bool:
        start, end = self.bounds(channel, day)
        return channel.valid_from_utc < end and (channel.valid_to_utc is None or channel.valid_to_utc > start)


def day_stem(day: Day) -> str:
    """Return ``<meter>_<YYYYMMDD>``; the meter's id percent-coded where a file name could not hold it (CWE-22)."""
    return f"{quote(day.meter, safe='')}_{day.date}"


def _readings(current: Iterable[CurrentReadings]) -> Readings:
    held = list(current)
    registers = tuple(register for reading in held for register in reading.registers)
    return Readings(tuple(reading.block for reading in held), registers)
