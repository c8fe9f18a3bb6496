"""The local calendar of readings: which intervals a day has, which hour one falls in, where a billing cycle ends.

Floor 4. In: UTC seconds, an interval length, a zone as a value. Out: interval ends, local hours, periods. No clock, no
zone looked up by name. An interval is stamped at its *end* and belongs to the local hour and day it *starts* in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from functools import lru_cache
from itertools import groupby
from math import gcd
from typing import NamedTuple

from .. import units

DAY_S = 86_400
_SHARE = Decimal("1e-12")  # a share has no end: its places, enough for any amount


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of time as one place's calendar has it: intervals with from_utc < end <= to_utc.

    Attributes:
        from_utc: UTC seconds; to_utc: likewise, later.
        zone: whose local calendar counts.
        share: how much of a billing cycle it is; 1 for a whole one, whatever its days.
    """

    from_utc: int
    to_utc: int
    zone: tzinfo
    share: Decimal = Decimal(1)

    @property
    def days(self) -> int:
        """Local days from the first moment's to the last's, the first counted, the last not."""
        return (local_day(self.to_utc, self.zone) - local_day(self.from_utc, self.zone)).days

    @property
    def month(self) -> int:
        """The month (1 to 12) it begins in."""
        return local_day(self.from_utc, self.zone).month


class Hour(NamedTuple):
    """Intervals that start in one local hour: indexes first <= i < beyond among a period's expected intervals."""

    first: int
    beyond: int
    day: int  # proleptic Gregorian ordinal of the local date, as date.toordinal()
    month: int  # 1 to 12
    weekday: int  # 0 is Monday
    hour: int  # 0 to 23, of the local clock; one comes twice, or not at all, when the clock is set


def local_day(moment_utc: int, zone: tzinfo) -> date:
    """Return the local date at a moment."""
    return datetime.fromtimestamp(moment_utc, zone).date()


def midnight(day: date, zone: tzinfo) -> int:
    """Return the UTC second a local day begins: the first midnight where two are, the jump where none is."""
    return units.seconds_of(datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC))


def day_period(day: date, zone: tzinfo) -> Period:
    """Return a local day: of 23, 24 or 25 hours in most zones."""
    return Period(midnight(day, zone), midnight(day + timedelta(days=1), zone), zone)


def cycle(year: int, month: int, zone: tzinfo, day: int = 1) -> Period:
    """Return the billing cycle that begins on a day of a month and lasts to that day of the next month.

    A month that is shorter than `day` counts from its last day.
    """
    after = (year + month // 12, month % 12 + 1)
    return Period(midnight(_clipped(year, month, day), zone), midnight(_clipped(*after, day), zone), zone)


def cycle_at(interval_end_utc: int, zone: tzinfo, day: int = 1) -> Period:
    """Return the billing cycle that an interval lies in."""
    begun = local_day(interval_end_utc - 1, zone)
    found = cycle(begun.year, begun.month, zone, day)
    if found.from_utc < interval_end_utc:
        return found
    return cycle(begun.year - (begun.month == 1), (begun.month - 2) % 12 + 1, zone, day)


def cycles(from_utc: int, to_utc: int, zone: tzinfo, day: int = 1) -> tuple[Period, ...]:
    """Return a stretch of time cut where billing cycles begin, each part with its share of its cycle by the seconds."""
    first = local_day(from_utc, zone)
    found, year, month = [], first.year, first.month - 1
    if not month:
        year, month = year - 1, 12
    while (whole := cycle(year, month, zone, day)).from_utc < to_utc:
        begins, ends = max(whole.from_utc, from_utc), min(whole.to_utc, to_utc)
        if begins < ends:
            share = Decimal(ends - begins) / Decimal(whole.to_utc - whole.from_utc)
            found.append(Period(begins, ends, zone, share.quantize(_SHARE) if share != 1 else share))
        year, month = year + month // 12, month % 12 + 1
    return tuple(found)


def _clipped(year: int, month: int, day: int) -> date:
    """The day of the month, its last one where the month is shorter."""
    last = (date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)).day
    return date(year, month, min(day, last))


def expected_ends(period: Period, interval_s: int) -> Sequence[int]:
    """Return the interval ends a complete channel has in a period, ascending UTC seconds.

    The grid starts at local *standard* midnight (decision 12), so a local day has 92, 96 or 100 quarter hours.

    Raises:
        ValueError: an interval length that does not divide a day.
    """
    if interval_s <= 0 or DAY_S % interval_s:
        raise ValueError(f"an interval of {interval_s} s does not divide a day")
    offset, later = (units.standard_offset(period.zone, moment) for moment in (period.from_utc, period.to_utc))
    first = period.from_utc + interval_s - (period.from_utc + offset) % interval_s
    moved = (later - offset) % interval_s  # the zone changed its standard time, and the grid with it
    if not moved:
        return range(first, period.to_utc + 1, interval_s)
    start = first - interval_s + gcd(interval_s, moved)
    ends = range(start, period.to_utc + 1, gcd(interval_s, moved))
    return tuple(end for end in ends if end > period.from_utc and units.on_grid(end, interval_s, period.zone))


def runs(ends_utc: Iterable[int], interval_s: int) -> Iterator[tuple[int, int]]:
    """Yield (from_utc, to_utc) for interval ends, ascending, that follow each other: from_utc < end <= to_utc."""
    began: int | None = None
    last = 0
    for end in ends_utc:
        if began is not None and end - last != interval_s:
            yield began, last
            began = None
        began, last = end - interval_s if began is None else began, end
    if began is not None:
        yield began, last


def hour_of(interval_end_utc: int, interval_s: int, zone: tzinfo) -> Hour:
    """Return the local hour an interval starts in; its indexes are 0 and 1."""
    local = datetime.fromtimestamp(interval_end_utc - interval_s, zone)
    return Hour(0, 1, local.toordinal(), local.month, local.weekday(), local.hour)


@lru_cache(maxsize=256)  # all meters of a zone share their billing cycle's calendar
def hours(period: Period, interval_s: int) -> tuple[Hour, ...]:
    """Return the local hours of a period in order, each with the indexes of its intervals in `expected_ends`."""
    found = []
    index = 0
    single = (hour_of(end, interval_s, period.zone) for end in expected_ends(period, interval_s))
    for hour, group in groupby(single):
        beyond = index + sum(1 for _ in group)
        found.append(hour._replace(first=index, beyond=beyond))
        index = beyond
    return tuple(found)
