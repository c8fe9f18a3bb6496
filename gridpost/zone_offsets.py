"""A zone as it was over a period, written down: a bill that carries it needs no zone files to be worked out again.

Floor 1. In: a zone value and a period. Out: offsets in force, and a zone value made of them that gives the same local
times over that period. Before the first and after the last offset listed it goes on as they are; nobody asks there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import NamedTuple

from .units import seconds_of

_STEP_S = 3600 * 6  # no zone ever changed its clock twice within six hours


class Offset(NamedTuple):
    """An offset and since when: `utc_offset_s` is local minus UTC, `saving_s` the part of it that is summer time."""

    from_utc: int
    utc_offset_s: int
    saving_s: int


def offsets(zone: tzinfo, from_utc: int, to_utc: int) -> tuple[Offset, ...]:
    """Return the offsets in force from a moment to another, both included, UTC seconds; the first stands at from_utc.

    Raises:
        TypeError: a zone value that does not know its offset.
    """
    moments = [*range(from_utc, to_utc, _STEP_S), to_utc]
    found = [_at(zone, from_utc)]
    for before, after in pairwise(moments):
        if _at(zone, after)[1:] != _at(zone, before)[1:]:
            found.append(_at(zone, _first_of_new(zone, before, after)))
    return tuple(found)


def _at(zone: tzinfo, moment: int) -> Offset:
    local = datetime.fromtimestamp(moment, zone)
    offset, saving = local.utcoffset(), local.dst()
    if offset is None:
        raise TypeError("a zone value must know its offset")
    return Offset(moment, _seconds(offset), _seconds(saving or timedelta()))


def _seconds(delta: timedelta) -> int:
    return delta.days * 86400 + delta.seconds


def _first_of_new(zone: tzinfo, before: int, after: int) -> int:
    """Return the first second within (before, after] at which the offset is the later one."""
    old = _at(zone, before)[1:]
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (middle, after) if _at(zone, middle)[1:] == old else (before, middle)
    return after


class ListedZone(tzinfo):
    """A zone made of its name and offsets; equal names and offsets are equal zones."""

    def __init__(self, name: str, listed: Sequence[Offset]) -> None:
        """`listed`: at least one, ascending.

        Raises:
            ValueError: none, or out of order.
        """
        self._name, self._listed = name, tuple(listed)
        self._starts = [one.from_utc for one in self._listed]
        if not listed or any(one >= later for one, later in pairwise(self._starts)):
            raise ValueError("offsets of a zone are listed in their order, and there is at least one")

    def __str__(self) -> str:
        return self._name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ListedZone) and (self._name, self._listed) == (other._name, other._listed)

    def __hash__(self) -> int:
        return hash((self._name, self._listed))

    def fromutc(self, moment: datetime) -> datetime:
        """Return the local time of a moment in UTC; of two equal local times the later has fold 1."""
        utc = seconds_of(moment.replace(tzinfo=UTC))
        place = self._place(utc)
        offset = self._listed[place].utc_offset_s
        fold = place > 0 and utc + offset - self._listed[place - 1].utc_offset_s < self._starts[place]
        return (moment + timedelta(seconds=offset)).replace(fold=int(fold))

    def utcoffset(self, local: datetime | None) -> timedelta | None:
        """Return local minus UTC."""
        return None if local is None else timedelta(seconds=self._of(local).utc_offset_s)

    def dst(self, local: datetime | None) -> timedelta | None:
        """Return the part of the offset that is summer time."""
        return None if local is None else timedelta(seconds=self._of(local).saving_s)

    def tzname(self, _local: datetime | None) -> str:
        """Return the zone's name."""
        return self._name

    def _place(self, utc: int) -> int:
        return max(bisect_right(self._starts, utc) - 1, 0)

    def _of(self, local: datetime) -> Offset:
        wall = seconds_of(local.replace(tzinfo=UTC))
        fitting = [one for place, one in enumerate(self._listed) if self._place(wall - one.utc_offset_s) == place]
        if fitting:
            return fitting[min(local.fold, len(fitting) - 1)]
        # A local time that was jumped over: as PEP 495 has it, fold 0 means the offset before.
        after = next((place for place, one in enumerate(self._listed) if wall - one.utc_offset_s < one.from_utc), 0)
        return self._listed[after - 1 + local.fold]
