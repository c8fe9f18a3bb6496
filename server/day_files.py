"""A meter's day, or days, as a file: which days an entry touches, and the bytes of them at a data version.

In: the store's readings, an adapter, a site table. Out: rendered bytes and what they could not hold. Pure but for the
store it reads; used by the reader (`readers.py`) and by `gridpost export`, so both give the same bytes. A day is a day
of 24 hours of the channel's *standard* time, whatever daylight saving does (facts/formats.md 1.1, decision 22), or of
the format's own zone where it has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import NamedTuple
from urllib.parse import quote

from gridpost.errors import CannotRepresent, Item
from gridpost.model import Channel, ChannelKey, DataVersion, IntervalBlock, Readings
from gridpost.ports import Adapter, CurrentReadings, FormatOptions, Site, Store, StoredBlock, ZoneOf
from gridpost.units import standard_offset

DAY_S = 86_400


class Day(NamedTuple):
    """A meter's day; `number` counts days of local standard time since 1970-01-01."""

    meter: str
    number: int

    @property
    def first(self) -> int:
        """A day is the period that begins with it ..."""
        return self.number

    @property
    def last(self) -> int:
        """... and ends with it."""
        return self.number

    @property
    def date(self) -> str:
        """``YYYYMMDD``."""
        return _date(self.number)


class Days(NamedTuple):
    """A period of a meter: its days from the first to the last, that one included, counted as `Day.number`."""

    meter: str
    first: int
    last: int


Span = Day | Days


