"""Where a tariff's periods lie among the intervals of a billing period: worked out once for all meters of a zone.

Floor 4. In: a schedule, holidays, a period, an interval length. Out: runs of indexes [first, beyond) by tariff period.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from itertools import groupby

from ..tariff import Schedule
from .calendar import Hour, Period, hours

Run = tuple[int, int]  # indexes first <= i < beyond
Runs = tuple[Run, ...]


@lru_cache(maxsize=512)
def runs(schedule: Schedule, holidays: frozenset[date], period: Period, interval_s: int) -> dict[int, Runs]:
    """Return the runs of each tariff period that is in force at some time, hours that follow each other joined."""
    off = {day.toordinal() for day in holidays}

    def in_force(hour: Hour) -> int:
        return schedule.at(hour.month, hour.weekday, hour.hour, hour.day in off)

    found: dict[int, list[Run]] = {}
    for index, group in groupby(hours(period, interval_s), key=in_force):
        joined = list(group)
        found.setdefault(index, []).append((joined[0].first, joined[-1].beyond))
    return {index: tuple(found[index]) for index in sorted(found)}


@lru_cache(maxsize=64)
def days(period: Period, interval_s: int) -> Runs:
    """Return the run of each local day."""
    by_day = groupby(hours(period, interval_s), key=lambda hour: hour.day)
    grouped = (list(group) for _, group in by_day)
    return tuple((group[0].first, group[-1].beyond) for group in grouped)


def overlap(these: Sequence[Run], within: Run) -> Runs:
    """Return the parts of runs that lie within one."""
    cut = ((max(first, within[0]), min(beyond, within[1])) for first, beyond in these)
    return tuple((first, beyond) for first, beyond in cut if first < beyond)
