"""F105: timed commands that depend on their order, and clocks that may turn it round. Pure: no store, no clock.

In: when each command may be acted on, and how far its IED's clock is from the bus's. Out: the pairs whose gap is no
larger than their clocks are apart: a generator told to start at 12:01 may then start before the one of 12:00.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

NEWEST = 5  # of an IED's entries its clock is known by: a clock set right counts soon


class Call(NamedTuple):
    """An entry of an IED as a call: when the bus recorded it, when the IED's clock says it was sealed; UTC ms."""

    recorded_at_utc_ms: int
    created_utc_ms: int


class Timed(NamedTuple):
    """A command with a moment.

    Attributes:
        name: what people call the command.
        target: serial of its IED.
        at_utc_ms: when it may be acted on.
        offset_ms: the IED's clock minus the bus's, see `offset_ms`; None: nothing is known of it.
    """

    name: str
    target: str
    at_utc_ms: int
    offset_ms: int | None


def offset_ms(calls: Iterable[Call]) -> int | None:
    """Return an IED's clock minus the bus's from its newest calls; None without any.

    A message is on its way for some time and never arrives before it was sealed: of several, the one that took least
    is nearest to the truth.
    """
    newest = sorted(calls, reverse=True)[:NEWEST]
    return max((call.created_utc_ms - call.recorded_at_utc_ms for call in newest), default=None)


def too_near(timed: Iterable[Timed]) -> list[tuple[Timed, Timed]]:
    """Return (earlier, later) for each command before which, by its IED's clock, another one may not have come.

    Two are too near when their clocks are apart by at least the gap, in either direction: one of the two then turns
    the order round, and which way a clock is wrong may change before the moment comes. Of several earlier ones the one
    that overlaps most is named. Equal moments have no order to lose.
    """
    found: list[tuple[Timed, Timed]] = []
    latest: list[Timed] = []  # of the earlier ones: least by a clock that is behind, and by one that is ahead
    for _, together in groupby(sorted(_known(timed), key=_moment), key=_moment):
        same = list(together)
        for one in same:
            rivals = [early for early in latest if early.target != one.target and _overlap_ms(early, one) >= 0]
            if rivals:
                found.append((max(rivals, key=lambda early: _overlap_ms(early, one)), one))
        latest = _extremes([*latest, *same])
    return found


def _known(timed: Iterable[Timed]) -> Iterator[Timed]:
    return (one for one in timed if one.at_utc_ms and one.offset_ms is not None)


def _moment(one: Timed) -> int:
    return one.at_utc_ms


def _overlap_ms(early: Timed, late: Timed) -> int:
    """By how much the clocks are further apart than the moments; 0 and above: the order may be lost."""
    return abs((early.offset_ms or 0) - (late.offset_ms or 0)) - (late.at_utc_ms - early.at_utc_ms)


def _extremes(earlier: list[Timed]) -> list[Timed]:
    """Keep those that can overlap a later one most, two of each sort as one may be of the later one's own IED."""
    kept: list[Timed] = []
    for sign in (1, -1):
        ranked = sorted(earlier, key=lambda one: one.at_utc_ms + sign * (one.offset_ms or 0), reverse=True)
        best = ranked[:1]
        best += [one for one in ranked if best and one.target != best[0].target][:1]
        kept += [one for one in best if one not in kept]
    return kept