class DayFile(NamedTuple):
    """A day, or a period, rendered.

    Attributes:
        content: the file.
        losses: what the format could not hold.
        missing: how many intervals are not there.
        conflicts: each channel of which conflicting values are on file, with those intervals' ends in UTC seconds; the
            file has the first value that came (decision 10).
    """

    content: bytes
    losses: tuple[Item, ...]
    missing: int
    conflicts: tuple[tuple[ChannelKey, tuple[int, ...]], ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every interval is there."""
        return not self.missing


@dataclass(frozen=True, slots=True)
class DayFiles:
    """Renders a meter's days from the store, for the reader and for `gridpost export` alike.

    `zone` is the IANA name of the zone the format's days are in, empty where they are the channel's.
    """

    store: Store
    adapter: Adapter
    sites: Mapping[ChannelKey, Site]
    zone_of: ZoneOf
    zone: str = ""

    def channels(self, span: Span) -> Sequence[Channel]:
        """Return the channels the meter has during that time."""
        channels = self.store.channels(meter=span.meter)
        return [channel for channel in channels if self._overlaps(channel, span)]

    def render(self, span: Span, at: DataVersion | None) -> DayFile:
        """Render a day, or a period as one file, as known at a data version.

        Raises:
            CannotRepresent: the format cannot hold the meter's channels.
        """
        channels = self.channels(span)
        zones = self.zones(span)
        if len(zones) != 1:
            raise CannotRepresent(f"meter {span.meter} has channels in {len(zones)} zones on {_date(span.first)}")
        zone = self.zone_of(zones.pop())
        start, end = self.bounds(channels[0], span)
        current = list(self.store.readings_of([channel.id for channel in channels], start, end, at))
        options = FormatOptions(
            zone=zone,
            sites=self.sites,
            created_utc_ms=max(reading.newest_recorded_at_utc_ms for reading in current),
            from_utc=start,
            to_utc=end,
        )
        rendered = self.adapter.render(_readings(current), options)
        missing = sum(_missing(reading, start, end) for reading in current)
        conflicts = tuple((reading.channel.key, reading.conflicts) for reading in current if reading.conflicts)
        return DayFile(rendered.content, rendered.losses, missing, conflicts)

    def zones(self, span: Span) -> set[str]:
        """Return the IANA names of the zones that the days of the meter's channels are in."""
        return {self._zone(channel) for channel in self.channels(span)}

    def holds(self, span: Span) -> bool:
        """Tell whether any of the meter's channels has a value or a register reading in a period now."""
        for channel in self.channels(span):
            reading = self.store.readings(channel.id, *self.bounds(channel, span))
            if reading.block.ends_utc or reading.registers:
                return True
        return False

    def days_held(self, span: Span) -> list[Day]:
        """Return the days of a period on which any of the meter's channels has a value now, ascending."""
        numbers: set[int] = set()
        for channel in self.channels(span):
            start, end = self.bounds(channel, span)
            ends = self.store.readings(channel.id, start, end).block.ends_utc
            numbers.update(self._number(channel, moment) for moment in ends)
        return [Day(span.meter, number) for number in sorted(numbers)]

    def days(self, channel: Channel, block: StoredBlock) -> set[Day]:
        """Return the days a stored block touches; an interval that ends at midnight belongs to the day it closes."""
        last = block.first_interval_end_utc + (len(block.values) - 1) * block.interval_s
        return {Day(channel.key.meter, self._number(channel, end)) for end in (block.first_interval_end_utc, last)}

    def _number(self, channel: Channel, interval_end_utc: int) -> int:
        offset = standard_offset(self.zone_of(self._zone(channel)), interval_end_utc)
        return (interval_end_utc - 1 + offset) // DAY_S

    def bounds(self, channel: Channel, span: Span) -> tuple[int, int]:
        """Return the start (exclusive for interval ends) and the end of a day or a period in UTC seconds."""
        return self._start(channel, span.first), self._start(channel, span.last) + DAY_S

    def _start(self, channel: Channel, number: int) -> int:
        local = number * DAY_S
        return local - standard_offset(self.zone_of(self._zone(channel)), local)

    def _zone(self, channel: Channel) -> str:
        return self.zone or channel.zone

    def _overlaps(self, channel: Channel, span: Span) -> bool:
        start, end = self.bounds(channel, span)
        return channel.valid_from_utc < end and (channel.valid_to_utc is None or channel.valid_to_utc > start)


def day_stem(day: Day) -> str:
    """Return ``<meter>_<YYYYMMDD>``; the meter's id percent-coded where a file name could not hold it (CWE-22).

    A dot may stand inside a name, but not first, which hides a file, and not twice, which leads upwards.
    """
    name = quote(day.meter, safe="")
    if name.startswith(".") or ".." in name:
        name = name.replace(".", "%2E")
    return f"{name}_{day.date}"


def days_stem(days: Days) -> str:
    """Return ``<meter>_<YYYYMMDD>_<YYYYMMDD>``, the meter's id as in `day_stem`."""
    return f"{day_stem(Day(days.meter, days.first))}_{_date(days.last)}"


def _date(number: int) -> str:
    return datetime.fromtimestamp(number * DAY_S, UTC).strftime("%Y%m%d")


def _missing(reading: CurrentReadings, start: int, end: int) -> int:
    """Count the intervals not there that end after `start`, until `end`, while the channel is assigned."""
    channel = reading.channel
    first = max(start, channel.valid_from_utc)
    last = end if channel.valid_to_utc is None else min(end, channel.valid_to_utc)
    # Interval ends are counted from the period's start, a midnight, where the channel's grid has one (decision 12).
    wanted = (last - start) // channel.interval_s - (first - start) // channel.interval_s
    return max(0, wanted - len(reading.block.ends_utc))


def _readings(current: Iterable[CurrentReadings]) -> Readings:
    held = list(current)
    registers = tuple(register for reading in held for register in reading.registers)
    return Readings(tuple(_block(reading) for reading in held), registers)


def _block(reading: CurrentReadings) -> IntervalBlock:
    """Return the values and, where a format can say why there is none, the reported gaps."""
    if not reading.gaps:
        return reading.block
    block = reading.block
    cells = [*zip(block.ends_utc, block.values, block.qualities, strict=True)]
    cells += [(end, None, qualities) for end, qualities in reading.gaps]
    ends, values, qualities = zip(*sorted(cells, key=itemgetter(0)), strict=True)
    return IntervalBlock(block.channel, block.interval_s, ends, values, qualities)
