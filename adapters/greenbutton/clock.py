"""ESPI's clock: UTC seconds, an interval named by its *start* and duration; local time as four numbers.

The one place of this adapter where an interval's edge moves. Rules of daylight saving are ESPI's DstRuleType: 32 bits,
from the lowest: seconds (12), hour (5), weekday (3, Monday 1), day (5), operator (3), month (4), of the wall clock that
is then set.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from gridpost import units
from gridpost.errors import CannotRepresent

NO_RULE = "FFFFFFFF"
_FIRST, _LAST_WEEK, _ON_OR_AFTER, _DATE = 2, 7, 1, 0
_YEARS = 6  # that a rule must hold for: a rule by weekday cannot pass for one by date so long
_DAY = 86400


def to_start(end_utc: int, length_s: int) -> int:
    """Return the start ESPI names an interval by."""
    return end_utc - length_s


def to_end(start_utc: int, length_s: int) -> int:
    """Return the end of an interval of ESPI."""
    return start_utc + length_s


class LocalTime(NamedTuple):
    """LocalTimeParameters: two rules in hexadecimal, two offsets in seconds."""

    end_rule: str
    saving_s: int
    start_rule: str
    offset_s: int


def local_time(zone: tzinfo, utc: int) -> LocalTime:
    """Return what ESPI says of a zone, from the year of a moment on.

    Raises:
        CannotRepresent: the zone's daylight saving follows no rule that ESPI can say.
    """
    year = datetime.fromtimestamp(utc, zone).year
    offset_s = units.standard_offset(zone, utc)
    found: dict[bool, list[datetime]] = {True: [], False: []}
    savings = set()
    for moment, saving in _changes(zone, year):
        found[bool(saving)].append(moment)
        savings.add(saving)
    savings.discard(0)
    if not savings and not found[False]:
        return LocalTime(NO_RULE, 0, NO_RULE, offset_s)
    if len(savings) != 1 or min(map(len, found.values())) != _YEARS or max(map(len, found.values())) != _YEARS:
        raise CannotRepresent("the zone's clock is not set forth and back once a year")
    return LocalTime(_rule(found[False]), savings.pop(), _rule(found[True]), offset_s)


def _changes(zone: tzinfo, year: int) -> list[tuple[datetime, int]]:
    """Return each change of daylight saving in some years: the wall clock before it, the saving behind it."""
    first = units.seconds_of(datetime(year, 1, 1, tzinfo=zone))
    last = units.seconds_of(datetime(year + _YEARS, 1, 1, tzinfo=zone))
    found = []
    for start in range(first, last, _DAY):
        if _saving(zone, start) != _saving(zone, start + _DAY):
            at = _second_of_change(zone, start)
            wall = datetime.fromtimestamp(at - 1, zone).replace(tzinfo=None) + timedelta(seconds=1)
            found.append((wall, _saving(zone, at)))
    return found


def _second_of_change(zone: tzinfo, low: int) -> int:
    """Return the first second of the day behind `low` at which the saving is another."""
    high, before = low + _DAY, _saving(zone, low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _saving(zone, middle) != before else (middle, high)
    return high


def _saving(zone: tzinfo, utc: int) -> int:
    saving = datetime.fromtimestamp(utc, zone).dst() or timedelta(0)
    return saving.days * _DAY + saving.seconds


def _rule(moments: Sequence[datetime]) -> str:
    """Return the rule that all moments follow, one a year."""
    one = moments[0]
    times = {(each.month, each.isoweekday(), each.time()) for each in moments}
    dates = {(each.month, each.day, each.time()) for each in moments}
    weeks = {(each.day + 6) // 7 for each in moments}
    day, weekday, operator = 0, one.isoweekday(), 0
    if len(dates) == 1:
        day, weekday, operator = one.day, 0, _DATE
    elif len(times) != 1:
        raise CannotRepresent("the zone's clock is set by a rule that ESPI cannot say")
    elif all((each + timedelta(days=7)).month != each.month for each in moments):
        operator = _LAST_WEEK
    elif len(weeks) == 1:
        operator = _FIRST + weeks.pop() - 1
    else:
        day, operator = min(each.day for each in moments), _ON_OR_AFTER
    bits = (
        (one.minute * 60 + one.second) | one.hour << 12 | weekday << 17 | day << 20 | operator << 25 | one.month << 28
    )
    return f"{bits:08X}"


def atom_time(utc_ms: int) -> str:
    """Return a moment as Atom writes it (RFC 4287 section 3.3), in whole seconds."""
    return units.format_utc(utc_ms // 1000)


def local_day(start_utc: int, zone: tzinfo | None) -> int:
    """Return a number for the day an interval starts in: of the zone, or of UTC."""
    return datetime.fromtimestamp(start_utc, zone or UTC).toordinal()
